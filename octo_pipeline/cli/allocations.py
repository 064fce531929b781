"""`octo allocations`: the results of a month."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from octo_pipeline.cli.acting import admin
from octo_pipeline.cli.output import Output, OutputOption, print_rows
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import counted

if TYPE_CHECKING:
    from decimal import Decimal

    import duckdb

    from octo_pipeline.lake.lake import Lake

app = typer.Typer(help="The allocations of a month.", no_args_is_help=True)

_COLUMNS = (
    "item_id", "status", "kind", "category", "source_account", "target_account", "service_code", "charge_description",
    "allocator_id", "currency", "cost",
)  # fmt: skip


@app.callback()
def _noun() -> None:
    """The allocations of a month."""


class Status(StrEnum):
    """The three statuses of allocation.md §9, as they are in the table."""

    unchecked_allocated = "unchecked_allocated"
    checked_allocated = "checked_allocated"
    checked_splitted = "checked_splitted"


class Category(StrEnum):
    """The areas of allocation."""

    fee = "fee"
    account = "account"
    savings = "savings"


@app.command("list")
def list_(
    month: Annotated[str, typer.Option(help="The booking month, YYYY-MM.")],
    status: Annotated[Status | None, typer.Option(help="Only rows of this status.")] = None,
    category: Annotated[Category | None, typer.Option(help="Only rows of this category.")] = None,
    account: Annotated[str | None, typer.Option(help="Source or target account.")] = None,
    output: OutputOption = Output.table,
) -> None:
    """List the items of a month and the rows booked in it."""
    from octo_pipeline.tables.explained_allocations import explained_allocations

    lake = _lake_with(month)
    with lake.connect() as connection:
        rows = connection.execute(
            f"SELECT {', '.join(_COLUMNS)} FROM ({explained_allocations(lake, [month])}) "
            "WHERE ($1 IS NULL OR status = $1) AND ($2 IS NULL OR category = $2) "
            "AND ($3 IS NULL OR source_account = $3 OR target_account = $3) "
            "ORDER BY category, source_account, service_code, charge_description, status, target_account, cost",
            [status, category, account],
        ).fetchall()
    if output is Output.table:
        print_rows(f"Allocations of {month}", _SHOWN, [_shown(*row) for row in rows], output)
    else:
        print_rows("", _COLUMNS, rows, output)


# Eleven columns do not fit a screen: the table has what tells rows apart, the other outputs have all. The last
# column is the currency, the status the word that tells the three of allocation.md §9 apart.
_SHOWN = ("item", "status", "from", "to", "what", "allocator", "cost", "")
_WORDS = {"unchecked_allocated": "Unchecked", "checked_allocated": "Allocated", "checked_splitted": "Splitted"}


def _shown(
    item: str, status: str, kind: str, category: str, source: str, target: str | None, service: str | None,
    description: str | None, allocator: str | None, currency: str, cost: "Decimal",
) -> tuple[object, ...]:  # fmt: skip
    word = "Remainder" if kind == "remainder" else _WORDS[status]
    return (item[:8], word, source, target, description or service or category, allocator, cost, currency)


def _lake_with(month: str) -> "Lake":
    """The lake, if it has allocations of the month."""
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    lake = Workspace(load_settings()).lake
    if parse_month(month) not in lake.months("allocations"):
        raise OctoError(
            f"The lake has no allocations of {month}. Run `octo run --month {month}` first.", code="month-not-made"
        )
    return lake


ItemArgument = Annotated[str | None, typer.Argument(help="The item's id, or its beginning.")]
AllocatorOption = Annotated[str | None, typer.Option(help="Instead of an item: all items this allocator takes,")]
MonthOption = Annotated[str | None, typer.Option(help="of this origin month,")]
AccountOption = Annotated[str | None, typer.Option(help="and of this source account.")]
ReasonOption = Annotated[str, typer.Option(help="Why; kept in the audit trail.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command()
def show(item: Annotated[str, typer.Argument(help="The item's id, or its beginning.")]) -> None:
    """Tell the whole story of one item: what matched, whose usage, the formula with its numbers, the rest."""
    from octo_pipeline.services.decide import story
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    for sentence in story(Workspace(load_settings()), item):
        typer.echo(sentence)


@app.command()
def restore(
    reason: ReasonOption,
    item: ItemArgument = None,
    allocator: AllocatorOption = None,
    month: MonthOption = None,
    account: AccountOption = None,
    yes: YesOption = False,
) -> None:
    """Undo the distribution of an item in every month, and keep it undone until it is re-applied."""
    _decide("restore", item, allocator, month, account, reason, yes)


@app.command()
def reapply(
    reason: ReasonOption,
    item: ItemArgument = None,
    allocator: AllocatorOption = None,
    month: MonthOption = None,
    account: AccountOption = None,
    yes: YesOption = False,
) -> None:
    """Take a restore back."""
    _decide("reapply", item, allocator, month, account, reason, yes)


def _decide(
    action: Literal["restore", "reapply"],
    item: str | None,
    allocator: str | None,
    month: str | None,
    account: str | None,
    reason: str,
    yes: bool,
) -> None:
    from octo_pipeline.cli.recorded import raise_for_failures, recorded_without_run
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.services.decide import decide, find_items
    from octo_pipeline.settings import load_settings
    from octo_pipeline.tables.table import Materialised
    from octo_pipeline.workspace import Workspace

    if (item is None) == (allocator is None):
        raise OctoError(
            f"Say what to {action}: an item's id, or --allocator ID --month YYYY-MM.", code="decision-items-missing"
        )
    if allocator is not None and month is None:
        raise OctoError("--allocator needs --month, the month its items were billed in.", code="decision-month-missing")
    workspace = Workspace(load_settings())
    actor = admin(workspace)
    items = find_items(
        workspace, item=item, allocator=allocator, month=parse_month(month) if month else None, account=account
    )
    months = sorted({m for i in items for m in i.months})
    if not yes:
        typer.confirm(
            f"{action.capitalize()} {counted(len(items), 'item')}, booked in {', '.join(months)}?", abort=True
        )
    events = decide(workspace, action, items, reason=reason, actor=actor)
    typer.echo(f"{counted(len(items), 'item')}: {action} recorded.")
    done = []
    for event in recorded_without_run(workspace, events):
        done.append(event)
        if isinstance(event, Materialised):
            typer.echo(f"{event.table} {event.month}: {event.outcome}")
    raise_for_failures(done)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Where to: .csv, .parquet or .xlsx.")],
    month: Annotated[str, typer.Option(help="The booking month, YYYY-MM.")],
) -> None:
    """Write a month's allocations, every row with all that explains it."""
    from octo_pipeline.model.sql import literal
    from octo_pipeline.tables.explained_allocations import explained_allocations

    lake = _lake_with(month)
    kind = file.suffix.removeprefix(".").lower()
    if kind not in ("csv", "parquet", "xlsx"):
        raise OctoError(
            f"{file} ends in {file.suffix or 'nothing'}; write a .csv, a .parquet or an .xlsx file.",
            code="export-format-unknown",
        )
    if not file.absolute().parent.is_dir():
        raise OctoError(
            f"There is no folder {file.absolute().parent} to write {file.name} into.", code="export-folder-missing"
        )
    query = f"SELECT * FROM ({explained_allocations(lake, [month])}) ORDER BY category, item_id, kind, target_account"
    with lake.connect() as connection:
        if kind == "xlsx":
            _write_xlsx(connection.execute(query), file)
        else:
            options = "FORMAT csv, HEADER" if kind == "csv" else "FORMAT parquet"
            connection.execute(f"COPY ({query}) TO {literal(str(file))} ({options})")
    typer.echo(f"Allocations of {month} written to {file}.")


def _write_xlsx(result: "duckdb.DuckDBPyConnection", file: Path) -> None:
    """A sheet of at most 1,048,575 rows; amounts as numbers, which a sheet holds to 15 digits."""
    from openpyxl import Workbook

    book = Workbook(write_only=True)
    sheet = book.create_sheet("allocations")
    sheet.append([column[0] for column in result.description or []])
    written = 0
    while rows := result.fetchmany(10_000):
        written += len(rows)
        if written > _SHEET_ROWS:
            raise OctoError(
                f"The month has more rows than the {_SHEET_ROWS:,} of a sheet; export .csv or .parquet.",
                code="export-too-long",
            )
        for row in rows:
            sheet.append([str(v) if isinstance(v, dict) else v for v in row])
    book.save(file)


_SHEET_ROWS = 1_048_575
