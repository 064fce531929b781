"""The lake: Parquet partitions under one root, and the one function that replaces a partition.

Layout: ``<root>/<table>/month=YYYY-MM/data.parquet``. What a file was made from is in its Parquet key-value
metadata, never in a side file that could disagree with it. This module knows neither what the tables mean nor whether
the root is a folder or in a bucket.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from octo_pipeline.lake import joined_file, staging
from octo_pipeline.lake.instances import open_shared, shared_connection, without_broken
from octo_pipeline.lake.store import Location, store_of
from octo_pipeline.model.columns import FORMER_COLUMNS
from octo_pipeline.model.errors import InputChangedError, OctoError, Remedy
from octo_pipeline.model.sql import Relation, identifier, literal, rows_sql
from octo_pipeline.model.wording import reason

_FILE = "data.parquet"
# The fact of a partition that was joined from several parts: [name, rows] of each.
_PARTS = "parts"
# Each row group costs a reader time and has dictionaries of its own. Reading all columns of 420,000 line items in parts of 1,400
# rows took 5 times the processor time that it took of the same rows written together, of 600,000 in parts of 10,000 rows 1.5
# times. Writing together costs about 15 such readings, so it does not pay for larger parts, which are written again and again.
_ROWS_OF_A_GROUP = 20_000


# Cache of partition metadata by file identity: every step of a run opens the lake again and looks at all months.
_READ: dict[Location, tuple[Hashable, "PartitionMetadata"]] = {}


def fingerprint(inputs: Mapping[str, str]) -> str:
    """The fingerprint of a partition: a digest over everything it is made from.

    Args:
        inputs: name of each input (a partition, a configuration, the code) -> its own fingerprint or version.

    Returns:
        32 hex digits, the same on every machine.
    """
    text = json.dumps(dict(inputs), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


_Shape = tuple[int, frozenset[str]]


@dataclass(frozen=True)
class PartitionMetadata:
    """The metadata in a partition's file.

    Attributes:
        inputs: what it was made from, as passed to `fingerprint`.
        run_id: the run that wrote it.
        facts: digests that its writer reads back later without reading the rows.
        shape: reads how many rows the file has, and the names of its columns.
    """

    inputs: dict[str, str]
    run_id: str
    facts: dict[str, Any] = field(default_factory=dict)
    shape: "Callable[[], _Shape]" = field(default=lambda: (0, frozenset()), compare=False, repr=False)

    @cached_property
    def fingerprint(self) -> str:
        """The digest over the inputs."""
        return fingerprint(self.inputs)

    @cached_property
    def rows(self) -> int:
        """How many rows the file has."""
        return self.shape()[0]

    @cached_property
    def columns(self) -> frozenset[str]:
        """The names of its columns."""
        return self.shape()[1]

    def to_json(self) -> str:
        """The text to store under the file's metadata key."""
        return json.dumps({"inputs": self.inputs, "run_id": self.run_id, "facts": self.facts}, sort_keys=True)


@dataclass(frozen=True)
class Staged:
    """A partition that is being made, or a part of it, and the folder to write it to."""

    table: str
    month: str
    folder: Path
    parts: list[joined_file.Part] = field(default_factory=list)
    """What `Lake.join` leaves where it is: parts in a bucket, which are copied there when the partition is published."""

    @property
    def path(self) -> Path:
        """The file to write before publishing; of parts in a bucket only the footer over them."""
        return self.folder / _FILE

    @property
    def rows(self) -> int:
        """How many rows are written."""
        return read_metadata(self.path, str(self.path)).rows

    @property
    def relation(self) -> Relation:
        """The rows of the staged partition, to be proved."""
        return rows_of_files([part.path for part in self.parts] or [self.path])


