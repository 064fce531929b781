"""The rows of Azure's billing files: the SQL that reads them, whether a file is whole, where a bad row stands.

Here belongs what needs DuckDB to look into files: CSV and Parquet of Cost Management, gzipped JSON lines of the
partner billing export. What the columns are called, and what they mean, do not.
"""

import gzip
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from octo_pipeline.lake.store import Location
from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import Relation, Sql, identifier
from octo_pipeline.model.templates import render
from octo_pipeline.model.wording import quoted
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
    count_csv_rows,
    count_parquet_rows,
    csv_header,
    data_format,
    line_of_row,
    packing,
    path_literals,
    read_parquet,
    translate_read_errors,
)

_QUOTED = 60
_LINES = ".json.gz"


@dataclass(frozen=True)
class AzureFile:
    """A data file with the columns that matter.

    Attributes:
        place: what sentences call it.
        payer: who is billed if no row says it.
    """

    path: Location
    place: str
    shape: Shape
    columns: tuple[SourceColumn, ...]
    payer: str | None = None

    @property
    def format(self) -> str:
        """csv, parquet or jsonl."""
        return file_format(self.path.name)

    @property
    def expressions(self) -> list[Expression]:
        """How its canonical columns are made."""
        return expressions(self.shape, self.columns, self.place, self.payer)


def file_format(name: str) -> str:
    """csv, parquet or jsonl by the file's name, '' if it is no data file."""
    return "jsonl" if name.lower().endswith(_LINES) else data_format(name) or ""


def count_rows(con: duckdb.DuckDBPyConnection, path: Location, place: str) -> int:
    """The rows of a file; CSV and JSON lines are read to their end for it.

    Raises:
        OctoError: the file is damaged or cut off, or a CSV row does not fit the header.
    """
    match file_format(path.name):
        case "parquet":
            return count_parquet_rows(con, path, place)
        case "jsonl":
            # DuckDB reads a gzip file that was cut off as far as it goes, without an error.
            check_text(path, place)
            with translate_read_errors(place), path.open("rb") as packed, gzip.open(packed) as stream:
                return sum(1 for line in stream if line.strip())
        case _:
            return count_csv_rows(path, place)


def column_names(con: duckdb.DuckDBPyConnection, path: Location, place: str) -> list[str]:
    """The names of a file's columns; of JSON lines, every key that a line has.

    Raises:
        OctoError: the file cannot be read; of JSON lines, the sentence names the line.
    """
    match file_format(path.name):
        case "parquet":
            return [column.name for column in _parquet_columns(con, path, place)]
        case "jsonl":
            query = render("vendors/azure/json_keys", lines=_read_lines([path]))
            try:
                return [key for (key,) in con.execute(query).fetchall()]
            except duckdb.Error as error:
                raise _bad_line(path, place) or OctoError(
                    f"{place} cannot be read ({str(error).splitlines()[0]}). Fetch it again.", code="file-unreadable"
                ) from error
        case _:
            return csv_header(path, place)


def open_file(
    con: duckdb.DuckDBPyConnection,
    path: Location,
    place: str,
    shape: Shape,
    names: Sequence[str] | None = None,
    payer: str | None = None,
) -> AzureFile:
    """A file as one of this shape.

    Args:
        con: used to look at the file's columns.
        path: the file.
        place: what to call it in sentences.
        shape: the kind of export it is.
        names: its column names if they are known; finding them reads all of a file of JSON lines.
        payer: who is billed if no row says it.

    Raises:
        OctoError: the file cannot be read.
    """
    match file_format(path.name):
        case "parquet":
            columns = _parquet_columns(con, path, place)
        case "jsonl":
            wanted = {name: kind for column, kind in shape.columns.items() for name in shape.names(column)}
            numbers = {name for name, kind in wanted.items() if kind in (MONEY, RATE)}
            known = names if names is not None else column_names(con, path, place)
            keys = [name for name in known if folded(name) in wanted]
            columns = [
                SourceColumn(key, JSON_NUMBER if folded(key) in numbers else JSON_TEXT, f"octo_values[{number}]")
                for number, key in enumerate(keys, 1)
            ]
        case _:
            header = csv_header(path, place)
            columns = [SourceColumn(name, "VARCHAR", f"c{number}") for number, name in enumerate(header)]
    return AzureFile(path, place, shape, tuple(columns), payer)


