"""`octo registry`: the database of decisions, audit trail and accounts."""

import typer

app = typer.Typer(help="The registry: decisions, audit trail, accounts.", no_args_is_help=True)


@app.callback()
def _noun() -> None:
    """The registry: decisions, audit trail, accounts."""


@app.command()
def upgrade() -> None:
    """Bring the registry's database to the version of this program; create it if there is none."""
    from octo_pipeline.services.access import caller
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    done = workspace.registry.upgrade(caller(workspace.settings.token))
    typer.echo(f"The registry {'is now at' if done else 'was already at'} this program's version.")
