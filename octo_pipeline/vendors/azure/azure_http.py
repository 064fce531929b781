"""HTTP as Azure's services want it: patient with throttling, bounded in time, and never showing a secret.

Here belongs how a request is repeated and what a refusal is called. Who asks (tokens) and what is asked do not.
Sentences name the address without its query, which may hold a SAS, and what a service says without tokens.
"""

import random
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

from octo_pipeline.model.errors import NotAskedError, OctoError
from octo_pipeline.model.wording import cut
from octo_pipeline.vendors.outbound import Reach

ATTEMPTS = 5
LONGEST_WAIT = 120.0
TIMEOUT = (10, 120)  # seconds to connect, and between two bytes
# Blobs are at <account>.<domain>: of the global cloud, with DNS zones, of the US government, of China.
STORAGE_DOMAINS = (
    "blob.core.windows.net",
    "blob.storage.azure.net",
    "blob.core.usgovcloudapi.net",
    "blob.core.chinacloudapi.cn",
)

_TRY_AGAIN = (408, 429, 500, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)
_QUOTED = 200
# A service may repeat what it was sent: a token, or the signature of a SAS.
_SECRETS = re.compile(r"\beyJ[\w.-]+|(?<=\bsig=)[^&\s]+")


class Response(Protocol):
    """What is used of a response of requests."""

    status_code: int
    headers: Mapping[str, str]
    raw: Any

    def json(self) -> Any:
        """The body as JSON."""
        ...

    @property
    def content(self) -> bytes:
        """The body."""
        ...

    def close(self) -> None:
        """Give the connection back."""
        ...


class Http:
    """A session of requests that tries again what may be tried again.

    Every request made here may be repeated: reading is, and a second export of the same data does no harm. No redirect
    is followed: these services send none, and whoever does would learn the SAS or have another host asked.

    Args:
        session: of requests.
        pause: waits some seconds.
        reach: which hosts may be asked, where a document names them; None where the program does.
    """

    def __init__(
        self, session: Any, *, pause: Callable[[float], None] = time.sleep, reach: Reach | None = None
    ) -> None:
        self._session = session
        self._reach = reach
        self.pause = pause

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        stream: bool = False,
    ) -> Response:
        """Send a request until it is answered with anything but throttling or a fault of the server.

        Raises:
            NotAskedError: it was not, within `ATTEMPTS`; the sentence names the address.
            OctoError: its host must not be asked, or answers with a redirect.
        """
        if self._reach is not None:
            self._reach.require(url)
            self._reach.require_public(url)
        failure, asked = "", None
        waited = 0.0
        for attempt in range(ATTEMPTS):
            if attempt:
                waited += self._wait(attempt, asked)
            answer, failure, asked = self._once(method, url, headers=headers, json=json, stream=stream)
            if answer is not None:
                return _not_redirected(url, answer)
        raise NotAskedError(
            f"{place(url)} {failure}, {ATTEMPTS} times within {waited:.0f} s of waiting. Nothing was landed, and what "
            "was landed before stays; try again later.",
            code="azure-unreachable",
        )

    def _once(
        self, method: str, url: str, *, headers: Mapping[str, str] | None, json: object, stream: bool
    ) -> tuple[Response | None, str, float | None]:
        import requests

        try:
            answer: Response = self._session.request(
                method, url, headers=headers, json=json, stream=stream, timeout=TIMEOUT, allow_redirects=False
            )
        except (requests.RequestException, ValueError) as error:
            # Its text may hold the whole address. An address that is none is a plain ValueError.
            return None, f"cannot be reached ({type(error).__name__})", None
        if answer.status_code not in _TRY_AGAIN:
            return answer, "", None
        wait = retry_after(answer.headers)
        answer.close()
        reason = "asks for fewer requests" if answer.status_code == 429 else "has a fault"
        return None, f"{reason} (HTTP {answer.status_code})", wait

    def _wait(self, attempt: int, asked: float | None) -> float:
        seconds = min(2.0**attempt if asked is None else asked, LONGEST_WAIT)
        # Jitter, so that several processes that were refused together do not come back together.
        seconds += random.uniform(0, 1 + seconds / 4)  # noqa: S311
        self.pause(seconds)
        return seconds


def _not_redirected(url: str, answer: Response) -> Response:
    if answer.status_code not in _REDIRECTS:
        return answer
    answer.close()
    raise OctoError(
        f"{place(url)} answers with a redirect (HTTP {answer.status_code}), which is not followed, and cannot be read. Check "
        "the address.",
        code="redirect-refused",
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a Retry-After header asks to wait; None if there is none or it makes no sense."""
    text = headers.get("Retry-After", "")
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None


def place(url: str) -> str:
    """The address as sentences may show it: without its query, and not longer than an address is."""
    return cut(url.split("?")[0], _QUOTED)


def parsed(answer: Response) -> Any:
    """The body of an answer as JSON.

    Raises:
        ValueError: it is none, is nested too deep, or did not arrive whole.
    """
    import requests

    try:
        return answer.json()
    except (RecursionError, requests.RequestException) as error:
        raise ValueError(f"the body is no JSON ({type(error).__name__})") from error


def refusal(answer: Response) -> str:
    """What a service says about a request it refused, short and on one line."""
    try:
        document = parsed(answer)
    except ValueError:
        document = None
    said = reason(document.get("error") if isinstance(document, dict) else None)
    return f"HTTP {answer.status_code}" + (f": {said}" if said else "")


def reason(error: object) -> str:
    """Code and message of an error as these services describe it, short, on one line and without secrets."""
    parts = (error.get("code"), error.get("message")) if isinstance(error, dict) else ()
    said = " ".join(" ".join(str(part) for part in parts if part).split())
    return cut(_SECRETS.sub("…", said), _QUOTED)
