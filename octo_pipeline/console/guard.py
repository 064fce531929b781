"""What every request of a page meets: the host that it asks for, the page that it comes from, and headers of its answer."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octo_pipeline.settings import Settings

_OWN_NAMES = ("127.0.0.1", "localhost", "[::1]")
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_READS = ("GET", "HEAD", "OPTIONS")


class Guard:
    """Middleware that lets only requests pass that a page of this installation can have made.

    Another name than our own would let a page of somebody else, whose name leads to this machine, read ours; and a form of
    another page would be sent with our cookie.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings, hosts: tuple[str, ...]) -> None:
        self._app = app
        self._public = urlsplit(settings.public_url or "").netloc.lower()
        public = urlsplit(settings.public_url or "").hostname
        self._hosts = {*_OWN_NAMES, *(host.lower() for host in hosts), *([public] if public else [])}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in PAGE_HEADERS.items():
                    headers.setdefault(name, value)
                if scope["scheme"] == "https":
                    headers.setdefault("Strict-Transport-Security", "max-age=31536000")
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        if refusal is not None:
            await PlainTextResponse(refusal, 403)(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _refusal(self, method: str, headers: Headers) -> str | None:
        host = _name(headers.get("host", ""))
        if host not in self._hosts:
            return "This name is not one of this installation. An administrator can set it as its public address.\n"
        if method in _READS:
            return None
        origin = headers.get("origin")
        if origin is not None:
            # With its port, because another program on this machine has pages of the same name.
            is_own = urlsplit(origin).netloc.lower() in {headers.get("host", "").lower(), self._public} - {""}
        else:
            is_own = headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
        return None if is_own else "A form of another page cannot change anything here.\n"


def _name(netloc: str) -> str:
    """The name without its port."""
    if netloc.startswith("["):
        return netloc.partition("]")[0] + "]"
    return netloc.partition(":")[0].lower()
