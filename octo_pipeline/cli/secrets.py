"""`octo secrets`: the encryption of stored secrets. No command prints one."""

import typer

from octo_pipeline.cli.acting import admin
from octo_pipeline.model.wording import counted

app = typer.Typer(help="Stored secrets of accounts, encrypted at rest.", no_args_is_help=True)


@app.callback()
def _noun() -> None:
    """Stored secrets of accounts, encrypted at rest."""


@app.command()
def rotate() -> None:
    """Encrypt all secrets with a new key.

    The key file gets a new key and loses the old one. With OCTO_SECRET_KEY, set it to the new and the old key
    with a comma between, run this, then set it to the new one.
    """
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    count = workspace.secrets.rotate(admin(workspace))
    typer.echo(
        f"{counted(count, 'secret')} {'is' if count == 1 else 'are'} encrypted with the {'first key' if workspace.settings.secret_key else 'new key'}."
    )
