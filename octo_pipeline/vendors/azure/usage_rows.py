"""The rows of Azure's billing files: the SQL that reads them, checks of files, the position of a bad row.

This module holds what needs DuckDB to read files: CSV and Parquet of Cost Management, gzipped JSON lines of the partner
billing export. The names and meaning of columns belong in `usage_columns`.
"""

import gzip
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from octo_pipeline.lake.store import Location
from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import Relation, Sql
from octo_pipeline.model.templates import render
from octo_pipeline.vendors import file_rows
from octo_pipeline.vendors.azure.usage_columns import (
    FOCUS,
    JSON_NUMBER,
    JSON_TEXT,
    RATE,
    TAGS,
    TEXT_TYPES,
    Shape,
    clean_text,
    day_of,
    digits_name,
    digits_sql,
    expressions,
    sources,
)
from octo_pipeline.vendors.data_columns import Expression, SourceColumn, folded
from octo_pipeline.vendors.data_files import (
    check_text,
    data_format,
    line_of_row,
    path_literals,
    translate_read_errors,
)

_QUOTED = 60
_LINES = ".json.gz"


@dataclass(frozen=True)
class AzureFile:
    """A data file with its used columns.

    Attributes:
        path: the file.
        origin: what messages call it.
        shape: the kind of export.
        columns: the file's columns that may be used.
        payer: who is billed if no row names the payer.
    """

    path: Location
    origin: str
    shape: Shape
    columns: tuple[SourceColumn, ...]
    payer: str | None = None

    @property
    def format(self) -> str:
        """csv, parquet or jsonl."""
        return file_format(self.path.name)

    @property
    def expressions(self) -> list[Expression]:
        """The expressions of its canonical columns."""
        return expressions(self.shape, self.columns, self.origin, self.payer)


def file_format(name: str) -> str:
    """csv, parquet or jsonl by the file's name, '' if it is not a data file."""
    return "jsonl" if name.lower().endswith(_LINES) else data_format(name) or ""


def count_rows(con: duckdb.DuckDBPyConnection, path: Location, origin: str) -> int:
    """The number of rows of a file; CSV and JSON lines are read to their end.

    Raises:
        OctoError: the file is damaged or cut off, or a CSV row does not fit the header.
    """
    match file_format(path.name):
        case "jsonl":
            # DuckDB reads a truncated gzip file as far as it goes, without an error.
            check_text(path, origin)
            with translate_read_errors(origin), path.open("rb") as packed, gzip.open(packed) as stream:
                return sum(1 for line in stream if line.strip())
        case _:
            return file_rows.count_rows(con, path, origin)


def column_names(con: duckdb.DuckDBPyConnection, path: Location, origin: str) -> list[str]:
    """The names of a file's columns; for JSON lines, the keys of all lines.

    Raises:
        OctoError: the file cannot be read; for JSON lines, the message names the line.
    """
    match file_format(path.name):
        case "jsonl":
            query = render("vendors/azure/json_keys", lines=_read_lines([path]))
            try:
                return [key for (key,) in con.execute(query).fetchall()]
            except duckdb.Error as error:
                raise _bad_line(path, origin) or OctoError(
                    f"{origin} cannot be read ({str(error).splitlines()[0]}). Fetch it again.", code="file-unreadable"
                ) from error
        case _:
            return [column.name for column in file_rows.file_columns(con, path, origin)]


def open_file(
    con: duckdb.DuckDBPyConnection,
    path: Location,
    origin: str,
    shape: Shape,
    names: Sequence[str] | None = None,
    payer: str | None = None,
) -> AzureFile:
    """Open a file as one of this shape.

    Args:
        con: used to read the file's columns.
        path: the file.
        origin: what to call it in messages.
        shape: the kind of export.
        names: its column names if they are known; finding them reads all of a file of JSON lines.
        payer: who is billed if no row names the payer.

    Raises:
        OctoError: the file cannot be read.
    """
    match file_format(path.name):
        case "jsonl":
            kinds = {name: kind for column, kind in shape.columns.items() for name in shape.names(column)}
            numbers = {name for name, kind in kinds.items() if kind in (MONEY, RATE)}
            known = names if names is not None else column_names(con, path, origin)
            keys = [name for name in known if folded(name) in kinds]
            columns = [
                SourceColumn(key, JSON_NUMBER if folded(key) in numbers else JSON_TEXT, f"octo_values[{number}]")
                for number, key in enumerate(keys, 1)
            ]
        case _:
            columns = file_rows.file_columns(con, path, origin)
    return AzureFile(path, origin, shape, tuple(columns), payer)


