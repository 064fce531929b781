"""The steps of registering a Google Cloud billing account, and their verification.

1. The account is registered with the dataset that Cloud Billing exports to.
2. An administrator grants our service account the roles that it needs; `next_step` says which and where.
3. `confirm` inspects the dataset: it must be in the registered region, and have an export table of the account with the
   required columns.

If Google refuses, the confirmation is removed and the error becomes the account's problem. If Google cannot be reached
(no network, no credentials here, too many requests), nothing changes.
"""

import re
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.wording import quoted
from octo_pipeline.registry.records import Account, Actor, NewAccount
from octo_pipeline.settings import Settings
from octo_pipeline.vendors.gcp.billing_document import GcpSourceDocument
from octo_pipeline.vendors.gcp.billing_tables import ExportInspection, inspect_export
from octo_pipeline.vendors.gcp.client import BigQueryDataset
from octo_pipeline.vendors.registrar import Registrar
from octo_pipeline.vendors.vendor import Command

VENDOR = "gcp"

_REGION = re.compile(r"[A-Za-z]+(-[a-z]+\d+)?", re.ASCII)
_SERVICE_ACCOUNT = re.compile(r"[^@\s]+@[^@\s]+\.gserviceaccount\.com", re.ASCII)
_FORMS = {
    "billing_account_id": "the billing account id {}: it is written as 0D1DR5-ADE21G-RF09W1",
    "project": "the project id {}: it has lower-case letters, digits and hyphens, and begins with a letter",
    "dataset": "the dataset {}: it has letters, digits and underscores",
}


def register(
    registrar: Registrar,
    actor: Actor,
    billing_account_id: str,
    project: str,
    dataset: str,
    region: str,
    name: str | None = None,
) -> Account:
    """Register a billing account.

    Args:
        registrar: registry and settings.
        actor: the administrator who registers it.
        billing_account_id: such as 0D1DR5-ADE21G-RF09W1.
        project: the id of the project that hosts the dataset.
        dataset: the dataset that Cloud Billing exports to.
        region: where the dataset is, such as EU or asia-northeast1.
        name: a name for people.

    Raises:
        OctoError: a value is not valid, the account is registered already, or the name is taken. Nothing is registered.
    """
    _service_account(registrar.settings)
    document = _document(billing_account_id, project, dataset, region)
    new = NewAccount(VENDOR, billing_account_id, name, "billing_account", settings=_settings(document))
    registrar.registry.accounts.add([new], actor)
    return registrar.registry.accounts.find(billing_account_id, VENDOR)


def set_up_export(
    registrar: Registrar, actor: Actor, account: Account, project: str, dataset: str, region: str
) -> Account:
    """Change where the account's export is; the account must then be confirmed again.

    Raises:
        OctoError: a value is not valid. Nothing is changed.
    """
    settings = _settings(_document(account.account_id, project, dataset, region))
    return registrar.registry.accounts.change(
        account, actor, "set_up_export", settings=settings, api_confirmed_at=None, problem=None
    )


def confirm(registrar: Registrar, actor: Actor, account: Account) -> Account:
    """Inspect the account's export in BigQuery and record the result.

    Returns:
        The account; a failed step is its `problem`.

    Raises:
        OctoError: BigQuery could not be reached, so nothing is known and nothing was changed.
    """
    document = GcpSourceDocument.model_validate(account.settings["source"])
    values: dict[str, Any] = {"api_confirmed_at": None, "problem": None}
    try:
        export = _described_export(document, _service_account(registrar.settings))
        values |= {
            "api_confirmed_at": datetime.now(UTC),
            "settings": {**account.settings, "export": {**account.settings["export"], **export}},
        }
    except OctoError as error:
        if not _is_answer(error):
            raise
        values["problem"] = str(error)
    return registrar.registry.accounts.change(account, actor, "confirm_account", **values)


def next_step(settings: Settings, account: Account) -> list[str | Remedy]:
    """Which roles must be granted to whom; empty for a completed account."""
    if account.is_completed:
        return []
    export, member = account.settings["export"], _service_account(settings)
    project, dataset = export["project"], export["dataset"]
    return [
        f"In BigQuery, share the dataset {project}.{dataset} with {member} as BigQuery Data Viewer.",
        f"In IAM of the project {project}, grant {member} BigQuery Job User and BigQuery Read Session User:",
        *(
            Command(
                f"  gcloud projects add-iam-policy-binding {project} --member=serviceAccount:{member} --role=roles/{role}"
            )
            for role in ("bigquery.jobUser", "bigquery.readSessionUser")
        ),
        Remedy("accounts confirm", account.account_id, to="verify it"),
    ]


