"""`octo serve`: the REST API."""

from typing import Annotated

import typer


def serve(
    host: Annotated[
        str, typer.Option(help="The address to listen on; another one needs a proxy with TLS before it.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port.")] = 8000,
) -> None:
    """Serve the REST API under /api/v1. Every request brings a token of `octo users token`."""
    import uvicorn

    from octo_pipeline.api.app import create_app
    from octo_pipeline.settings import load_settings

    app = create_app(load_settings())
    typer.echo(f"http://{host}:{port}/api/openapi.json describes the API. Stop it with Ctrl-C.")
    uvicorn.run(app, host=host, port=port, log_level="warning", server_header=False)
