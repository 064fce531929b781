"""The allocations of a month, as a list and as a file."""

from pathlib import Path

import duckdb

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.spreadsheet import csv_column_sql, xlsx_value
from octo_pipeline.model.sql import Sql, literal
from octo_pipeline.model.templates import render
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.workspace import Workspace

_SHEET_ROWS = 1_048_575


def listed_allocations(
    workspace: Workspace,
    month: str,
    *,
    status: str | None = None,
    category: str | None = None,
    account: str | None = None,
    allocator: str | None = None,
    service: str | None = None,
    text: str | None = None,
) -> Sql:
    """A query of the items of a month and the rows booked in it; the rows of an item are next to each other.

    Args:
        workspace: whose lake.
        month: the booking month.
        status: only rows of this status.
        category: only rows of this category.
        account: only rows whose source or target, an account or a cost group, this is.
        allocator: only rows of items that it took.
        service: only rows of this service code.
        text: only rows in whose description or service code this is, in any case.

    Raises:
        OctoError: the month was not run.
    """
    return render(
        "services/listed_allocations",
        explained_allocations=_explained(workspace, month),
        status=status,
        category=category,
        account=account,
        allocator=allocator,
        service=service,
        text=text,
    )


def fetched(workspace: Workspace, query: Sql) -> Rows:
    """The rows of a list, for people."""
    with workspace.lake.connect() as connection:
        return Rows.fetched(connection, query)


def export_allocations(workspace: Workspace, month: str, file: Path, *, is_raw: bool = False) -> None:
    """Write a month's allocations, each row with everything that explains it, in the format of the file's ending.

    Args:
        workspace: the lake.
        month: the booking month.
        file: where to.
        is_raw: whether CSV has the texts as they are, for programs; else none of them becomes a formula.

    Raises:
        OctoError: the month was not run, the ending is unknown, the folder does not exist, or the rows do not fit on a
            sheet.
    """
    explained = _explained(workspace, month)
    kind = file.suffix.removeprefix(".").lower()
    if kind not in ("csv", "parquet", "xlsx"):
        raise OctoError(
            f"The file {file} must end in .csv, .parquet or .xlsx.",
            code="export-format-unknown",
        )
    if not file.absolute().parent.is_dir():
        raise OctoError(
            f"The folder {file.absolute().parent} for {file.name} does not exist.", code="export-folder-missing"
        )
    query = render("services/exported_allocations", explained_allocations=explained)
    with workspace.lake.connect() as connection:
        if kind == "xlsx":
            _write_xlsx(connection.execute(query), file)
        else:
            options = "format csv, header" if kind == "csv" else "format parquet"
            if kind == "csv" and not is_raw:
                query = _without_formulas(connection, query)
            connection.execute(f"copy ({query}) to {literal(str(file))} ({options})")


def _without_formulas(connection: duckdb.DuckDBPyConnection, query: Sql) -> Sql:
    described = connection.execute(f"describe {query}").fetchall()
    texts = {name: csv_column_sql(name) for name, kind, *_ in described if kind == "VARCHAR"}
    return render("services/exported_texts", exported_allocations=query, texts=texts)


def _explained(workspace: Workspace, month: str) -> Sql:
    workspace.lake.require([month], Allocations.name)
    return explained_allocations(workspace, [month])


def _write_xlsx(result: duckdb.DuckDBPyConnection, file: Path) -> None:
    """Write a sheet of at most 1,048,575 rows. Amounts are numbers, of which a sheet keeps 15 digits."""
    from openpyxl import Workbook
    from openpyxl.utils import get_column_letter

    book = Workbook(write_only=True)
    sheet = book.create_sheet("allocations")
    sheet.freeze_panes = "A2"
    sheet.append([column[0] for column in result.description or []])
    written = 0
    while rows := result.fetchmany(10_000):
        written += len(rows)
        if written > _SHEET_ROWS:
            raise OctoError(
                f"The month has more than the {_SHEET_ROWS:,} rows that a sheet can have; export .csv or .parquet.",
                code="export-too-long",
            )
        for row in rows:
            sheet.append([xlsx_value(sheet, str(v) if isinstance(v, dict) else v) for v in row])
    sheet.auto_filter.ref = f"A1:{get_column_letter(len(result.description or []))}{written + 1}"
    book.save(file)
