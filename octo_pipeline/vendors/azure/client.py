"""Access to Azure and Partner Center: sign-in, sessions with timeouts, sources from documents.

This module holds what needs credentials. The requests belong in `graph` and `blobs`. msal and requests are imported only
when they are used.

The refresh token of a sign-in rotates: each use may return a new one, which must be saved, or the sign-in is lost within
90 days. So a caller that passes a refresh token also passes a function that saves the next one.
"""

import hmac
import re
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from octo_pipeline.model.errors import NotAskedError, OctoError
from octo_pipeline.vendors.azure.azure_http import STORAGE_DOMAINS, Http, Response, bare_url
from octo_pipeline.vendors.azure.blobs import ContainerListing, FolderListing
from octo_pipeline.vendors.azure.csp import AzureCspDocument, AzureCspSource
from octo_pipeline.vendors.azure.exports import AzureExportDocument, AzureExportSource
from octo_pipeline.vendors.azure.graph import GRAPH_URL, PARTNER_CENTER_URL, Call, PartnerBilling
from octo_pipeline.vendors.outbound import Reach, source_secret

LOGIN_URL = "https://login.microsoftonline.com"

_RETRIES = 3
_TIMEOUT = 30
# A token is not used in the last five minutes of its life, because a request may take that long.
_MARGIN = 300
_PERMISSIONS = {GRAPH_URL: "PartnerBilling.Read.All", PARTNER_CENTER_URL: "user_impersonation"}
_CODE = re.compile(r"AADSTS(\d+)")
_REASONS = {
    "7000215": "the client secret is wrong; set the secret's value, not its id",
    "7000222": "the client secret has expired; create a new one and set it",
    "700016": "the application is not known in this tenant; check the client id and the tenant",
    "90002": "there is no such tenant; check the tenant id",
    "900023": "there is no such tenant; check the tenant id",
    "65001": "nobody has consented to the application's permissions; sign in as an admin and consent",
    "50076": "multi-factor authentication is required; sign in again",
    "50079": "multi-factor authentication must be set up; do so and sign in again",
    "50173": "the sign-in was revoked; sign in again",
    "70008": "the sign-in or its code has expired; sign in again",
    "70043": "the sign-in has expired; sign in again",
    "700082": "the sign-in has expired because it was not used for 90 days; sign in again",
    "50011": "the redirect address is not registered with the application; add it there",
}


@dataclass(frozen=True)
class SignIn:
    """A sign-in that has started.

    Attributes:
        url: the address that the user opens.
        flow: the data that `redeem` needs; it contains the PKCE verifier, so store it like a secret.
    """

    url: str
    flow: dict[str, Any]

    @property
    def state(self) -> str:
        """The state that comes back with the code and identifies the flow."""
        return str(self.flow["state"])


class Tokens:
    """Access tokens of one partner tenant for Graph and Partner Center.

    Args:
        document: the tenant's configuration.
        secret: the application's secret.
        refresh_token: of the user who signed in; required if the document says ``user``.
        save_refresh_token: saves the next refresh token; called before the access token is used.
        http_client: a session of the library requests for the sign-in; by default one with retries and a timeout.
    """

    def __init__(
        self,
        document: AzureCspDocument,
        secret: str,
        *,
        refresh_token: str | None = None,
        save_refresh_token: Callable[[str], None] | None = None,
        http_client: Any = None,
    ) -> None:
        if document.sign_in == "user" and (refresh_token is None or save_refresh_token is None):
            raise OctoError(
                f"Azure partner tenant {document.tenant_id} is read with a user's sign-in, but nobody has signed in yet. "
                "Sign in, or set sign_in to app.",
                code="nobody-signed-in",
            )
        self._document, self._secret = document, secret
        self._refresh_token = refresh_token if document.sign_in == "user" else None
        self._save = save_refresh_token
        self._http_client = http_client
        self._application: Any = None
        self._known: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def token(self, service: str) -> str:
        """An access token for Graph or Partner Center.

        Args:
            service: `GRAPH_URL` or `PARTNER_CENTER_URL`.

        Raises:
            OctoError: the sign-in is refused; the message names the reason and the remedy.
        """
        # If two threads used one refresh token at once, the older of the two new ones could be saved last.
        with self._lock:
            token, expires_at = self._known.get(service, ("", 0.0))
            if time.monotonic() < expires_at - _MARGIN:
                return token
            response = self._acquire(service)
            self._known[service] = response["access_token"], time.monotonic() + float(response.get("expires_in", 0))
            return str(response["access_token"])

    def _acquire(self, service: str) -> dict[str, Any]:
        if self._application is None:
            self._application = _application(self._document, self._secret, self._http_client)
        if self._refresh_token is None:
            return _token_response(
                self._document, lambda: self._application.acquire_token_for_client(scopes=[f"{service}/.default"])
            )
        response = _token_response(
            self._document,
            lambda: self._application.acquire_token_by_refresh_token(
                self._refresh_token, scopes=[f"{service}/{_PERMISSIONS[service]}"]
            ),
        )
        rotated = response.get("refresh_token")
        if rotated and rotated != self._refresh_token and self._save is not None:
            self._save(rotated)
            self._refresh_token = rotated
        return response