def relation(files: Sequence[AzureFile], additions: str = "", condition: str = "") -> Sql:
    """The SELECT of the canonical columns over the rows of files of one shape, packing and the same columns.

    Args:
        files: at least one.
        additions: more of the select list, which may name canonical columns.
        condition: which rows count, by canonical columns; '' for all.
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
    """Of each file, its rows in columns that are the same for all of them.

    Besides the canonical columns, these are all columns of text that every file has: rows that differ in nothing but
    their resource are two charges.

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
    """Look for the first value that the relation cannot convert, or that is missing although every row needs it.

    Args:
        con: any connection.
        file: looked through.
        columns: canonical columns to look at; None for all.

    Returns:
        How many rows could be read.

    Raises:
        OctoError: there is one; the sentence names its column and row.
    """
    checks = [check for one in file.expressions if columns is None or one.name in columns for check in one.checks]
    with translate_read_errors(file.place):
        # Whether there is any is asked first: numbering the rows and looking at every check costs twice as much.
        is_any = " OR ".join(f"({check.is_bad})" for check in checks) or "false"
        query = render("vendors/azure/row_counts", condition=is_any, rows=_scan(file, [file.path]))
        rows, wrong = con.execute(query).fetchall()[0]
        if not wrong:
            return int(rows)
        conditions = [check.is_bad for check in checks]
        query = render("vendors/azure/first_rows", conditions=conditions, rows=_numbered(file))
        found = con.execute(query).fetchall()[0]
    row, number = min((row, number) for number, row in enumerate(found) if row is not None)
    check = checks[number]
    shown = _shown(con, file, check.value, row)
    raise OctoError(
        f"{_row_place(file, row)}: {check.column} is {shown}, {check.reason}. Correct it or fetch the file again.",
        code="value-wrong",
    )


def check_dates(con: duckdb.DuckDBPyConnection, file: AzureFile) -> None:
    """Look for dates that were written with the day before the month.

    A file that was opened in a spreadsheet and saved has its dates as the country has them. Up to the twelfth of a
    month they can be read either way, into other months.

    Raises:
        OctoError: the first row of such dates.
    """
    if file.shape is FOCUS:
        # Its dates are ISO 8601 or refused.
        return
    by_name = sources(file.shape, file.columns)
    days = by_name[file.shape.usage_day]
    # A file without periods has them from the day.
    starts = [one for one in by_name.get(file.shape.period_start or "", []) if one not in days]
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
    with translate_read_errors(file.place):
        # Whether there is any is asked first: numbering the rows costs the parallel read.
        if (
            con.execute(render("vendors/azure/swapped_dates", rows=f"({unnumbered})", **pieces)).fetchall()[0][0]
            is None
        ):
            return
        row = con.execute(render("vendors/azure/swapped_dates", rows=_numbered(file), **pieces)).fetchall()[0][0]
    shown = _shown(con, file, _first_text(days), row)
    period = _shown(con, file, _first_text(starts), row)
    billing_period = "" if period == "empty" else f" in the billing period that begins on {period}"
    raise OctoError(
        f"{_row_place(file, row)}: {days[0].name} is {shown}{billing_period}, which makes sense only with the day before "
        "the month, as spreadsheets save it. Azure writes the month first, so the file was changed. Take it as it was "
        "exported, or write its dates as 2024-01-31.",
        code="date-day-first",
        place=file.place,
    )


def _first_text(columns: Sequence[SourceColumn]) -> str:
    return f"coalesce({', '.join([*map(clean_text, columns), 'NULL'])})"


def count_fulfilling(con: duckdb.DuckDBPyConnection, file: AzureFile, condition: str) -> int:
    """How many rows fulfil a SQL condition on canonical columns."""
    query = render("vendors/azure/row_counts", condition=condition, rows=f"({relation([file])})")
    return int(con.execute(query).fetchall()[0][1])