def relation(files: Sequence[AzureFile], additions: str = "", condition: str = "") -> Sql:
    """The SELECT of the canonical columns over the rows of files with the same shape, packing and columns.

    Args:
        files: at least one.
        additions: more columns for the select list, which may use canonical columns.
        condition: SQL condition of the rows that count, by canonical columns; '' for all rows.
    """
    return _rows(files, files[0].expressions, additions, condition)


def no_rows(shape: Shape, additions: Mapping[str, str]) -> Sql:
    """The same columns without rows.

    Args:
        shape: whose columns.
        additions: more columns: name -> type.
    """
    types = {name: "VARCHAR" if kind == TAGS else kind for name, kind in shape.columns.items()}
    return render("vendors/azure/no_rows", types={**types, **additions})


def comparable_rows(files: Sequence[AzureFile]) -> list[Relation]:
    """The rows of each file in columns that are the same for all files.

    Besides the canonical columns, these are all text columns that the files have in common, because rows that differ only
    in their resource are different charges.

    Args:
        files: of one shape.
    """
    texts = [{folded(column.name): column for column in file.columns if column.type in TEXT_TYPES} for file in files]
    shared = sorted(set.intersection(*map(set, texts))) if texts else []
    rows = []
    for file, columns in zip(files, texts, strict=True):
        more = [Expression(f"octo_text_{index}", clean_text(columns[name])) for index, name in enumerate(shared)]
        rows.append(Relation(f"({_rows([file], [*file.expressions, *more])})"))
    return rows


def _rows(files: Sequence[AzureFile], columns: Sequence[Expression], additions: str = "", condition: str = "") -> Sql:
    scan = _scan(files[0], [file.path for file in files])
    return render("vendors/azure/file_rows", file_columns=columns, scan=scan, additions=additions, condition=condition)


def check_values(con: duckdb.DuckDBPyConnection, file: AzureFile, columns: Collection[str] | None = None) -> int:
    """Look for the first value that the relation cannot convert, or that is required but missing.

    Args:
        con: any connection.
        file: the file to check.
        columns: canonical columns to check; None for all.

    Returns:
        The number of rows that could be read.

    Raises:
        OctoError: there is one; the message names its column and row.
    """
    checks = [
        check
        for expression in file.expressions
        if columns is None or expression.name in columns
        for check in expression.checks
    ]
    scan = _scan(file, [file.path])
    return file_rows.check_values(con, checks, scan, _numbered(file), file.origin, lambda row: _row_place(file, row))


def check_dates(con: duckdb.DuckDBPyConnection, file: AzureFile) -> None:
    """Look for dates that were written with the day before the month.

    A spreadsheet saves dates in the local format. Up to the twelfth of a month, such a date can be read either way, and
    would fall into another month.

    Raises:
        OctoError: the first row of such dates.
    """
    if file.shape is FOCUS:
        # FOCUS dates in other formats than ISO 8601 are refused elsewhere.
        return
    by_name = sources(file.shape, file.columns)
    days = by_name[file.shape.usage_day]
    # In a file without periods, the column of the day serves as the period's too.
    starts = [column for column in by_name.get(file.shape.period_start or "", []) if column not in days]
    ends = by_name.get(file.shape.period_end or "", [])
    if not any(column.type in TEXT_TYPES for column in (*days, *starts)):
        return
    pieces = {
        "day": _first_text(days),
        "period_start": _first_text(starts),
        "period_end": _first_text(ends),
        "day_reading": day_of("texts.day_text", "try_"),
        "start_reading": day_of("texts.start_text", "try_"),
    }
    unnumbered = render("vendors/azure/unnumbered_rows", scan=_scan(file, [file.path]))
    with translate_read_errors(file.origin):
        # First check whether there is any: numbered rows cannot be read in parallel.
        if (
            con.execute(render("vendors/azure/swapped_dates", rows=f"({unnumbered})", **pieces)).fetchall()[0][0]
            is None
        ):
            return
        row = con.execute(render("vendors/azure/swapped_dates", rows=_numbered(file), **pieces)).fetchall()[0][0]
    day = file_rows.quoted_value(con, _first_text(days), _numbered(file), row)
    period = file_rows.quoted_value(con, _first_text(starts), _numbered(file), row)
    billing_period = "" if period == "empty" else f" in the billing period that begins on {period}"
    raise OctoError(
        f"{_row_place(file, row)}: {days[0].name} is {day}{billing_period}, which makes sense only with the day before "
        "the month, as spreadsheets save it. Azure writes the month first, so the file was changed. Use the file as it was "
        "exported, or write its dates as 2024-01-31.",
        code="date-day-first",
        place=file.origin,
    )


