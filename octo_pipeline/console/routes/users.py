"""Users, their roles and tokens, and the audit trail."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from starlette.responses import Response

from octo_pipeline.api.listing import Page, answer_rows
from octo_pipeline.console.forms import Filled, refused, text_of
from octo_pipeline.console.visit import Administering, Typed, Viewing, Visit
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.rows import Rows
from octo_pipeline.registry.records import ROLES, AuditEvent
from octo_pipeline.services import access

router = APIRouter()

_EVENTS = 100
_MOST_EVENTS = 100_000
_USER_FIELDS = {
    "user-name-wrong": "name",
    "user-already-known": "name",
    "role-unknown": "role",
    "user-group-unknown": "groups",
    "only-viewers-limited": "groups",
}
_TOKEN_FIELDS = {"token-label-wrong": "label", "user-unknown": "user"}
_ROLE_NAMES = {"viewer": "Viewer", "editor": "Editor", "admin": "Administrator"}


@dataclass(frozen=True)
class MadeToken:
    """A token whose text is shown once."""

    user: str
    label: str
    text: str


@dataclass(frozen=True)
class _Trail:
    """What of the audit trail is asked for; empty for all."""

    actor: str
    action: str
    subject: str

    def events(self, visit: Visit, limit: int, before: int | None = None) -> list[AuditEvent]:
        return visit.workspace.registry.audit(
            limit, actor=self.actor or None, action=self.action or None, subject=self.subject or None, before=before
        )


@router.get("/users")
def users_page(visit: Viewing) -> HTMLResponse:
    """Who may do what, and for administrators the tokens."""
    return _page(visit)


@router.post("/users")
def add_user(visit: Administering, form: Typed) -> Response:
    """Add a user."""
    name, role = text_of(form, "name"), text_of(form, "role")
    try:
        access.add_user(visit.workspace, name, role, visit.actor, _groups(form))
    except OctoError as error:
        if error.code not in _USER_FIELDS:
            raise
        return _page(visit, new_user=refused(form, error, _USER_FIELDS))
    return visit.redirect("/users", f"{name} is added.")


@router.post("/users/role")
def set_role(visit: Administering, form: Typed) -> Response:
    """Give a user another role, unless somebody else did meanwhile."""
    users = visit.workspace.registry.users
    name, role, seen = text_of(form, "name"), text_of(form, "role"), text_of(form, "seen")
    current = next((user.role for user in users.all() if user.name == name), None)
    if current not in (None, seen):
        return _page(visit, status_code=409, problem=f"{name} has the role {current} meanwhile. Nothing was changed.")
    if role != current:
        users.set_role(name, role, visit.actor)
    return visit.redirect("/users", f"{name} has the role {role}.")


@router.post("/users/groups")
def limit_user(visit: Administering, form: Typed) -> Response:
    """Limit a viewer to some cost groups, or let them see everything."""
    name, groups = text_of(form, "name"), _groups(form)
    try:
        access.limit_user(visit.workspace, name, groups, visit.actor)
    except OctoError as error:
        if error.code not in _USER_FIELDS:
            raise
        return _page(visit, status_code=422, problem=visit.sentence(error))
    return visit.redirect("/users", f"{name} sees {', '.join(groups) if groups else 'everything'}.")


@router.post("/users/remove")
def remove_user(visit: Administering, form: Typed) -> Response:
    """Remove a user."""
    name = text_of(form, "name")
    visit.workspace.registry.users.remove(name, visit.actor)
    return visit.redirect("/users", f"{name} is removed, and their tokens are revoked.")


@router.post("/users/tokens")
def make_token(visit: Administering, form: Typed) -> Response:
    """Make a token; the next page shows it."""
    user, label = text_of(form, "user"), text_of(form, "label")
    try:
        text = visit.workspace.registry.users.make_token(user, label, visit.actor)
    except OctoError as error:
        if error.code not in _TOKEN_FIELDS:
            raise
        return _page(visit, new_token=refused(form, error, _TOKEN_FIELDS))
    visit.request.app.state.made_tokens[visit.session] = MadeToken(user, label, text)
    return visit.redirect("/users/tokens/made")


@router.get("/users/tokens/made")
def made_token_page(visit: Administering) -> HTMLResponse:
    """The text of the token that was made last, once."""
    made = visit.request.app.state.made_tokens.pop(visit.session, None)
    page = visit.page("made_token", made=made)
    # No browser keeps it when one leads back to this page.
    page.headers["Cache-Control"] = "no-store"
    return page


@router.post("/users/tokens/revoke")
def revoke_token(visit: Administering, form: Typed) -> Response:
    """Revoke a token."""
    token_id = text_of(form, "id")
    visit.workspace.registry.users.revoke(token_id, visit.actor)
    return visit.redirect("/users", f"The token {token_id} is revoked.")


@router.get("/users/audit")
def audit_page(
    visit: Administering,
    actor: str = "",
    action: str = "",
    subject: Annotated[str, Query(max_length=500)] = "",
    before: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
) -> HTMLResponse:
    """What was changed, newest first."""
    trail = _Trail(actor, action, subject.strip())
    events = trail.events(visit, _EVENTS + 1, before)
    actors, actions = visit.workspace.registry.audit_names()
    following = events[_EVENTS - 1].id if len(events) > _EVENTS else None
    return visit.page(
        "audit",
        trail=trail,
        events=[(event, _in_words(event.details)) for event in events[:_EVENTS]],
        actors=actors,
        actions=actions,
        first=visit.address(before=None) if before else None,
        next=visit.address(before=str(following)) if following else None,
    )


@router.get("/users/audit.csv")
def audit_file(
    visit: Administering, actor: str = "", action: str = "", subject: Annotated[str, Query(max_length=500)] = ""
) -> Response:
    """The same as a file."""
    events = _Trail(actor, action, subject.strip()).events(visit, _MOST_EVENTS)
    columns = ("at", "actor", "action", "subject", "details")
    rows = Rows(
        columns, tuple((e.at, e.actor, e.action, e.subject, json.dumps(e.details, ensure_ascii=False)) for e in events)
    )
    response = answer_rows(visit.workspace, Page("text/csv", None, 1, None, False), rows)
    response.headers["Content-Disposition"] = 'attachment; filename="audit.csv"'
    return response


def _page(
    visit: Visit,
    *,
    status_code: int | None = None,
    new_user: Filled | None = None,
    new_token: Filled | None = None,
    problem: str = "",
) -> HTMLResponse:
    users = visit.workspace.registry.users
    listed = users.all()
    admins = [user.name for user in listed if user.role == "admin"]
    tokens = users.tokens() if visit.may("admin") else []
    return visit.page(
        "users",
        status_code=status_code or (422 if new_user or new_token else 200),
        users=listed,
        user_choices=[(user.name, user.name) for user in listed],
        roles=[(role, _ROLE_NAMES[role]) for role in ROLES],
        role_names=_ROLE_NAMES,
        last_admin=admins[0] if len(admins) == 1 else None,
        tokens=sorted(tokens, key=lambda token: token.made_at, reverse=True),
        new_user=new_user or Filled({"role": "viewer"}),
        new_token=new_token or Filled({"user": visit.user.name}),
        cost_groups=sorted(visit.workspace.configuration.cost_groups) if visit.may("admin") else [],
        problem=problem,
    )


def _groups(form: Typed) -> list[str] | None:
    """The ids of the only cost groups that a viewer may see, typed with commas; None for everything."""
    return [name.strip() for name in text_of(form, "groups").split(",") if name.strip()] or None


def _in_words(details: dict[str, Any]) -> str:
    texts = {
        name.replace("_", " "): value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in details.items()
        if value is not None
    }
    return "; ".join(f"{name}: {text}" for name, text in texts.items())
