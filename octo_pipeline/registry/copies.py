"""All rows of a registry as files of JSON lines, and such files as a registry: for backups, and to move to another server.

A copy is of one moment, and the same text whether it comes from SQLite or PostgreSQL. So digests of two copies tell whether
two registries hold the same. What else is in a backup belongs in `octo_pipeline.services.backups`.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry import lazy_sqlalchemy as sql
from octo_pipeline.registry.database import VERSION_TABLE, Database
from octo_pipeline.registry.records import Actor
from octo_pipeline.registry.statements import append_event

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

_BATCH_ROWS = 10_000
# Sign-ins and answers are of the installation that they were made in, and whoever signed out meanwhile stays so.
_NOT_COPIED = frozenset({"sessions", "answers"})
RESTORED = "restore_backup"


def copy_registry(database: Database, folder: Path) -> dict[str, int]:
    """Write each table to ``<table>.jsonl`` in a folder.

    Returns:
        table -> how many rows it has; none if there is no registry.

    Raises:
        OctoError: the database cannot be read.
    """
    counts: dict[str, int] = {}
    with database.snapshot() as connection:
        if connection is None:
            return counts
        for table in (table for table in sql.METADATA.sorted_tables if table.name not in _NOT_COPIED):
            with _file_of(folder, table.name).open("w", encoding="ascii", newline="\n") as file:
                counts[table.name] = 0
                for line in _lines(connection, table):
                    file.write(line)
                    counts[table.name] += 1
    return counts


def load_registry(
    database: Database, folder: Path, version: str, actor: Actor, subject: str, details: dict[str, Any]
) -> None:
    """Make a registry of such files, prove that it holds what they hold, and bring it to this program's version.

    All of it is one transaction, and the audit trail gets an event about it.

    Args:
        database: there must be nothing in it.
        folder: a file per table.
        version: the migration that the files were copied at.
        actor: who restores it.
        subject: what is restored.
        details: of the event.

    Raises:
        OctoError: there is something in the database, it cannot be written, or it does not hold what it was given.
    """
    with database.creating(version) as connection:
        metadata = sql.MetaData()
        metadata.reflect(connection)
        for name, table in sorted(metadata.tables.items()):
            if name not in {VERSION_TABLE, *_NOT_COPIED}:
                _load(connection, table, _file_of(folder, name))
        # `append_event` needs the tables of today.
        database.finish(connection)
        append_event(connection, actor, RESTORED, subject, details)


def _file_of(folder: Path, table: str) -> Path:
    return folder / f"{table}.jsonl"


def _lines(connection: "Connection", table: "Table") -> Iterator[str]:
    """The rows as lines of JSON, by the primary key."""
    keys = list(table.primary_key)
    query = sql.select(table)
    if all(isinstance(key.type, sql.Integer) for key in keys):
        options = {"yield_per": _BATCH_ROWS}
        rows = connection.execute(query.order_by(*keys), execution_options=options).mappings()
        yield from (_line(row) for row in rows)
    else:
        # The order of texts depends on the server's collation. Tables with such keys are small.
        small = connection.execute(query).mappings().all()
        yield from (_line(row) for row in sorted(small, key=lambda row: [row[key.name] for key in keys]))


def _line(row: Mapping[Any, Any]) -> str:
    values = {str(name): _as_json(value) for name, value in row.items()}
    return json.dumps(values, sort_keys=True, separators=(",", ":")) + "\n"


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    return value


def _load(connection: "Connection", table: "Table", file: Path) -> None:
    times = [column.name for column in table.columns if isinstance(column.type, sql.DateTime)]
    copied, loaded = hashlib.sha256(), hashlib.sha256()
    try:
        with file.open("rb") as lines:
            while batch := list(islice(lines, _BATCH_ROWS)):
                connection.execute(table.insert(), [_row(line, times) for line in batch])
                copied.update(b"".join(batch))
    except FileNotFoundError:
        raise _differs(table.name) from None
    except (ValueError, KeyError, TypeError, sql.CompileError) as error:
        raise _differs(table.name) from error
    _continue_ids(connection, table)
    for line in _lines(connection, table):
        loaded.update(line.encode("ascii"))
    if loaded.digest() != copied.digest():
        raise _differs(table.name)


def _row(line: bytes, times: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(line)
    return row | {name: datetime.fromisoformat(row[name]) for name in times if row[name] is not None}


def _differs(table: str) -> OctoError:
    return OctoError(
        f"The registry's table {table} cannot be made to hold what the backup says it held, so nothing of the registry was "
        "restored. Take another backup.",
        code="restored-registry-differs",
        place=table,
    )


def _continue_ids(connection: "Connection", table: "Table") -> None:
    """Have PostgreSQL give ids after those that were inserted; SQLite does so by itself."""
    keys = list(table.primary_key)
    if connection.dialect.name == "postgresql" and len(keys) == 1 and isinstance(keys[0].type, sql.Integer):
        # Without a sequence or without rows it does nothing.
        sequence = sql.func.pg_get_serial_sequence(table.name, keys[0].name)
        connection.execute(sql.select(sql.func.setval(sequence, sql.func.max(keys[0]))))
