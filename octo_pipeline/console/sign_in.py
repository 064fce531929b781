"""Signing in and out: by a token, by a provider of OpenID Connect, or on one machine by a link that works once."""

import secrets
import time
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from octo_pipeline.api.problems import STATUSES
from octo_pipeline.console.openid import LASTS_SECONDS, OpenId
from octo_pipeline.console.visit import Seeing, Typed, form_token, is_secure, rendered, session_cookie
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Caller
from octo_pipeline.registry.sessions import LASTS
from octo_pipeline.workspace import Workspace

router = APIRouter()

_LINK_SECONDS = 600
_KEPT = "kept:"
_OPENID = "/sign-in/openid"
# What shows that the browser that comes back from the provider is the one that was led there.
_BROWSER = "octo_openid"


class OneTimeLinks:
    """The links that `octo serve` prints. Each works once and for ten minutes."""

    def __init__(self) -> None:
        self._callers: dict[str, tuple[Caller, float]] = {}

    def make(self, caller: Caller) -> str:
        """The path of a link that signs somebody in."""
        code = secrets.token_urlsafe(32)
        self._callers[code] = (caller, time.monotonic() + _LINK_SECONDS)
        return f"/sign-in/link?code={code}"

    def use(self, code: str) -> Caller | None:
        """Whom a link signs in; None if it was used, is too old, or is none."""
        caller, until = self._callers.pop(code, (None, 0.0))
        return caller if time.monotonic() < until else None


@router.get("/sign-in")
def sign_in_page(request: Request, then: Annotated[str, Query(max_length=4_000)] = "/") -> HTMLResponse:
    """The form to sign in by."""
    return HTMLResponse(_form(request, _own_path(then)))


@router.post("/sign-in")
def sign_in(request: Request, form: Typed) -> Response:
    """Sign in by a token."""
    then = _own_path(str(form.get("then", "/")))
    typed = [(n.removeprefix(_KEPT), str(v)) for n, v in form.multi_items() if n.startswith(_KEPT)]
    token = str(form.get("token", "")).strip()
    try:
        session = Workspace(request.app.state.settings).registry.sessions.begin(Caller(None, token), "token")
    except OctoError as error:
        if error.code not in ("token-refused", "caller-not-a-user", "registry-without-users"):
            raise
        return HTMLResponse(_form(request, then, typed, str(error)), 401)
    return _signed_in(request, session, then, typed)


@router.get("/sign-in/link")
def sign_in_by_link(request: Request, code: Annotated[str, Query(max_length=200)]) -> Response:
    """Sign in by a link that was printed on this machine."""
    caller = request.app.state.links.use(code)
    if caller is None:
        problem = "The link was used already or is older than ten minutes. Start the server again for another one."
        return HTMLResponse(_form(request, "/", problem=problem), 401)
    session = Workspace(request.app.state.settings).registry.sessions.begin(caller, "link")
    return _signed_in(request, session, "/", [])


@router.get("/sign-in/openid")
def sign_in_by_openid(request: Request, then: Annotated[str, Query(max_length=4_000)] = "/") -> Response:
    """Lead to the provider of OpenID Connect."""
    try:
        address, browser = _provider(request).begin(_callback(request), _own_path(then))
    except OctoError as error:
        return HTMLResponse(_form(request, _own_path(then), problem=str(error)), 503)
    response = RedirectResponse(address, 303)
    response.set_cookie(
        _BROWSER, browser, max_age=LASTS_SECONDS, path=_OPENID, httponly=True, samesite="lax", secure=is_secure(request)
    )
    return response


@router.get("/sign-in/openid/callback")
def signed_in_by_openid(request: Request) -> Response:
    """Sign in whom the provider led back."""
    try:
        browser = request.cookies.get(_BROWSER, "")
        person, then = _provider(request).finish(request.query_params, browser, _callback(request))
        registry = Workspace(request.app.state.settings).registry
        name = registry.users.admit(person.subject, person.name, person.role)
        response = _signed_in(request, registry.sessions.begin(Caller(name), "openid"), then, [])
    except OctoError as error:
        if STATUSES.get(error.code) == 503 and not error.code.startswith("sign-in-"):
            raise
        response = HTMLResponse(_form(request, "/", problem=str(error)), 401)
    response.delete_cookie(_BROWSER, path=_OPENID)
    return response


@router.post("/sign-out")
def sign_out(visit: Seeing, request: Request) -> Response:
    """End the session."""
    Workspace(request.app.state.settings).registry.sessions.end(visit.session)
    response = visit.redirect("/sign-in")
    response.delete_cookie(session_cookie(request), secure=is_secure(request))
    return response


def _provider(request: Request) -> OpenId:
    provider: OpenId | None = request.app.state.openid
    if provider is None:
        raise HTTPException(404)
    return provider


def _callback(request: Request) -> str:
    settings = request.app.state.settings
    return f"{settings.public_url or str(request.base_url).rstrip('/')}{_OPENID}/callback"


def _form(request: Request, then: str, typed: Sequence[tuple[str, str]] = (), problem: str = "") -> str:
    """The page with the form."""
    return rendered(request, "sign_in", then=then, typed=typed, problem=problem)


def _signed_in(request: Request, session: str, then: str, typed: Sequence[tuple[str, str]]) -> Response:
    response: Response = RedirectResponse(then, 303)
    if typed:
        # What a form brought when its session was over is not done unseen.
        text = rendered(request, "send_again", then=then, typed=typed, form_token=form_token(session))
        response = HTMLResponse(text)
    response.set_cookie(
        session_cookie(request),
        session,
        max_age=int(LASTS.total_seconds()),
        httponly=True,
        samesite="lax",
        secure=is_secure(request),
    )
    return response


def _own_path(path: str) -> str:
    """The path if it is one of ours; no other page can have people led to itself."""
    is_own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_own else "/"
