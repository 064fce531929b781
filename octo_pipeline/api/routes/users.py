"""Users, their roles and tokens, and the audit trail."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from octo_pipeline.api.callers import Admin, Viewer, WorkspaceOf
from octo_pipeline.api.listing import PageOf, answer_rows
from octo_pipeline.api.repeats import say_that_it_has_a_secret
from octo_pipeline.model.rows import Rows
from octo_pipeline.services.access import add_user as add_user_of_groups
from octo_pipeline.services.access import limit_user

router = APIRouter(tags=["users"])


class NewUser(BaseModel):
    """A user to add."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "mia", "role": "viewer"}]})

    name: str
    role: str = Field("viewer", description="viewer, editor or admin.")
    cost_groups: list[str] | None = Field(
        None, description="The only cost groups that a viewer sees; null for everything."
    )


class NewRole(BaseModel):
    """Another role of a user."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"role": "editor"}]})

    role: str = Field(description="viewer, editor or admin.")


class NewGroups(BaseModel):
    """What a viewer sees."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"cost_groups": ["shop"]}]})

    cost_groups: list[str] | None = Field(description="The only cost groups that they see; null for everything.")


class NewToken(BaseModel):
    """A token to make."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"user": "mia", "label": "notebook"}]})

    user: str
    label: str = Field(description="What it is for.")


@router.get("/users")
def list_users(workspace: WorkspaceOf, _: Viewer, page: PageOf) -> Response:
    """The users, their roles, and the cost groups that viewers are limited to, with commas."""
    rows = [
        (user.name, user.role, None if user.cost_groups is None else ", ".join(user.cost_groups), user.added_at)
        for user in workspace.registry.users.all()
    ]
    return answer_rows(workspace, page, Rows(("name", "role", "cost_groups", "added_at"), tuple(rows)))


@router.post("/users", status_code=201)
def add_user(workspace: WorkspaceOf, actor: Admin, body: NewUser) -> dict[str, Any]:
    """Add a user."""
    add_user_of_groups(workspace, body.name, body.role, actor, body.cost_groups)
    return {"name": body.name, "role": body.role, "cost_groups": body.cost_groups}


@router.patch("/users/{name}")
def change_role(workspace: WorkspaceOf, actor: Admin, name: str, body: NewRole) -> dict[str, Any]:
    """Give a user another role."""
    workspace.registry.users.set_role(name, body.role, actor)
    return {"name": name, "role": body.role}


@router.put("/users/{name}/cost-groups")
def set_groups(workspace: WorkspaceOf, actor: Admin, name: str, body: NewGroups) -> dict[str, Any]:
    """Limit a viewer to some cost groups, or let them see everything."""
    limit_user(workspace, name, body.cost_groups, actor)
    return {"name": name, "cost_groups": body.cost_groups}


@router.delete("/users/{name}", status_code=204)
def remove_user(workspace: WorkspaceOf, actor: Admin, name: str) -> None:
    """Remove a user and revoke their tokens."""
    workspace.registry.users.remove(name, actor)


@router.get("/tokens")
def list_tokens(workspace: WorkspaceOf, _: Admin, page: PageOf) -> Response:
    """The tokens, including revoked ones; never their texts."""
    rows = [(t.id, t.user_name, t.label, t.made_at, t.revoked_at) for t in workspace.registry.users.tokens()]
    return answer_rows(workspace, page, Rows(("id", "user", "label", "made_at", "revoked_at"), tuple(rows)))


@router.post("/tokens", status_code=201)
def make_token(workspace: WorkspaceOf, actor: Admin, request: Request, body: NewToken) -> dict[str, Any]:
    """Make a token. Its text is in this answer and nowhere else."""
    say_that_it_has_a_secret(request)
    return {"user": body.user, "token": workspace.registry.users.make_token(body.user, body.label, actor)}


@router.delete("/tokens/{token_id}", status_code=204)
def revoke_token(workspace: WorkspaceOf, actor: Admin, token_id: str) -> None:
    """Revoke a token."""
    workspace.registry.users.revoke(token_id, actor)


@router.get("/audit")
def get_audit(
    workspace: WorkspaceOf,
    _: Admin,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    actor: Annotated[str | None, Query(description="Only of this person.")] = None,
    action: Annotated[str | None, Query(description="Only this one.")] = None,
    subject: Annotated[str | None, Query(description="Only of subjects that contain this text.")] = None,
    before: Annotated[int | None, Query(ge=1, lt=2**63, description="Only before the event with this id.")] = None,
) -> list[dict[str, Any]]:
    """The latest changes, newest first: when, who, what. The id of the last one leads on, as `before`."""
    events = workspace.registry.audit(limit, actor=actor, action=action, subject=subject, before=before)
    return [
        {
            "id": e.id,
            "at": e.at.isoformat(),
            "actor": e.actor,
            "action": e.action,
            "subject": e.subject,
            "details": e.details,
        }
        for e in events
    ]
