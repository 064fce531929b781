"""Who asks for a change: the holder of a token, or the user of this machine.

A face (command line, launchpad) has the registry resolve the caller to a user with the role that the change needs, once;
services take that user's name as `actor`. Editors change rules and decisions, administrators accounts, users, secrets
and deliveries. Reading, and running the pipeline, is open to whoever may read and write the lake.

Faces that serve others than the owner of the files read with the workspace of `seen_by`, which shows viewers who are limited
to cost groups no more than theirs, or call `require_unlimited` first.

The user of the machine counts on one machine only: where the registry is on a server, a machine's name for somebody says
nothing, and where several people share a machine's user, neither does it. The setting ``require_token`` is for those.
"""

import os
from collections.abc import Sequence

from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Actor, Caller, Role
from octo_pipeline.rules.cost_group import group_flaw
from octo_pipeline.tables.limited import limited, limited_error
from octo_pipeline.workspace import Workspace


def acting(workspace: Workspace, role: Role) -> Actor:
    """The name of who acts, if they have this role or one that may do more.

    Raises:
        OctoError: they do not, are not users, or there are no users yet.
    """
    return workspace.registry.users.require(caller(workspace), role)


def seen_by(workspace: Workspace, actor: Actor) -> Workspace:
    """The workspace as a user sees it: the whole, or what belongs to the cost groups that they are limited to.

    Whoever answers for somebody else calls it once per request, after the caller is identified, and passes the workspace it
    returns to every service::

        actor = workspace.registry.users.require(Caller(None, token), "viewer")
        workspace = seen_by(workspace, actor)

    Services filter with it or raise the error ``reader-limited``. Its registry is refused, so users, sessions and what else
    is about the caller is read from the workspace before. Only viewers are limited, so whoever requires an editor or an
    administrator needs no filter.
    """
    groups = workspace.registry.users.groups_of(actor)
    return workspace if groups is None else limited(workspace, groups)


def require_unlimited(workspace: Workspace, actor: Actor, what: str) -> None:
    """Refuse a user who may see some cost groups only.

    Args:
        workspace: whose registry knows the user.
        actor: the user.
        what: what they asked for and cannot get, as the beginning of a sentence.

    Raises:
        OctoError: they are limited.
    """
    if workspace.registry.users.groups_of(actor) is not None:
        raise limited_error(what)


def add_user(
    workspace: Workspace, name: str, role: str, actor: Actor, cost_groups: Sequence[str] | None = None
) -> None:
    """Add a user, who sees everything or, as a viewer, some cost groups.

    Raises:
        OctoError: a cost group is unknown, or as `Users.add`.
    """
    _require_groups(workspace, cost_groups or ())
    workspace.registry.users.add(name, role, actor, cost_groups)


def limit_user(workspace: Workspace, name: str, cost_groups: Sequence[str] | None, actor: Actor) -> None:
    """Limit a viewer to some cost groups; with None they see everything.

    Raises:
        OctoError: a cost group is unknown, or as `Users.limit`.
    """
    _require_groups(workspace, cost_groups or ())
    workspace.registry.users.limit(name, cost_groups, actor)


def _require_groups(workspace: Workspace, names: Sequence[str]) -> None:
    groups = workspace.configuration.cost_groups if names else {}
    for name in names:
        # A family stands for all of its groups, also for those of values to come.
        if name not in groups and (flaw := group_flaw(groups, name)):
            raise OctoError(f"{flaw}. Nothing was changed.", code="user-group-unknown", place=name)


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
