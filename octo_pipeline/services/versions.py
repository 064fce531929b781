"""The versions of allocators and cost groups: who saved which when, and which months were made with it.

The registry has what was saved here, and what was seen in the configuration when somebody asked or a month was made. The
lake has the documents of allocators that its months are pinned to, also of times when nothing was recorded.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.wording import quoted
from octo_pipeline.registry.records import DocumentKind
from octo_pipeline.rules.documents import Document
from octo_pipeline.services import rules
from octo_pipeline.services.costs import unknown_cost_group
from octo_pipeline.services.documents import see_documents
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.workspace import Workspace


@dataclass(frozen=True)
class KnownVersion:
    """A version of a document.

    Attributes:
        version: the digest of the document.
        document: the document with its defaults; None if only its digest is known.
        saved_by: who saved it; None if it came with the configuration.
        at: since when it is known, in UTC; None if it was never recorded and a month was made with it.
        is_live: whether the configuration has it now.
        months: the months that were made with it, in order.
    """

    version: str
    document: dict[str, Any] | None
    saved_by: str | None
    at: datetime | None
    is_live: bool
    months: tuple[str, ...]

    @property
    def values(self) -> dict[str, Any]:
        """The version for programs."""
        return {
            "version": self.version,
            "saved_by": self.saved_by,
            "at": self.at.isoformat() if self.at else None,
            "is_live": self.is_live,
            "months": list(self.months),
            "document": self.document,
        }


def versions_of(workspace: Workspace, kind: DocumentKind, document_id: str) -> list[KnownVersion]:
    """The versions of a document, newest first; those that were never recorded come last.

    Raises:
        OctoError: there is no such document and there was none.
    """
    see_documents(workspace)
    saved = workspace.registry.documents.of(kind, document_id) if workspace.settings.has_registry else []
    months, documents = _pinned(workspace, kind, document_id)
    configuration = workspace.configuration
    documents_now: Iterable[Document] = configuration.allocators
    if kind == "cost_group":
        documents_now = configuration.cost_groups.values()
    live = next((document for document in documents_now if document.id == document_id), None)
    recorded = {version.version for version in saved}
    known = [
        KnownVersion(
            version.version,
            json.loads(version.document),
            version.saved_by,
            version.at,
            live is not None and version is saved[-1] and version.version == live.version,
            months.get(version.version, ()),
        )
        for version in reversed(saved)
    ]
    known += [
        KnownVersion(version, documents.get(version), None, None, bool(live and live.version == version), made)
        for version, made in sorted(months.items(), key=lambda pinned: pinned[1], reverse=True)
        if version not in recorded
    ]
    if not known and live is not None:
        known = [KnownVersion(live.version, json.loads(live.document), None, None, True, ())]
    if not known:
        if kind == "cost_group":
            raise unknown_cost_group(document_id)
        raise rules.unknown_allocator(rules.folder_of(workspace.settings.config), document_id)
    return known


def known_version(workspace: Workspace, kind: DocumentKind, document_id: str, version: str) -> KnownVersion:
    """One version of a document, by its digest or its beginning.

    Raises:
        OctoError: the document has no such version, or several begin like this.
    """
    matches = {
        known.version: known for known in versions_of(workspace, kind, document_id) if known.version.startswith(version)
    }
    if len(matches) != 1:
        problem = "several versions begin" if matches else "no version begins"
        raise OctoError(
            f"Of {document_id} {problem} with {quoted(version)}.", code="version-unknown", place=document_id
        )
    return next(iter(matches.values()))


def listed_versions(versions: list[KnownVersion]) -> Rows:
    """Versions as rows: version, saved_by, at, is_live, months."""
    rows = [(v.version, v.saved_by, v.at, v.is_live, ", ".join(v.months)) for v in versions]
    return Rows(("version", "saved_by", "at", "is_live", "months"), tuple(rows))


def _pinned(
    workspace: Workspace, kind: DocumentKind, document_id: str
) -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, dict[str, Any]]]:
    """Of each version that months were made with these months, and of allocators the document."""
    lake = workspace.lake
    months: dict[str, tuple[str, ...]] = {}
    documents: dict[str, dict[str, Any]] = {}
    if kind == "cost_group":
        for month, metadata in lake.metadata_of(CostGroupCosts.name, lake.months(CostGroupCosts.name)).items():
            version = metadata.inputs.get(f"cost_groups/{document_id}")
            if version:
                months[version] = (*months.get(version, ()), month)
        return months, documents
    for month, metadata in lake.metadata_of(MatchedItems.name, lake.months(MatchedItems.name)).items():
        for version, text in metadata.facts["allocators"].items():
            document = json.loads(text)
            if document["id"] == document_id:
                months[version] = (*months.get(version, ()), month)
                documents[version] = document
    return months, documents
