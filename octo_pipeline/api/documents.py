"""Documents in bodies: their text as it was sent, and which version of a saved one is meant."""

import hashlib
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, ParamSpec, TypeVar

from fastapi import Depends, Request

from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.documents import read
from octo_pipeline.workspace import Workspace

P = ParamSpec("P")
R = TypeVar("R")


# The version that a caller has seen is compared and the document saved without another request in between.
_turn = Lock()


def in_turn(route: Callable[P, R]) -> Callable[P, R]:
    """A route that changes documents, one request of this server after the other."""

    @wraps(route)
    def route_in_turn(*args: P.args, **more: P.kwargs) -> R:
        with _turn:
            return route(*args, **more)

    return route_in_turn


async def _body(request: Request) -> bytes:
    return await request.body()


# The bytes, since a key that is written twice is lost once JSON is parsed.
Body = Annotated[bytes, Depends(_body)]


def described_body(media_type: str, example: Any) -> dict[str, Any]:
    """What OpenAPI says of a body that a route reads as bytes."""
    schema = {"type": "object"} if media_type == "application/json" else {"type": "string"}
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema, "example": example}}}}


def require_writable(workspace: Workspace, folder: str) -> None:
    """Refuse a change of documents that only their own repository may change.

    Raises:
        OctoError: the folder cannot be written.
    """
    path = workspace.settings.config / folder
    existing = path if path.exists() else workspace.settings.config
    if not os.access(existing, os.W_OK):
        raise OctoError(
            f"The configuration {workspace.settings.config} is read-only here. Commit the document where it comes from.",
            code="configuration-read-only",
            place=str(path),
        )


def require_id(document_id: str, address_id: str) -> None:
    """Refuse a document that was sent to the address of another one.

    Raises:
        OctoError: the two ids differ.
    """
    if document_id != address_id:
        raise OctoError(
            f"The document has the id {document_id!r} and was sent to {address_id!r}.",
            code="document-of-another-id",
            place="id",
        )


def current_version(path: Path | None, version: str | None) -> str | None:
    """The version under which a document is changed; None if there is none.

    Args:
        path: its file; None if there is none.
        version: of the valid document. One that is not valid has no version, so its bytes stand for it.
    """
    return version if version or path is None else hashlib.sha256(read(path)).hexdigest()[:32]


def require_version(request: Request, current: str | None) -> None:
    """Refuse a change of another version than the caller has seen.

    Args:
        request: with ``If-Match`` and a version, or ``If-None-Match: *`` for a new document.
        current: the version that is saved; None if there is none.

    Raises:
        OctoError: it is another one, or the caller does not say which one is meant.
    """
    seen = request.headers.get("if-match")
    if current is None and seen is None:
        return
    if current is not None and request.headers.get("if-none-match") == "*":
        raise OctoError("There is one already; nothing was saved.", code="document-changed-meanwhile")
    if current is not None and seen is None:
        raise OctoError(
            "There is one already. Send If-Match with the version that you have seen (its ETag) to change it.",
            code="document-changed-meanwhile",
        )
    if seen is not None:
        require_seen(seen.strip().strip('"'), current)


def require_seen(seen: str, current: str | None) -> None:
    """Refuse a change of another version than the caller has seen.

    Raises:
        OctoError: it is another one.
    """
    if current is None or seen != current:
        raise OctoError(
            "Somebody changed it since you read it; read it again. Nothing was saved.",
            code="document-changed-meanwhile",
        )
