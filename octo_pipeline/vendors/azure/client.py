"""Azure and Partner Center as the pipeline reaches them: sign-in, sessions with timeouts, sources from documents.

Here belongs what needs credentials. What is asked with them is the sources' matter (`azure_graph`,
`azure_blobs`). Neither msal nor requests is imported before they are needed.

The refresh token of a sign-in rotates: each use may give a new one, which must be kept, or the sign-in is lost
within 90 days. So whoever gives one in gives a function with it that keeps the next.
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
from octo_pipeline.vendors.azure.azure_http import STORAGE_DOMAINS, Http, Response, place
from octo_pipeline.vendors.azure.blobs import ContainerListing, FolderListing
from octo_pipeline.vendors.azure.csp import AzureCspDocument, AzureCspSource
from octo_pipeline.vendors.azure.exports import AzureExportDocument, AzureExportSource
from octo_pipeline.vendors.azure.graph import GRAPH_URL, PARTNER_CENTER_URL, Call, PartnerBilling
from octo_pipeline.vendors.outbound import Reach, source_secret

LOGIN_URL = "https://login.microsoftonline.com"

_RETRIES = 3
_TIMEOUT = 30
# A token is not used in its last minutes: the request it goes with may take them.
_MARGIN = 300
_PERMISSIONS = {GRAPH_URL: "PartnerBilling.Read.All", PARTNER_CENTER_URL: "user_impersonation"}
_CODE = re.compile(r"AADSTS(\d+)")
_REASONS = {
    "7000215": "the client secret is wrong; set the secret's value, not its id",
    "7000222": "the client secret has expired; make a new one and set it",
    "700016": "the application is not known in this tenant; check client id and tenant",
    "90002": "there is no such tenant; check the tenant id",
    "900023": "there is no such tenant; check the tenant id",
    "65001": "nobody has consented to the application's permissions; sign in as an admin and consent",
    "50076": "multi-factor authentication is required; sign in again",
    "50079": "multi-factor authentication must be set up; do so and sign in again",
    "50173": "the sign-in was revoked; sign in again",
    "70008": "the sign-in or its code has expired; sign in again",
    "70043": "the sign-in has expired; sign in again",
    "700082": "the sign-in has expired, it was not used for 90 days; sign in again",
    "50011": "the redirect address is not registered with the application; add it there",
}


@dataclass(frozen=True)
class SignIn:
    """A sign-in that was begun.

    Attributes:
        url: where the person goes.
        flow: what `redeem` needs; it holds the PKCE verifier, so it is kept where secrets are.
    """

    url: str
    flow: dict[str, Any]

    @property
    def state(self) -> str:
        """What comes back with the code, to find the flow again."""
        return str(self.flow["state"])


class Tokens:
    """Access tokens of one partner tenant for Graph and Partner Center.

    Args:
        document: the tenant's configuration.
        secret: the application's secret.
        refresh_token: of the person who signed in; needed where the document says ``user``.
        save_refresh_token: keeps the next refresh token; called before the access token is used.
        http_client: a session of requests, for the sign-in alone; one with retries and timeout if not given.
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
                f"Azure partner tenant {document.tenant_id} is to be read with someone's sign-in, and nobody has "
                "signed in yet. Sign in, or set sign_in to app.",
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
            OctoError: the sign-in is refused; the sentence says why and what to do.
        """
        # Two threads that use one refresh token at once would leave the older of the two next ones.
        with self._lock:
            token, expires_at = self._known.get(service, ("", 0.0))
            if time.monotonic() < expires_at - _MARGIN:
                return token
            answer = self._acquire(service)
            self._known[service] = answer["access_token"], time.monotonic() + float(answer.get("expires_in", 0))
            return str(answer["access_token"])

    def _acquire(self, service: str) -> dict[str, Any]:
        if self._application is None:
            self._application = _application(self._document, self._secret, self._http_client)
        if self._refresh_token is None:
            return _asked(
                self._document, lambda: self._application.acquire_token_for_client(scopes=[f"{service}/.default"])
            )
        answer = _asked(
            self._document,
            lambda: self._application.acquire_token_by_refresh_token(
                self._refresh_token, scopes=[f"{service}/{_PERMISSIONS[service]}"]
            ),
        )
        rotated = answer.get("refresh_token")
        if rotated and rotated != self._refresh_token and self._save is not None:
            self._save(rotated)
            self._refresh_token = rotated
        return answer


def authorization_url(document: AzureCspDocument, secret: str, *, redirect_uri: str, http_client: Any = None) -> SignIn:
    """Begin a sign-in in the browser, with a state and PKCE.

    Args:
        document: the tenant's configuration.
        secret: the application's secret.
        redirect_uri: where the browser comes back to; registered with the application.
        http_client: a session of requests; one with retries and timeout if not given.

    Raises:
        OctoError: the tenant is not known or cannot be reached.
    """
    application = _application(document, secret, http_client)
    with warnings.catch_warnings():
        # msal would rather post the code as a form. It comes back in the address, as PKCE and the state make safe.
        warnings.filterwarnings("ignore", "response_mode")
        flow = _guarded(
            document,
            lambda: application.initiate_auth_code_flow(
                [f"{GRAPH_URL}/{_PERMISSIONS[GRAPH_URL]}"], redirect_uri=redirect_uri
            ),
        )
    return SignIn(flow["auth_uri"], flow)


def redeem(
    document: AzureCspDocument, secret: str, sign_in: SignIn, response: Mapping[str, str], *, http_client: Any = None
) -> str:
    """The refresh token of a sign-in that came back.

    Args:
        document: the tenant's configuration.
        secret: the application's secret.
        sign_in: what `authorization_url` returned.
        response: the query of the address that the browser came back to: code and state, or error.
        http_client: a session of requests; one with retries and timeout if not given.

    Raises:
        OctoError: it was refused, belongs to another sign-in, or gives no refresh token.
    """
    application = _application(document, secret, http_client)
    flow = dict(sign_in.flow)
    if not flow or not hmac.compare_digest(response.get("state", "").encode(), str(flow["state"]).encode()):
        raise OctoError(
            f"What came back for Azure partner tenant {document.tenant_id} does not belong to this sign-in (another "
            "state, or it was used before). Begin the sign-in again.",
            code="sign-in-of-another",
        )
    # What came back is taken once, whatever becomes of it.
    sign_in.flow.clear()
    answer = _asked(document, lambda: application.acquire_token_by_auth_code_flow(flow, dict(response)))
    if not answer.get("refresh_token"):
        raise OctoError(
            f"The sign-in to Azure partner tenant {document.tenant_id} gave no refresh token. Allow offline_access "
            "for the application and sign in again.",
            code="refresh-token-missing",
        )
    return str(answer["refresh_token"])


def verify(source: AzureCspSource) -> None:
    """Ask both services for something small with the source's tokens.

    Raises:
        OctoError: the sign-in, a permission or the tenant is wrong; the sentence says which.
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
        environment: where the document's secret is.
        refresh_token: of the person who signed in.
        save_refresh_token: keeps the next refresh token.
        graph_url: Microsoft Graph, or a fake of it.
        partner_center_url: Partner Center, or a fake of it.
        http_client: a session of requests for the sign-in; one with retries and timeout if not given.
        pause: waits some seconds.

    Raises:
        OctoError: the secret is not set, or nobody has signed in where someone must.
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
        environment: where the document's SAS is.
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


