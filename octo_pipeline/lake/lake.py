"""The lake: Parquet partitions under one root, and the one function that replaces a partition.

Layout: ``<root>/<table>/month=YYYY-MM/data.parquet``. What a file was made from is in its Parquet key-value
metadata, never in a side file that could disagree with it. What the tables mean is not known here, nor whether the
root is a folder or in a bucket.
"""

import hashlib
import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from octo_pipeline.lake import staging
from octo_pipeline.lake.store import Location, store_of
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import Relation, identifier, literal
from octo_pipeline.model.wording import reason

_METADATA_KEY = "octo"
_FILE = "data.parquet"


# What files said of themselves, with the identity they had then: each step of a run opens the lake anew, and looks at
# the files of all months.
_READ: dict[Location, tuple[Hashable, "PartitionMetadata"]] = {}


class InputChangedError(OctoError):
    """A partition changed while another was being computed from it; computing again is the remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="input-changed")


def fingerprint(inputs: Mapping[str, str]) -> str:
    """The fingerprint of a partition: a digest over everything it is made from.

    Args:
        inputs: name of each input (a partition, a configuration, the code) -> its own fingerprint or version.

    Returns:
        32 hex digits, the same on every machine.
    """
    text = json.dumps(dict(inputs), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class PartitionMetadata:
    """What a partition's file says of itself.

    Attributes:
        inputs: what it was made from, as given to `fingerprint`.
        run_id: the run that wrote it.
        facts: digests its writer wants to find again without reading the rows.
        rows: how many rows the file has.
    """

    inputs: dict[str, str]
    run_id: str
    facts: dict[str, Any] = field(default_factory=dict)
    rows: int = 0

    @property
    def fingerprint(self) -> str:
        """The digest over the inputs."""
        return fingerprint(self.inputs)

    def to_json(self) -> str:
        """The text stored under the file's metadata key."""
        return json.dumps({"inputs": self.inputs, "run_id": self.run_id, "facts": self.facts}, sort_keys=True)


@dataclass(frozen=True)
class Staged:
    """A partition that is being made: where to write it."""

    table: str
    month: str
    folder: Path

    @property
    def path(self) -> Path:
        """The file to write before publishing."""
        return self.folder / _FILE

    @property
    def relation(self) -> Relation:
        """The rows of the staged file, to be proved."""
        return Relation(f"read_parquet({literal(str(self.path))})")