def _first_text(columns: Sequence[SourceColumn]) -> str:
    return f"coalesce({', '.join([*map(clean_text, columns), 'NULL'])})"


def count_fulfilling(con: duckdb.DuckDBPyConnection, file: AzureFile, condition: str) -> int:
    """The number of rows that fulfil a SQL condition on canonical columns."""
    query = render("vendors/azure/row_counts", condition=condition, rows=f"({relation([file])})")
    return int(con.execute(query).fetchall()[0][1])


def first_row(con: duckdb.DuckDBPyConnection, file: AzureFile, column: str, is_bad: str) -> str | None:
    """The place of the first bad row and its value of a canonical column; None if no row is bad.

    Args:
        con: any connection.
        file: the file to check.
        column: name of the canonical column.
        is_bad: SQL condition on canonical columns.
    """
    # First check whether there is any: numbered rows cannot be read in parallel.
    if not count_fulfilling(con, file, is_bad):
        return None
    columns = [*file.expressions, Expression("octo_row", "octo_row")]
    numbered = render("vendors/azure/file_rows", file_columns=columns, scan=_numbered(file), additions="", condition="")
    row = file_rows.first_row(con, is_bad, f"({numbered})")
    if row is None:
        return None
    value = next(expression.value for expression in file.expressions if expression.name == column)
    return f"{_row_place(file, row)}: {column} is {file_rows.quoted_value(con, value, _numbered(file), row)}"


def _row_place(file: AzureFile, row: int) -> str:
    match file.format:
        case "csv":
            return f"{file.origin}, line {line_of_row(file.path, row)}"
        case "jsonl":
            return f"{file.origin}, line {_line_number(file.path, row)}"
        case _:
            return f"{file.origin}, row {row + 1}"


def _line_number(path: Location, row: int) -> int:
    with path.open("rb") as packed, gzip.open(packed) as stream:
        filled = (number for number, line in enumerate(stream, 1) if line.strip())
        return next(number for count, number in enumerate(filled) if count == row)


def _bad_line(path: Location, origin: str) -> OctoError | None:
    with path.open("rb") as packed, gzip.open(packed) as stream:
        for number, line in enumerate(stream, 1):
            try:
                whole = not line.strip() or isinstance(json.loads(line), dict)
            except (ValueError, RecursionError):
                whole = False
            if not whole:
                return OctoError(
                    f"{origin}, line {number}: the line is not a JSON object. Fetch the file again.",
                    code="line-malformed",
                )
    return None


def _scan(file: AzureFile, paths: Sequence[Location]) -> str:
    if file.format != "jsonl":
        return file_rows.scan(paths, file.columns)
    numbers = [
        f"{digits_sql(column, 'json')} AS {digits_name(column)}"
        for column in file.columns
        if column.type == JSON_NUMBER
    ]
    keys = [f'$."{column.name}"' for column in file.columns]
    json_rows = render("vendors/azure/json_rows", keys=keys, numbers=numbers, lines=_read_lines(paths))
    return f"({json_rows})"


def _numbered(file: AzureFile) -> str:
    """The rows of one file with `octo_row`, their number from 0."""
    if file.format != "jsonl":
        return file_rows.numbered_scan(file.path, file.columns)
    return file_rows.numbered("row_number() over () - 1", _scan(file, [file.path]))


def _read_lines(paths: Sequence[Location]) -> str:
    return (
        f"read_json_objects({path_literals(paths)}, format = 'newline_delimited', compression = 'gzip', "
        "hive_partitioning = false)"
    )
