"""The rows of a FOCUS file: the SQL that reads them, and where a bad one stands.

This module holds what needs DuckDB to look into one file. What the columns are called belongs in `focus_columns`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from octo_pipeline.lake.store import Location
from octo_pipeline.model.sql import Relation, Sql, literal
from octo_pipeline.model.templates import render
from octo_pipeline.vendors import file_rows
from octo_pipeline.vendors.data_columns import Expression, SourceColumn, folded
from octo_pipeline.vendors.data_files import (
    data_format,
    line_of_row,
    packing,
    translate_read_errors,
)
from octo_pipeline.vendors.focus_columns import COLUMNS, TAGS, expressions

_SHOWN = 60
_PERIODS = ("billing_period_start", "charge_period_start")
_COLUMN_TYPES = {
    **{name: "VARCHAR" if kind == TAGS else kind for name, kind in COLUMNS.items()},
    "billing_month": "VARCHAR",
    "shown_vendor": "VARCHAR",
}
# What tells two charges apart and stays the same from refresh to refresh: not amortised cost, tags, names or invoices,
# which are filled in or corrected later. Columns beside those that are read are compared where all files have them.
_IDENTITY = (
    "billing_account_id", "sub_account_id", "charge_category", "charge_subcategory", "charge_class", "charge_description",
    "provider_name", "service_name", "sku_id", "region_id", "billing_currency", "commitment_discount_id",
    "commitment_discount_status", "consumed_quantity", "billed_cost",
)  # fmt: skip
_MORE_IDENTITY = (
    "resourceid",
    "skupriceid",
    "availabilityzone",
    "pricingcategory",
    "allocatedresourceid",
    "invoicedetailid",
)


@dataclass(frozen=True)
class FocusFile:
    """A data file with its columns; `origin` is what sentences call it."""

    path: Location
    origin: str
    columns: tuple[SourceColumn, ...]

    @property
    def expressions(self) -> list[Expression]:
        """How its canonical columns are made."""
        return expressions(self.columns, self.origin)

    @property
    def scan(self) -> str:
        """SQL of its rows."""
        return file_rows.scan([self.path], self.columns)


def open_file(con: duckdb.DuckDBPyConnection, path: Location, origin: str) -> FocusFile:
    """A file with the columns that it has.

    Raises:
        OctoError: the file cannot be read.
    """
    return FocusFile(path, origin, tuple(file_rows.file_columns(con, path, origin)))


def charges(files: Sequence[FocusFile], month: str, facts: Mapping[str, Any]) -> Sql:
    """The canonical columns of the month's rows of files of the same columns and packing.

    Args:
        files: at least one.
        month: the billing month.
        facts: what else is said of the rows: ``vendor`` they are shown as (None for the provider's), ``days`` on which
            they count alone (spans of first and last day), ``left_out`` (pairs of vendor and account).
    """
    return render(
        "vendors/focus/charges",
        file_columns=files[0].expressions,
        scan=file_rows.scan([file.path for file in files], files[0].columns),
        month=month,
        shown_vendor=literal(facts["vendor"]) if facts.get("vendor") else "cast(null as varchar)",
        days=facts.get("days") or [],
        left_out=facts.get("left_out") or [],
    )


def no_charges() -> Sql:
    """The same columns without rows."""
    return render("vendors/focus/no_charges", types=_COLUMN_TYPES)


def months_of(con: duckdb.DuckDBPyConnection, file: FocusFile) -> list[str]:
    """The billing months of a file's rows.

    Raises:
        OctoError: a date cannot be read.
    """
    check_values(con, file, _PERIODS)
    rows = render("vendors/focus/months", file_columns=file.expressions, scan=file.scan)
    with translate_read_errors(file.origin):
        return [month for (month,) in con.execute(rows).fetchall()]


def comparable_rows(files: Sequence[FocusFile], month: str, days: Sequence[Any]) -> list[Relation]:
    """Of each file, what identifies the month's rows, in the same columns for all files."""
    by_name = [{folded(column.name): column for column in file.columns} for file in files]
    more = [name for name in _MORE_IDENTITY if all(name in columns for columns in by_name)]
    relations = []
    for file, columns, counted in zip(files, by_name, days, strict=True):
        compared = [expression for expression in file.expressions if expression.name in _IDENTITY]
        compared.append(Expression("charge_start", _instant_text(columns["chargeperiodstart"])))
        compared += [Expression(f"{name}_text", f"CAST({columns[name].sql} AS VARCHAR)") for name in more]
        rows = render(
            "vendors/focus/comparable_rows",
            file_columns=compared,
            periods=[expression for expression in file.expressions if expression.name in _PERIODS],
            scan=file.scan,
            month=month,
            days=counted,
        )
        relations.append(Relation(f"({rows})"))
    return relations


def _instant_text(column: SourceColumn) -> str:
    """SQL of a time to the minute, in one form for text and timestamps."""
    if column.type == "VARCHAR":
        return f"rpad(left(replace(upper(trim({column.sql})), 'T', ' '), 16), 16, ' 00:00')"
    return f"strftime(CAST({column.sql} AS TIMESTAMP), '%Y-%m-%d %H:%M')"


def check_values(con: duckdb.DuckDBPyConnection, file: FocusFile, columns: Collection[str] | None = None) -> int:
    """Look for the first value that the relation cannot convert, or that no row can do without.

    Args:
        con: any connection.
        file: looked through.
        columns: canonical columns to look at; None for all.

    Returns:
        How many rows could be read.

    Raises:
        OctoError: there is one; the sentence names its column and row.
    """
    checks = [
        check
        for expression in file.expressions
        if columns is None or expression.name in columns
        for check in expression.checks
    ]
    return file_rows.check_values(
        con,
        checks,
        file.scan,
        file_rows.numbered_scan(file.path, file.columns),
        file.origin,
        lambda row: row_place(file, row),
    )


def row_place(file: FocusFile, row: int) -> str:
    """What to call a row in sentences, counted from 0."""
    if data_format(file.path.name) == "parquet":
        return f"{file.origin}, row {row + 1}"
    return f"{file.origin}, line {line_of_row(file.path, row)}"


def branch_of(file: FocusFile) -> tuple[object, ...]:
    """What files that are read together have in common."""
    return data_format(file.path.name), packing(file.path), file.columns
