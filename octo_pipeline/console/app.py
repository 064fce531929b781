"""The application of `octo serve`: the API, and the pages beside it."""

from importlib.resources import files

from fastapi import Depends, FastAPI
from starlette.staticfiles import StaticFiles

from octo_pipeline.api.app import create_app as create_api
from octo_pipeline.console import errors
from octo_pipeline.console.guard import Guard
from octo_pipeline.console.openid import OpenId, is_set_up
from octo_pipeline.console.routes import ROUTERS
from octo_pipeline.console.sign_in import OneTimeLinks
from octo_pipeline.console.sign_in import router as sign_in
from octo_pipeline.console.visit import require_form_token
from octo_pipeline.settings import Settings


def create_app(settings: Settings, *, hosts: tuple[str, ...] = ()) -> FastAPI:
    """The API of one installation with its console.

    Args:
        settings: the lake, the configuration and the registry that every request sees.
        hosts: names, besides those of this machine and of the setting ``public_url``, that browsers may ask for.
    """
    api = create_api(settings)
    pages = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    pages.state.settings = settings
    pages.state.operations = api.state.operations
    pages.state.partner_sign_ins = api.state.partner_sign_ins
    pages.state.links = OneTimeLinks()
    pages.state.openid = OpenId(settings) if is_set_up(settings) else None
    # The token that a session made last, until it is shown.
    pages.state.made_tokens = {}
    api.state.links = pages.state.links
    api.state.pages = pages
    api.state.refusal_page = errors.refusal_page
    errors.answer_pages(pages)
    pages.mount("/static", _Static(directory=str(files("octo_pipeline.console") / "static")))
    # The library comes in a package of Django's, of which nothing else is used.
    pages.mount("/htmx", _Static(directory=str(files("django_htmx") / "static" / "django_htmx")))
    for router in (sign_in, *ROUTERS):
        pages.include_router(router, dependencies=[Depends(require_form_token)])
    # Around all of it, because the page about what went wrong has the headers too.
    api.mount("/", Guard(pages, settings=settings, hosts=hosts))
    return api


class _Static(StaticFiles):
    """Files that browsers keep for a day; their addresses have the version of the program."""

    def file_response(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "public, max-age=86400"
        return response
