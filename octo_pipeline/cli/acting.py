"""How commands that change something ask who acts."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from octo_pipeline.registry.records import Actor
    from octo_pipeline.workspace import Workspace


def admin(workspace: "Workspace") -> "Actor":
    """The name of the administrator who acts.

    Raises:
        OctoError: this is not an administrator.
    """
    from octo_pipeline.services.access import acting

    return acting(workspace, "admin")


def editor(workspace: "Workspace") -> "Actor":
    """The name of the editor or administrator who acts.

    Raises:
        OctoError: this is neither.
    """
    from octo_pipeline.services.access import acting

    return acting(workspace, "editor")
