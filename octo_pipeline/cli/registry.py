"""`octo registry`: the database of decisions, audit trail and accounts."""

import typer

app = typer.Typer(help="The registry: decisions, audit trail, accounts.", no_args_is_help=True)


@app.callback()
def _noun() -> None:
    """The registry: decisions, audit trail, accounts."""


@app.command()
def upgrade() -> None:
    """Bring the registry's database to the version of this program; make it if there is none."""
    from octo_pipeline.services.access import os_user, token_of
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    # The registry itself asks: one that is behind cannot be asked by the way of the other commands.
    done = workspace.registry.upgrade(token_of(workspace), os_user())
    typer.echo(f"The registry {'is now at' if done else 'was already at'} this program's version.")