class Lake:
    """The tables under one root, a folder or a prefix in a bucket."""

    def __init__(
        self, root: Location, *, memory_limit: str | None = None, temp: Path | None = None, threads: int | None = None
    ) -> None:
        self.root = root.absolute() if isinstance(root, Path) else root
        self._store = store_of(self.root)
        self._memory_limit = memory_limit
        self._temp = temp
        self._threads = threads
        self._scanned: dict[str, dict[str, Hashable]] = {}
        self._overlay_name = ""
        self._overlaid: frozenset[str] = frozenset()
        # What was seen of each table, and what was read of each partition, while `one_look` lasts.
        self._seen: dict[str, dict[str, Hashable]] | None = None
        self._read: dict[tuple[str, str], PartitionMetadata | None] = {}

    @contextmanager
    def one_look(self) -> Iterator[None]:
        """While it lasts, every partition is as it was when its table was first looked at.

        For questions about all months: the folders are listed once, and the metadata of a table's files is read together.
        """
        self._seen = {}
        try:
            yield
        finally:
            self._seen, self._read = None, {}

    @contextmanager
    def connect(
        self,
        *,
        only: Sequence[Location] | None = None,
        threads: int | None = None,
        opened: duckdb.DuckDBPyConnection | None = None,
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to DuckDB in memory; it shares nothing with other processes but finished files.

        DuckDB opens a file once for its footer and again, by name, to read its rows. If a partition is replaced in
        between, the query would mix old and new, so every scanned partition is re-checked at the end.

        Args:
            only: the files it can open, for statements that somebody else writes: no other file, no other host, and
                no setting can be changed. None for statements of the program.
            threads: how many work on a statement; None for as many as the lake has. Many small statements take a third
                less processor time if one thread does not have to wait for others.
            opened: a connection that `open` opened with as many threads. It is used again, and stays open.

        Raises:
            InputChangedError: a partition was replaced while it was read; discard what was read.
            OctoError: the store does not let DuckDB read a file, or DuckDB has too little memory.
        """
        outer, self._scanned = self._scanned, {}
        try:
            with self._reused(opened, threads) if opened else self._connection(only, threads) as connection:
                yield connection
                self._require_unchanged()
        except InputChangedError:
            raise
        except Exception as error:
            # Reading a mix of versions can fail in any way, for example while text is decoded.
            self._require_unchanged(error)
            if isinstance(error, duckdb.OutOfMemoryException):
                raise memory_error(error) from error
            if not self._is_unreadable(error):
                raise
            reason = str(error).partition("\n")[0]
            raise OctoError(
                f"A file of the lake {self.root} cannot be read ({reason}). Run this again.",
                code="lake-file-unreadable",
            ) from error
        finally:
            self._scanned = outer

    def _is_unreadable(self, error: Exception) -> bool:
        """Whether DuckDB could not read a file of the lake: it is gone, cut off or no Parquet, or the store refuses it."""
        if isinstance(error, duckdb.HTTPException):
            return True
        is_of_lake = str(self.root) in str(error)
        if isinstance(error, duckdb.IOException):
            return is_of_lake and any(
                words in str(error) for words in ("Cannot open file", "Could not read", "No files found")
            )
        return is_of_lake and isinstance(error, duckdb.InvalidInputException)

    @contextmanager
    def _connection(self, only: Sequence[Location] | None, threads: int | None) -> Iterator[duckdb.DuckDBPyConnection]:
        # A bucket's secrets belong to an instance, and so does what confines it.
        if only is None and isinstance(self.root, Path):
            with shared_connection(self._config_with(threads)) as connection:
                yield connection
            return
        with self._own_config(only) as config, duckdb.connect(config=config) as connection:
            self.open_store(connection)
            if only is not None:
                _confine(connection, only)
            yield connection

    def open(self, *, threads: int | None = None) -> duckdb.DuckDBPyConnection:
        """A connection for `connect`, again and again: the temporary tables that are made in it stay.

        Its user closes it. It is for one thread at a time.
        """
        config = self._config_with(threads)
        return open_shared(config) if isinstance(self.root, Path) else duckdb.connect(config=config)

    @contextmanager
    def _reused(
        self, connection: duckdb.DuckDBPyConnection, threads: int | None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        with without_broken(self._config_with(threads)):
            # The credentials for a bucket expire.
            self.open_store(connection)
            yield connection

    def _config_with(self, threads: int | None) -> dict[str, str | bool | int | float | list[str]]:
        return self.duckdb_config() | ({"threads": threads} if threads else {})

    @contextmanager
    def _own_config(self, only: Sequence[Location] | None) -> Iterator[dict[str, str | bool | int | float | list[str]]]:
        if only is None:
            yield self.duckdb_config()
            return
        try:
            if self._temp is not None:
                self._temp.mkdir(parents=True, exist_ok=True)
            temporary = TemporaryDirectory(prefix="octo-sql-", dir=self._temp)
        except OSError as error:
            raise OctoError(
                f"No temporary folder can be made: {reason(error)}.",
                code="temporary-folder-not-writable",
                place=str(self._temp or ""),
                remedy=Remedy("set", setting="temp", to="a folder where this user may write"),
            ) from error
        # DuckDB can always open the files of its temporary folder, so nothing else may be in it.
        with temporary as folder:
            yield self.duckdb_config() | {"temp_directory": folder, "allow_persistent_secrets": "false"}

    def _require_unchanged(self, cause: Exception | None = None) -> None:
        for table, seen in self._scanned.items():
            now = self._identities(table)
            if changed := sorted(month for month, identity in seen.items() if now.get(month) != identity):
                raise InputChangedError(
                    f"{table} {', '.join(changed)} was replaced while it was read. Run this again."
                ) from cause

    def open_store(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let a connection read the lake's files until the current credentials expire.

        Raises:
            OctoError: there are no credentials, or DuckDB refuses them.
        """
        for statement in self.duckdb_setup():
            try:
                connection.execute(statement)
            except duckdb.Error as error:
                # DuckDB's message is left out: it may repeat the statement, which holds the secret key.
                raise OctoError(
                    f"DuckDB cannot be made to read {self.root} ({type(error).__name__}). Install the program again: "
                    "duckdb and duckdb-extension-httpfs must have the same version.",
                    code="duckdb-cannot-read-lake",
                ) from None

    def duckdb_setup(self) -> list[str]:
        """The statements of `open_store`, for connections opened elsewhere. They hold secrets: never print them."""
        return self._store.duckdb_setup()

    def duckdb_config(self) -> dict[str, str | bool | int | float | list[str]]:
        """The DuckDB settings that every connection of the project opens with."""
        config: dict[str, str | bool | int | float | list[str]] = {"preserve_insertion_order": "false"}
        if self._memory_limit:
            config["memory_limit"] = self._memory_limit
        if self._threads:
            config["threads"] = self._threads
        # Without a folder for it, an in-memory DuckDB spills into the working directory.
        config["temp_directory"] = str(self._temp or self._store.scratch / ".spill")
        return config

    def path(self, table: str, month: str) -> Location:
        """The path of the partition's file, whether it exists or not."""
        if table in self._overlaid:
            overlaid = self._overlay_path(table, month)
            if self._store.identity(overlaid) is not None:
                return overlaid
        return self.root / table / f"month={month}" / _FILE

    def overlay(self, name: str, tables: Collection[str]) -> "Lake":
        """The same lake, in which some tables have partitions of their own that nobody else sees.

        Where such a table has none of a month, the lake's is read. What is published goes to the overlay.

        Args:
            name: the overlay's folder below the root.
            tables: the tables.
        """
        lake = Lake(self.root, memory_limit=self._memory_limit, temp=self._temp, threads=self._threads)
        lake._overlay_name, lake._overlaid = name, frozenset(tables)
        return lake

    def overlaid_months(self, table: str) -> list[str]:
        """The months of which the overlay has partitions of its own, in order."""
        return sorted(folder.removeprefix("month=") for folder in self._overlaid_files(table))

    def _overlaid_files(self, table: str) -> dict[str, Hashable]:
        return self._store.files(self.root / self._overlay_name / table, "month=", _FILE)

    def _overlay_path(self, table: str, month: str) -> Location:
        return self.root / self._overlay_name / table / f"month={month}" / _FILE

    def months(self, table: str) -> list[str]:
        """The months the table has, in order."""
        return sorted(self._identities(table))

    def require(self, months: Sequence[str], *tables: str) -> None:
        """Refuse months of which a table is not made.

        Raises:
            OctoError: it names the first table and its first month.
        """
        for table in tables:
            made = self.months(table)
            for month in months:
                if month not in made:
                    raise OctoError(
                        f"The lake has no {table.replace('_', ' ')} of {month}.",
                        code="month-not-made",
                        place=month,
                        remedy=Remedy("run", month=month),
                    )

    def tables(self) -> list[str]:
        """The tables that have at least one partition."""
        return sorted(table for table in self._store.subfolders(self.root) if self.months(table))

    def metadata(self, table: str, month: str) -> PartitionMetadata | None:
        """The metadata of the partition; None if it does not exist.

        Raises:
            OctoError: the file is there but was not written by this project, or is damaged.
        """
        seen = self._seen is not None
        identity = self._identities(table).get(month) if seen else self._store.identity(self.path(table, month))
        return None if identity is None else self._metadata(table, month, identity)

    def metadata_of(self, table: str, months: Sequence[str]) -> dict[str, PartitionMetadata]:
        """The metadata of several partitions by month, without the absent ones.

        A remote store is asked once which of them have changed since they were last read.

        Raises:
            OctoError: as `metadata`.
        """
        identities = self._identities(table) if months else {}
        read = {m: self._metadata(table, m, identities[m]) for m in months if m in identities}
        return {month: metadata for month, metadata in read.items() if metadata is not None}

    def identities(self, tables: Sequence[str]) -> dict[str, str]:
        """The partitions of these tables, ``table/month``, and what differs if one is replaced."""
        return {
            f"{table}/{month}": str(identity)
            for table in tables
            for month, identity in sorted(self._identities(table).items())
        }

    def _identities(self, table: str) -> dict[str, Hashable]:
        """The identity of each partition's file, by month."""
        if self._seen is None:
            return self._found(table)
        if table not in self._seen:
            self._seen[table] = self._found(table)
            self._read_together({self.path(table, month): identity for month, identity in self._seen[table].items()})
        return self._seen[table]

    def _read_together(self, identities: Mapping[Location, Hashable]) -> None:
        """Read the metadata of local files in one query; those of a bucket, and of damaged ones, are read one by one."""
        unread = {
            path: i for path, i in identities.items() if isinstance(path, Path) and _READ.get(path, (None,))[0] != i
        }
        if len(unread) < 2:
            return
        with suppress(duckdb.Error):
            _READ.update({path: (unread[path], metadata) for path, metadata in _read_metadata_of(list(unread)).items()})

    def _found(self, table: str) -> dict[str, Hashable]:
        files = self._store.files(self.root / table, "month=", _FILE)
        if table in self._overlaid:
            files |= self._overlaid_files(table)
        return {folder.removeprefix("month="): identity for folder, identity in files.items()}

    def _metadata(self, table: str, month: str, identity: Hashable) -> PartitionMetadata | None:
        if self._seen is None:
            return self._metadata_of(table, month, identity)
        if (table, month) not in self._read:
            self._read[table, month] = self._metadata_of(table, month, identity)
        return self._read[table, month]

    def _metadata_of(self, table: str, month: str, identity: Hashable) -> PartitionMetadata | None:
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
        """How many rows the partition has; 0 if it does not exist."""
        metadata = self.metadata(table, month)
        return metadata.rows if metadata else 0

    def fingerprint(self, table: str, month: str) -> str | None:
        """The partition's fingerprint; None if it does not exist."""
        metadata = self.metadata(table, month)
        return metadata.fingerprint if metadata else None

    def folders(self, *folder: str) -> list[str]:
        """The names of the folders in a folder of the lake that is not a table."""
        return sorted(self._store.subfolders(self._below(folder)))

    def file_sizes(self, *folder: str) -> dict[str, int]:
        """Name -> bytes of the files in a folder of the lake; none if it does not exist."""
        return self._store.sizes(self._below(folder))

    def parquet_files(self, *folder: str) -> dict[Location, Hashable]:
        """The Parquet files in a folder of the lake that is not a table, which anybody may have written -> identity."""
        path = self._below(folder)
        names = sorted(name for name in self._store.sizes(path) if name.endswith(".parquet") and "/" not in name)
        return {path / name: self._store.identity(path / name) for name in names if not name.startswith(".")}

    def _below(self, folder: Sequence[str]) -> Location:
        path = self.root
        for name in folder:
            path = path / name
        return path

    def scan(
        self,
        table: str,
        months: Sequence[str] | None,
        columns: Mapping[str, str],
        *,
        month_as: str | None = None,
        row_number_as: str | None = None,
        rows: tuple[int, int] | None = None,
    ) -> Relation:
        """A relation over the table's partitions.

        Args:
            table: the table.
            months: the partitions to read; those that do not exist are left out. None means all.
            columns: the table's columns and types; without partitions the relation is empty, but has them.
            month_as: the name of an additional column with the partition's month.
            row_number_as: the name of an additional column with the number of the row in its partition.
            rows: the numbers of the first row of a single partition to read and of the first one not to read; None for
                all. Row groups with none of them are not read.
        """
        if rows and (months is None or len(months) != 1):
            raise ValueError("rows are numbered within one month")
        present = self._identities(table)
        read = [m for m in (sorted(present) if months is None else months) if m in present]
        # The first identity seen is kept: a later scan of the same partition must not hide its replacement.
        self._scanned[table] = {m: present[m] for m in read} | self._scanned.get(table, {})
        paths = [self.path(table, m) for m in read]
        if not paths:
            absent = dict(columns) | ({month_as: "VARCHAR"} if month_as else {})
            absent |= {row_number_as: "BIGINT"} if row_number_as else {}
            return Relation(f"({rows_sql(absent, [])})")
        files = ", ".join(literal(str(p)) for p in paths)
        lacking = self._lacking(table, read, present, columns)
        options = "hive_partitioning = true, hive_types = {month: VARCHAR}"
        options += ", file_row_number = true" if row_number_as or rows else ""
        source = f"read_parquet([{files}], {options})"
        if lacking:
            typed = rows_sql({name: columns[name] for name in lacking}, [])
            source = f"(FROM read_parquet([{files}], {options}, union_by_name = true) UNION ALL BY NAME {typed})"
        former = self._former(table, lacking)
        selected = [former.get(name, identifier(name)) for name in columns]
        selected += [f"month AS {identifier(month_as)}"] if month_as else []
        selected += [f"file_row_number AS {identifier(row_number_as)}"] if row_number_as else []
        if rows:
            source += f" WHERE file_row_number >= {rows[0]} AND file_row_number < {rows[1]}"
        return Relation(f"(SELECT {', '.join(selected)} FROM {source})")

    def later_columns(self, table: str, columns: Mapping[str, str]) -> dict[str, str]:
        """Those of the columns that a partition of an earlier edition does not have, with their types."""
        present = self._identities(table)
        return {name: columns[name] for name in self._lacking(table, list(present), present, columns)}

    def former_columns(self, table: str, columns: Mapping[str, str]) -> dict[str, str]:
        """SQL of the columns that a partition of an earlier edition has under another name."""
        return self._former(table, self.later_columns(table, columns))

    @staticmethod
    def _former(table: str, lacking: Collection[str]) -> dict[str, str]:
        names = FORMER_COLUMNS.get(table, {})
        return {
            name: f"coalesce({identifier(name)}, {former}) AS {identifier(name)}"
            for name, former in names.items()
            if name in lacking
        }

    def _lacking(
        self, table: str, months: Sequence[str], identities: Mapping[str, Hashable], columns: Mapping[str, str]
    ) -> list[str]:
        """The columns that a partition of an earlier edition does not have; they are null in its rows."""
        lacking: set[str] = set()
        for month in months:
            try:
                metadata = self._metadata(table, month, identities[month])
            except OctoError:
                continue  # reading the rows reports the damage
            if metadata is not None:
                lacking |= columns.keys() - metadata.columns
        return [name for name in columns if name in lacking]

    @contextmanager
    def stage(self, table: str, month: str) -> Iterator[Staged]:
        """A folder to write a partition to before it is proved and published."""
        try:
            with staging.staging_folder(self._store.scratch) as folder:
                yield Staged(table, month, folder)
        except OSError as error:
            raise self.write_error(error) from error

    def write_error(self, error: OSError) -> OctoError:
        """The error for a file system that refuses to write."""
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
        copy_rows(connection, query, staged.path, full)

    def join(
        self,
        parts: Sequence[Location],
        staged: Staged,
        metadata: PartitionMetadata,
        *,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Make the staged partition from Parquet files with the same columns, with its metadata and more facts.

        The rows keep the order of the parts and their order within a part. Small neighbours are written together; all
        others are copied byte for byte: local ones at once, those in the bucket when the partition is published. If there are
        several, `part_ranges` of its metadata says which rows are of which part.

        Args:
            parts: the files, at least one: local, or of this lake.
            staged: what is written.
            metadata: its metadata.
            facts: more facts.

        Raises:
            InputChangedError: a part is gone or was replaced. Of parts in the bucket `publish` may say so as well.
            OctoError: a part is damaged or has other columns, or the lake cannot be written.
        """
        # An attempt before, whose parts were damaged, must leave nothing in this one.
        staged.parts.clear()
        read = [self._part(path) for path in parts]
        joined_file.require_same_columns(read)
        all_facts = {**metadata.facts, **(facts or {})}
        if len(read) > 1:
            all_facts[_PARTS] = [[part.path.name.removesuffix(".parquet"), part.rows] for part in read]
        text = replace(metadata, facts=all_facts).to_json()
        runs = _runs(read)
        if len(runs) == 1 and len(runs[0]) > 1:
            self._write_together(runs[0], staged.path, text)
            return
        pieces = []
        for number, run in enumerate(runs):
            if len(run) == 1:
                pieces += run
            else:
                path = staged.folder / f"parts-{number}.parquet"
                self._write_together(run, path, text)
                pieces.append(self._part(path))
        if all(isinstance(piece.path, Path) for piece in pieces):
            joined_file.join(pieces, staged.path, text)
        else:
            staged.path.write_bytes(joined_file.MAGIC + joined_file.joined_footer(pieces, text))
            staged.parts.extend(pieces)

    def _part(self, path: Location) -> joined_file.Part:
        return joined_file.read_part(path) if isinstance(path, Path) else self._store.part(path)

    def parts(self, table: str, month: str) -> dict[str, Location]:
        """The kept parts of a month, name -> file.

        They are a cache below ``.parts/`` that may be deleted at any time, in the folder or the bucket as the lake is. A
        part's name says what is in it, so a part that is there is the one that would be made. The parts of an overlay are
        its own.
        """
        folder = self._parts_folder(table, month)
        names = (Path(name) for name in self._store.sizes(folder))
        return {name.stem: folder / name.name for name in sorted(names) if name.suffix == ".parquet"}

    def part_metadata(self, path: Location) -> PartitionMetadata | None:
        """The metadata of a kept part; None if it is gone or damaged, for a cache is made again.

        Raises:
            OctoError: the store does not answer, or refuses.
        """
        try:
            with self._store.footer(path) as file:
                return read_metadata(file, str(path))
        except (FileNotFoundError, duckdb.Error):
            return None
        except OctoError as error:
            if error.code != "partition-of-somebody-else":
                raise
            return None

    def keep_part(self, made: Path, table: str, month: str, name: str) -> Location:
        """Keep a finished local file as a part, in one step; it replaces one of the same name.

        Args:
            made: the file, in a folder of `stage` or `staging_folder`. It may be gone afterwards.
            table: the table.
            month: the month.
            name: what identifies the part's rows, such as a fingerprint of what they are made from.

        Returns:
            The part's file, for `join`.

        Raises:
            OctoError: the lake cannot be written.
        """
        path = self._parts_folder(table, month) / f"{name}.parquet"
        try:
            self._store.put(made, path)
        except OSError as error:
            raise self.write_error(error) from error
        return path

    def drop_parts(self, table: str, month: str, *, but: Collection[str]) -> None:
        """Remove the kept parts of a month whose names are not among `but`."""
        self._store.discard([path for name, path in self.parts(table, month).items() if name not in but])

    def months_with_parts(self, table: str) -> list[str]:
        """The months of which parts are kept, in order."""
        folders = self._store.subfolders(self._parts_folder(table))
        return sorted(folder.removeprefix("month=") for folder in folders)

    def _parts_folder(self, table: str, month: str | None = None) -> Location:
        above = self.root / self._overlay_name if table in self._overlaid else self.root
        folder = above / ".parts" / table
        return folder if month is None else folder / f"month={month}"

    def _write_together(self, parts: Sequence[joined_file.Part], path: Path, metadata: str) -> None:
        """Write one file with the rows of several, in their order."""
        rows = rows_of_files([part.path for part in parts])
        # The order is a setting of an instance, so this one is not shared.
        with duckdb.connect(config=self.duckdb_config() | {"preserve_insertion_order": "true"}) as connection:
            self.open_store(connection)
            try:
                connection.execute(f"COPY (FROM {rows}) TO {literal(str(path))} ({copy_options(metadata)})")
            except duckdb.Error as error:
                # The message does not name the file.
                for part in parts:
                    self._part(part.path)
                    _require_readable(connection, part.path)
                if not isinstance(error, duckdb.IOException):
                    raise
                raise _not_written(path, error) from None

    def publish(self, staged: Staged, *, still_current: Callable[[], Mapping[str, str]]) -> bool:
        """Publish a staged partition in one step that readers never see half done.

        Args:
            staged: the written and proved file.
            still_current: what the partition would be made from now; compared while no other process can publish it.

        Returns:
            False if the published partition already has this fingerprint; the staged file is dropped.

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
            path = self._published_path(staged.table, staged.month)
            return self._store.replace(staged.path, path, is_news, before=staged.parts)
        except OSError as error:
            raise self.write_error(error) from error

    def _published_path(self, table: str, month: str) -> Location:
        return self._overlay_path(table, month) if table in self._overlaid else self.path(table, month)

    @property
    def scratch(self) -> Path:
        """The local folder where files are made before they are published."""
        return self._store.scratch

    def lease(self, month: str, patience: float | None = None) -> AbstractContextManager[bool]:
        """Keep other processes from making the month while the context lasts, where the store can.

        Args:
            month: the month.
            patience: seconds to wait for another process; None for as long as a run may take.

        Returns:
            A context of False if another process is still at work on the month.
        """
        return self._store.lease(f"making-{month}", patience)

    def hold(self, tables: Collection[str], month: str) -> AbstractContextManager[None]:
        """Keep other processes from publishing these partitions while the context lasts, where the store can."""
        return self._store.hold([self._published_path(table, month) for table in sorted(tables)])

    def check_writable(self) -> None:
        """Write something small and remove it; nothing stays. A bucket is also asked to refuse what a condition forbids.

        Raises:
            OctoError: the lake cannot be written, or its bucket ignores conditions; the message says why.
        """
        try:
            staging.check_writable(self._store.scratch)
            self._store.check_conditions()
        except OSError as error:
            raise self.write_error(error) from error

    def remove(self, table: str, month: str) -> None:
        """Remove a partition, if it is there; of an overlay only its own."""
        self._store.remove(self._published_path(table, month))

    def read_text(self, *names: str) -> str | None:
        """The text of a small file of the lake outside its tables; None if there is none."""
        return self._store.read_text(self._below(names))

    def publish_folder(self, made: Path, *names: str, last: str) -> None:
        """Publish the files of a local folder; the file called `last` appears when all others are there.

        Raises:
            OctoError: the lake cannot be written.
        """
        try:
            self._store.publish_folder(made, self._below(names), last)
        except OSError as error:
            raise self.write_error(error) from error

    def remove_folder(self, *names: str, first: str) -> None:
        """Remove a folder of the lake outside its tables; its file called `first` goes before the others."""
        self._store.remove_folder(self._below(names), first)

    def path_of(self, *names: str) -> Location:
        """The path of a file of the lake outside its tables, whether it exists or not."""
        return self._below(names)

    def staging_folder(self) -> AbstractContextManager[Path]:
        """A local folder for files that are published together; removed at the end."""
        return staging.staging_folder(self._store.scratch)


def _confine(connection: duckdb.DuckDBPyConnection, files: Sequence[Location]) -> None:
    """Let a connection open these files only, for good.

    Files and not their folders: in a bucket DuckDB compares names as they are written, and ``table/../landing/x`` or
    ``table/x?s3_endpoint=host`` begin as the table does.
    """
    paths = ", ".join(literal(str(file)) for file in files)
    for setting in (
        "python_enable_replacements = false",
        "autoload_known_extensions = false",
        "autoinstall_known_extensions = false",
        f"allowed_paths = [{paths}]",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")


def _runs(parts: Sequence[joined_file.Part]) -> list[list[joined_file.Part]]:
    """The parts in their order: small neighbours together, every other part alone."""
    runs: list[list[joined_file.Part]] = []
    was_small = False
    for part in parts:
        # The last group of a file has the rows that are left over.
        is_small = part.rows < _ROWS_OF_A_GROUP * max(part.row_groups - 1, 1)
        if is_small and was_small:
            runs[-1].append(part)
        else:
            runs.append([part])
        was_small = is_small
    return runs


def part_ranges(metadata: PartitionMetadata) -> list[tuple[str, int, int]]:
    """The parts that a partition was joined from: name, number of the first row, and of the first row after them.

    The name is that of the part's file without its ending. Empty if it was not joined from several.
    """
    ranges = []
    first = 0
    for name, rows in metadata.facts.get(_PARTS, []):
        ranges.append((name, first, first + rows))
        first += rows
    return ranges


def rows_of_files(files: Sequence[Location]) -> Relation:
    """The rows of Parquet files, in their order."""
    listed = ", ".join(literal(str(file)) for file in files)
    # A part may lie below a folder named month=…, which is not a column of it.
    return Relation(f"read_parquet([{listed}], hive_partitioning = false)")


def _require_readable(connection: duckdb.DuckDBPyConnection, part: Location) -> None:
    try:
        connection.execute(f"SELECT bit_xor(hash(rows)) FROM {rows_of_files([part])} AS rows")
    except (duckdb.OutOfMemoryException, duckdb.InterruptException):
        raise
    except duckdb.Error as error:
        # Of damage DuckDB says almost anything.
        raise joined_file.damaged(part, str(error).partition("\n")[0].rstrip(".")) from None


@cache
def _footers() -> duckdb.DuckDBPyConnection:
    """The connection that reads Parquet footers. Opening one takes 20 ms, too long to repeat per partition."""
    return duckdb.connect()


def read_metadata(path: Path, name: str) -> PartitionMetadata:
    """Read the metadata in a partition's file.

    Args:
        path: the file, or a file with the same end.
        name: its name in messages.

    Raises:
        OctoError: the file was not written by this project.
        duckdb.Error: it is not a complete Parquet file.
    """
    file = literal(str(path))
    row = (
        _footers()
        .cursor()
        .execute(
            f"""
            SELECT
                decode(value),
                (SELECT sum(num_rows) FROM parquet_file_metadata({file})),
                (SELECT list(name) FROM parquet_schema({file}))
            FROM parquet_kv_metadata({file})
            WHERE key = {literal(joined_file.METADATA_KEY)}::BLOB
            """
        )
        .fetchone()
    )
    if row is None:
        raise OctoError(
            f"The file {name} was not written by octo-pipeline. Move it out of the lake.",
            code="partition-of-somebody-else",
        )
    shape = int(row[1]), frozenset(row[2])
    return _metadata_in(row[0], lambda: shape)


def _read_metadata_of(files: Sequence[Path]) -> dict[Path, PartitionMetadata]:
    """The metadata of those of the files that this project wrote; what most readers do not ask for is read when they do.

    Raises:
        duckdb.Error: one of them is not a complete Parquet file.
    """
    query = f"""
        SELECT file_name, decode(value)
        FROM parquet_kv_metadata([{", ".join(literal(str(file)) for file in files)}])
        WHERE key = {literal(joined_file.METADATA_KEY)}::BLOB
    """
    rows = _footers().cursor().execute(query).fetchall()
    return {Path(name): _metadata_in(text, partial(_read_shape, Path(name))) for name, text in rows}


def _read_shape(file: Path) -> _Shape:
    metadata = read_metadata(file, str(file))
    return metadata.rows, metadata.columns


def _metadata_in(text: str, shape: Callable[[], _Shape]) -> PartitionMetadata:
    document = json.loads(text)
    return PartitionMetadata(document["inputs"], document["run_id"], document["facts"], shape)


def copy_rows(connection: duckdb.DuckDBPyConnection, query: str, path: Path, metadata: PartitionMetadata) -> int:
    """Write the rows of a query to a file of a partition or a part, with its metadata.

    Returns:
        How many rows they are.

    Raises:
        OctoError: the file cannot be written.
        duckdb.Error: the rows cannot be read or computed.
    """
    try:
        rows = connection.execute(
            f"COPY ({query}) TO {literal(str(path))} ({copy_options(metadata.to_json())})"
        ).fetchall()
    except duckdb.IOException as error:
        if str(path) not in str(error):
            raise
        raise _not_written(path, error) from None
    return int(rows[0][0])


def memory_error(error: duckdb.OutOfMemoryException) -> OctoError:
    """What helps, in place of DuckDB's advice, which is about statements. A full folder for temporary files is the same error."""
    first_line = str(error).partition("\n")[0].removeprefix("Out of Memory Error: ").rstrip(".")
    return OctoError(
        f"DuckDB has too little memory, or too little room for temporary files ({first_line}).",
        code="memory-exhausted",
        remedy=(
            Remedy("set", setting="memory_limit", to="more"),
            Remedy("set", setting="temp", to="a folder with more room"),
        ),
    )


def _not_written(path: Path, error: duckdb.Error) -> OctoError:
    return OctoError(f"Cannot write {path}: {error}", code="lake-not-writable", place=str(path.parent))


def copy_options(metadata: str) -> str:
    """The options of the COPY statement that writes a partition's file with its metadata."""
    key_values = f"{{{joined_file.METADATA_KEY}: {literal(metadata)}}}"
    return f"FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, KV_METADATA {key_values}"