def first_row(con: duckdb.DuckDBPyConnection, file: AzureFile, column: str, is_bad: str) -> str | None:
    """The place of the first bad row and its value of a canonical column; None if no row is bad.

    Args:
        con: any connection.
        file: looked through.
        column: name of the canonical column.
        is_bad: SQL condition on canonical columns.
    """
    # Whether there is any is asked first: numbering the rows costs the parallel read.
    if not count_fulfilling(con, file, is_bad):
        return None
    columns = [*file.expressions, Expression("octo_row", "octo_row")]
    numbered = render("vendors/azure/file_rows", file_columns=columns, scan=_numbered(file), additions="", condition="")
    query = render("vendors/azure/first_rows", conditions=[is_bad], rows=f"({numbered})")
    row = con.execute(query).fetchall()[0][0]
    value = next(one.value for one in file.expressions if one.name == column)
    return f"{_row_place(file, row)}: {column} is {_shown(con, file, value, row)}"


def _shown(con: duckdb.DuckDBPyConnection, file: AzureFile, value: str, row: int) -> str:
    query = render("vendors/azure/value_of_row", column=value, rows=_numbered(file), row=row)
    text = con.execute(query).fetchall()[0][0]
    return "empty" if text is None else quoted(text, _QUOTED)


def _row_place(file: AzureFile, row: int) -> str:
    match file.format:
        case "csv":
            return f"{file.place}, line {line_of_row(file.path, row)}"
        case "jsonl":
            return f"{file.place}, line {_line_number(file.path, row)}"
        case _:
            return f"{file.place}, row {row + 1}"


def _line_number(path: Location, row: int) -> int:
    with path.open("rb") as packed, gzip.open(packed) as stream:
        filled = (number for number, line in enumerate(stream, 1) if line.strip())
        return next(number for count, number in enumerate(filled) if count == row)


def _bad_line(path: Location, place: str) -> OctoError | None:
    with path.open("rb") as packed, gzip.open(packed) as stream:
        for number, line in enumerate(stream, 1):
            try:
                whole = not line.strip() or isinstance(json.loads(line), dict)
            except (ValueError, RecursionError):
                whole = False
            if not whole:
                return OctoError(
                    f"{place}, line {number}: the line is no JSON object. Fetch the file again.", code="line-malformed"
                )
    return None


def _parquet_columns(con: duckdb.DuckDBPyConnection, path: Location, place: str) -> list[SourceColumn]:
    with translate_read_errors(place):
        described = con.execute(f"DESCRIBE FROM {read_parquet([path])}").fetchall()
    return [SourceColumn(name, kind, identifier(name)) for name, kind, *_ in described]


def _scan(file: AzureFile, paths: Sequence[Location], *, in_order: bool = False) -> str:
    match file.format:
        case "parquet":
            return read_parquet(paths)
        case "jsonl":
            numbers = [
                f"{digits_sql(column, 'json')} AS {digits_name(column)}"
                for column in file.columns
                if column.type == JSON_NUMBER
            ]
            keys = [f'$."{column.name}"' for column in file.columns]
            json_rows = render("vendors/azure/json_rows", keys=keys, numbers=numbers, lines=_read_lines(paths))
            return f"({json_rows})"
        case _:
            names = ", ".join(f"{column.sql}: 'VARCHAR'" for column in file.columns)
            order = ", parallel = false" if in_order else ""
            return (
                f"read_csv({path_literals(paths)}, columns = {{{names}}}, auto_detect = false, header = true, "
                "delim = ',', quote = '\"', escape = '\"', strict_mode = true, null_padding = false, "
                f"compression = '{packing(paths[0])}', hive_partitioning = false{order})"
            )


def _numbered(file: AzureFile) -> str:
    """The rows of one file with `octo_row`, their number from 0."""
    scan = _scan(file, [file.path], in_order=True)
    numbered = render("vendors/azure/numbered_rows", scan=scan)
    return f"({numbered})"


def _read_lines(paths: Sequence[Location]) -> str:
    return (
        f"read_json_objects({path_literals(paths)}, format = 'newline_delimited', compression = 'gzip', "
        "hive_partitioning = false)"
    )
