"""Who looks at a page, what of the installation they see, and how a page answers them."""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Annotated, Any
from urllib.parse import quote, unquote, urlencode

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from octo_pipeline.api.limits import SECURE_SESSION, SESSION, count_as_valid
from octo_pipeline.api.operations import Operations
from octo_pipeline.api.problems import without_folders
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.html import html_template
from octo_pipeline.model.months import is_month
from octo_pipeline.registry.records import ROLES, Actor, Role, User
from octo_pipeline.services.reasons import changed_since
from octo_pipeline.services.remembered import remembered
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.graph import stale
from octo_pipeline.tables.limited import limited, limited_error
from octo_pipeline.workspace import Workspace

_NOTICE = "octo_notice"
_NOTICE_SECONDS = 60
_READS = ("GET", "HEAD")


class SignInNeeded(Exception):
    """Nobody is signed in, or their session is over."""


class FormExpired(Exception):
    """A form lacks the token of the session, so another page may have made it."""


@dataclass(frozen=True)
class Visit:
    """One request of somebody who is signed in.

    Attributes:
        request: the request.
        workspace: what they see; it reads documents and states once, so that a page is of one moment. Of a viewer of some
            cost groups it shows those only.
        user: who they are.
        session: the text of their session.
    """

    request: Request
    workspace: Workspace
    user: User
    session: str

    @property
    def actor(self) -> Actor:
        """Who acts, for the audit trail."""
        return Actor(self.user.name)

    @property
    def operations(self) -> Operations:
        """The long work of this server."""
        operations: Operations = self.request.app.state.operations
        return operations

    def may(self, role: Role) -> bool:
        """Whether they have this role or one that may do more."""
        return ROLES.index(self.user.role) >= ROLES.index(role)

    @cached_property
    def months(self) -> list[str]:
        """The months that have results, in order."""
        return self.workspace.lake.months(AccountCosts.name)

    @cached_property
    def month(self) -> str | None:
        """The month that the page is about: that of the address, or the newest that has results; None if none has."""
        asked = self.request.query_params.get("month")
        if asked is not None and is_month(asked):
            return asked
        return self.months[-1] if self.months else None

    @cached_property
    def outdated(self) -> tuple[str, ...]:
        """What changed since the month was made, as people read it; nothing for who sees some cost groups only."""
        month = self.month
        if month is None or month not in self.months or self.user.cost_groups is not None:
            return ()
        return remembered(self.workspace, "outdated", month, lambda: changed_since(stale(self.workspace), month))

    def page(self, template: str, *, status_code: int = 200, **values: Any) -> HTMLResponse:
        """A page.

        Args:
            template: its name in the folder of templates, without the ending.
            status_code: of HTTP.
            values: what the template shows.
        """
        notice = self._notice()
        response = HTMLResponse(
            rendered(self.request, template, visit=self, notice=notice, form_token=form_token(self.session), **values),
            status_code,
        )
        if notice:
            response.delete_cookie(_NOTICE)
        return response

    def sentence(self, error: OctoError) -> str:
        """What an error says, without where the server's folders are."""
        return without_folders(str(error), self.workspace.settings)

    def redirect(self, path: str, notice: str = "") -> RedirectResponse:
        """Lead to another page, which shows a sentence once."""
        response = RedirectResponse(path, 303)
        if notice:
            response.set_cookie(
                _NOTICE, self._signed(quote(notice[:1_000])), max_age=_NOTICE_SECONDS, httponly=True, samesite="lax",
                secure=is_secure(self.request),
            )  # fmt: skip
        return response

    def _notice(self) -> str:
        """The sentence that `redirect` left; another program on this host can set our cookies, too, so it has to be ours."""
        kept = self.request.cookies.get(_NOTICE, "")
        text = kept.partition(".")[2]
        return unquote(text) if hmac.compare_digest(kept.encode(), self._signed(text).encode()) else ""

    def _signed(self, text: str) -> str:
        return f"{hmac.new(self.session.encode(), f'notice {text}'.encode(), hashlib.sha256).hexdigest()}.{text}"

    def address(self, path: str | None = None, **changes: str | None) -> str:
        """The address of a page, or of this one, with the month and other parameters.

        Args:
            path: another page than this one; then of today's parameters only the month is kept.
            changes: parameters by name; None takes one out.
        """
        current = self.request.query_params
        kept = dict(current) if path is None else {"month": current["month"]} if "month" in current else {}
        parameters = {name: value for name, value in (kept | changes).items() if value not in (None, "")}
        return (path or self.request.url.path) + (f"?{urlencode(parameters)}" if parameters else "")


