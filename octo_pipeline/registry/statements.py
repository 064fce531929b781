"""The SQL statements that all parts of the registry share: selecting columns, appending rows and audit events."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from octo_pipeline.registry import lazy_sqlalchemy as sql
from octo_pipeline.registry.records import Actor

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Select, Table

# SQLAlchemy copies a statement's rows: a million at once took 860 MB; in batches it is 26 MB and as fast.
_BATCH_ROWS = 10_000


def select_columns(table: "Table", names: Sequence[str]) -> "Select[tuple[Any, ...]]":
    """The query for these columns of a table, in this order."""
    return sql.select(*(table.c[name] for name in names))


def fetch_rows(connection: "Connection", query: Any) -> Sequence[Any]:
    """The rows of a query, typed so that they can be unpacked into our classes."""
    return connection.execute(query).all()


def append_rows(connection: "Connection", table: "Table", rows: Iterable[dict[str, Any]]) -> int:
    """Append rows with ids that continue the table's; returns the first new id."""
    first: int = connection.execute(sql.select(sql.func.coalesce(sql.func.max(table.c.id), 0) + 1)).scalar_one()
    numbered = ({"id": number, **row} for number, row in enumerate(rows, start=first))
    while batch := list(islice(numbered, _BATCH_ROWS)):
        connection.execute(table.insert(), batch)
    return first


def append_event(connection: "Connection", actor: Actor, action: str, subject: str, details: dict[str, Any]) -> None:
    """Append an event to the audit trail."""
    event = {
        "at": datetime.now(UTC),
        "actor": actor,
        "action": action,
        "subject": subject,
        "details": details,
    }
    append_rows(connection, sql.AUDIT_EVENTS, [event])


def is_secret_of(vendor: str, account_id: str) -> "ColumnElement[bool]":
    """The condition for the secrets of an account."""
    return (sql.SECRETS.c.vendor == vendor) & (sql.SECRETS.c.account_id == account_id)
