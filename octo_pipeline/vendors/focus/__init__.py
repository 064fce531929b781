"""FOCUS files of any provider: a format, not a vendor. Their line items carry the name of the provider of each row."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from octo_pipeline.vendors.vendor import LandedFiles, Vendor

if TYPE_CHECKING:
    from octo_pipeline.vendors.source import Source


def _files() -> LandedFiles:
    from octo_pipeline.vendors.focus import charges

    return charges


def _folder_source(path: Path) -> "Source":
    from octo_pipeline.vendors.focus.source import FocusDocument, FocusSource
    from octo_pipeline.vendors.listing import FolderFiles

    document = FocusDocument(kind="focus", folder=path)
    return FocusSource(FolderFiles(path), document.source_name, None)


def _document_source(document: object, allowed_hosts: Sequence[str]) -> "Source":
    from octo_pipeline.vendors.catalog import VENDORS
    from octo_pipeline.vendors.focus.source import FocusDocument, FocusSource
    from octo_pipeline.vendors.listing import FolderFiles, Listing

    described = FocusDocument.model_validate(document)
    listing: Listing
    if described.folder is not None:
        listing = FolderFiles(described.folder)
    else:
        # Each cloud knows how its own storage is read, whichever provider's exports it holds.
        storage = VENDORS["aws" if described.bucket else "azure"].storage
        if storage is None:
            raise TypeError("a cloud that stores exports must define its storage")
        listing = storage(described.place, described.source_name, allowed_hosts)
    return FocusSource(listing, described.source_name, described.vendor)


VENDOR = Vendor(
    name="focus",
    raw_asset="focus_exports",
    raw_kind="file",
    raw_description="FOCUS exports of any provider as delivered. One delivery per source, month and version; the newest "
    "counts.",
    deliveries="FOCUS exports",
    files=_files,
    row_sources=("charges.py", "charge_rows.py"),
    folder_source=_folder_source,
    document_source=_document_source,
)
