"""The rows of an AWS Cost and Usage Report's files: the SQL that reads them, and the position of a bad row.

This module holds what needs DuckDB to read files: their columns, the relation over several of them, the row that a
message names. What the columns mean is in `cur_columns`, finding reports in `cur_reports`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from octo_pipeline.lake.store import Location
from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.sql import Relation, Sql, literal
from octo_pipeline.model.templates import render
from octo_pipeline.vendors import file_rows
from octo_pipeline.vendors.aws.cur_columns import BILLED, COLUMNS, COST, LIST_COST, NOT_IN_MODELS, Costs, expressions
from octo_pipeline.vendors.data_columns import Expression, SourceColumn, folded
from octo_pipeline.vendors.data_files import (
    data_format,
    first_csv_row,
    line_of_row,
    packing,
    read_parquet,
    row_group_of,
    translate_read_errors,
)

_PERIOD_START = "bill_billing_period_start_date"
# If a report has no billing period, its first usage gives the month, and inspection checks all rows.
_USAGE_START = "line_item_usage_start_date"
_QUOTED = 60
# Columns of a report beside the canonical ones: our name -> AWS's name.
_LINE_IDS = {"line_id": "identity/LineItemId", "time_interval": "identity/TimeInterval"}
_CHARGE = {
    "usage_account": "line_item_usage_account_id",
    "usage_start": "line_item_usage_start_date",
    "line_type": "line_item_line_item_type",
    "product": "line_item_product_code",
    "usage_type": "line_item_usage_type",
    "operation": "line_item_operation",
    "description": "line_item_line_item_description",
    "currency": "line_item_currency_code",
    "amount": "line_item_usage_amount",
    "cost": "line_item_unblended_cost",
    "reservation": "reservation_reservation_arn",
    "savings_plan": "savings_plan_savings_plan_arn",
}


@dataclass(frozen=True)
class CurFile:
    """A data file with its columns; `origin` is what messages call it, `costs` says which of its costs count."""

    path: Location
    origin: str
    format: str
    columns: tuple[SourceColumn, ...]
    costs: Costs = "unblended"

    @property
    def expressions(self) -> list[Expression]:
        """The expressions of its canonical columns."""
        return expressions(self.columns, self.origin, self.costs)


def open_file(con: duckdb.DuckDBPyConnection, path: Location, origin: str, costs: Costs = "unblended") -> CurFile:
    """Read a data file's columns.

    Raises:
        OctoError: it is damaged or has no header.
    """
    kind = data_format(path.name) or "csv"
    return CurFile(path, origin, kind, tuple(file_rows.file_columns(con, path, origin)), costs)


def relation(files: Sequence[CurFile], month: str | None = None) -> str:
    """The SELECT of the canonical columns over all rows of the files; it has no rows if there are no files.

    Files with the same schema and packing are read together, so a report has one branch unless its files differ.

    Args:
        files: the data files.
        month: the billing month of files without a column for it.

    Raises:
        OctoError: a file lacks a required column.
    """
    branches = [_branch(same, month) for same in _alike(files)]
    return "\nUNION ALL BY NAME\n".join(branches or [_no_rows()])


def daily_relation(files: Sequence[CurFile], month: str | None = None) -> str:
    """As `relation`, with the lines of a day that differ only in time and amounts summed up; line_count is their number.

    A day often has 24 lines of the same texts, so grouping the texts as the file has them, and making them canonical
    afterwards, takes a third of the time. Texts that become the same are not merged.

    A sum is null only where the amount of each of its lines is, and a list cost has the sign of each line's.
    """
    branches = [_daily_branch(same, month) for same in _alike(files)]
    return "\nUNION ALL BY NAME\n".join(branches)


def billed_relation(files: Sequence[CurFile]) -> str:
    """The columns `BILLED` and line_count: what the lines bill, summed up over those with the same texts in the file.

    A sum is null only if no line has an amount.
    """
    branches = [_billed_branch(same) for same in _alike(files)]
    return "\nUNION ALL BY NAME\n".join(branches)


def has_line_ids(file: CurFile) -> bool:
    """Whether the file has the columns that are unique within a report: a line item's id and its time interval."""
    return all(_own_column(file, name) for name in _LINE_IDS.values())


def charges(file: CurFile, *, with_line_ids: bool = False) -> Relation:
    """The columns that distinguish the lines of a report and stay the same in every refresh: no tags, names or invoices.

    Args:
        file: a file whose rows are readable.
        with_line_ids: also the columns line_id and time_interval.
    """
    values = {expression.name: expression.value for expression in file.expressions}
    selected = {name: values[column] for name, column in _CHARGE.items()}
    resource = _own_column(file, "lineItem/ResourceId")
    selected["resource_id"] = f"CAST({resource.sql} AS VARCHAR)" if resource else "CAST(NULL AS VARCHAR)"
    if with_line_ids:
        columns = {name: _own_column(file, column) for name, column in _LINE_IDS.items()}
        selected |= {name: f"CAST({column.sql} AS VARCHAR)" for name, column in columns.items() if column}
    return Relation(f"({_selected(selected, _scan([file]))})")


def _own_column(file: CurFile, name: str) -> SourceColumn | None:
    return next((column for column in file.columns if folded(column.name) == folded(name)), None)


