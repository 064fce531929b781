"""The source of a registered Azure partner: its document, and its secrets from the registry.

The refresh token rotates at each use; the next one is stored in the registry before the access token is used.
"""

from pydantic import SecretStr

from octo_pipeline.registry.records import Account, Actor
from octo_pipeline.vendors.azure import client as azure
from octo_pipeline.vendors.azure.csp import AzureCspDocument, AzureCspSource
from octo_pipeline.vendors.registrar import Registrar

CENTER_SECRET = "partner_center_secret"  # noqa: S105 - a name
API_SECRET = "partner_api_secret"  # noqa: S105 - a name
REFRESH_TOKEN = "refresh_token"  # noqa: S105 - a name
# No user decides the rotation, so the audit trail names the program.
_ACTOR = Actor("octo-pipeline")


def registered_azure(registrar: Registrar, account: Account) -> AzureCspSource:
    """The source of a registered partner; this does not call Azure yet.

    Raises:
        OctoError: a secret is not in the registry, such as the refresh token before the first sign-in.
    """
    document = AzureCspDocument.model_validate(account.settings["source"])

    def secret(name: str) -> str:
        return registrar.secrets.get(account.vendor, account.account_id, name).get_secret_value()

    def keep(token: str) -> None:
        registrar.secrets.put(account.vendor, account.account_id, {REFRESH_TOKEN: SecretStr(token)}, _ACTOR)

    return azure.csp_source(
        document,
        {document.client_secret_variable: secret(API_SECRET)},
        refresh_token=secret(REFRESH_TOKEN),
        save_refresh_token=keep,
    )
