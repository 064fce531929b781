"""Charges by hand: fees and credits that no provider exports, imported from a CSV file month by month."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.vendors.vendor import LandedFiles, Vendor

if TYPE_CHECKING:
    from octo_pipeline.vendors.source import Source


def _files() -> LandedFiles:
    from octo_pipeline.vendors.manual import charges

    return charges


def _folder_source(path: Path) -> "Source":
    raise OctoError(
        f"{path} cannot be fetched: charges by hand are imported month by month.",
        code="charges-not-fetched",
        place=str(path),
        remedy=Remedy("charges import", str(path), month="YYYY-MM", dry_run=True),
    )


def _document_source(document: object, _allowed_hosts: Sequence[str]) -> "Source":
    raise OctoError(
        "Charges by hand have no source document: they are imported month by month.",
        code="charges-not-fetched",
        remedy=Remedy("charges import", "FILE", month="YYYY-MM", dry_run=True),
    )


VENDOR = Vendor(
    name="manual",
    raw_asset="manual_charges",
    raw_kind="file",
    raw_description="Charges by hand as they were imported. One delivery per month and import; the newest counts.",
    deliveries="charges by hand",
    files=_files,
    row_sources=("charges.py",),
    folder_source=_folder_source,
    document_source=_document_source,
)