def first_month(con: duckdb.DuckDBPyConnection, path: Location, origin: str) -> str | None:
    """The billing month of a file's first row, '' if the row does not have it, None if there are no rows.

    The file may still be zipped.

    Raises:
        OctoError: the beginning of the file cannot be read.
    """
    if data_format(path.name) == "csv":
        row = first_csv_row(path, origin)
        values = {folded(name): value.strip() for name, value in row.items()}
        starts = [values.get(folded(name)) for name in (_PERIOD_START, _USAGE_START)]
        return next((start[:7] for start in starts if start), "") if row else None
    file = open_file(con, path, origin)
    values = {expression.name: expression.value for expression in file.expressions}
    query = render(
        "vendors/aws/first_month",
        period_start=values[_PERIOD_START],
        usage_start=values[_USAGE_START],
        scan=read_parquet([path]),
    )
    with translate_read_errors(origin):
        first_row = con.execute(query).fetchone()
    return first_row[0] if first_row else None


def check_values(con: duckdb.DuckDBPyConnection, file: CurFile) -> None:
    """Look for the first value that the relation cannot convert.

    Raises:
        OctoError: there is one; the message names its column and row.
    """
    checks = [check for expression in file.expressions for check in expression.checks]
    file_rows.check_values(
        con, checks, _scan([file]), _numbered(file), file.origin, lambda row: row_place(con, file, row)
    )


def first_row(
    con: duckdb.DuckDBPyConnection, files: Iterable[CurFile], column: str, is_bad: str
) -> tuple[str, str] | None:
    """The place and value of the first row in which a canonical column is bad; None if there is no such row.

    Args:
        con: any connection.
        files: searched in this order.
        column: name of the canonical column.
        is_bad: SQL condition in which ``{}`` stands for the column's value.
    """
    for file in files:
        value = next(expression.value for expression in file.expressions if expression.name == column)
        row = file_rows.first_row(con, is_bad.format(f"({value})"), _numbered(file))
        if row is not None:
            return row_place(con, file, row), file_rows.quoted_value(con, value, _numbered(file), row)
    return None


def row_place(con: duckdb.DuckDBPyConnection, file: CurFile, row: int) -> str:
    """The file with the line, or for Parquet the row, counted from 1; the header is line 1."""
    if file.format == "csv":
        return f"{file.origin}, line {line_of_row(file.path, row)}"
    return f"{file.origin}, row {row + 1} (row group {row_group_of(con, file.path, row) + 1})"


def _alike(files: Sequence[CurFile]) -> Iterable[list[CurFile]]:
    """The files by what they have in common, so that those of each list are read together."""
    alike: dict[tuple[str, str, str, tuple[SourceColumn, ...]], list[CurFile]] = {}
    for file in files:
        alike.setdefault((file.format, packing(file.path), file.costs, file.columns), []).append(file)
    return alike.values()


def _branch(files: Sequence[CurFile], month: str | None) -> Sql:
    return _selected(_values(files[0].expressions, files[0], month), _scan(files))


def _daily_branch(files: Sequence[CurFile], month: str | None) -> Sql:
    read = [expression for expression in files[0].expressions if expression.name not in NOT_IN_MODELS]
    values = _values(read, files[0], month)
    return render(
        "vendors/aws/daily_lines",
        source_columns=sorted({source for expression in read for source in expression.sources}),
        canonical_texts={name: value for name, value in values.items() if COLUMNS[name] == "VARCHAR"},
        instants={name: value for name, value in values.items() if COLUMNS[name] == "TIMESTAMP"},
        amounts={name: value for name, value in values.items() if COLUMNS[name] == MONEY},
        list_cost=LIST_COST,
        scan=_scan(files),
    )


def _billed_branch(files: Sequence[CurFile]) -> Sql:
    read = [expression for expression in files[0].expressions if expression.name in BILLED]
    return render(
        "vendors/aws/billed_lines",
        source_columns=sorted({source for expression in read for source in expression.sources}),
        canonical_texts={expression.name: expression.value for expression in read if expression.name != COST},
        cost=next(expression.value for expression in read if expression.name == COST),
        cost_name=COST,
        scan=_scan(files),
    )


def _values(expressions: Sequence[Expression], file: CurFile, month: str | None) -> dict[str, str]:
    values = {expression.name: expression.value for expression in expressions}
    if month and not has_period(file):
        values[_PERIOD_START] = f"CAST({literal(f'{month}-01')} AS TIMESTAMP)"
    return values


def _selected(values: Mapping[str, str], scan: str) -> Sql:
    columns = [{"name": name, "value": value} for name, value in values.items()]
    return render("vendors/aws/file_columns", file_columns=columns, scan=scan)


def has_period(file: CurFile) -> bool:
    """Whether the file has a column of the billing period."""
    return _own_column(file, _PERIOD_START) is not None


def _scan(files: Sequence[CurFile]) -> str:
    return file_rows.scan([file.path for file in files], files[0].columns)


def _no_rows() -> Sql:
    return render("vendors/aws/no_rows", types=COLUMNS)


def _numbered(file: CurFile) -> Relation:
    return file_rows.numbered_scan(file.path, file.columns)
