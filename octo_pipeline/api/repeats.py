"""Requests that are sent again: with the header Idempotency-Key a change is done once, and answered the same each time.

The first answer is kept in the registry, by who asks, the key, and a digest of method, address and body. Answers of
failures of the server are not kept, so that the request can be sent again.
"""

import hashlib
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octo_pipeline.api.limits import count_as_valid
from octo_pipeline.api.problems import octo_problem
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.answers import Answer
from octo_pipeline.registry.records import Caller, text_problem
from octo_pipeline.registry.store import Registry
from octo_pipeline.settings import Settings
from octo_pipeline.workspace import Workspace

HEADER = "Idempotency-Key"
CHANGES = ("POST", "PUT", "PATCH", "DELETE")
_KEY_LENGTH = 200
_KEPT_HEADERS = ("content-type", "etag", "location")
# In the state of a request: whether its answer has a secret, which is kept nowhere.
_HAS_SECRET = "has_secret"  # noqa: S105 # nosec B105 - the name of it


class Repeats:
    """Middleware that answers a repeated request as the first one; it reads the whole body."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it as before."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        key = headers.get(HEADER)
        kind, _, token = headers.get("authorization", "").partition(" ")
        if key is None or scope["method"] not in CHANGES or kind.lower() != "bearer":
            await self._app(scope, receive, send)
            return
        body = (await receive()).get("body", b"")
        registry = Workspace(self._settings).registry
        try:
            caller = await run_in_threadpool(registry.users.require, Caller(None, token.strip()), "viewer")
            count_as_valid(Request(scope))
            if (problem := text_problem("Idempotency-Key", key, _KEY_LENGTH)) is not None:
                raise OctoError(f"The request was not done: {problem}.", code="idempotency-key-wrong")
            kept = await run_in_threadpool(registry.answers.begin, caller, key, _digest(scope, body))
            if kept is not None:
                await _again(kept, self._settings)(scope, receive, send)
                return
        except OctoError as error:
            await octo_problem(error, self._settings)(scope, receive, send)
            return
        await self._done_once(registry, caller, key, scope, body, receive, send)

    async def _done_once(
        self, registry: Registry, caller: str, key: str, scope: Scope, body: bytes, receive: Receive, send: Send
    ) -> None:
        messages: list[Message] = []
        bodies = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> Message:
            return bodies.pop() if bodies else await receive()

        async def collect(message: Message) -> None:
            messages.append(message)

        state = scope.setdefault("state", {})
        try:
            await self._app(scope, receive_again, collect)
        except Exception:
            await run_in_threadpool(registry.answers.forget, caller, key)
            raise
        answer = _kept(messages, has_secret=_HAS_SECRET in state)
        if answer.status >= 500:
            await run_in_threadpool(registry.answers.forget, caller, key)
        else:
            await run_in_threadpool(registry.answers.keep, caller, key, answer)
        for message in messages:
            await send(message)


def _digest(scope: Scope, body: bytes) -> str:
    parts: list[Any] = [scope["method"].encode(), scope["path"].encode(), scope["query_string"], body]
    # Their lengths are part of it, so that no two requests look the same.
    return hashlib.sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).hexdigest()


def say_that_it_has_a_secret(request: Request) -> None:
    """Have the answer to a request not kept."""
    setattr(request.state, _HAS_SECRET, True)


def _kept(messages: list[Message], *, has_secret: bool) -> Answer:
    (start,) = [message for message in messages if message["type"] == "http.response.start"]
    headers = Headers(raw=start["headers"])
    kept = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
    body = b"".join(message.get("body", b"") for message in messages if message["type"] == "http.response.body")
    return Answer(start["status"], kept, None if has_secret else body)


def _again(kept: Answer, settings: Settings) -> Response:
    if kept.body is None:
        return octo_problem(
            OctoError(
                "This was done before, and its answer had a secret, which is kept nowhere. Take back what it made and ask "
                "again with another Idempotency-Key.",
                code="answer-not-kept",
            ),
            settings,
        )
    return Response(kept.body, kept.status, kept.headers)
