"""Who asks: the holder of a token, which every request brings, and the workspace that the request sees.

A route that viewers may ask takes `SeenWorkspace`, in which a viewer of some cost groups sees those only, if its services
can filter; a route that takes `Viewer` is for those who see everything.
"""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from octo_pipeline.api.limits import count_as_valid
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Actor, Caller, Role
from octo_pipeline.services.access import require_unlimited, seen_by
from octo_pipeline.workspace import Workspace

_bearer = HTTPBearer(auto_error=False, description="A token that an administrator made.")


def _workspace(request: Request) -> Workspace:
    """A workspace for each request: it reads documents and states once, so that an answer is of one moment."""
    return Workspace(request.app.state.settings)


WorkspaceOf = Annotated[Workspace, Depends(_workspace)]


def _holder(role: Role) -> Callable[..., Actor]:
    def holder(
        request: Request,
        workspace: WorkspaceOf,
        token: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> Actor:
        """The holder of the token.

        Raises:
            OctoError: there is no token, it is not valid, or its user lacks the role.
        """
        if token is None:
            raise OctoError(
                "Send a token: Authorization: Bearer octo_…. An administrator makes tokens.", code="token-missing"
            )
        actor = workspace.registry.users.require(Caller(None, token.credentials), role)
        count_as_valid(request)
        return actor

    return holder


def _unlimited(workspace: WorkspaceOf, actor: Annotated[Actor, Depends(_holder("viewer"))], request: Request) -> Actor:
    """A viewer who sees everything.

    Raises:
        OctoError: the viewer is limited to some cost groups.
    """
    address = request.url.path
    require_unlimited(workspace, actor, f"what {address} answers")
    return actor


def _seen_workspace(workspace: WorkspaceOf, actor: Annotated[Actor, Depends(_holder("viewer"))]) -> Workspace:
    return seen_by(workspace, actor)


SeenWorkspace = Annotated[Workspace, Depends(_seen_workspace)]
Viewer = Annotated[Actor, Depends(_unlimited)]
Editor = Annotated[Actor, Depends(_holder("editor"))]
Admin = Annotated[Actor, Depends(_holder("admin"))]
