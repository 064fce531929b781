"""Google Cloud: BigQuery billing exports, registration, sample."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from octo_pipeline.vendors.vendor import LEAST_SAMPLE_LINES, LandedFiles, Registration, Sample, Vendor

if TYPE_CHECKING:
    from octo_pipeline.vendors.source import Source


def _files() -> LandedFiles:
    from octo_pipeline.vendors.gcp import billing_relations

    return billing_relations


def _registration() -> Registration:
    from octo_pipeline.vendors.gcp import registration

    return registration


def _folder_source(path: Path) -> "Source":
    from octo_pipeline.vendors.gcp.billing_folder import GcpFolderSource

    return GcpFolderSource(path)


def _document_source(document: object, _allowed_hosts: Sequence[str]) -> "Source":
    from octo_pipeline.vendors.gcp.billing_document import GcpSourceDocument
    from octo_pipeline.vendors.gcp.client import source

    return source(GcpSourceDocument.model_validate(document))


def _write_sample(folder: Path, *, months: Sequence[str], accounts: int, lines: int, seed: int) -> None:
    from octo_pipeline.vendors.gcp.sample import write_billing_export

    write_billing_export(folder, months=months, lines=max(lines * 3 // 10, LEAST_SAMPLE_LINES), seed=seed)


VENDOR = Vendor(
    name="gcp",
    raw_asset="bigquery_export",
    raw_kind="bigquery",
    raw_description="GCP billing export as read from BigQuery. One delivery per billing account, invoice month and "
    "version; the newest counts.",
    deliveries="BigQuery billing exports",
    files=_files,
    row_sources=("billing_relations.py", "billing_rows.py", "billing_columns.py"),
    folder_source=_folder_source,
    document_source=_document_source,
    registration=_registration,
    sample=Sample("a Google Cloud billing export (EUR)", _write_sample),
)