def left_behind(account: Account) -> list[str]:
    """What stays with Google when the account is removed here."""
    export = account.settings["export"]
    return [
        f"What the service account was granted on the dataset {export['dataset']} and in the project {export['project']} stays. "
        "Take it back in BigQuery and IAM."
    ]


def _described_export(document: GcpSourceDocument, service_account: str) -> dict[str, str]:
    """A description of the export's tables for people, under the key ``found``."""
    dataset = BigQueryDataset(document)
    if (identity := dataset.identity()) != service_account:
        raise OctoError(
            f"octo-pipeline reads BigQuery as {identity or 'no service account, such as a person'}, but the roles were to be "
            f"granted to {service_account}, which the setting gcp_service_account names. Set it to the service account that "
            "is used, or use the credentials of the one that is named.",
            code="gcp-identity-differs",
            place="gcp_service_account",
            remedy=Remedy("set", setting="gcp_service_account"),
        )
    location = dataset.location()
    if location.lower() != str(document.location).lower():
        raise OctoError(
            f"The dataset {document.project}.{document.dataset} is in {location}, but registered in "
            f"{document.location}. Register {location}.",
            code="dataset-location-registered-wrong",
            place=document.billing_account_id,
            remedy=Remedy("accounts edit", document.billing_account_id),
        )
    inspection = inspect_export(dataset, document)
    if not inspection.tables:
        raise OctoError(
            f"The dataset {document.project}.{document.dataset} has no billing export of "
            f"{document.billing_account_id} yet. Enable the export to BigQuery in Cloud Billing; the first table appears "
            "within a day.",
            code="billing-export-missing",
        )
    if not inspection.is_ok:
        raise OctoError(
            " ".join(table.problem for table in inspection.tables if table.problem), code="table-columns-wrong"
        )
    return {"found": _described(inspection)}


def _described(inspection: ExportInspection) -> str:
    return " and ".join(
        f"the {table.kind} export {table.name}"
        + (f", last written {table.last_export:%Y-%m-%d %H:%M} UTC" if table.last_export else ", not written lately")
        for table in inspection.tables
    )


def _is_answer(error: OctoError) -> bool:
    """Whether Google responded, or our own check of its response failed; False if Google could not be reached."""
    from google.api_core.exceptions import ClientError, TooManyRequests, Unauthorized

    cause = error.__cause__
    return cause is None or (isinstance(cause, ClientError) and not isinstance(cause, (TooManyRequests, Unauthorized)))


def _document(billing_account_id: str, project: str, dataset: str, region: str) -> GcpSourceDocument:
    if _REGION.fullmatch(region) is None:
        raise OctoError(
            f"The region {quoted(region)} is not valid: it must be written as EU or asia-northeast1.",
            code="export-settings-malformed",
        )
    try:
        return GcpSourceDocument(
            billing_account_id=billing_account_id, project=project, dataset=dataset, location=region
        )
    except ValidationError as error:
        first = error.errors()[0]
        form = _FORMS[str(first["loc"][0])].format(quoted(str(first["input"])))
        raise OctoError(f"This is not valid: {form}. Nothing was changed.", code="export-settings-malformed") from None


def _settings(document: GcpSourceDocument) -> dict[str, Any]:
    """The settings to keep: those for people, and the document that ingestion reads."""
    export = {"project": document.project, "dataset": document.dataset, "region": document.location}
    return {"export": export, "source": document.model_dump(mode="json")}


def _service_account(settings: Settings) -> str:
    if settings.gcp_service_account is None or _SERVICE_ACCOUNT.fullmatch(settings.gcp_service_account) is None:
        raise OctoError(
            "The setting gcp_service_account must be the e-mail address of the service account that octo-pipeline reads "
            "BigQuery as, such as octo@company.iam.gserviceaccount.com; it is "
            f"{settings.gcp_service_account or 'not set'}.",
            code="gcp-service-account-wrong",
            place="gcp_service_account",
            remedy=Remedy("set", setting="gcp_service_account"),
        )
    return settings.gcp_service_account
