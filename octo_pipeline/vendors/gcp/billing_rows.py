"""The landed rows of a Google Cloud billing export: writing a stream to Parquet, checking it, reading it.

This module holds what needs DuckDB or Arrow to read files. What the columns mean is in `billing_columns`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from octo_pipeline.lake.store import Location, store_of
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import Relation, Sql, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.model.wording import cut
from octo_pipeline.vendors.data_files import read_parquet, translate_read_errors
from octo_pipeline.vendors.gcp.billing_columns import (
    COLUMNS,
    PLACE_COLUMNS,
    REQUIRED_VALUES,
    Kind,
    Schema,
    expressions,
    schema_problem,
)

if TYPE_CHECKING:
    import pyarrow as pa

# BigQuery sends batches of some thousands of rows, and row groups of that size are slow to read, so batches are
# collected up to these limits.
_ROW_GROUP_ROWS = 100_000
_ROW_GROUP_BYTES = 64 << 20
_QUOTED = 200


@dataclass(frozen=True)
class FileFacts:
    """The number of rows of a file, and Σ cost + credits."""

    rows: int
    net: Decimal


def write_batches(batches: "Iterator[pa.RecordBatch]", path: Path) -> None:
    """Write a stream of record batches to a Parquet file, holding at most one row group in memory.

    Raises:
        OctoError: there are no batches, or they do not fit each other or a Parquet file.
    """
    import pyarrow as pa

    try:
        _write(batches, path)
    except pa.ArrowException as error:
        raise OctoError(
            f"BigQuery's response for {path.name} is not a table ({_first_line(error)}). Nothing was landed; run this again.",
            code="answer-malformed",
        ) from error


def _write(batches: "Iterator[pa.RecordBatch]", path: Path) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    first = next(batches, None)
    if first is None:
        raise OctoError(
            f"BigQuery announced rows for {path.name} but sent none. Nothing was landed; run this again.",
            code="answer-malformed",
        )
    schema = first.schema.remove_metadata()
    with ParquetWriter(path, schema, compression="zstd", compression_level=1) as writer:
        held, rows, size = [first], first.num_rows, first.nbytes
        for batch in batches:
            if rows >= _ROW_GROUP_ROWS or size >= _ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(held).cast(schema))
                held, rows, size = [], 0, 0
            held.append(batch)
            rows, size = rows + batch.num_rows, size + batch.nbytes
        writer.write_table(pa.Table.from_batches(held).cast(schema))


def file_schema(path: Location, origin: str) -> Schema:
    """The columns of a Parquet file, nested ones by their path.

    Raises:
        OctoError: it is not a complete Parquet file.
    """
    import pyarrow as pa
    from pyarrow.parquet import read_schema

    try:
        with store_of(path).footer(path) as end:
            return {name: kind for field in read_schema(end) for name, kind in _kinds(field.name, field.type)}
    except (pa.ArrowException, OSError) as error:
        raise OctoError(
            f"{origin} cannot be read as Parquet ({_first_line(error)}). Fetch it again.", code="file-unreadable"
        ) from error


def inspect_file(con: duckdb.DuckDBPyConnection, path: Location, origin: str, month: str) -> FileFacts:
    """Read a file to its end.

    Raises:
        OctoError: it is damaged or not a billing export; a required value is missing, an amount is too large, or rows
            are of another month.
    """
    schema = file_schema(path, origin)
    if problem := schema_problem(schema):
        raise OctoError(
            f"{origin} {problem}. Export the table again with all its columns; nothing was landed.",
            code="table-columns-wrong",
        )
    rows_of_file = Relation(f"({_branch([path], schema)})")
    query = render(
        "vendors/gcp/file_facts",
        rows=rows_of_file,
        invoice_month=month.replace("-", ""),
        required_names=[_name(name) for name in REQUIRED_VALUES],
    )
    with translate_read_errors(origin):
        rows, net, other, *counts, _ = con.execute(query).fetchall()[0]
    for name, count in zip(REQUIRED_VALUES, counts, strict=True):
        if count:
            raise OctoError(
                f"{origin}: {count} of {rows} rows have no {name}, without which no cost can be allocated. "
                "Correct the export; nothing was landed.",
                code="value-wrong",
            )
    if other is not None:
        raise OctoError(
            f"{origin} has rows of the invoice month {other}, not only of {month}. Land it again.",
            code="rows-of-another-month",
        )
    return FileFacts(rows, net)


def relation(files: Sequence[tuple[Location, str]]) -> Sql:
    """The SELECT of `COLUMNS` and `PLACE_COLUMNS` over all rows of the files; it has no rows if there are no files.

    Args:
        files: paths, and what to call them in messages.

    Raises:
        OctoError: a file is damaged or not a billing export.
    """
    schemas: dict[tuple[tuple[str, Kind], ...], list[Location]] = {}
    for path, origin in files:
        schema = file_schema(path, origin)
        if problem := schema_problem(schema):
            raise OctoError(
                f"{origin} {problem}. Remove its delivery and land the month again.", code="table-columns-wrong"
            )
        schemas.setdefault(tuple(sorted(schema.items())), []).append(path)
    branches = [_branch(paths, dict(schema)) for schema, paths in schemas.items()]
    return Sql("\nUNION ALL BY NAME\n".join(branches or [rows_sql(COLUMNS | PLACE_COLUMNS, [])]))


def _first_line(error: Exception) -> str:
    return cut((str(error).splitlines() or [type(error).__name__])[0], _QUOTED)


def _branch(paths: Sequence[Location], schema: Schema) -> Sql:
    files = read_parquet(paths, ", filename = 'octo_file_name', file_row_number = true")
    return render("vendors/gcp/rows", expressions=expressions(schema), files=files)


def _name(path: str) -> str:
    return path.replace(".", "_")


def _kinds(name: str, kind: "pa.DataType") -> Iterator[tuple[str, Kind]]:
    """The path and kind of a field and of all fields within it."""
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind):
        yield name, "list"
        for field in kind.value_type if types.is_struct(kind.value_type) else ():
            yield from _kinds(f"{name}.{field.name}", field.type)
    elif types.is_struct(kind):
        yield name, "struct"
        for field in kind:
            yield from _kinds(f"{name}.{field.name}", field.type)
    elif types.is_dictionary(kind):
        yield name, _scalar(kind.value_type)
    elif not types.is_null(kind):
        # A column of the type null has no values, so it is treated as missing.
        yield name, _scalar(kind)


def _scalar(kind: "pa.DataType") -> Kind:
    import pyarrow.types as types

    if types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind):
        return "text"
    if types.is_floating(kind) or types.is_decimal(kind) or types.is_integer(kind):
        return "amount"
    return "time" if types.is_timestamp(kind) else "other"
