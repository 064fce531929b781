"""HTTP requests to Azure's services: they wait when throttled, have timeouts and never show a secret.

This module repeats requests and describes refusals. Tokens belong in `client`, the requests themselves elsewhere.
Messages contain addresses without the query, which may hold a SAS, and a service's texts without tokens.
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
# A service may repeat parts of the request: a token, or the signature of a SAS.
_SECRETS = re.compile(r"\beyJ[\w.-]+|(?<=\bsig=)[^&\s]+")


class Response(Protocol):
    """The used parts of a response of the library requests."""

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
        """Return the connection to the pool."""
        ...


class Http:
    """A session of the library requests that retries.

    Every request here may be repeated: reads are safe to repeat, and a second export of the same data does no harm. No
    redirect is followed: these services send none, and another server could learn the SAS or redirect to another host.

    Args:
        session: of the library requests.
        pause: waits some seconds.
        reach: the allowed hosts if a document names the host; None if the program does.
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
        """Send a request until the response is neither throttling nor a server error.

        Raises:
            NotAskedError: all `ATTEMPTS` failed; the message names the address.
            OctoError: the address is malformed, the host is not allowed, or it responds with a redirect.
        """
        if self._reach is not None:
            self._reach.require(url)
            self._reach.require_public(url)
        failure, retry_seconds = "", None
        waited = 0.0
        for attempt in range(ATTEMPTS):
            if attempt:
                waited += self._wait(attempt, retry_seconds)
            response, failure, retry_seconds = self._once(method, url, headers=headers, json=json, stream=stream)
            if response is not None:
                return _not_redirected(url, response)
        raise NotAskedError(
            f"{bare_url(url)} {failure} after {ATTEMPTS} tries with {waited:.0f} s of waiting. Nothing was landed, and earlier "
            "deliveries stay. Try again later.",
            code="azure-unreachable",
        )

    def _once(
        self, method: str, url: str, *, headers: Mapping[str, str] | None, json: object, stream: bool
    ) -> tuple[Response | None, str, float | None]:
        import requests

        try:
            response: Response = self._session.request(
                method, url, headers=headers, json=json, stream=stream, timeout=TIMEOUT, allow_redirects=False
            )
        except requests.RequestException as error:
            # Its text may contain the whole address.
            return None, f"cannot be reached ({type(error).__name__})", None
        except ValueError:
            # The library reads where a redirect leads, even if it does not follow it. Asking again would not help.
            raise OctoError(
                f"{bare_url(url)} is not an address, or redirects to something that is not. Check the address.",
                code="address-malformed",
            ) from None
        if response.status_code not in _TRY_AGAIN:
            return response, "", None
        wait = retry_after(response.headers)
        response.close()
        reason = "is throttling requests" if response.status_code == 429 else "has an error"
        return None, f"{reason} (HTTP {response.status_code})", wait

    def _wait(self, attempt: int, retry_seconds: float | None) -> float:
        seconds = min(2.0**attempt if retry_seconds is None else retry_seconds, LONGEST_WAIT)
        # Jitter, so that processes that were throttled together do not retry together.
        seconds += random.uniform(0, 1 + seconds / 4)  # noqa: S311
        self.pause(seconds)
        return seconds


def _not_redirected(url: str, response: Response) -> Response:
    if response.status_code not in _REDIRECTS:
        return response
    response.close()
    raise OctoError(
        f"{bare_url(url)} answers with a redirect (HTTP {response.status_code}), which is not followed, and cannot be read. Check "
        "the address.",
        code="redirect-refused",
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of a Retry-After header; None if there is none or it is not valid."""
    text = headers.get("Retry-After", "")
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None


def bare_url(url: str) -> str:
    """The address for messages: shortened, and without its query, which may hold a secret."""
    return cut(url.split("?")[0], _QUOTED)


def parsed(response: Response) -> Any:
    """The body of a response as JSON.

    Raises:
        ValueError: it is not JSON, is nested too deeply, or did not arrive completely.
    """
    import requests

    try:
        return response.json()
    except (RecursionError, requests.RequestException) as error:
        raise ValueError(f"the body is not JSON ({type(error).__name__})") from error


def refusal(response: Response) -> str:
    """A service's reason for refusing a request, shortened to one line."""
    try:
        document = parsed(response)
    except ValueError:
        document = None
    message = reason(document.get("error") if isinstance(document, dict) else None)
    return f"HTTP {response.status_code}" + (f": {message}" if message else "")


def reason(error: object) -> str:
    """Code and message of an error as these services describe it, shortened to one line and without secrets."""
    parts = (error.get("code"), error.get("message")) if isinstance(error, dict) else ()
    text = " ".join(" ".join(str(part) for part in parts if part).split())
    return cut(_SECRETS.sub("…", text), _QUOTED)