def authorization_url(document: AzureCspDocument, secret: str, *, redirect_uri: str, http_client: Any = None) -> SignIn:
    """Start a sign-in in the browser, with a state and PKCE.

    Args:
        document: the tenant's configuration.
        secret: the application's secret.
        redirect_uri: where the browser comes back to; registered with the application.
        http_client: a session of the library requests; by default one with retries and a timeout.

    Raises:
        OctoError: the tenant is not known or cannot be reached.
    """
    application = _application(document, secret, http_client)
    with warnings.catch_warnings():
        # msal warns that the code comes back in the address and not as a form; PKCE and the state make that safe.
        warnings.filterwarnings("ignore", "response_mode")
        flow = _guarded(
            document,
            lambda: application.initiate_auth_code_flow(
                [f"{GRAPH_URL}/{_PERMISSIONS[GRAPH_URL]}"], redirect_uri=redirect_uri
            ),
        )
    return SignIn(flow["auth_uri"], flow)


def redeem(
    document: AzureCspDocument, secret: str, sign_in: SignIn, query: Mapping[str, str], *, http_client: Any = None
) -> str:
    """The refresh token of a completed sign-in.

    Args:
        document: the tenant's configuration.
        secret: the application's secret.
        sign_in: what `authorization_url` returned.
        query: the query of the address that the browser came back to: code and state, or error.
        http_client: a session of the library requests; by default one with retries and a timeout.

    Raises:
        OctoError: it was refused, belongs to another sign-in, or has no refresh token.
    """
    application = _application(document, secret, http_client)
    flow = dict(sign_in.flow)
    if not flow or not hmac.compare_digest(query.get("state", "").encode(), str(flow["state"]).encode()):
        raise OctoError(
            f"The response for Azure partner tenant {document.tenant_id} does not belong to this sign-in (it has another "
            "state, or it was used before). Start the sign-in again.",
            code="sign-in-of-another",
        )
    # A response can be used only once, even if it is refused.
    sign_in.flow.clear()
    tokens = _token_response(document, lambda: application.acquire_token_by_auth_code_flow(flow, dict(query)))
    if not tokens.get("refresh_token"):
        raise OctoError(
            f"The sign-in to Azure partner tenant {document.tenant_id} returned no refresh token. Allow offline_access "
            "for the application and sign in again.",
            code="refresh-token-missing",
        )
    return str(tokens["refresh_token"])


def verify(source: AzureCspSource) -> None:
    """Send a small request to both services with the source's tokens.

    Raises:
        OctoError: the sign-in, a permission or the tenant is wrong; the message says which.
    """
    for currency in source.currencies:
        source.billing.check(currency=currency)


def csp_source(
    document: AzureCspDocument,
    environment: Mapping[str, str],
    *,
    refresh_token: str | None = None,
    save_refresh_token: Callable[[str], None] | None = None,
    graph_url: str = GRAPH_URL,
    partner_center_url: str = PARTNER_CENTER_URL,
    http_client: Any = None,
    pause: Callable[[float], None] = time.sleep,
) -> AzureCspSource:
    """The source that a document describes.

    Args:
        document: the tenant's configuration.
        environment: the environment variables, with the document's secret.
        refresh_token: of the user who signed in.
        save_refresh_token: saves the next refresh token.
        graph_url: Microsoft Graph, or a fake of it.
        partner_center_url: Partner Center, or a fake of it.
        http_client: a session of the library requests for the sign-in; by default one with retries and a timeout.
        pause: waits some seconds.

    Raises:
        OctoError: the secret is not set, or the document requires a sign-in and nobody has signed in.
    """
    tokens = Tokens(
        document,
        secret_of(environment, document.client_secret_variable, f"Azure partner tenant {document.tenant_id}"),
        refresh_token=refresh_token,
        save_refresh_token=save_refresh_token,
        http_client=http_client,
    )
    http = Http(new_session(), pause=pause)
    billing = PartnerBilling(
        _caller(http, tokens, {graph_url: GRAPH_URL, partner_center_url: PARTNER_CENTER_URL}),
        document.tenant_id,
        graph_url=graph_url,
        partner_center_url=partner_center_url,
        pause=pause,
    )
    return AzureCspSource(billing, http, document.currencies)


