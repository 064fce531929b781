"""`octo backup`: an installation's registry, configuration and closings in a file, and such a file as an installation."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Backups of what cannot be made again: registry, configuration, closed months.", no_args_is_help=True
)


@app.callback()
def _noun() -> None:
    """Backups of what cannot be made again: registry, configuration, closed months."""


@app.command()
def make(
    file: Annotated[Path, typer.Argument(help="The new file, such as octo.zip.")],
    landing: Annotated[bool, typer.Option("--landing", help="Copy the landed deliveries too.")] = False,
    keys: Annotated[
        bool, typer.Option("--keys", help="Copy the keys of stored secrets too; then the file is as secret as these.")
    ] = False,
) -> None:
    """Write a backup while the installation is in use. Tables of open months are not in it: runs make them again."""
    from octo_pipeline.services.backups import make_backup
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    for part in make_backup(Workspace(load_settings()), file, with_landing=landing, with_keys=keys):
        typer.echo(f"{part.sentence}.")
    typer.echo(f"The backup {file} has {file.stat().st_size:,} bytes.")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A file of `octo backup make`.")],
) -> None:
    """Restore a backup into an empty place: a new lake, a new registry, an empty configuration or the same.

    Everything is compared with the backup's digests, before and after. After an interruption run it again.
    """
    from octo_pipeline.registry.records import Actor
    from octo_pipeline.services.access import os_user
    from octo_pipeline.services.backups import landed_months, restore_backup
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    for part in restore_backup(Workspace(load_settings()), file, Actor(os_user())):
        typer.echo(f"{part.sentence}.")
    months = landed_months(file)
    if months:
        typer.echo(f"Run `octo backfill --from {months[0]} --to {months[-1]}` to make the tables again.")
    else:
        typer.echo("Run the months whose deliveries the vendors still offer to make their tables again.")
