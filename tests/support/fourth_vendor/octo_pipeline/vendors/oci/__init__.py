"""A vendor that does not exist in the product: a small file of costs for each month."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from octo_pipeline.vendors.vendor import LandedFiles, Vendor

if TYPE_CHECKING:
    from octo_pipeline.vendors.source import Source


def _files() -> LandedFiles:
    from octo_pipeline.vendors.oci import costs

    return costs


def _folder_source(path: Path) -> "Source":
    from octo_pipeline.vendors.oci.costs import OciFolderSource

    return OciFolderSource(path)


def _document_source(document: object, _allowed_hosts: Sequence[str]) -> "Source":
    from octo_pipeline.vendors.oci.costs import OciDocument, OciFolderSource

    return OciFolderSource(OciDocument.model_validate(document).folder)


VENDOR = Vendor(
    name="oci",
    raw_asset="oci_costs",
    raw_kind="file",
    raw_description="OCI costs as delivered. One delivery per tenancy, month and version; the newest counts.",
    deliveries="OCI costs",
    files=_files,
    row_sources=("costs.py",),
    folder_source=_folder_source,
    document_source=_document_source,
)
