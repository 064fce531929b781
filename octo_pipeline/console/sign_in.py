"""Signing in and out: by a token, or on one machine by a link that works once."""

import secrets
import time
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.responses import Response

from octo_pipeline.console.visit import COOKIE, Seeing, Typed, form_token, is_secure, rendered
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Caller
from octo_pipeline.registry.sessions import LASTS
from octo_pipeline.workspace import Workspace

router = APIRouter()

_LINK_SECONDS = 600
_KEPT = "kept:"


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
    return HTMLResponse(rendered(request, "sign_in", then=_own_path(then), typed=[], problem=""))


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
        return HTMLResponse(rendered(request, "sign_in", then=then, typed=typed, problem=str(error)), 401)
    return _signed_in(request, session, then, typed)


@router.get("/sign-in/link")
def sign_in_by_link(request: Request, code: Annotated[str, Query(max_length=200)]) -> Response:
    """Sign in by a link that was printed on this machine."""
    caller = request.app.state.links.use(code)
    if caller is None:
        problem = "The link was used already or is older than ten minutes. Start the server again for another one."
        return HTMLResponse(rendered(request, "sign_in", then="/", typed=[], problem=problem), 401)
    session = Workspace(request.app.state.settings).registry.sessions.begin(caller, "link")
    return _signed_in(request, session, "/", [])


@router.post("/sign-out")
def sign_out(visit: Seeing, request: Request) -> Response:
    """End the session."""
    Workspace(request.app.state.settings).registry.sessions.end(visit.session)
    response = visit.redirect("/sign-in")
    response.delete_cookie(COOKIE)
    return response


def _signed_in(request: Request, session: str, then: str, typed: Sequence[tuple[str, str]]) -> Response:
    response: Response = RedirectResponse(then, 303)
    if typed:
        # What a form brought when its session was over is not done unseen.
        text = rendered(request, "send_again", then=then, typed=typed, form_token=form_token(session))
        response = HTMLResponse(text)
    response.set_cookie(
        COOKIE, session, max_age=int(LASTS.total_seconds()), httponly=True, samesite="lax", secure=is_secure(request)
    )
    return response


def _own_path(path: str) -> str:
    """The path if it is one of ours; no other page can have people led to itself."""
    is_own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_own else "/"
