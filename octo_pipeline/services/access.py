"""Who acts: the user of this machine, or whom OCTO_TOKEN is of; the gate of every change of what people decided.

Reading, and running the pipeline, is for whoever may read and write the lake.
"""

import os

from octo_pipeline.registry.records import Admin
from octo_pipeline.workspace import Workspace


def require_admin(workspace: Workspace) -> Admin:
    """The administrator who acts; of a registry without users, the first to ask becomes one.

    Raises:
        OctoError: this is no administrator; the sentence says who it is and what to do.
    """
    return workspace.registry.users.require_admin(token_of(workspace), os_user())


def token_of(workspace: Workspace) -> str | None:
    """The text of the token that is set, if one is."""
    token = workspace.settings.token
    return token.get_secret_value() if token is not None else None


def os_user() -> str:
    """The name of the user this process runs as.

    The system is asked, not the environment: LOGNAME and USER are whatever their setter likes.
    """
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's user without a name
        return f"uid-{os.geteuid()}"
