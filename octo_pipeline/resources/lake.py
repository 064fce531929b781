"""The lake: Parquet partitions under one root, and the one function that replaces a partition.

Layout: ``<root>/<table>/month=YYYY-MM/data.parquet``. What a file was made from is in its Parquet key-value
metadata, never in a side file that could disagree with it. What the tables mean is not known here.
"""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from octo_pipeline import staging
from octo_pipeline.allocation.sql import identifier, literal
from octo_pipeline.errors import OctoError

_METADATA_KEY = "octo"


class InputChangedError(OctoError):
    """A partition changed while another was being computed from it; computing again is the remedy."""


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
        return self.folder / "data.parquet"


class Lake:
    """The tables under one root folder."""

    def __init__(self, root: Path, *, memory_limit: str | None = None, temp: Path | None = None) -> None:
        if "://" in str(root) or str(root).startswith(("s3:", "gs:")):
            raise OctoError(f"The lake {root} is not a local folder; object stores are not supported yet.")
        self.root = root.absolute()
        self._memory_limit = memory_limit
        self._temp = temp
        self._read: dict[Path, tuple[_Identity, PartitionMetadata]] = {}

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """An in-memory DuckDB of one's own; nothing is shared with other processes but finished files."""
        with duckdb.connect(config=self.duckdb_config()) as connection:
            yield connection

    def duckdb_config(self) -> dict[str, str | bool | int | float | list[str]]:
        """DuckDB settings every connection of the project opens with."""
        config: dict[str, str | bool | int | float | list[str]] = {"preserve_insertion_order": "false"}
        if self._memory_limit:
            config["memory_limit"] = self._memory_limit
        # Without a folder of its own an in-memory DuckDB spills into the working directory.
        config["temp_directory"] = str(self._temp or self.root / ".spill")
        return config

    def path(self, table: str, month: str) -> Path:
        """Where the partition's file is, if it exists."""
        return self.root / table / f"month={month}" / "data.parquet"

    def months(self, table: str) -> list[str]:
        """The months the table has, in order."""
        return sorted(p.parent.name.removeprefix("month=") for p in self.root.glob(f"{table}/month=*/data.parquet"))

    def tables(self) -> list[str]:
        """The tables that have at least one partition."""
        return sorted({p.parent.parent.name for p in self.root.glob("*/month=*/data.parquet")})

    def metadata(self, table: str, month: str) -> PartitionMetadata | None:
        """What the partition's file says of itself; None if there is no such partition.

        Raises:
            OctoError: the file is there but was not written by this project, or is damaged.
        """
        path = self.path(table, month)
        try:
            identity = _identity(path)
        except FileNotFoundError:
            return None
        known = self._read.get(path)
        if known is None or known[0] != identity:
            try:
                known = identity, read_metadata(path)
            except duckdb.Error as error:
                if not path.exists():
                    return None
                raise OctoError(
                    f"The file {path} is damaged ({error}). Remove it and run {table} {month} again."
                ) from None
            self._read[path] = known
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
    ) -> str:
        """SQL of a relation over the table's partitions.

        Args:
            table: the table.
            months: the partitions to read; those that do not exist are left out. None means all.
            columns: the table's columns and types, for the relation of no rows that an absent table is.
            month_as: add the partition's month under this name.
        """
        wanted = self.months(table) if months is None else months
        paths = [p for m in wanted if (p := self.path(table, m)).exists()]
        if not paths:
            absent = dict(columns) | ({month_as: "VARCHAR"} if month_as else {})
            empty = ", ".join(f"NULL::{kind} AS {identifier(name)}" for name, kind in absent.items())
            return f"(SELECT {empty} WHERE false)"
        files = ", ".join(literal(str(p)) for p in paths)
        selected = [*map(identifier, columns), *([f"month AS {identifier(month_as)}"] if month_as else [])]
        return (
            f"(SELECT {', '.join(selected)} FROM read_parquet([{files}], hive_partitioning = true, "
            "hive_types = {month: VARCHAR}))"
        )

    @contextmanager
    def stage(self, table: str, month: str) -> Iterator[Staged]:
        """A place to write a partition before it is proved and published."""
        try:
            with staging.staging_folder(self.root) as folder:
                yield Staged(table, month, folder)
        except OSError as error:
            raise self.write_error(error) from error

    def write_error(self, error: OSError) -> OctoError:
        """The sentence for a file system that refuses."""
        reason = {
            errno.ENOSPC: "the disk is full; free some space",
            errno.EROFS: "the file system is read-only",
            errno.EACCES: "permission is denied",
            errno.EPERM: "permission is denied",
        }.get(error.errno or 0, error.strerror or str(error))
        return OctoError(f"Cannot write to the lake {self.root}: {reason}. Nothing was published.")

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
            raise OctoError(f"Cannot write {staged.table} {staged.month} to the lake {self.root}: {error}") from None

    def publish(self, staged: Staged, *, still_current: Callable[[], Mapping[str, str]]) -> bool:
        """Put a staged partition in its place, in one step that readers never see half done.

        Args:
            staged: the written and proved file.
            still_current: what the partition would be made from now; compared under the partition's lock.

        Returns:
            False if the partition in place already has this fingerprint; the staged file is dropped.

        Raises:
            InputChangedError: an input changed since it was read, so the result is out of date already.
        """
        final = self.path(staged.table, staged.month)
        made = read_metadata(staged.path)
        try:
            staging.sync(staged.path)
            with staging.exclusive(self.root, f"{staged.table}-{staged.month}"):
                if self.fingerprint(staged.table, staged.month) == made.fingerprint:
                    return False
                now = dict(still_current())
                changed = sorted(k for k in now.keys() | made.inputs.keys() if now.get(k) != made.inputs.get(k))
                if changed:
                    raise InputChangedError(
                        f"{staged.table} {staged.month} was not published: {', '.join(changed)} changed while it was "
                        "computed. Run it again."
                    )
                final.parent.mkdir(parents=True, exist_ok=True)
                os.replace(staged.path, final)
                staging.sync(final.parent)
        except OSError as error:
            raise self.write_error(error) from error
        return True

    def check_writable(self) -> None:
        """Write and remove a small file.

        Raises:
            OctoError: the lake cannot be written; the sentence says why.
        """
        try:
            with staging.staging_folder(self.root) as folder:
                (folder / "check").write_bytes(b"octo")
        except OSError as error:
            raise self.write_error(error) from error

    def remove(self, table: str, month: str) -> None:
        """Remove a partition, if it is there."""
        with staging.exclusive(self.root, f"{table}-{month}"):
            self.path(table, month).unlink(missing_ok=True)


# What tells one published file from the next at the same path: publishing always makes a new file.
_Identity = tuple[int, int, int]


def _identity(path: Path) -> _Identity:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


@cache
def _footers() -> duckdb.DuckDBPyConnection:
    """The connection that reads Parquet footers; opening one costs 20 ms, which every partition would pay."""
    return duckdb.connect()


def read_metadata(path: Path) -> PartitionMetadata:
    """Read what a partition's file says of itself.

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
        raise OctoError(f"The file {path} was not written by octo-pipeline. Move it out of the lake.")
    document = json.loads(found[0])
    return PartitionMetadata(document["inputs"], document["run_id"], document["facts"], int(found[1]))


def copy_options(metadata: str) -> str:
    """The options of the COPY statement that writes a partition's file with its metadata."""
    return (
        f"FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, KV_METADATA {{{_METADATA_KEY}: {literal(metadata)}}}"
    )
