"""Signing in by a provider of OpenID Connect: leading a browser there, and believing what comes back.

The flow is the one with a code: PKCE, a state that works once and in the browser that it was made for, and a nonce in the
signed token. The role comes from the groups that the provider names. Drawback: what was begun is known to this server alone
and until it ends, as its one-time links are.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import quoted
from octo_pipeline.registry.records import ROLES, Role
from octo_pipeline.settings import Settings

if TYPE_CHECKING:
    from authlib.integrations.requests_client import OAuth2Session

LASTS_SECONDS = 600
_TIMEOUT_SECONDS = 10
_KEYS_SECONDS = 3_600
_LEEWAY_SECONDS = 60
_MOST_BEGUN = 10_000
# Signed with a key that only the provider has; a token that is signed with the client's secret, or not at all, is refused.
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")


@dataclass(frozen=True)
class Person:
    """Who signed in at the provider.

    Attributes:
        subject: the provider and its id of the person, which never change.
        name: what they are called.
        role: the highest one of their groups.
    """

    subject: str
    name: str
    role: Role


@dataclass(frozen=True)
class _Begun:
    browser: str
    nonce: str
    verifier: str
    then: str
    until: float


class OpenId:
    """The provider of the settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._issuer = str(settings.oidc_issuer)
        self._begun: dict[str, _Begun] = {}
        self._documents: dict[str, tuple[float, dict[str, Any]]] = {}

    def begin(self, redirect_uri: str, then: str) -> tuple[str, str]:
        """Begin a sign-in.

        Args:
            redirect_uri: our address that the provider leads back to.
            then: the page to show afterwards.

        Returns:
            The provider's address to lead to, and a text that the browser keeps until it is back.

        Raises:
            OctoError: the provider cannot be asked.
        """
        now = time.monotonic()
        self._begun = {state: begun for state, begun in self._begun.items() if begun.until > now}
        if len(self._begun) >= _MOST_BEGUN:
            raise OctoError("Too many sign-ins are under way; wait some minutes.", code="sign-ins-too-many")
        browser, state, nonce, verifier = (secrets.token_urlsafe(48) for _ in range(4))
        endpoint = self._provider()["authorization_endpoint"]
        address, _ = self._session(redirect_uri).create_authorization_url(
            endpoint, state=state, code_verifier=verifier, nonce=nonce
        )
        self._begun[state] = _Begun(_digest(browser), nonce, verifier, then, now + LASTS_SECONDS)
        return str(address), browser

    def finish(self, answer: Mapping[str, str], browser: str, redirect_uri: str) -> tuple[Person, str]:
        """Believe what a browser brings back, or not.

        Args:
            answer: the parameters that the provider added to our address.
            browser: the text that the browser kept.
            redirect_uri: as for `begin`.

        Returns:
            Who signed in, and the page to show.

        Raises:
            OctoError: the answer does not belong to a sign-in that this browser began, the provider refused or cannot be
                asked, its token is not valid, or no group of the person has a role.
        """
        begun = self._begun.pop(answer.get("state", ""), None)
        if begun is None or begun.until < time.monotonic():
            raise _refused("it was used already, or is older than ten minutes")
        if not hmac.compare_digest(begun.browser, _digest(browser)):
            raise _refused("another browser began it")
        if "error" in answer:
            raise _refused(f"the provider says {quoted(answer['error'][:100])}")
        if answer.get("iss", self._issuer) != self._issuer:
            raise _refused("another provider answered it")
        token = self._token(answer.get("code", ""), begun.verifier, redirect_uri)
        return self._person(self._claims(token, begun.nonce)), begun.then

    def _token(self, code: str, verifier: str, redirect_uri: str) -> str:
        from authlib.common.errors import AuthlibBaseError
        from requests import RequestException

        try:
            answer = self._session(redirect_uri).fetch_token(
                self._provider()["token_endpoint"], code=code, code_verifier=verifier, timeout=_TIMEOUT_SECONDS
            )
        except AuthlibBaseError as error:
            raise _refused(f"the provider says {quoted(str(error.error)[:100])}") from None
        except RequestException as error:
            raise self._unreachable(error) from None
        except ValueError:
            raise self._malformed() from None
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise _refused("the provider sent no ID token")
        return token

    def _claims(self, token: str, nonce: str) -> dict[str, Any]:
        """The claims of a token that is signed by the provider, for us, now, and for this sign-in."""
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        client_id = str(self._settings.oidc_client_id)
        registry = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        for is_last in (False, True):
            try:
                keys = KeySet.import_key_set(self._document("jwks_uri", is_new=is_last))  # type: ignore[arg-type]
                claims = jwt.decode(token, keys, algorithms=_ALGORITHMS).claims
                break
            except (JoseError, ValueError, KeyError, TypeError):
                # The provider may have new keys since its keys were read.
                if is_last:
                    raise _refused("its token is not signed by the provider") from None
        try:
            registry.validate(claims)
        except JoseError as error:
            raise _refused(
                f"its token is not for this sign-in ({quoted(getattr(error, 'claim', None) or error.error)})"
            ) from None
        audience = claims["aud"]
        if isinstance(audience, list) and len(audience) > 1 and claims.get("azp") != client_id:
            raise _refused("its token is not for this sign-in ('azp')")
        return dict(claims)

    def _person(self, claims: Mapping[str, Any]) -> Person:
        name = claims.get("preferred_username")
        if not name and claims.get("email_verified") is not False:
            name = claims.get("email")
        name = str(name or claims["sub"])
        groups = claims.get(self._settings.oidc_groups_claim) or []
        named = {str(group) for group in (groups if isinstance(groups, list) else [groups])}
        roles = [role for group, role in self._settings.roles_of_groups.items() if group in named]
        if not roles:
            raise OctoError(
                f"{quoted(name)} is in no group that may use this installation. Ask an administrator to add you to one.",
                code="no-group-with-role",
            )
        return Person(f"{self._issuer} {claims['sub']}", name, max(roles, key=ROLES.index))

    def _session(self, redirect_uri: str) -> "OAuth2Session":
        from authlib.integrations.requests_client import OAuth2Session

        provider = self._provider()
        secret = self._settings.oidc_client_secret
        methods = provider.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        method = "client_secret_basic" if "client_secret_basic" in methods else "client_secret_post"
        scopes = ["openid", "profile", "email"]
        # Some providers name groups only if they are asked to, and others refuse a scope that they do not know.
        scopes += ["groups"] if "groups" in provider.get("scopes_supported", []) else []
        return OAuth2Session(
            self._settings.oidc_client_id,
            secret.get_secret_value() if secret else None,
            token_endpoint_auth_method=method if secret else "none",
            scope=" ".join(scopes),
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
        )

    def _provider(self) -> dict[str, Any]:
        document = self._read("provider", f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        endpoints = [document.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
        if document.get("issuer") != self._issuer or not all(map(_is_safe, endpoints)):
            raise self._malformed()
        return document

    def _document(self, name: str, *, is_new: bool) -> dict[str, Any]:
        return self._read(name, self._provider()[name], is_new=is_new)

    def _read(self, name: str, address: str, *, is_new: bool = False) -> dict[str, Any]:
        import requests

        until, document = self._documents.get(name, (0.0, {}))
        if until > time.monotonic() and not is_new:
            return document
        try:
            answer = requests.get(address, timeout=_TIMEOUT_SECONDS, allow_redirects=False)
            answer.raise_for_status()
            document = answer.json()
        except requests.JSONDecodeError:
            raise self._malformed() from None
        except requests.RequestException as error:
            raise self._unreachable(error) from None
        if not isinstance(document, dict):
            raise self._malformed()
        self._documents[name] = (time.monotonic() + _KEYS_SECONDS, document)
        return document

    def _unreachable(self, error: Exception) -> OctoError:
        return OctoError(
            f"The sign-in provider {self._issuer} cannot be asked ({type(error).__name__}). Try again later, or sign in by a "
            "token.",
            code="sign-in-provider-unreachable",
            place="oidc_issuer",
        )

    def _malformed(self) -> OctoError:
        return OctoError(
            f"{self._issuer} does not answer as a provider of OpenID Connect of that name does.",
            code="sign-in-provider-wrong",
            place="oidc_issuer",
        )


def is_set_up(settings: Settings) -> bool:
    """Whether there is a provider."""
    return settings.oidc_issuer is not None


def _refused(why: str) -> OctoError:
    return OctoError(f"The sign-in is refused: {why}. Begin it again.", code="openid-refused")


def _is_safe(address: object) -> bool:
    """Whether what is sent there cannot be read on the way."""
    parts = urlsplit(address) if isinstance(address, str) else None
    return parts is not None and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1"))
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