def secret_of(environment: Mapping[str, str], variable: str, what: str) -> str:
    """The secret that an environment variable holds.

    Raises:
        OctoError: it is not set.
    """
    secret = environment.get(variable, "").strip()
    if not secret:
        raise OctoError(
            f"{what} needs the secret in the environment variable {variable}, which is not set. Set it.",
            code="secret-variable-not-set",
        )
    return secret


def _caller(http: Http, tokens: Tokens, services: Mapping[str, str]) -> Call:
    """Sends requests with the token of the service that an address belongs to."""

    def call(method: str, url: str, *, json: Mapping[str, str] | None = None) -> Response:
        service = next((name for base, name in services.items() if url.startswith(f"{base.rstrip('/')}/")), None)
        if service is None:
            # A token is never sent to an address that some answer names.
            raise OctoError(
                f"An answer of Azure leads to {place(url)}, which is none of its services.",
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
            # The authority is Microsoft's own and fixed: there is nothing to discover.
            instance_discovery=False,
            http_client=http_client or new_session(timeout=_TIMEOUT),
        ),
    )


def _asked(document: AzureCspDocument, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the sign-in answers, if that is a token."""
    answer: dict[str, Any] = _guarded(document, ask)
    if "access_token" in answer:
        return answer
    said = str(answer.get("error_description", ""))
    code = _CODE.search(said)
    reason = _REASONS.get(code[1]) if code else None
    raise _not_signed_in(
        document,
        f"{reason or 'it was refused'} ({answer.get('error', 'no reason given')}{f', {code[0]}' if code else ''})",
    )


def _guarded(document: AzureCspDocument, ask: Callable[[], Any]) -> Any:
    """Turn what msal and requests raise into a sentence; their own texts may hold codes and tokens."""
    import requests

    try:
        return ask()
    except requests.RequestException as error:
        said = str(_not_signed_in(document, f"{LOGIN_URL} cannot be reached ({type(error).__name__}); try again later"))
        raise NotAskedError(said, code="azure-unreachable") from None
    except ValueError as error:
        code = _CODE.search(str(error))
        reason = _REASONS.get(code[1]) if code else None
        raise _not_signed_in(
            document, reason or "the tenant or the answer of the sign-in is wrong; check the tenant id and begin again"
        ) from None


def _not_signed_in(document: AzureCspDocument, why: str) -> OctoError:
    return OctoError(
        f"Azure partner tenant {document.tenant_id}, application {document.client_id}: could not sign in: {why}.",
        code="sign-in-refused",
    )


def new_session(*, timeout: float | None = None) -> Any:
    """A session of requests; with a timeout it is for the sign-in, which has no loop of its own to try again."""
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
