"""The documents of the configuration that say where exports are: ``<config>/sources/<any name>.json``.

This module holds what is true of all of them: who reads a document, and whether it is used. ``"use": false`` keeps a
document whose exports must not count, such as the report that another one replaces; what was landed of it does not
count either. The other fields belong to the vendors' folders.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.vendors import CLOUDS
from octo_pipeline.vendors.landing import Delivery

# The kind of a document of FOCUS files, whoever's they are.
FOCUS = "focus"

# Fields that say where exports lie, and those that name the account that they are of.
_PLACES = ("folder", "bucket", "container", "dataset", "prefix")
_ACCOUNTS = ("account", "tenant_id", "billing_account", "billing_account_id", "partner_id")


@dataclass(frozen=True)
class SourceDocument:
    """A document as it is written.

    Attributes:
        origin: the file, for sentences.
        reader: the name in `catalog.VENDORS` of who reads it.
        fields: its fields but ``use``.
        is_used: whether its exports count.
    """

    origin: str
    reader: str
    fields: Mapping[str, Any]
    is_used: bool

    def has_landed(self, delivery: Delivery) -> bool:
        """Whether a delivery came from where this document points to."""
        if delivery.vendor != self.reader:
            return False
        accounts = [str(self.fields[name]) for name in _ACCOUNTS if name in self.fields]
        if self.reader == FOCUS and "name" in self.fields:
            accounts = [str(self.fields["name"])]
        if accounts and delivery.account.lower() not in (account.lower() for account in accounts):
            return False
        places = [str(self.fields[name]).removeprefix("s3://").strip("/") for name in _PLACES if name in self.fields]
        return all(part in delivery.source for part in places)


def source_documents(config: Path) -> list[SourceDocument]:
    """The documents of a configuration, by file name.

    Raises:
        OctoError: a document is not JSON, or does not say whose it is.
    """
    folder = config / "sources"
    if not folder.is_dir():
        return []
    paths = [path for path in sorted(folder.glob("*.json")) if not path.name.startswith((".", "_"))]
    return [source_document(_read(path), str(path)) for path in paths]


def source_document(content: object, origin: str) -> SourceDocument:
    """A document from its content.

    Raises:
        OctoError: the document does not name its vendor, or `use` is neither true nor false.
    """
    fields = dict(content) if isinstance(content, dict) else {}
    is_used = fields.pop("use", True)
    if not isinstance(is_used, bool):
        raise OctoError(
            f"{origin}: use must be true or false, not {json.dumps(is_used)}.",
            code="source-document-wrong",
            place=origin,
        )
    vendor, kind = fields.get("vendor"), fields.get("kind")
    if kind == FOCUS:
        return SourceDocument(origin, FOCUS, fields, is_used)
    if not isinstance(vendor, str) or vendor not in CLOUDS:
        raise OctoError(
            f"{origin}: vendor must be one of {', '.join(CLOUDS)}, not {json.dumps(vendor)}. Exports of anyone else are FOCUS "
            'files: give "kind": "focus".',
            code="source-vendor-unknown",
            place=origin,
        )
    return SourceDocument(origin, vendor, fields, is_used)


def used_deliveries(deliveries: Sequence[Delivery], documents: Sequence[SourceDocument]) -> list[Delivery]:
    """The deliveries without those of documents that are not used, unless a document that is used points there too."""
    unused = [document for document in documents if not document.is_used]
    used = [document for document in documents if document.is_used]
    return [
        delivery
        for delivery in deliveries
        if not any(document.has_landed(delivery) for document in unused)
        or any(document.has_landed(delivery) for document in used)
    ]


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise OctoError(
            f"{path} is not a source document in JSON ({error}).", code="source-document-malformed", place=str(path)
        ) from error
