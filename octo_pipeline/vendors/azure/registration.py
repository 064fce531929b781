"""The steps of registering an Azure partner (CSP), and their verification.

1. The partner tenant is registered with its Microsoft Partner ID and two applications: one for Partner Center,
   one for the partner API. Their secret keys are encrypted in the registry in the same transaction.
2. A user of the partner signs in to the partner API in a browser. The address to which the browser comes back has a
   code, which is redeemed once for a refresh token; state and PKCE tie it to the sign-in that started here.
3. `confirm` sends requests to Partner Center as the first application and to the partner API with the sign-in.

The account is the partner's tenant, because its exports are delivered under that id. Microsoft calls an application's id
both client id and application id.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import SecretStr, ValidationError

from octo_pipeline.model.errors import NotAskedError, OctoError, Remedy
from octo_pipeline.model.wording import quoted
from octo_pipeline.registry.records import Account, Actor, NewAccount
from octo_pipeline.settings import Settings
from octo_pipeline.vendors.azure import client as resource
from octo_pipeline.vendors.azure.client import SignIn
from octo_pipeline.vendors.azure.csp import AzureCspDocument
from octo_pipeline.vendors.azure.registered import API_SECRET, CENTER_SECRET, REFRESH_TOKEN, registered_azure
from octo_pipeline.vendors.outbound import require_secret_name
from octo_pipeline.vendors.registrar import Registrar

VENDOR = "azure"

_PARTNER_ID = re.compile(r"\d{5,10}", re.ASCII)


@dataclass(frozen=True)
class Application:
    """An application of the partner's tenant: its id, and its secret key, which is never printed."""

    id: str
    secret: SecretStr


def application_from(environment: Mapping[str, str], purpose: str, application_id: str, variable: str) -> Application:
    """An application whose secret key is in an environment variable.

    Args:
        environment: the environment variables.
        purpose: what the application is for, for the message.
        application_id: its id.
        variable: the name of the variable.

    Raises:
        OctoError: the name is not one that a source's secret can have, or the variable is not set.
    """
    secret = environment.get(
        require_secret_name(variable, f"The variable with the secret key for the {purpose}"), ""
    ).strip()
    if not secret:
        raise OctoError(
            f"The environment variable {variable} with the secret key for the {purpose} is not set.",
            code="secret-variable-not-set",
        )
    return Application(application_id, SecretStr(secret))


def register(
    registrar: Registrar,
    actor: Actor,
    partner_id: str,
    tenant_id: str,
    center: Application,
    api: Application,
    currencies: tuple[str, ...] = ("USD",),
    name: str | None = None,
) -> Account:
    """Register a partner with its applications.

    Args:
        registrar: registry, secrets and settings.
        actor: the administrator who registers it.
        partner_id: the Microsoft Partner ID.
        tenant_id: the partner's tenant, which has its applications.
        center: the application for Partner Center.
        api: the application for the partner API, to which a user signs in afterwards.
        currencies: in which the partner is billed.
        name: a name for people.

    Raises:
        OctoError: a value is not valid, the tenant is registered already, or the name is taken. Nothing is registered
            and no secret is stored.
    """
    if _PARTNER_ID.fullmatch(partner_id) is None:
        raise OctoError(
            f"The Microsoft Partner ID {quoted(partner_id)} is not valid: it must have 5 to 10 digits.",
            code="partner-id-malformed",
        )
    for service, application in (("Partner Center", center), ("partner API", api)):
        if not application.secret.get_secret_value().strip():
            raise OctoError(
                f"The secret key of the application for the {service} is empty. Nothing was registered.",
                code="secret-empty",
            )
    document = _document(tenant_id.lower(), api.id, currencies)
    _document(tenant_id.lower(), center.id, currencies)
    settings = {
        "partner": {"partner_id": partner_id, "center_application": center.id, "api_application": api.id},
        "source": document.model_dump(mode="json"),
    }
    new = NewAccount(VENDOR, document.tenant_id, name, "csp", settings=settings)
    values = {CENTER_SECRET: center.secret, API_SECRET: api.secret}
    registrar.secrets.put(VENDOR, document.tenant_id, values, actor, registers=new)
    return registrar.registry.accounts.find(document.tenant_id, VENDOR)


def set_secrets(registrar: Registrar, actor: Actor, account: Account, center: SecretStr, api: SecretStr) -> Account:
    """Replace the applications' secret keys, such as before they expire; the account must then be confirmed again."""
    registrar.secrets.put(VENDOR, account.account_id, {CENTER_SECRET: center, API_SECRET: api}, actor)
    return registrar.registry.accounts.change(account, actor, "set_secrets", api_confirmed_at=None, problem=None)


