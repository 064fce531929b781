"""Who asks: the holder of a token, which every request brings, and the workspace that the request sees."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Actor, Caller, Role
from octo_pipeline.workspace import Workspace

_bearer = HTTPBearer(auto_error=False, description="A token that an administrator made.")


def _workspace(request: Request) -> Workspace:
    """A workspace for each request: it reads documents and states once, so that an answer is of one moment."""
    return Workspace(request.app.state.settings)


WorkspaceOf = Annotated[Workspace, Depends(_workspace)]


def _holder(role: Role) -> Callable[..., Actor]:
    def holder(
        workspace: WorkspaceOf, token: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Actor:
        """The holder of the token.

        Raises:
            OctoError: there is no token, it is not valid, or its user lacks the role.
        """
        if token is None:
            raise OctoError(
                "Send a token: Authorization: Bearer octo_…. An administrator makes tokens.", code="token-missing"
            )
        return workspace.registry.users.require(Caller(None, token.credentials), role)

    return holder


Viewer = Annotated[Actor, Depends(_holder("viewer"))]
Editor = Annotated[Actor, Depends(_holder("editor"))]
Admin = Annotated[Actor, Depends(_holder("admin"))]
