"""Whether an AWS Cost and Usage Report may be landed: one payer, one month, no row that cannot be read.

Here belongs what must hold of a report's rows. How a row is found and what its columns are called do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import literal
from octo_pipeline.vendors.aws.cur_columns import REQUIRED_VALUES
from octo_pipeline.vendors.aws.cur_reports import CurReport
from octo_pipeline.vendors.aws.cur_rows import (
    CurFile,
    check_values,
    count_rows,
    first_row,
    open_file,
    relation,
)
from octo_pipeline.vendors.downloads import DeliveredFile

_PAYER = "bill_payer_account_id"
_PERIOD_START = "bill_billing_period_start_date"


@dataclass(frozen=True)
class StagedFile:
    """A data file in staging, as it will be landed; `place` is what sentences call it."""

    file: DeliveredFile
    path: Path
    place: str


def inspect_report(staged: Sequence[StagedFile], report: CurReport) -> tuple[str, dict[str, int]]:
    """Read all rows of a report.

    Returns:
        Its payer, and the number of rows in each file.

    Raises:
        OctoError: as `aws_cur.land_report` says.
    """
    with duckdb.connect() as con:
        rows = {one.file.name: count_rows(con, one.path, one.place) for one in staged}
        files = [open_file(con, one.path, one.place) for one in staged]
        found, payers, months, empty = _facts(con, files)
        if found != sum(rows.values()):
            raise OctoError(
                f"{report.source}: {found} rows could be read of {sum(rows.values())}, so a file is not what "
                "it seems. Fetch the report again.",
                code="rows-unreadable",
            )
        for column, count in zip(REQUIRED_VALUES, empty, strict=True):
            if count:
                _refuse_row(con, files, column, "{} IS NULL", "no row can do without it")
        if set(months) - {None, report.month}:
            condition = f"strftime({{}}, '%Y-%m') <> {literal(report.month)}"
            _refuse_row(con, files, _PERIOD_START, condition, f"but the report is of {report.month}")
        if payers[0] != payers[1]:
            condition = f"{{}} <> {literal(str(payers[0]))}"
            also = f"but other rows are of payer {payers[0]}. Land the report of each payer by itself"
            _refuse_row(con, files, _PAYER, condition, also)
    return _payer(payers[0], report), rows


def _facts(
    con: duckdb.DuckDBPyConnection, files: Sequence[CurFile]
) -> tuple[int, tuple[str | None, str | None], tuple[str | None, str | None], tuple[int, ...]]:
    """Rows, least and greatest payer and month, and how many rows lack each of `REQUIRED_VALUES`.

    Every value that could fail to convert is converted: only a hash of it cannot be answered from statistics.
    """
    sql = relation(files)
    fallible = sorted({one.name for file in files for one in file.expressions if one.checks})
    query = (
        f"SELECT count(*), min({_PAYER}), max({_PAYER}), strftime(min({_PERIOD_START}), '%Y-%m'), "
        f"strftime(max({_PERIOD_START}), '%Y-%m'), "
        + ", ".join(f"count(*) FILTER ({name} IS NULL)" for name in REQUIRED_VALUES)
        + f", bit_xor(hash({', '.join(fallible)})) FROM ({sql})"
    )
    try:
        count, *found, _ = con.execute(query).fetchall()[0]
    except duckdb.Error as error:
        for file in files:
            check_values(con, file)
        reason = str(error).splitlines()[0]
        raise OctoError(
            f"{files[0].place} cannot be read ({reason}). Fetch it again.", code="file-unreadable"
        ) from error
    return count, (found[0], found[1]), (found[2], found[3]), tuple(found[4:])


def _refuse_row(con: duckdb.DuckDBPyConnection, files: Sequence[CurFile], column: str, is_bad: str, why: str) -> None:
    bad = first_row(con, files, column, is_bad)
    if bad is not None:
        raise OctoError(f"{bad[0]}: {column} is {bad[1]}, {why}. The report was not landed.", code="value-wrong")


def _payer(said: str | None, report: CurReport) -> str:
    payer = said or report.account
    if payer is None:
        raise OctoError(
            f"{report.source} has no rows and no manifest that names an account, so nobody can tell whose "
            "empty month it is. Land it with its manifest.",
            code="payer-unknown",
        )
    if report.account not in (None, payer):
        raise OctoError(
            f"{report.source} is the report of account {report.account}, but its rows are billed to payer "
            f"{payer}. Only the payer's own report has all accounts: land that one.",
            code="report-not-of-the-payer",
        )
    return payer
