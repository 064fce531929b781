"""The files of exported billing tables in a folder: the format of each, and how its rows are read.

BigQuery writes a table as Parquet or as one JSON object per line, optionally packed with gzip, under any name; the first
bytes tell the format. Avro, which DuckDB cannot read without an extension, and CSV, which has no nested columns, are
refused by name, so that no cost is ignored silently. `billing_folder` decides which files count.
"""

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import duckdb

from octo_pipeline.lake.instances import shared_connection
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import Relation, literal
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.data_files import check_text, path_literals, read_parquet, translate_read_errors
from octo_pipeline.vendors.downloads import inside
from octo_pipeline.vendors.gcp.billing_columns import JSON_TYPES, REQUIRED, Schema, json_schema, schema_problem
from octo_pipeline.vendors.gcp.billing_rows import file_schema
from octo_pipeline.vendors.listing import is_hidden

_BEGINNING = 1 << 12
# How many objects are read to find out whether a file belongs to the export.
_LOOKED_AT = 100
_UNREAD = {b"Obj\x01": "Avro", b"PK\x03\x04": "a zip archive", b"\x28\xb5\x2f\xfd": "packed with zstd", b"ORC": "ORC"}
# Files that people and tools put beside data.
_DOCUMENTS = frozenset(
    {".crc", ".css", ".html", ".ini", ".log", ".md", ".md5", ".pdf", ".png", ".py", ".rst", ".sh", ".sha256", ".sql"}
    | {".toml", ".txt", ".yaml", ".yml"}
)
_REQUIRED_TOPS = frozenset(path.split(".")[0] for path in REQUIRED)

Form = Literal["parquet", "json", "packed json"]


@dataclass(frozen=True)
class ExportFile:
    """A data file.

    Attributes:
        path: where it is.
        name: its path below its table's folder, with slashes.
        form: its format.
    """

    path: Path
    name: str
    form: Form

    @property
    def rows(self) -> Relation:
        """Its rows with the nested columns of the export; for JSON only the known columns."""
        if self.form == "parquet":
            return Relation(read_parquet([self.path]))
        columns = ", ".join(f"{name}: {literal(kind)}" for name, kind in JSON_TYPES.items())
        return Relation(f"read_json({self._json_options}, columns = {{{columns}}})")

    @property
    def landed_name(self) -> str:
        """The name of the Parquet file with its rows in a delivery."""
        name = self.name.replace("/", "__")
        return name if name.endswith(".parquet") else f"{name}.parquet"

    @cached_property
    def is_of_export(self) -> bool:
        """Whether it has any of the required columns of a billing export.

        Raises:
            OctoError: it cannot be read.
        """
        if self.form == "parquet":
            return any(path.split(".")[0] in _REQUIRED_TOPS for path in file_schema(self.path, str(self.path)))
        return bool(self._json_names(_LOOKED_AT) & _REQUIRED_TOPS)

    def schema(self) -> Schema:
        """Its columns; for JSON this reads the whole file.

        Raises:
            OctoError: it cannot be read, or is not a billing export.
        """
        schema = file_schema(self.path, str(self.path)) if self.form == "parquet" else json_schema(self._json_names(0))
        if problem := schema_problem(schema):
            raise OctoError(
                f"{self.path} {problem}. Export the table again with all its columns; nothing was landed.",
                code="table-columns-wrong",
                place=str(self.path),
            )
        return schema

    def verify(self) -> None:
        """Read a packed file to its end, because DuckDB does not notice that it was cut off.

        Raises:
            OctoError: it is damaged.
        """
        if self.form == "packed json":
            check_text(self.path, str(self.path), is_packed=True)

    def _json_names(self, limit: int) -> set[str]:
        files = Relation(f"read_json_objects({self._json_options})")
        with connect() as con, translate_read_errors(str(self.path)):
            return {
                name for (name,) in con.execute(render("vendors/gcp/json_keys", files=files, limit=limit)).fetchall()
            }

    @property
    def _json_options(self) -> str:
        packing = "gzip" if self.form == "packed json" else "uncompressed"
        return f"{path_literals([self.path])}, format = 'auto', compression = '{packing}', hive_partitioning = false"


@contextmanager
def connect() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection in which times without a zone are in UTC, like Google's."""
    with shared_connection({}) as con:
        con.execute("SET TimeZone = 'UTC'")
        yield con


def export_files(folder: Path, root: Path) -> Iterator[ExportFile]:
    """The data files of a table, at any depth, because some tools write one folder per month.

    Args:
        folder: the table's folder.
        root: the source's folder; links may not lead out of it.

    Raises:
        OctoError: a file has an unsupported format.
    """
    for path in _files(folder):
        form = _form(inside(path, root, str(path)))
        if form is not None and (file := ExportFile(path, path.relative_to(folder).as_posix(), form)).is_of_export:
            yield file


def refuse_unread(folder: Path, root: Path, expected: str) -> None:
    """Refuse data of an export in a place where no table is read.

    Args:
        folder: a folder that is not a table's, or a file.
        root: the source's folder.
        expected: where the file should be, for the message.

    Raises:
        OctoError: there is a file of a billing export, or one with an unsupported format.
    """
    for file in export_files(folder, root) if folder.is_dir() else export_files(folder.parent, root):
        if folder.is_dir() or file.path == folder:
            raise OctoError(
                f"{file.path} is not in a table's folder, so it would not be read. Move it to {expected}, or remove it from "
                f"{root}. Nothing was landed.",
                code="file-not-looked-at",
                place=str(file.path),
            )


def _files(folder: Path) -> list[Path]:
    walked = os.walk(folder)
    paths = sorted(Path(parent) / name for parent, _, names in walked for name in names)
    return [path for path in paths if not is_hidden(path.relative_to(folder).parts)]


def _form(path: Path) -> Form | None:
    """The format of a file by its first bytes; None if it is empty or a document.

    Raises:
        OctoError: it has an unsupported format.
    """
    with translate_read_errors(str(path)), path.open("rb") as file:
        beginning = file.read(_BEGINNING)
        is_packed = beginning.startswith(b"\x1f\x8b")
        if is_packed:
            file.seek(0)
            with gzip.open(file) as unpacked:
                beginning = unpacked.read(_BEGINNING)
    if (beginning.startswith(b"PAR1") and not is_packed) or path.suffix.lower() == ".parquet":
        # A damaged file is reported when it is read.
        return "parquet"
    if not beginning or path.suffix.lower() in _DOCUMENTS:
        return None
    if beginning.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        return "packed json" if is_packed else "json"
    held = next((name for magic, name in _UNREAD.items() if beginning.startswith(magic)), None)
    if ".csv" in path.name.lower():
        held = "CSV, which has no nested columns"
    raise OctoError(
        f"{path} cannot be read: it is {held or 'neither Parquet nor JSON'}. Export the table as Parquet or as newline-"
        "delimited JSON, or remove the file from the folder. Nothing was landed.",
        code="form-not-read",
        place=str(path),
    )
