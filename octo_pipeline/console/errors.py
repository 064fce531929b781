"""Errors as pages: the sentence, what helps, and nothing of how the program is made."""

import logging
from dataclasses import replace
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from octo_pipeline.api.problems import STATUSES, without_folders
from octo_pipeline.console.forms import SECRET_FIELDS
from octo_pipeline.console.guard import PAGE_HEADERS
from octo_pipeline.console.visit import (
    FormExpired,
    SignInNeeded,
    Visit,
    form_token,
    is_secure,
    rendered,
    session_cookie,
)
from octo_pipeline.model.errors import OctoError
from octo_pipeline.rules.documents import DocumentError

_log = logging.getLogger(__name__)


def answer_pages(app: FastAPI) -> None:
    """Have the pages answer every error with a page."""
    app.add_exception_handler(SignInNeeded, _sign_in_needed)
    app.add_exception_handler(FormExpired, _form_expired)
    app.add_exception_handler(OctoError, _octo_error)
    app.add_exception_handler(RequestValidationError, _wrong_address)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


def refusal_page(request: Request, status: int, sentence: str) -> HTMLResponse:
    """The page about a request that never came as far as the pages."""
    page = _error_page(request, status, "Refused", sentence)
    page.headers.update(PAGE_HEADERS)
    return page


def _error_page(request: Request, status: int, title: str, error: OctoError | str) -> HTMLResponse:
    visit: Visit | None = getattr(request.state, "visit", None)
    token = form_token(visit.session) if visit else ""
    settings = request.app.state.settings
    problems = [
        replace(p, message=without_folders(p.message, settings))
        for p in (error.problems if isinstance(error, DocumentError) else ())
    ]
    text = rendered(
        request, "error", visit=visit, form_token=token, title=title, detail=without_folders(str(error), settings), problems=problems,
        is_retryable=status == 503,
    )  # fmt: skip
    return HTMLResponse(text, status)


async def _sign_in_needed(request: Request, _: Exception) -> Response:
    typed = getattr(request.state, "typed", None)
    if typed is None:
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        response: Response = RedirectResponse(f"/sign-in?{urlencode({'then': target})}", 303)
        if request.headers.get("hx-request"):
            # A part of a page would be replaced by the sign-in page otherwise.
            response = Response(status_code=401, headers={"HX-Redirect": response.headers["location"]})
    else:
        text = rendered(request, "sign_in", then=request.url.path, typed=_without_token(typed), problem="")
        response = HTMLResponse(text, 401)
    response.delete_cookie(session_cookie(request), secure=is_secure(request))
    return response


async def _form_expired(request: Request, _: Exception) -> Response:
    typed = _without_token(request.state.typed)
    token = form_token(request.cookies[session_cookie(request)])
    text = rendered(request, "send_again", then=request.url.path, typed=typed, form_token=token)
    return HTMLResponse(text, 403)


async def _octo_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OctoError)  # noqa: S101 # nosec B101 - that is what it is registered for
    # Somebody with a session was a user, so their registry is away.
    own = {"page-needs-role": 403, "registry-without-users": 503}
    status = own.get(error.code) or STATUSES.get(error.code, 422)
    titles = {403: "Not allowed", 404: "Not here", 409: "Not now", 412: "Changed meanwhile", 503: "Not available"}
    return _error_page(request, status, titles.get(status, "That does not work"), error)


async def _wrong_address(request: Request, _: Exception) -> Response:
    return _error_page(request, 422, "That does not work", "The address has a value that is not possible.")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 # nosec B101 - that is what it is registered for
    sentence = "This page does not exist." if error.status_code == 404 else str(error.detail)
    return _error_page(request, error.status_code, "Not here" if error.status_code == 404 else "Refused", sentence)


async def _unexpected(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed unexpectedly", request.method, request.url.path, exc_info=error)
    return _error_page(request, 500, "Something went wrong", "The server's log says what.")


def _without_token(typed: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What was typed, to be kept in a page; secrets are typed again."""
    return [(name, value) for name, value in typed if name not in ("form_token", *SECRET_FIELDS)]