def rendered(request: Request, template: str, **values: Any) -> str:
    """The text of a page; of one that nobody is signed in for, too."""
    defaults = {"visit": None, "notice": "", "form_token": "", "asset_version": version("octo-pipeline")}
    return html_template(f"console/templates/{template}.html.j2").render(**{**defaults, "request": request, **values})


def is_secure(request: Request) -> bool:
    """Whether browsers come by TLS, so that cookies may be sent by it alone."""
    public_url = request.app.state.settings.public_url
    return request.url.scheme == "https" or (public_url is not None and public_url.startswith("https://"))


def session_cookie(request: Request) -> str:
    """The name of the cookie with the session. By TLS it is one that browsers take from this host alone, and from no page without TLS."""
    return SECURE_SESSION if is_secure(request) else SESSION


def form_token(session: str) -> str:
    """What the forms of a session bring back; no other page can know it."""
    return hashlib.sha256(f"form {session}".encode()).hexdigest()


async def require_form_token(request: Request) -> None:
    """Refuse a form that is not of the session.

    Raises:
        SignInNeeded: there is no session; what was typed is kept.
        FormExpired: the form has no token, or another one.
    """
    if request.method in _READS:
        return
    form = await request.form()
    if any(not _is_text(text) for field in form.multi_items() for text in field if isinstance(text, str)):
        raise HTTPException(400, "The form has characters that are no text.")
    request.state.typed = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    if request.url.path.startswith("/sign-in"):
        return
    session = request.cookies.get(session_cookie(request))
    if session is None:
        raise SignInNeeded
    token = form.get("form_token", "")
    if isinstance(token, UploadFile) or not hmac.compare_digest(token.encode(), form_token(session).encode()):
        raise FormExpired


def _is_text(text: str) -> bool:
    """Whether it can be written; a form may name an encoding that makes halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _visit(role: Role, *, is_filtered: bool = False) -> Callable[..., Visit]:
    def visit(request: Request) -> Visit:
        """The visit of somebody who is signed in.

        Raises:
            SignInNeeded: nobody is.
            OctoError: they lack the role, or see some cost groups only and the page does not filter.
        """
        workspace = Workspace(request.app.state.settings)
        session = request.cookies.get(session_cookie(request))
        user = workspace.registry.sessions.user(session) if session else None
        if user is None or session is None:
            raise SignInNeeded
        count_as_valid(request)
        seen = workspace if user.cost_groups is None else limited(workspace, user.cost_groups)
        request.state.visit = Visit(request, seen, user, session)
        if user.cost_groups is not None and not is_filtered:
            raise limited_error("this page")
        if not request.state.visit.may(role):
            raise OctoError(
                f"Your role is {user.role}, and this needs {role}. Ask an administrator to do it or to give you the role.",
                code="page-needs-role",
            )
        visit: Visit = request.state.visit
        return visit

    return visit


async def _typed(request: Request) -> FormData:
    return await request.form()


# Of those who see everything. A page whose services filter takes `Seeing`, which viewers of some cost groups may open too.
Viewing = Annotated[Visit, Depends(_visit("viewer"))]
Seeing = Annotated[Visit, Depends(_visit("viewer", is_filtered=True))]
Editing = Annotated[Visit, Depends(_visit("editor"))]
Administering = Annotated[Visit, Depends(_visit("admin"))]
# What was typed; the token was looked at before.
Typed = Annotated[FormData, Depends(_typed)]
