"""Whether an AWS Cost and Usage Report may be landed: one payer, one month, every row readable.

This module holds the conditions on a report's rows. Finding a row is in `cur_rows`, the names of columns in `cur_columns`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import duckdb

from octo_pipeline.lake.instances import shared_connection
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import literal
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.aws.cur_columns import REQUIRED_VALUES, SPLIT_OPERATIONS
from octo_pipeline.vendors.aws.cur_copies import files_of_the_report
from octo_pipeline.vendors.aws.cur_reports import CurReport
from octo_pipeline.vendors.aws.cur_rows import (
    CurFile,
    check_values,
    first_row,
    has_period,
    open_file,
    relation,
)
from octo_pipeline.vendors.downloads import DeliveredFile
from octo_pipeline.vendors.file_rows import count_rows

_PAYER = "bill_payer_account_id"
_PERIOD_START = "bill_billing_period_start_date"
_USAGE_START = "line_item_usage_start_date"

# (account, currency) -> billed cost.
AccountCosts = dict[tuple[str | None, str | None], Decimal]


@dataclass(frozen=True)
class StagedFile:
    """A data file in staging, as it will be landed; `origin` is what messages call it."""

    file: DeliveredFile
    path: Path
    origin: str


@dataclass(frozen=True)
class Inspection:
    """The facts of a report.

    Attributes:
        payer: the account that is billed.
        rows: file name -> number of rows.
        left_out: the files that repeat others.
        costs: (account, currency) -> its billed cost.
        split_count: the number of rows that repeat the cost of other rows, split by container.
    """

    payer: str
    rows: dict[str, int]
    left_out: tuple[StagedFile, ...]
    costs: AccountCosts
    split_count: int


def inspect_report(staged: Sequence[StagedFile], report: CurReport) -> Inspection:
    """Read all rows of a report.

    Raises:
        OctoError: as in `cur.land_report`.
    """
    with shared_connection({}) as con:
        rows = {staged_file.file.name: count_rows(con, staged_file.path, staged_file.origin) for staged_file in staged}
        files = [open_file(con, staged_file.path, staged_file.origin, report.costs) for staged_file in staged]
        facts = _facts(con, files, report.month)
        if facts.count != sum(rows.values()):
            raise OctoError(
                f"{report.source}: only {facts.count} of {sum(rows.values())} rows could be read, so a file is damaged. "
                "Fetch the report again.",
                code="rows-unreadable",
            )
        for column, count in facts.empty.items():
            if count:
                _refuse_row(con, files, column, "{} IS NULL", "no row can do without it")
        if facts.months - {None, report.month}:
            condition = f"strftime({{}}, '%Y-%m') <> {literal(report.month)}"
            _refuse_row(con, files, _PERIOD_START, condition, f"but the report is of {report.month}")
        if report.domain == "PRO_FORMA" and facts.invoiced_count:
            _refuse_row(
                con, files, "bill_invoice_id", "{} IS NOT NULL", "but its source is set to the domain PRO_FORMA"
            )
        if facts.silent_count:
            _refuse_silent(con, files, facts, report.month)
        first_payer, last_payer = facts.payers
        if first_payer != last_payer:
            condition = f"{{}} <> {literal(str(first_payer))}"
            reason = f"but other rows are of payer {first_payer}. Land the report of each payer by itself"
            _refuse_row(con, files, _PAYER, condition, reason)
        payer = _payer(first_payer, report)
        counted = range(len(files)) if report.is_listed else files_of_the_report(con, files, report.source)
        if len(counted) < len(files):
            facts = _facts(con, [files[index] for index in counted], report.month)
    left_out = tuple(staged_file for index, staged_file in enumerate(staged) if index not in counted)
    kept = {staged_file.file.name: rows[staged_file.file.name] for staged_file in staged if staged_file not in left_out}
    return Inspection(payer, kept, left_out, facts.costs, facts.split_count)


@dataclass(frozen=True)
class _Facts:
    count: int
    payers: tuple[str | None, str | None]
    months: set[str | None]
    silent_count: int
    month_count: int
    invoiced_count: int
    empty: dict[str, int]
    costs: AccountCosts
    split_count: int


def _facts(con: duckdb.DuckDBPyConnection, files: Sequence[CurFile], month: str) -> _Facts:
    query = render(
        "vendors/aws/report_facts",
        aws_cur=relation(files),
        month=month,
        required=REQUIRED_VALUES,
        fallible=sorted({expression.name for file in files for expression in file.expressions if expression.checks}),
        split_operations=", ".join(map(literal, SPLIT_OPERATIONS)),
    )
    try:
        rows = con.execute(query).fetchall()
    except duckdb.Error as error:
        for file in files:
            check_values(con, file)
        reason = str(error).splitlines()[0]
        raise OctoError(
            f"{files[0].origin} cannot be read ({reason}). Fetch it again.", code="file-unreadable"
        ) from error
    payers = [payer for row in rows for payer in row[5:7] if payer is not None]
    return _Facts(
        count=sum(row[2] for row in rows),
        payers=(min(payers, default=None), max(payers, default=None)),
        months={month for row in rows for month in row[7:9]},
        silent_count=sum(row[9] for row in rows),
        month_count=sum(row[10] for row in rows),
        invoiced_count=sum(row[11] for row in rows),
        empty={name: sum(row[12 + index] for row in rows) for index, name in enumerate(REQUIRED_VALUES)},
        costs={(row[0], row[1]): row[3] for row in rows},
        split_count=sum(row[4] for row in rows),
    )


def _refuse_silent(con: duckdb.DuckDBPyConnection, files: Sequence[CurFile], facts: _Facts, month: str) -> None:
    """Refuse rows without a billing period, unless the report lacks the column and has usage of the month."""
    with_period = [file for file in files if has_period(file)]
    if with_period:
        _refuse_row(con, with_period, _PERIOD_START, "{} IS NULL", "no row can do without it")
    if not facts.month_count:
        condition = f"strftime({{}}, '%Y-%m') <> {literal(month)}"
        _refuse_row(con, files, _USAGE_START, condition, f"but the report is of {month}")


def _refuse_row(
    con: duckdb.DuckDBPyConnection, files: Sequence[CurFile], column: str, is_bad: str, reason: str
) -> None:
    bad = first_row(con, files, column, is_bad)
    if bad is not None:
        raise OctoError(f"{bad[0]}: {column} is {bad[1]}, {reason}. The report was not landed.", code="value-wrong")


def _payer(row_payer: str | None, report: CurReport) -> str:
    payer = row_payer or report.account
    if payer is None:
        raise OctoError(
            f"{report.source} has no rows and no manifest that names an account, so its payer is unknown. Land it with its "
            "manifest.",
            code="payer-unknown",
        )
    if report.account not in (None, payer):
        raise OctoError(
            f"{report.source} is the report of account {report.account}, but its rows are billed to payer "
            f"{payer}. Only the payer's own report has all accounts: land that one.",
            code="report-not-of-the-payer",
        )
    return payer
