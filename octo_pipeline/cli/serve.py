"""`octo serve`: the console and the REST API."""

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from socket import socket

    from octo_pipeline.console.sign_in import OneTimeLinks
    from octo_pipeline.settings import Settings


def serve(
    host: Annotated[
        str, typer.Option(help="The address to listen on; another one needs a proxy with TLS before it.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port.")] = 8000,
) -> None:
    """Serve the console, and the REST API under /api/v1. It prints a link that signs you in to the console, once."""
    import uvicorn

    from octo_pipeline.cli.logs import configure_logs
    from octo_pipeline.console.app import create_app
    from octo_pipeline.settings import load_settings

    settings = load_settings()
    listening = _listening(host, port)
    configure_logs(settings.log_format)
    app = create_app(settings, hosts=(host,))
    address = settings.public_url or f"http://{host}:{port}"
    typer.echo(f"Console: {address}{_sign_in(settings, app.state.links)}")
    typer.echo(f"API:     {address}/api/v1, described by {address}/api/openapi.json. Stop it with Ctrl-C.")
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        # By default it believes what anybody on this machine says of whom they ask for.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies.replace(" ", ""),
    )
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def _listening(host: str, port: int) -> "socket":
    """The socket to serve on; it is opened before a link is printed that would lead to another program.

    Raises:
        OctoError: another program has the port, or the machine does not have the address.
    """
    from socket import AF_INET, AF_INET6, create_server

    from octo_pipeline.model.errors import OctoError

    try:
        return create_server((host, port), family=AF_INET6 if ":" in host else AF_INET)
    except OSError as error:
        # Python adds the address in parentheses, which the sentence names already.
        cause = str(error.strerror).partition(" (")[0]
        raise OctoError(
            f"Cannot listen on {host} port {port}: {cause}. Choose another address or port.",
            code="address-not-free",
            place=f"{host}:{port}",
        ) from error


def _sign_in(settings: "Settings", links: "OneTimeLinks") -> str:
    """The path of a link that signs in who started the server; of the form where the user of this machine does not count."""
    from octo_pipeline.cli.output import sentence
    from octo_pipeline.model.errors import OctoError
    from octo_pipeline.services.access import acting, caller
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(settings)
    try:
        acting(workspace, "viewer")
    except OctoError as error:
        typer.echo(sentence(error), err=True)
        return "/sign-in"
    return links.make(caller(workspace))
