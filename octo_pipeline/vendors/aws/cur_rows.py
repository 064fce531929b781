"""The rows of an AWS Cost and Usage Report's files: the SQL that reads them, and where a bad one stands.

Here belongs what needs DuckDB to look into files: their columns, the relation over several of them, the row
that a sentence must name. What the columns mean and how reports are found do not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import duckdb

from octo_pipeline.lake.store import Location
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import identifier
from octo_pipeline.model.wording import quoted
from octo_pipeline.vendors.aws.cur_columns import COLUMNS, expressions
from octo_pipeline.vendors.data_columns import Expression, SourceColumn, folded
from octo_pipeline.vendors.data_files import (
    count_csv_rows,
    count_parquet_rows,
    csv_header,
    data_format,
    first_csv_row,
    line_of_row,
    packing,
    path_literals,
    read_parquet,
    row_group_of,
    translate_read_errors,
)

_PERIOD_START = "bill_billing_period_start_date"
_QUOTED = 60


@dataclass(frozen=True)
class CurFile:
    """A data file with its columns; `place` is what sentences call it."""

    path: Location
    place: str
    format: str
    columns: tuple[SourceColumn, ...]

    @property
    def expressions(self) -> list[Expression]:
        """How its canonical columns are made."""
        return expressions(self.columns, self.place)


def open_file(con: duckdb.DuckDBPyConnection, path: Location, place: str) -> CurFile:
    """Read a data file's columns.

    Raises:
        OctoError: it is damaged or has no header.
    """
    if data_format(path.name) == "parquet":
        return CurFile(path, place, "parquet", tuple(_parquet_columns(con, path, place)))
    return CurFile(path, place, "csv", tuple(_csv_columns(path, place)))


def relation(files: Sequence[CurFile]) -> str:
    """The SELECT of the canonical columns over all rows of the files; of no rows if there are none.

    Files of one schema and packing are read together, so a report has one branch unless its files differ.

    Raises:
        OctoError: a file lacks a required column.
    """
    alike: dict[tuple[str, str, tuple[SourceColumn, ...]], list[CurFile]] = {}
    for file in files:
        alike.setdefault((file.format, packing(file.path), file.columns), []).append(file)
    branches = [_branch(same) for same in alike.values()]
    return "\nUNION ALL BY NAME\n".join(branches or [_no_rows()])


def first_month(con: duckdb.DuckDBPyConnection, path: Location, place: str) -> str | None:
    """The billing month of a file's first row, '' if the row does not say it, None if there are no rows.

    The file may still be zipped.

    Raises:
        OctoError: the beginning of the file cannot be read.
    """
    if data_format(path.name) == "csv":
        row = first_csv_row(path, place)
        starts = [value.strip() for name, value in row.items() if folded(name) == folded(_PERIOD_START)]
        return starts[0][:7] if starts else ("" if row else None)
    file = open_file(con, path, place)
    value = next(one.value for one in file.expressions if one.name == _PERIOD_START)
    with translate_read_errors(place):
        query = f"SELECT coalesce(strftime({value}, '%Y-%m'), '') FROM {read_parquet([path])} LIMIT 1"
        found = con.execute(query).fetchone()
    return found[0] if found else None


def count_rows(con: duckdb.DuckDBPyConnection, path: Location, place: str) -> int:
    """The rows of a data file; CSV is read to its end for it.

    Raises:
        OctoError: the file is damaged or cut off, or a CSV row does not fit the header.
    """
    if data_format(path.name) == "parquet":
        return count_parquet_rows(con, path, place)
    return count_csv_rows(path, place)


def check_values(con: duckdb.DuckDBPyConnection, file: CurFile) -> None:
    """Look for the first value that the relation cannot convert.

    Raises:
        OctoError: there is one; the sentence names its column and row.
    """
    checks = [check for expression in file.expressions for check in expression.checks]
    firsts = ", ".join(f"min(octo_row) FILTER ({check.is_bad})" for check in checks)
    with translate_read_errors(file.place):
        found = con.execute(f"SELECT {firsts or 'NULL'} FROM {_numbered(file)}").fetchall()[0]
    bad = [(row, number) for number, row in enumerate(found) if row is not None]
    if bad:
        row, number = min(bad)
        check = checks[number]
        value = _value(con, file, check.value, row)
        raise OctoError(
            f"{row_place(con, file, row)}: {check.column} is {value}, {check.reason}. Correct it or fetch "
            "the file again.",
            code="value-wrong",
        )


def first_row(
    con: duckdb.DuckDBPyConnection, files: Iterable[CurFile], column: str, is_bad: str
) -> tuple[str, str] | None:
    """The place and value of the first row of the files in which a canonical column is bad; None if none is.

    Args:
        con: any connection.
        files: looked through in this order.
        column: name of the canonical column.
        is_bad: SQL condition on it, in which ``{}`` stands for its value.
    """
    for file in files:
        value = next(one.value for one in file.expressions if one.name == column)
        condition = is_bad.format(f"({value})")
        row = con.execute(f"SELECT min(octo_row) FROM {_numbered(file)} WHERE {condition}").fetchall()[0][0]
        if row is not None:
            return row_place(con, file, row), _value(con, file, value, row)
    return None


def row_place(con: duckdb.DuckDBPyConnection, file: CurFile, row: int) -> str:
    """The file and the line, or for Parquet the row, as people count them: the header is line 1."""
    if file.format == "csv":
        return f"{file.place}, line {line_of_row(file.path, row)}"
    return f"{file.place}, row {row + 1} (row group {row_group_of(con, file.path, row) + 1})"


def _csv_columns(path: Location, place: str) -> list[SourceColumn]:
    """Columns of CSV are read by position: names that differ only in case are one name to DuckDB."""
    header = csv_header(path, place)
    return [SourceColumn(name, "VARCHAR", f"c{number}") for number, name in enumerate(header)]


def _parquet_columns(con: duckdb.DuckDBPyConnection, path: Location, place: str) -> list[SourceColumn]:
    with translate_read_errors(place):
        described = con.execute(f"DESCRIBE SELECT * FROM {read_parquet([path])}").fetchall()
    return [SourceColumn(name, kind, identifier(name)) for name, kind, *_ in described]


def _branch(files: Sequence[CurFile]) -> str:
    file = files[0]
    paths = [same.path for same in files]
    scan = read_parquet(paths) if file.format == "parquet" else _read_csv(paths, file.columns)
    selected = ",\n    ".join(f"{one.value} AS {one.name}" for one in file.expressions)
    return f"SELECT\n    {selected}\nFROM {scan}"


def _no_rows() -> str:
    selected = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in COLUMNS.items())
    return f"SELECT {selected} WHERE false"


def _read_csv(paths: Sequence[Location], columns: Sequence[SourceColumn], options: str = "") -> str:
    """Strict in all that the reader could guess, so that a row that does not fit is an error."""
    names = ", ".join(f"{column.sql}: 'VARCHAR'" for column in columns)
    return (
        f"read_csv({path_literals(paths)}, columns = {{{names}}}, auto_detect = false, header = true, "
        "delim = ',', quote = '\"', escape = '\"', strict_mode = true, null_padding = false, "
        f"compression = '{packing(paths[0])}', hive_partitioning = false{options})"
    )


def _numbered(file: CurFile) -> str:
    """The rows of one file with `octo_row`, their number from 0."""
    if file.format == "parquet":
        scan = read_parquet([file.path], ", file_row_number = true")
        return f"(SELECT file_row_number AS octo_row, * FROM {scan})"
    # Read in parallel, or with the order given up, rows would not be numbered as they stand in the file.
    scan = _read_csv([file.path], file.columns, ", parallel = false")
    return f"(SELECT row_number() OVER () - 1 AS octo_row, * FROM {scan})"


def _value(con: duckdb.DuckDBPyConnection, file: CurFile, value: str, row: int) -> str:
    query = f"SELECT CAST({value} AS VARCHAR) FROM {_numbered(file)} WHERE octo_row = {row}"
    text = con.execute(query).fetchall()[0][0]
    if text is None:
        return "empty"
    return quoted(text, _QUOTED)
