"""The rows of CSV and Parquet files as SQL: their columns, their numbers, and the first value that cannot be read.

This module holds what is the same for the files of every vendor. What a vendor's columns mean belongs in its folder.
"""

from collections.abc import Callable, Sequence

import duckdb

from octo_pipeline.lake.store import Location
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import Relation, identifier
from octo_pipeline.model.templates import render
from octo_pipeline.model.wording import quoted
from octo_pipeline.vendors.data_columns import Check, SourceColumn
from octo_pipeline.vendors.data_files import (
    count_csv_rows,
    count_parquet_rows,
    csv_header,
    data_format,
    packing,
    path_literals,
    read_parquet,
    translate_read_errors,
)

_QUOTED = 60


def file_columns(con: duckdb.DuckDBPyConnection, path: Location, origin: str) -> list[SourceColumn]:
    """The columns of a CSV or Parquet file.

    Those of CSV are called by their position, because DuckDB cannot tell apart names that differ only in case.

    Raises:
        OctoError: the file is damaged or has no header.
    """
    if data_format(path.name) == "parquet":
        with translate_read_errors(origin):
            described = con.execute(f"DESCRIBE FROM {read_parquet([path])}").fetchall()
        return [SourceColumn(name, kind, identifier(name)) for name, kind, *_ in described]
    return [SourceColumn(name, "VARCHAR", f"c{number}") for number, name in enumerate(csv_header(path, origin))]


def count_rows(con: duckdb.DuckDBPyConnection, path: Location, origin: str) -> int:
    """The number of rows of a CSV or Parquet file; CSV is read to its end.

    Raises:
        OctoError: the file is damaged or cut off, or a CSV row does not fit the header.
    """
    if data_format(path.name) == "parquet":
        return count_parquet_rows(con, path, origin)
    return count_csv_rows(path, origin)


def scan(paths: Sequence[Location], columns: Sequence[SourceColumn], options: str = "") -> str:
    """SQL of the rows of files with the same columns and packing; further options of the reader begin with a comma."""
    if data_format(paths[0].name) == "parquet":
        return read_parquet(paths, options)
    # Every option that the reader could guess is set, so that a malformed row is an error.
    names = ", ".join(f"{column.sql}: 'VARCHAR'" for column in columns)
    return (
        f"read_csv({path_literals(paths)}, columns = {{{names}}}, auto_detect = false, header = true, "
        "delim = ',', quote = '\"', escape = '\"', strict_mode = true, null_padding = false, "
        f"compression = '{packing(paths[0])}', hive_partitioning = false{options})"
    )


def numbered_scan(path: Location, columns: Sequence[SourceColumn]) -> Relation:
    """The rows of one file with `octo_row`, their number from 0."""
    if data_format(path.name) == "parquet":
        return numbered("file_row_number", scan([path], columns, ", file_row_number = true"))
    # A parallel reader does not number rows in the order of the file.
    return numbered("row_number() over () - 1", scan([path], columns, ", parallel = false"))


def numbered(number: str, rows: str) -> Relation:
    """Rows with the SQL of their number as `octo_row`."""
    return Relation(f"({render('vendors/numbered_rows', number=number, rows=rows)})")


def check_values(
    con: duckdb.DuckDBPyConnection,
    checks: Sequence[Check],
    rows: str,
    numbered_rows: str,
    origin: str,
    place_of: Callable[[int], str],
) -> int:
    """Look for the first value that fails a check.

    Args:
        con: any connection.
        checks: what can be wrong.
        rows: SQL of the file's rows.
        numbered_rows: the same with `octo_row`, see `numbered`.
        origin: what to call the file in messages.
        place_of: what to call a row in messages, by its number.

    Returns:
        The number of rows.

    Raises:
        OctoError: there is one; the message names its column and row.
    """
    with translate_read_errors(origin):
        # First check whether there is any: numbering the rows and evaluating each check takes twice as long.
        row_count, bad_count = con.execute(render("vendors/count_bad_rows", checks=checks, rows=rows)).fetchall()[0]
        if not bad_count:
            return int(row_count)
        query = render("vendors/first_rows", conditions=[check.is_bad for check in checks], rows=numbered_rows)
        first_rows = con.execute(query).fetchall()[0]
    row, number = min((row, number) for number, row in enumerate(first_rows) if row is not None)
    check = checks[number]
    row_place = place_of(row)
    value = quoted_value(con, check.value, numbered_rows, row)
    raise OctoError(
        f"{row_place}: {check.column} is {value}, {check.reason}. {check.remedy}",
        code="value-wrong",
        place=row_place,
    )


def first_row(con: duckdb.DuckDBPyConnection, is_bad: str, numbered_rows: str) -> int | None:
    """The number of the first row that fulfils a SQL condition; None if no row does."""
    query = render("vendors/first_rows", conditions=[is_bad], rows=numbered_rows)
    row: int | None = con.execute(query).fetchall()[0][0]
    return row


def quoted_value(con: duckdb.DuckDBPyConnection, value: str, numbered_rows: str, row: int) -> str:
    """A value of one row as messages show it."""
    query = render("vendors/value_of_row", value=value, rows=numbered_rows, row=row)
    text = con.execute(query).fetchall()[0][0]
    return "empty" if text is None else quoted(text, _QUOTED)
