"""The versions of allocators and cost groups: what they said, since when, and who saved them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from octo_pipeline.registry import lazy_sqlalchemy as sql
from octo_pipeline.registry.database import Database
from octo_pipeline.registry.records import Actor, DocumentKind, DocumentVersion, SavedVersion
from octo_pipeline.registry.statements import append_event, append_rows, fetch_rows, select_columns

if TYPE_CHECKING:
    from sqlalchemy import Connection


class DocumentVersions:
    """What is known of the versions of documents. The configuration has the current ones; these are kept beside it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(
        self, versions: Sequence[DocumentVersion], actor: Actor, action: str, subject: str, details: dict[str, Any]
    ) -> None:
        """Record versions that somebody has saved in the configuration, and the event of it.

        Args:
            versions: the documents as they are now.
            actor: who saved them.
            action: what the audit trail calls it.
            subject: what it was done to.
            details: the rest, as JSON values.
        """
        with self._database.writing() as connection:
            _append(connection, versions, actor)
            append_event(connection, actor, action, subject, details)

    def see(self, versions: Sequence[DocumentVersion]) -> None:
        """Record those versions of the configuration that are not the latest known ones of their documents.

        Who wrote them is not known: they came with the configuration.
        """
        with self._database.reading() as connection:
            if connection is None:
                return
            latest = _latest(connection)
        if all(latest.get((new.kind, new.document_id)) == new.version for new in versions):
            return
        with self._database.writing() as connection:
            _append(connection, versions, None)

    def of(self, kind: DocumentKind, document_id: str) -> list[SavedVersion]:
        """The versions of a document, oldest first; a text that came back is there twice."""
        with self._database.reading() as connection:
            if connection is None:
                return []
            table = sql.DOCUMENT_VERSIONS
            query = select_columns(table, SavedVersion._fields).where(
                table.c.kind == kind, table.c.document_id == document_id
            )
            return [SavedVersion(*row) for row in fetch_rows(connection, query.order_by(table.c.id))]


def _latest(connection: "Connection") -> dict[tuple[str, str], str]:
    """The latest known version of each document."""
    table = sql.DOCUMENT_VERSIONS
    newest = sql.select(sql.func.max(table.c.id)).group_by(table.c.kind, table.c.document_id)
    query = select_columns(table, ("kind", "document_id", "version")).where(table.c.id.in_(newest))
    return {(kind, document_id): version for kind, document_id, version in fetch_rows(connection, query)}


def _append(connection: "Connection", versions: Sequence[DocumentVersion], actor: Actor | None) -> None:
    latest = _latest(connection)
    now = datetime.now(UTC)
    rows = [
        {**new._asdict(), "saved_by": actor, "at": now}
        for new in versions
        if latest.get((new.kind, new.document_id)) != new.version
    ]
    append_rows(connection, sql.DOCUMENT_VERSIONS, rows)
