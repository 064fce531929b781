"""What every request meets: how long its body may be, how many a caller may make, and headers that browsers obey."""

import time
from collections import defaultdict, deque

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octo_pipeline.api.problems import problem

MOST_BYTES = 4 * 1024 * 1024
# Per address; far above what people and programs that read page by page ask for.
MOST_REQUESTS, SECONDS = 1_200, 60

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
        self._requests: dict[str, deque[float]] = defaultdict(deque)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if self._is_too_often(scope):
            answer = problem(
                429, "too-many-requests", "Too many requests; wait a minute.", headers={"Retry-After": str(SECONDS)}
            )
            await answer(scope, receive, send_with_headers)
            return
        body = await _body(Headers(scope=scope), receive)
        if body is None:
            answer = problem(413, "body-too-large", f"A body has at most {MOST_BYTES:,} bytes.")
            await answer(scope, receive, send_with_headers)
            return
        await self._app(scope, _repeated(body, receive), send_with_headers)

    def _is_too_often(self, scope: Scope) -> bool:
        address = scope["client"][0] if scope.get("client") else ""
        now = time.monotonic()
        times = self._requests[address]
        while times and times[0] < now - SECONDS:
            times.popleft()
        if len(times) >= MOST_REQUESTS:
            return True
        times.append(now)
        return False


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