def export_source(
    document: AzureExportDocument,
    environment: Mapping[str, str],
    *,
    allowed_hosts: Sequence[str] = (),
    pause: Callable[[float], None] = time.sleep,
) -> AzureExportSource:
    """The source that a document describes.

    Args:
        document: where the exports are.
        environment: the environment variables, with the document's SAS.
        allowed_hosts: hosts that it may name besides those of Azure's storage.
        pause: waits some seconds.

    Raises:
        OctoError: the host or the variable is not allowed, or the SAS is not set.
    """
    if document.folder is not None:
        return AzureExportSource(FolderListing(document.folder))
    container, variable = document.container or "", document.sas_variable or ""
    reach = Reach(STORAGE_DOMAINS, allowed_hosts)
    reach.require(container)
    sas = source_secret(environment, variable, "sas_variable", container)
    http = Http(new_session(), pause=pause, reach=reach)
    return AzureExportSource(ContainerListing(http, container, lambda: sas, prefix=document.prefix))


def secret_of(environment: Mapping[str, str], variable: str, purpose: str) -> str:
    """The secret in an environment variable.

    Args:
        environment: the environment variables.
        variable: the name of the variable.
        purpose: what needs the secret, for the message.

    Raises:
        OctoError: it is not set.
    """
    secret = environment.get(variable, "").strip()
    if not secret:
        raise OctoError(
            f"{purpose} needs the secret in the environment variable {variable}, which is not set. Set it.",
            code="secret-variable-not-set",
        )
    return secret


def _caller(http: Http, tokens: Tokens, services: Mapping[str, str]) -> Call:
    """Sends requests with the token of the service that an address belongs to."""

    def call(method: str, url: str, *, json: Mapping[str, str] | None = None) -> Response:
        service = next((name for base, name in services.items() if url.startswith(f"{base.rstrip('/')}/")), None)
        if service is None:
            # A token is never sent to an address from a response.
            raise OctoError(
                f"A response of Azure leads to {bare_url(url)}, which is not one of its services.",
                code="answer-leads-elsewhere",
            )
        return http.request(method, url, headers={"Authorization": f"Bearer {tokens.token(service)}"}, json=json)

    return call


def _application(document: AzureCspDocument, secret: str, http_client: Any) -> Any:
    import msal

    return _guarded(
        document,
        lambda: msal.ConfidentialClientApplication(
            document.client_id,
            client_credential=secret,
            authority=f"{LOGIN_URL}/{document.tenant_id}",
            # The authority is fixed and Microsoft's own, so there is nothing to discover.
            instance_discovery=False,
            http_client=http_client or new_session(timeout=_TIMEOUT),
        ),
    )


def _token_response(document: AzureCspDocument, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The response of the sign-in, if it has a token.

    Raises:
        OctoError: it has none.
    """
    response: dict[str, Any] = _guarded(document, ask)
    if "access_token" in response:
        return response
    description = str(response.get("error_description", ""))
    code = _CODE.search(description)
    reason = _REASONS.get(code[1]) if code else None
    raise _not_signed_in(
        document,
        f"{reason or 'it was refused'} ({response.get('error', 'no reason given')}{f', {code[0]}' if code else ''})",
    )


def _guarded(document: AzureCspDocument, ask: Callable[[], Any]) -> Any:
    """Turn what msal and requests raise into an OctoError without their texts, which may hold codes and tokens."""
    import requests

    try:
        return ask()
    except requests.RequestException as error:
        message = str(
            _not_signed_in(document, f"{LOGIN_URL} cannot be reached ({type(error).__name__}); try again later")
        )
        raise NotAskedError(message, code="azure-unreachable") from None
    except ValueError as error:
        code = _CODE.search(str(error))
        reason = _REASONS.get(code[1]) if code else None
        raise _not_signed_in(
            document,
            reason or "the tenant or the response of the sign-in is wrong; check the tenant id and start again",
        ) from None


def _not_signed_in(document: AzureCspDocument, reason: str) -> OctoError:
    return OctoError(
        f"Azure partner tenant {document.tenant_id}, application {document.client_id}: could not sign in: {reason}.",
        code="sign-in-refused",
    )


def new_session(*, timeout: float | None = None) -> Any:
    """A session of the library requests; with a timeout it also retries, for the sign-in, which does not retry itself."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    session = requests.Session()
    if timeout is None:
        return session

    class _Patient(HTTPAdapter):
        def send(self, *args: Any, **kwargs: Any) -> Any:
            return super().send(*args, **{**kwargs, "timeout": timeout})

    retry = Retry(
        _RETRIES,
        backoff_factor=0.5,
        backoff_jitter=0.5,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=None,
        raise_on_status=False,
    )
    session.mount("https://", _Patient(max_retries=retry))
    return session