class Lake:
    """The tables under one root, a folder or a place in a bucket."""

    def __init__(self, root: Location, *, memory_limit: str | None = None, temp: Path | None = None) -> None:
        self.root = root.absolute() if isinstance(root, Path) else root
        self._store = store_of(self.root)
        self._memory_limit = memory_limit
        self._temp = temp
        self._scanned: dict[str, dict[str, Hashable]] = {}

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """An in-memory DuckDB of one's own; nothing is shared with other processes but finished files.

        DuckDB opens a file once for its footer and again, by name, to read its rows. Of a partition that is replaced in
        between it would show a mixture, so those that were scanned are looked at again in the end.

        Raises:
            InputChangedError: a partition was replaced while it was read; what was read of it counts for nothing.
            OctoError: the store does not let DuckDB read a file.
        """
        outer, self._scanned = self._scanned, {}
        try:
            with duckdb.connect(config=self.duckdb_config()) as connection:
                self.open_store(connection)
                yield connection
                self._require_unchanged()
        except InputChangedError:
            raise
        except Exception as error:
            # A mixture can fail in any way, the decoding of a text included.
            self._require_unchanged(error)
            if not isinstance(error, duckdb.HTTPException):
                raise
            reason = str(error).partition("\n")[0]
            raise OctoError(
                f"A file of the lake {self.root} cannot be read ({reason}). Run this again.",
                code="lake-file-unreadable",
            ) from error
        finally:
            self._scanned = outer

    def _require_unchanged(self, cause: Exception | None = None) -> None:
        for table, seen in self._scanned.items():
            now = self._identities(table)
            if changed := sorted(month for month, identity in seen.items() if now.get(month) != identity):
                raise InputChangedError(
                    f"{table} {', '.join(changed)} was replaced while it was read. Run this again."
                ) from cause

    def open_store(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let a connection read the lake's files for as long as the credentials of this moment hold.

        Raises:
            OctoError: there are none, or DuckDB does not take them.
        """
        for statement in self.duckdb_setup():
            try:
                connection.execute(statement)
            except duckdb.Error as error:
                # The engine's text is left out: it may repeat the statement, which holds the secret key.
                raise OctoError(
                    f"DuckDB cannot be made to read {self.root} ({type(error).__name__}). Install the program again: "
                    "duckdb and duckdb-extension-httpfs must be of one version.",
                    code="duckdb-cannot-read-lake",
                ) from None

    def duckdb_setup(self) -> list[str]:
        """The statements of `open_store`, for connections that others open; never to be shown, they hold secrets."""
        return self._store.duckdb_setup()

    def duckdb_config(self) -> dict[str, str | bool | int | float | list[str]]:
        """DuckDB settings every connection of the project opens with."""
        config: dict[str, str | bool | int | float | list[str]] = {"preserve_insertion_order": "false"}
        if self._memory_limit:
            config["memory_limit"] = self._memory_limit
        # Without a folder of its own an in-memory DuckDB spills into the working directory.
        config["temp_directory"] = str(self._temp or self._store.scratch / ".spill")
        return config

    def path(self, table: str, month: str) -> Location:
        """Where the partition's file is, if it exists."""
        return self.root / table / f"month={month}" / _FILE

    def months(self, table: str) -> list[str]:
        """The months the table has, in order."""
        return sorted(self._identities(table))

    def tables(self) -> list[str]:
        """The tables that have at least one partition."""
        return sorted(table for table in self._store.subfolders(self.root) if self.months(table))

    def metadata(self, table: str, month: str) -> PartitionMetadata | None:
        """What the partition's file says of itself; None if there is no such partition.

        Raises:
            OctoError: the file is there but was not written by this project, or is damaged.
        """
        identity = self._store.identity(self.path(table, month))
        return None if identity is None else self._metadata(table, month, identity)

    def metadata_of(self, table: str, months: Sequence[str]) -> dict[str, PartitionMetadata]:
        """What the files of several partitions say of themselves, by month, without the absent ones.

        A store that is far away is asked once which of them have changed since they were read last.

        Raises:
            OctoError: as `metadata`.
        """
        identities = self._identities(table)
        found = {m: self._metadata(table, m, identities[m]) for m in months if m in identities}
        return {month: metadata for month, metadata in found.items() if metadata is not None}

    def _identities(self, table: str) -> dict[str, Hashable]:
        """The identity of each partition's file, by month."""
        found = self._store.files(self.root / table, "month=", _FILE)
        return {folder.removeprefix("month="): identity for folder, identity in found.items()}

    def _metadata(self, table: str, month: str, identity: Hashable) -> PartitionMetadata | None:
        path = self.path(table, month)
        known = _READ.get(path)
        if known is None or known[0] != identity:
            try:
                with self._store.footer(path) as file:
                    known = identity, read_metadata(file, str(path))
            except FileNotFoundError:
                return None
            except duckdb.Error as error:
                if self._store.identity(path) is None:
                    return None
                reason = str(error).replace(str(file), str(path))
                raise OctoError(
                    f"The file {path} is damaged ({reason}). Remove it and run {table} {month} again.",
                    code="partition-damaged",
                ) from None
            _READ[path] = known
        return known[1]

    def rows(self, table: str, month: str) -> int:
        """How many rows the partition has; 0 if there is no such partition."""
        found = self.metadata(table, month)
        return found.rows if found else 0

    def fingerprint(self, table: str, month: str) -> str | None:
        """The partition's fingerprint, None if there is no such partition."""
        found = self.metadata(table, month)
        return found.fingerprint if found else None

    def scan(
        self,
        table: str,
        months: Sequence[str] | None,
        columns: Mapping[str, str],
        *,
        month_as: str | None = None,
    ) -> Relation:
        """A relation over the table's partitions.

        Args:
            table: the table.
            months: the partitions to read; those that do not exist are left out. None means all.
            columns: the table's columns and types, for the relation of no rows that an absent table is.
            month_as: add the partition's month under this name.
        """
        present = self._identities(table)
        read = [m for m in (sorted(present) if months is None else months) if m in present]
        # What was seen first stays: a later scan of the same partition must not hide its replacement.
        self._scanned[table] = {m: present[m] for m in read} | self._scanned.get(table, {})
        paths = [self.path(table, m) for m in read]
        if not paths:
            absent = dict(columns) | ({month_as: "VARCHAR"} if month_as else {})
            empty = ", ".join(f"NULL::{kind} AS {identifier(name)}" for name, kind in absent.items())
            return Relation(f"(SELECT {empty} WHERE false)")
        files = ", ".join(literal(str(p)) for p in paths)
        selected = [*map(identifier, columns), *([f"month AS {identifier(month_as)}"] if month_as else [])]
        return Relation(
            f"(SELECT {', '.join(selected)} FROM read_parquet([{files}], hive_partitioning = true, "
            "hive_types = {month: VARCHAR}))"
        )

    @contextmanager
    def stage(self, table: str, month: str) -> Iterator[Staged]:
        """A place to write a partition before it is proved and published."""
        try:
            with staging.staging_folder(self._store.scratch) as folder:
                yield Staged(table, month, folder)
        except OSError as error:
            raise self.write_error(error) from error

    def write_error(self, error: OSError) -> OctoError:
        """The sentence for a file system that refuses."""
        return OctoError(
            f"Cannot write to the {self._store.scratch_name}: {reason(error)}. Nothing was published.",
            code="lake-not-writable",
            place=str(self._store.scratch),
        )

    def copy(
        self,
        connection: duckdb.DuckDBPyConnection,
        query: str,
        staged: Staged,
        metadata: PartitionMetadata,
        *,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the rows of a query to the staged file, with its metadata and more facts."""
        full = replace(metadata, facts={**metadata.facts, **(facts or {})})
        try:
            connection.execute(f"COPY ({query}) TO {literal(str(staged.path))} ({copy_options(full.to_json())})")
        except duckdb.IOException as error:
            raise OctoError(
                f"Cannot write {staged.table} {staged.month} to the lake {self.root}: {error}", code="lake-not-writable"
            ) from None

    def publish(self, staged: Staged, *, still_current: Callable[[], Mapping[str, str]]) -> bool:
        """Put a staged partition in its place, in one step that readers never see half done.

        Args:
            staged: the written and proved file.
            still_current: what the partition would be made from now; compared when no other can publish it.

        Returns:
            False if the partition in place already has this fingerprint; the staged file is dropped.

        Raises:
            InputChangedError: an input changed since it was read, so the result is out of date already.
        """
        made = read_metadata(staged.path, str(staged.path))

        def is_news() -> bool:
            if self.fingerprint(staged.table, staged.month) == made.fingerprint:
                return False
            now = dict(still_current())
            changed = sorted(k for k in now.keys() | made.inputs.keys() if now.get(k) != made.inputs.get(k))
            if changed:
                raise InputChangedError(
                    f"{staged.table} {staged.month} was not published: {', '.join(changed)} changed while it was "
                    "computed. Run it again."
                )
            return True

        try:
            return self._store.replace(staged.path, self.path(staged.table, staged.month), is_news)
        except OSError as error:
            raise self.write_error(error) from error

    @property
    def scratch(self) -> Path:
        """The local folder where files are made before they are published."""
        return self._store.scratch

    def check_writable(self) -> None:
        """Put a small file where readers do not look, and remove it.

        Raises:
            OctoError: the lake cannot be written; the sentence says why.
        """
        place = self.root / ".staging" / "check"
        try:
            with staging.staging_folder(self._store.scratch) as folder:
                made = folder / "check"
                made.write_bytes(b"octo")
                self._store.replace(made, place, lambda: True)
                self._store.remove(place)
        except OSError as error:
            raise self.write_error(error) from error

    def remove(self, table: str, month: str) -> None:
        """Remove a partition, if it is there."""
        self._store.remove(self.path(table, month))


@cache
def _footers() -> duckdb.DuckDBPyConnection:
    """The connection that reads Parquet footers; opening one costs 20 ms, which every partition would pay."""
    return duckdb.connect()


def read_metadata(path: Path, place: str) -> PartitionMetadata:
    """Read what a partition's file says of itself.

    Args:
        path: the file, or one that ends as it does.
        place: what sentences call it.

    Raises:
        OctoError: the file was not written by this project.
        duckdb.Error: it is no whole Parquet file.
    """
    file = literal(str(path))
    found = (
        _footers()
        .cursor()
        .execute(
            f"SELECT decode(value), (SELECT sum(num_rows) FROM parquet_file_metadata({file})) "
            f"FROM parquet_kv_metadata({file}) WHERE key = {literal(_METADATA_KEY)}::BLOB"
        )
        .fetchone()
    )
    if found is None:
        raise OctoError(
            f"The file {place} was not written by octo-pipeline. Move it out of the lake.",
            code="partition-of-somebody-else",
        )
    document = json.loads(found[0])
    return PartitionMetadata(document["inputs"], document["run_id"], document["facts"], int(found[1]))


def copy_options(metadata: str) -> str:
    """The options of the COPY statement that writes a partition's file with its metadata."""
    return (
        f"FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, KV_METADATA {{{_METADATA_KEY}: {literal(metadata)}}}"
    )
