"""Parts of a month that tasks make, prove and keep, so that only what changed is made again.

A part is a file of `Lake.parts` whose name is a fingerprint of all that its rows are made from. Beside it, under its name, can
be other files that were made of the same rows: its sides. All of it is a cache, which may be deleted at any time.

Which parts a month has belongs to its table, and which items are one in `item_parts`.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import duckdb

from octo_pipeline.allocation.proofs import ProofError
from octo_pipeline.engine.engine import Payload, Task
from octo_pipeline.engine.worker import task_settings
from octo_pipeline.lake.lake import Lake, PartitionMetadata, Staged, part_ranges, rows_of_files
from octo_pipeline.lake.store import Location
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.errors import InputChangedError, OctoError
from octo_pipeline.model.sql import Relation, Sql, literal
from octo_pipeline.model.templates import render
from octo_pipeline.workspace import Overlay, Workspace

# The fact of a partition with the names of the parts that it was made of, where it is not joined from them alone.
PARTS_KEPT = "parts_kept"

# The names of parts that are kept begin like this.
_FINGERPRINT = re.compile(r"[0-9a-f]{32}\b")
_Parts = TypeVar("_Parts")


class KeptPart(NamedTuple):
    """A part that is there.

    Attributes:
        name: the fingerprint of what its rows are made from.
        metadata: its rows and facts.
        file: its rows.
        sides: what was made of the same rows, by name.
        is_made: whether this run has made it.
    """

    name: str
    metadata: PartitionMetadata
    file: Location
    sides: dict[str, Location]
    is_made: bool = False


def made_parts(
    workspace: Workspace, table: str, month: str, task: Task, payloads: Mapping[str, Payload], sides: Sequence[str] = ()
) -> list[KeptPart]:
    """The parts of a month; those that are not kept are made where months of this size are made.

    Args:
        workspace: the lake and the engine.
        table: the table that the parts are of.
        month: the month.
        task: makes a part within `part_to_keep`.
        payloads: what the task needs, by the names of the parts.
        sides: the names of what the task leaves beside each part.

    Raises:
        InputChangedError: somebody removed a part in the meantime.
        OctoError: a task failed.
    """
    lake = workspace.lake
    parts = _read(lake, table, month, payloads, sides)
    shared = {
        "settings": workspace.settings.for_tasks(),
        "overlay": [workspace.overlay.name, sorted(workspace.overlay.tables)] if workspace.overlay else None,
        "run": workspace.run_id,
        "table": table,
        "month": month,
        "sides": list(sides),
    }
    missing = [payload | shared | {"name": name} for name, payload in payloads.items() if name not in parts]
    if missing:
        workspace.engine_for(_lines(workspace, month)).map(task, missing)
        parts = _read(lake, table, month, payloads, sides)
    for name in payloads:
        if name not in parts:
            raise InputChangedError(
                f"A part of {table} {month} ({name}) was removed while it was made. Run this again."
            )
    made = {payload["name"] for payload in missing}
    return [parts[name]._replace(is_made=name in made) for name in payloads]


def _lines(workspace: Workspace, month: str) -> int:
    """How many lines of bills the month has, of which several are one line item; 0 where nobody asks."""
    if workspace.settings.engine == "local":
        return 0
    line_items = workspace.lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS)
    with workspace.lake.connect() as connection:
        return int(connection.execute(render("tables/counted_lines", line_items=line_items)).fetchall()[0][0])


def _read(
    lake: Lake, table: str, month: str, names: Mapping[str, Payload], sides: Sequence[str]
) -> dict[str, KeptPart]:
    kept = lake.parts(table, month)
    parts = {}
    for name in names:
        own = {side: kept[f"{name}.{side}"] for side in sides if f"{name}.{side}" in kept}
        metadata = lake.part_metadata(kept[name]) if name in kept and len(own) == len(sides) else None
        if metadata is not None:
            parts[name] = KeptPart(name, metadata, kept[name], own)
    return parts


@contextmanager
def part_to_keep(payload: Payload) -> Iterator[tuple[Lake, duckdb.DuckDBPyConnection, Staged]]:
    """The lake, a connection and the file of a part that a task makes; it is kept at the end, and its sides before it.

    A side is written to `side_file`.
    """
    overlay = payload["overlay"] and Overlay(payload["overlay"][0], frozenset(payload["overlay"][1]))
    lake = Workspace(task_settings(payload["settings"]), overlay=overlay or None).lake
    table, month, name = payload["table"], payload["month"], payload["name"]
    with lake.stage(table, month) as staged:
        with lake.connect() as connection:
            yield lake, connection, staged
        for side in payload["sides"]:
            lake.keep_part(side_file(staged, side), table, month, f"{name}.{side}")
        lake.keep_part(staged.path, table, month, name)


def side_file(staged: Staged, side: str) -> Path:
    """The file of a side of a part that is being made."""
    return staged.folder / f"{side}.parquet"


def write_rows(connection: duckdb.DuckDBPyConnection, query: Sql, file: Path) -> Relation:
    """Write the rows of a query to a file that is read again soon, and return it as a relation."""
    connection.execute(f"COPY ({query}) TO {literal(str(file))} (FORMAT parquet)")
    return rows_of_files([file])


def kept_rows(connection: duckdb.DuckDBPyConnection, lake: Lake, staged: Staged, name: str, query: Sql) -> Relation:
    """Keep the rows of a query for the tasks of a month, which can be elsewhere; they go with the parts that are not needed.

    Args:
        connection: where the query can be asked.
        lake: the lake.
        staged: the month that is made.
        name: what they are; the file's name has a digest of them before it.
        query: the rows, in an order of their own.

    Returns:
        A relation that every task can read.
    """
    file = staged.folder / f"{name}.parquet"
    write_rows(connection, query, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:32]
    return rows_of_files([lake.keep_part(file, staged.table, staged.month, f"{digest}.{name}")])


def used_parts(
    lake: Lake,
    table: str,
    month: str,
    make: Callable[[], _Parts],
    use: Callable[[_Parts], None],
    names_kept: Callable[[_Parts], Collection[str]],
) -> _Parts:
    """Make a month of its parts. If that fails with parts of earlier runs, these are made again: a cache must never stop a month.

    Args:
        lake: where the parts are.
        table: the table that they are of.
        month: the month.
        make: gives the parts, those that are kept and others that it makes.
        use: writes and proves the month.
        names_kept: which of the parts earlier runs have made.

    Returns:
        The parts that were used in the end.

    Raises:
        OctoError: what `make` raises; or what `use` raises if all parts are new, or if damage cannot be the reason.
    """
    parts = make()
    try:
        use(parts)
    except (OctoError, duckdb.Error) as error:
        doubtful = set(names_kept(parts))
        if not doubtful or not _can_be_damage(error):
            raise
        kept = lake.parts(table, month)
        lake.drop_parts(table, month, but={name for name in kept if name.partition(".")[0] not in doubtful})
        parts = make()
        use(parts)
    return parts


def names_kept(parts: Sequence[KeptPart]) -> list[str]:
    """The names of those of the parts that earlier runs have made."""
    return [part.name for part in parts if not part.is_made]


def _can_be_damage(error: OctoError | duckdb.Error) -> bool:
    """Whether damage in a part that is read can be the reason of an error: of damage, DuckDB says almost anything."""
    if isinstance(error, OctoError):
        return isinstance(error, ProofError) or error.code in ("part-damaged", "parts-differ")
    return not isinstance(error, duckdb.OutOfMemoryException | duckdb.InterruptException)


def part_identity(name: str, metadata: PartitionMetadata) -> str:
    """What differs if the part of a partition has other rows: its name, if that says what is in it."""
    return name if _FINGERPRINT.match(name) else f"{metadata.fingerprint} {name}"


def drop_other_parts(lake: Lake, table: str, month: str) -> None:
    """Remove the parts that the published partition is not made of."""
    metadata = lake.metadata(table, month)
    names = set[str]()
    if metadata:
        names = set(metadata.facts.get(PARTS_KEPT, [])) or {name for name, *_ in part_ranges(metadata)}
    kept = lake.parts(table, month)
    if other := {name for name in kept if name.partition(".")[0] not in names}:
        lake.drop_parts(table, month, but=kept.keys() - other)
