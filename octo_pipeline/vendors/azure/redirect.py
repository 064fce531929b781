"""A server on loopback that waits for a browser to come back from a sign-in.

It takes one response, the one with the state of the sign-in, and then closes. Any page in the browser can send a request
here; requests without the state are refused, and the server keeps waiting.
"""

import hmac
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.wording import reason

_HOSTS = {"localhost", "127.0.0.1"}
_WAIT_SECONDS = 300.0
_THANKS = b"The terminal says whether you are signed in. You can close this page."
_NOT_OURS = b"This does not belong to the sign-in that the terminal waits for."


class Redirect:
    """The listening server; `wait` returns the one response."""

    def __init__(self, server: HTTPServer, answers: list[dict[str, str]], states: list[str]) -> None:
        self._server = server
        self._answers = answers
        self._states = states

    def wait(self, state: str, seconds: float = _WAIT_SECONDS) -> Mapping[str, str]:
        """The query of the address that the browser came back to, with this state.

        Raises:
            OctoError: the browser did not come back in time.
        """
        self._states.append(state)
        until = time.monotonic() + seconds
        while not self._answers and time.monotonic() < until:
            self._server.timeout = max(0.0, until - time.monotonic())
            self._server.handle_request()
        if not self._answers:
            raise OctoError(
                f"The browser did not come back from the sign-in within {seconds:.0f} seconds. Start the sign-in again. If "
                "the browser is on another machine, paste the address that it came back to.",
                code="nobody-came-back",
            )
        return self._answers[0]


@contextmanager
def listening(redirect_uri: str) -> Iterator[Redirect]:
    """Listen on the address to which the browser will come back.

    Raises:
        OctoError: the address is not on loopback, or another program listens on it.
    """
    url = urlsplit(redirect_uri)
    if url.scheme != "http" or url.hostname not in _HOSTS or url.port is None:
        raise OctoError(
            "The setting azure_redirect_uri must be an address of this machine, such as http://localhost:8400, to listen on. "
            "With another address, paste the address that the browser came back to.",
            code="redirect-not-local",
            place="azure_redirect_uri",
            remedy=Remedy("set", setting="azure_redirect_uri"),
        )
    answers: list[dict[str, str]] = []
    states: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        # A browser that connects and sends nothing must not block the next one.
        timeout = 10

        def do_GET(self) -> None:
            query = dict(parse_qsl(urlsplit(self.path).query))
            is_it = any(hmac.compare_digest(query.get("state", "").encode(), state.encode()) for state in states)
            if is_it and not answers and ("code" in query or "error" in query):
                answers.append(query)
                self._say(200, _THANKS)
            else:
                self._say(400, _NOT_OURS)

        def _say(self, status: int, text: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            """Log nothing, because the address contains the code."""

    try:
        server = HTTPServer(("127.0.0.1", url.port), Handler)
    except OSError as error:
        raise OctoError(
            f"Cannot listen on {redirect_uri} ({reason(error)}). Stop the program that listens there, or paste the address "
            "that the browser came back to.",
            code="redirect-port-taken",
            place=redirect_uri,
        ) from error
    with server:
        yield Redirect(server, answers, states)
