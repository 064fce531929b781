"""Errors as RFC 9457 problems: what is wrong, its code, its place, and what helps."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

import octo_pipeline
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.rules.documents import DocumentError, json_path
from octo_pipeline.settings import Settings

# Code -> HTTP status; of a code that is not here, 422: the request is understood and cannot be done.
STATUSES: dict[str, int] = {
    **dict.fromkeys(("token-missing", "token-required", "token-refused"), 401),
    **dict.fromkeys(("caller-not-a-user", "caller-lacks-role", "reader-limited", "registry-without-users"), 403),
    **dict.fromkeys(
        (
            "account-unknown",
            "account-without-costs",
            "allocator-unknown",
            "cost-group-unknown",
            "delivery-version-not-one",
            "item-unknown",
            "metric-unknown",
            "month-missing",
            "month-not-made",
            "month-outside-lake",
            "month-unknown",
            "no-such-items",
            "operation-unknown",
            "owner-unknown",
            "token-id-unknown",
            "user-unknown",
            "version-unknown",
        ),
        404,
    ),
    **dict.fromkeys(
        (
            "account-already-registered",
            "account-changed-meanwhile",
            "answer-not-kept",
            "configuration-read-only",
            "cost-group-named",
            "cost-group-needed-otherwise",
            "decision-contradicts",
            "document-exists",
            "document-file-taken",
            "document-id-repeated",
            "input-changed",
            "item-ambiguous",
            "last-administrator",
            "list-changed",
            "month-closed-meanwhile",
            "only-viewers-limited",
            "period-closed-already",
            "period-earlier-open",
            "period-not-newest",
            "period-not-ready",
            "period-own-proposal",
            "period-stale",
            "period-state",
            "request-under-way",
            "sign-in-not-begun",
            "token-already-revoked",
            "user-already-known",
        ),
        409,
    ),
    "document-changed-meanwhile": 412,
    "too-many-requests": 429,
    **dict.fromkeys(
        (
            "bucket-missing",
            "dagster-not-asked",
            "configuration-missing",
            "duckdb-cannot-read-lake",
            "lake-file-unreadable",
            "lake-not-writable",
            "memory-exhausted",
            "registry-ahead",
            "registry-behind",
            "registry-not-readable",
            "registry-not-writable",
            "registry-unusable",
            "sign-in-provider-unreachable",
            "sign-in-provider-wrong",
            "sign-ins-too-many",
        ),
        503,
    ),
}


def answer_problems(app: FastAPI) -> None:
    """Have the application answer every error with a problem."""
    app.add_exception_handler(OctoError, _octo_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


def problem(status: int, code: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any) -> JSONResponse:
    """The answer to a request that cannot be done.

    Args:
        status: of HTTP.
        code: the kind of problem in kebab-case; it never changes.
        detail: a sentence for people.
        headers: of the answer.
        more: further members of the problem.
    """
    body = {
        "type": f"urn:octo:{code}",
        "title": code.replace("-", " "),
        "status": status,
        "detail": detail,
        "code": code,
    }
    return JSONResponse(body | more, status, headers, media_type="application/problem+json")


def octo_problem(error: OctoError, settings: Settings) -> JSONResponse:
    """An error of the product as a problem. Files are named as they are called below the configuration or the lake."""
    status = STATUSES.get(error.code, 422)
    more: dict[str, Any] = {}
    if error.place is not None:
        more["place"] = without_folders(error.place, settings)
    if error.remedies:
        more["remedies"] = [remedy_json(remedy) for remedy in error.remedies]
    if isinstance(error, DocumentError):
        more["problems"] = [
            {
                "file": without_folders(p.file, settings),
                "path": p.path,
                "message": without_folders(p.message, settings),
            }
            for p in error.problems
        ]
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return problem(status, error.code, without_folders(str(error), settings), headers=headers, **more)


def without_folders(text: str, settings: Settings) -> str:
    """A text in which the server's folders are named, not located: callers need not know its paths.

    A file below the lake is ``lake/…``, one below the configuration ``configuration/…``.
    """
    folders = {str(settings.config): "configuration", settings.lake: "lake", str(settings.temp or ""): "temp"}
    local = {Path(folder): name for folder, name in folders.items() if folder and "://" not in folder}
    folders |= {str(path): name for folder, name in local.items() for path in (folder.absolute(), folder.resolve())}
    folders[str(Path(octo_pipeline.__file__).parent)] = "octo_pipeline"
    for folder, name in sorted(folders.items(), key=lambda entry: -len(entry[0])):
        if "/" in folder:
            text = text.replace(folder, name)
    return text


def remedy_json(remedy: Remedy) -> dict[str, Any]:
    """What helps, for programs."""
    return {
        "action": remedy.action,
        "arguments": remedy.arguments,
        "options": dict(remedy.options),
        "purpose": remedy.purpose,
    }


async def _octo_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OctoError)  # noqa: S101 # nosec B101 - that is what it is registered for
    return octo_problem(error, request.app.state.settings)


async def _invalid_request(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 # nosec B101 - that is what it is registered for
    problems = [{"path": json_path(e["loc"]), "message": e["msg"]} for e in error.errors()]
    detail = "; ".join(f"{p['path']}: {p['message']}" for p in problems)
    return problem(422, "request-wrong", f"The request is not valid: {detail}.", problems=problems)


async def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 # nosec B101 - that is what it is registered for
    codes = {404: "address-unknown", 405: "method-not-allowed", 406: "format-not-offered", 413: "body-too-large"}
    code = codes.get(error.status_code, "request-refused")
    headers = dict(error.headers) if error.headers else None
    return problem(error.status_code, code, str(error.detail), headers=headers)


async def _unexpected(_: Request, error: Exception) -> JSONResponse:
    """Starlette logs the traceback; the answer says nothing of it."""
    return problem(500, "unexpected", "Something unexpected went wrong; the server's log says what.")
