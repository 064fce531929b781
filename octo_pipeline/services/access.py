"""Who asks for a change: the holder of a token, or the user of this machine.

A face (command line, launchpad) has the registry resolve the caller to a user with the role that the change needs, once;
services take that user's name as `actor`. Editors change rules and decisions, administrators accounts, users, secrets
and deliveries. Reading, and running the pipeline, is open to whoever may read and write the lake.

The user of the machine counts on one machine only: where the registry is on a server, a machine's name for somebody says
nothing, and where several people share a machine's user, neither does it. The setting ``require_token`` is for those.
"""

import os

from octo_pipeline.registry.records import Actor, Caller, Role
from octo_pipeline.workspace import Workspace


def acting(workspace: Workspace, role: Role) -> Actor:
    """The name of who acts, if they have this role or one that may do more.

    Raises:
        OctoError: they do not, are not users, or there are no users yet.
    """
    return workspace.registry.users.require(caller(workspace), role)


def caller(workspace: Workspace) -> Caller:
    """The caller with the token of the settings or, where none is required, the user this process runs as."""
    token = workspace.settings.token
    if token is not None:
        return Caller(os_user(), token.get_secret_value())
    return Caller(None if needs_token(workspace) else os_user())


def needs_token(workspace: Workspace) -> bool:
    """Whether users of the operating system do not count: the setting says so, or the registry is on a server."""
    return workspace.settings.require_token or workspace.registry.path is None


def os_user() -> str:
    """The name of the user this process runs as.

    The system is asked, not the environment: LOGNAME and USER are whatever their setter likes.
    """
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's user without a name
        return f"uid-{os.geteuid()}"
