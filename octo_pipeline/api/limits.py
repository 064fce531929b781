"""What every request meets: how long its body may be, how many a caller may make, and headers that browsers obey.

A caller is the token or session that was found valid; who has none, or one that is not known yet, is counted by address.
So people behind one proxy do not use up each other's requests, and texts that are tried out count against the address.
"""

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octo_pipeline.api.problems import problem

MOST_BYTES = 4 * 1024 * 1024
# A body of that size takes half a minute even on a slow line.
BODY_SECONDS = 60
# Per caller; far above what people and programs that read page by page ask for.
MOST_REQUESTS, SECONDS = 1_200, 60
# Wrong tokens of one address: a person mistypes a few, a program that guesses sends many more.
MOST_WRONG = 30
# The names of the console's cookie, without TLS and by it.
SESSION, SECURE_SESSION = "octo_session", "__Host-octo_session"
# Above it, what was not counted for a minute is forgotten.
_MOST_CALLERS = 10_000
_VALID = "is_caller_valid"

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Limits:
    """Middleware that refuses what is too much and adds the headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._requests = _Counts(lambda: MOST_REQUESTS)
        self._wrong = _Counts(lambda: MOST_WRONG)
        self._valid: dict[str, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        statuses: list[int] = []

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        address = scope["client"][0] if scope.get("client") else ""
        credential = _credential(Headers(scope=scope), scope)
        is_known = credential is not None and self._is_known(credential)
        counted_as = credential if is_known and credential is not None else address
        is_tried_out = credential is not None and not is_known and self._wrong.is_full(address)
        if is_tried_out or self._requests.is_full(counted_as):
            answer = _refusal(
                scope, 429, "too-many-requests", "Too many requests; wait a minute.", {"Retry-After": str(SECONDS)}
            )
            await answer(scope, receive, send_with_headers)
            return
        self._requests.add(counted_as)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _body(Headers(scope=scope), receive)
        except TimeoutError:
            sentence = f"The body was not there within {BODY_SECONDS} seconds."
            await _refusal(scope, 408, "body-too-slow", sentence, {"Connection": "close"})(
                scope, receive, send_with_headers
            )
            return
        if body is None:
            answer = _refusal(scope, 413, "body-too-large", f"A body has at most {MOST_BYTES:,} bytes.")
            await answer(scope, receive, send_with_headers)
            return
        state = scope.setdefault("state", {})
        await self._app(scope, _repeated(body, receive), send_with_headers)
        if credential is not None:
            self._learn(credential, address, is_valid=_VALID in state, status=statuses[0] if statuses else 500)

    def _is_known(self, credential: str) -> bool:
        return self._valid.get(credential, 0) > time.monotonic()

    def _learn(self, credential: str, address: str, *, is_valid: bool, status: int) -> None:
        if is_valid:
            now = time.monotonic()
            self._valid[credential] = now + SECONDS
            if len(self._valid) > _MOST_CALLERS:
                self._valid = {name: until for name, until in self._valid.items() if until > now}
            return
        if status == 401:
            self._valid.pop(credential, None)
            self._wrong.add(address)


class _Counts:
    """How often something happened in the last minute, by name."""

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self._times: dict[str, deque[float]] = {}

    def is_full(self, name: str) -> bool:
        """Whether it happened as often as it may."""
        times = self._times.get(name)
        if times is None:
            return False
        while times and times[0] < time.monotonic() - SECONDS:
            times.popleft()
        return len(times) >= self._most()

    def add(self, name: str) -> None:
        """It happened."""
        now = time.monotonic()
        if len(self._times) > _MOST_CALLERS:
            self._times = {other: times for other, times in self._times.items() if times and times[-1] > now - SECONDS}
        self._times.setdefault(name, deque(maxlen=self._most())).append(now)


def count_as_valid(request: Request) -> None:
    """Say that the token or session of a request is valid, so that its requests are counted by themselves."""
    setattr(request.state, _VALID, True)


def _credential(headers: Headers, scope: Scope) -> str | None:
    """A digest of what a request identifies its caller by; None without any."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    text = token.strip() if kind.lower() == "bearer" else ""
    if not text and scope["method"] == "POST" and scope["path"] == "/sign-in":
        # The token is in the form, which is not read here: each is new.
        return "sign-in"
    if not text and (cookie := headers.get("cookie")):
        cookies = cookie_parser(cookie)
        text = cookies.get(SECURE_SESSION) or cookies.get(SESSION, "")
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() if text else None


def _refusal(scope: Scope, status: int, code: str, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a request that is not passed on; a page for those who asked for one, if the application has pages."""
    request = Request(scope)
    page: Callable[[Request, int, str], Response] | None = getattr(request.app.state, "refusal_page", None)
    if page is None or "text/html" not in request.headers.get("accept", ""):
        return problem(status, code, sentence, headers=dict(headers or {}))
    answer = page(request, status, sentence)
    answer.headers.update(headers or {})
    return answer


async def _body(headers: Headers, receive: Receive) -> bytes | None:
    """The whole body; None if it is too long."""
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MOST_BYTES:
        return None
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MOST_BYTES:
            return None
    return body


def _repeated(body: bytes, receive: Receive) -> Receive:
    """A receiver that gives the body once, and then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return messages.pop() if messages else await receive()

    return next_message
