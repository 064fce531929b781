"""`octo registry`: the database of decisions, audit trail and accounts."""

from typing import Annotated

import typer

app = typer.Typer(help="The registry: decisions, audit trail, accounts.", no_args_is_help=True)


@app.callback()
def _noun() -> None:
    """The registry: decisions, audit trail, accounts."""


@app.command()
def init(
    admin: Annotated[str, typer.Option(help="Who becomes it: a user of this machine, or any name for a token's user.")],
) -> None:
    """Make the registry's first administrator, who can then add the others.

    Where a token is required (OCTO_REQUIRE_TOKEN, or a registry on a server), it prints one for them.
    """
    from octo_pipeline.services.access import caller, needs_token
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    token = workspace.registry.users.init(admin, caller(workspace), with_token=needs_token(workspace))
    typer.echo(f"{admin} is an administrator of this registry.", err=token is not None)
    if token is not None:
        typer.echo(token)
        typer.echo(f"Whoever sets OCTO_TOKEN to it acts as {admin}. It is shown this once.", err=True)


@app.command()
def upgrade() -> None:
    """Bring the registry's database to the version of this program; create it if there is none."""
    from octo_pipeline.services.access import caller
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    done = workspace.registry.upgrade(caller(workspace))
    typer.echo(f"The registry {'is now at' if done else 'was already at'} this program's version.")
