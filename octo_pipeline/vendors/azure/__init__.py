"""Microsoft Azure: partner exports, Cost Management exports, registration, sample."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from octo_pipeline.vendors.vendor import LEAST_SAMPLE_LINES, LandedFiles, Registration, Sample, Vendor

if TYPE_CHECKING:
    from octo_pipeline.registry.records import Account
    from octo_pipeline.vendors.listing import Listing, Place
    from octo_pipeline.vendors.registrar import Registrar
    from octo_pipeline.vendors.source import Source

# Microsoft Graph must make an export before its version is known, and throttles frequent requests.
_GRAPH_SECONDS = 4 * 3600


def _files() -> LandedFiles:
    from octo_pipeline.vendors.azure import usage

    return usage


def _registration() -> Registration:
    from octo_pipeline.vendors.azure import registration

    return registration


def _folder_source(path: Path) -> "Source":
    """A source of partner exports if the folder has their layout, else of Cost Management exports."""
    from octo_pipeline.vendors.azure.blobs import FolderListing
    from octo_pipeline.vendors.azure.csp import AzureCspFolderSource, has_csp_exports
    from octo_pipeline.vendors.azure.exports import AzureExportSource

    return AzureCspFolderSource(path) if has_csp_exports(path) else AzureExportSource(FolderListing(path))


def _document_source(document: object, allowed_hosts: Sequence[str]) -> "Source":
    import os

    from octo_pipeline.vendors.azure.client import csp_source, export_source
    from octo_pipeline.vendors.azure.csp import AzureCspDocument
    from octo_pipeline.vendors.azure.exports import AzureExportDocument
    from octo_pipeline.vendors.outbound import require_secret_name

    if isinstance(document, dict) and document.get("kind") == "cost_management":
        return export_source(AzureExportDocument.model_validate(document), os.environ, allowed_hosts=allowed_hosts)
    partner = AzureCspDocument.model_validate(document)
    require_secret_name(partner.client_secret_variable, "client_secret_variable")
    return csp_source(partner, os.environ)


def _registered_source(registrar: "Registrar", account: "Account") -> "Source":
    from octo_pipeline.vendors.azure.registered import registered_azure

    return registered_azure(registrar, account)


def _storage(address: "Place", _name: str, allowed_hosts: Sequence[str]) -> "Listing":
    import os

    from octo_pipeline.vendors.azure.storage import ContainerFiles

    return ContainerFiles(address, os.environ, allowed_hosts)


def _write_sample(folder: Path, *, months: Sequence[str], accounts: int, lines: int, seed: int) -> None:
    from octo_pipeline.vendors.azure.sample import write_csp

    write_csp(folder, months=months, lines=max(lines // 5, LEAST_SAMPLE_LINES), seed=seed)


VENDOR = Vendor(
    name="azure",
    raw_asset="azure_usage",
    raw_kind="azure",
    raw_description="Azure usage, purchases and credits as delivered: CSP exports and Cost Management exports. One "
    "delivery per partner tenant or billing account, month and version; the newest counts.",
    deliveries="Azure exports",
    files=_files,
    row_sources=("usage.py", "usage_rows.py", "usage_columns.py"),
    folder_source=_folder_source,
    document_source=_document_source,
    # A partner's secrets are in the registry, not in its document.
    registered_source=_registered_source,
    registration=_registration,
    sample=Sample("an Azure partner's usage (GBP)", _write_sample),
    look_seconds=_GRAPH_SECONDS,
    storage=_storage,
)
