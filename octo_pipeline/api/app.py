"""The application: its routes, limits and answers to errors."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from octo_pipeline.api import problems
from octo_pipeline.api.description import describe
from octo_pipeline.api.limits import Limits
from octo_pipeline.api.measures import Measured, Measures
from octo_pipeline.api.measures import router as measures
from octo_pipeline.api.operations import Operations
from octo_pipeline.api.repeats import Repeats
from octo_pipeline.api.routes import ROUTERS
from octo_pipeline.settings import Settings

PREFIX = "/api/v1"


def create_app(settings: Settings) -> FastAPI:
    """The API of one installation.

    Args:
        settings: the lake, the configuration and the registry that every request sees.
    """
    from importlib.metadata import version

    app = FastAPI(
        title="octo-pipeline",
        version=version("octo-pipeline"),
        description="Shares cloud costs that no single account caused. Amounts are texts with all of their digits.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=_closing_operations,
    )
    app.state.settings = settings
    app.state.operations = Operations(settings)
    # What an administrator began and has to end; see `accounts.begin_sign_in`.
    app.state.partner_sign_ins = {}
    app.add_middleware(Repeats, settings=settings)
    app.add_middleware(Limits)
    app.state.measures = Measures(settings, app.state.operations)
    # Around the others, so that what they refuse is counted too.
    app.add_middleware(Measured, measures=app.state.measures, prefix=PREFIX)
    problems.answer_problems(app)
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX)
    app.include_router(measures)
    describe(app)
    return app


@asynccontextmanager
async def _closing_operations(app: FastAPI) -> AsyncIterator[None]:
    """Drop the work that waits when the server stops; Python would do all of it before it exits."""
    yield
    app.state.operations.close()
