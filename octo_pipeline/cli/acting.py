"""Finds out who acts, for commands that change something."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from octo_pipeline.registry.records import Actor
    from octo_pipeline.workspace import Workspace


def admin(workspace: "Workspace") -> "Actor":
    """The name of the administrator who acts. Prints it if this first use made them one.

    Raises:
        OctoError: the caller is not an administrator.
    """
    from octo_pipeline.services.access import caller

    acting = workspace.registry.users.require_admin(caller(workspace.settings.token))
    if acting.is_new:
        typer.echo(
            f"The registry had no users: {acting.name}, the user of this machine, is its administrator from now on.",
            err=True,
        )
    return acting.name