def begin_sign_in(registrar: Registrar, account: Account, redirect_uri: str) -> SignIn:
    """Start the sign-in to the partner API. Only the caller keeps the result, until it finishes the sign-in.

    Raises:
        OctoError: Microsoft does not know the tenant or application, or cannot be reached.
    """
    document = AzureCspDocument.model_validate(account.settings["source"])
    secret = registrar.secrets.get(VENDOR, account.account_id, API_SECRET)
    return resource.authorization_url(document, secret.get_secret_value(), redirect_uri=redirect_uri)


def finish_sign_in(
    registrar: Registrar, actor: Actor, account: Account, sign_in: SignIn, response: Mapping[str, str]
) -> None:
    """Redeem the code that came back and store the refresh token.

    Raises:
        OctoError: the code belongs to another sign-in, or was refused, for example because it was used before. The
            refresh token of an earlier sign-in stays.
    """
    document = AzureCspDocument.model_validate(account.settings["source"])
    secret = registrar.secrets.get(VENDOR, account.account_id, API_SECRET)
    token = resource.redeem(document, secret.get_secret_value(), sign_in, response)
    registrar.secrets.put(VENDOR, account.account_id, {REFRESH_TOKEN: SecretStr(token)}, actor)


def response_of(address: str) -> dict[str, str]:
    """The query of the address that the browser came back to.

    Raises:
        OctoError: it has neither a code nor an error. The message omits the address, which may contain a secret.
    """
    query = dict(parse_qsl(urlsplit(address.strip()).query))
    if "code" not in query and "error" not in query:
        raise OctoError(
            "That address has no authorization code. Copy the whole address from the browser after the sign-in, including "
            "everything after the question mark.",
            code="authorization-code-missing",
        )
    return query


def confirm(registrar: Registrar, actor: Actor, account: Account) -> Account:
    """Send small requests to Partner Center and the partner API and record the result.

    Returns:
        The account; a refused request is its `problem`.

    Raises:
        NotAskedError: Microsoft could not be reached, so nothing is known and nothing was changed.
        OctoError: the registry or its key cannot be used.
    """
    values: dict[str, Any] = {"api_confirmed_at": None, "problem": None}
    center_secret = registrar.secrets.get(VENDOR, account.account_id, CENTER_SECRET)
    document = AzureCspDocument.model_validate(account.settings["source"])
    center = document.model_copy(
        update={"client_id": account.settings["partner"]["center_application"], "sign_in": "app"}
    )
    try:
        environment = {center.client_secret_variable: center_secret.get_secret_value()}
        resource.csp_source(center, environment).billing.invoices("")
        resource.verify(registered_azure(registrar, account))
        values["api_confirmed_at"] = datetime.now(UTC)
    except NotAskedError:
        raise
    except OctoError as error:
        values["problem"] = str(error)
    return registrar.registry.accounts.change(account, actor, "confirm_account", **values)


def next_step(settings: Settings, account: Account) -> list[str | Remedy]:
    """What the user must do next; empty for a completed account."""
    if account.is_completed:
        return []
    return [
        Remedy("accounts sign-in", account.account_id, to="sign in to the partner API"),
        Remedy("accounts confirm", account.account_id, to="verify it"),
    ]


def left_behind(account: Account) -> list[str]:
    """What stays with Microsoft when the account is removed here."""
    return [
        f"The two applications and their secret keys stay in the tenant {account.account_id}. Delete them in Microsoft Entra."
    ]


def _document(tenant_id: str, application_id: str, currencies: tuple[str, ...]) -> AzureCspDocument:
    try:
        return AzureCspDocument(
            vendor="azure",
            kind="csp",
            tenant_id=tenant_id,
            client_id=application_id,
            # The registry has the secret and passes it to the source under this name.
            client_secret_variable=API_SECRET,
            currencies=currencies,
            sign_in="user",
        )
    except ValidationError as error:
        field = error.errors(include_input=False)[0]["loc"][0]
        name = {"tenant_id": "tenant id", "client_id": "application id", "currencies": "currency"}.get(
            str(field), str(field)
        )
        raise OctoError(
            f"The {name} is not valid: ids must be written as 00000000-0000-0000-0000-000000000000, and currencies as USD. "
            "Nothing was registered.",
            code="partner-ids-malformed",
        ) from None
