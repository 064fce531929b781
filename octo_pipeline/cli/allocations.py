"""`octo allocations`: the results of a month."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from octo_pipeline.cli.acting import editor
from octo_pipeline.cli.output import Output, OutputOption, cell_width, print_rows, print_title
from octo_pipeline.model.wording import LEFT_REASONS, amount, counted, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from octo_pipeline.model.rows import Rows

app = typer.Typer(help="The allocations of a month.", no_args_is_help=True)


@app.callback()
def _noun() -> None:
    """The allocations of a month."""


class Status(StrEnum):
    """The statuses of docs/dev/allocation.md, section 9, as the table `allocations` has them."""

    unchecked_allocated = "unchecked_allocated"
    checked_allocated = "checked_allocated"
    checked_splitted = "checked_splitted"


class Category(StrEnum):
    """The categories of items."""

    fee = "fee"
    account = "account"
    savings = "savings"
    balance = "balance"


@app.command("list")
def list_(
    month: Annotated[str, typer.Option(help="The booking month, YYYY-MM.")],
    status: Annotated[Status | None, typer.Option(help="Only rows of this status.")] = None,
    category: Annotated[Category | None, typer.Option(help="Only rows of this category.")] = None,
    account: Annotated[str | None, typer.Option(help="Source or target account, or cost group.")] = None,
    output: OutputOption = Output.table,
) -> None:
    """List the items of a month and the rows booked in it."""
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.services.allocations import Filters, fetched, listed_allocations
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    query = listed_allocations(workspace, parse_month(month), Filters(status, category, account))
    rows = fetched(workspace, query)
    if output is Output.table:
        print_title(f"Allocations of {month}")
        _print_items(rows)
    else:
        print_rows("", rows.columns, rows.rows, output)


# The words for the status are those of docs/dev/allocation.md, section 9.
_WORDS = {"unchecked_allocated": "Unchecked", "checked_allocated": "Allocated", "checked_splitted": "Splitted"}


def _print_items(rows: "Rows") -> None:
    """Print each item as a block: what it is, then how it is listed and what is booked of it, a line for each.

    Item, origin month, source account and allocator are the same in all rows of an item, and with them a row would be
    longer than a line.
    """
    records = [dict(zip(rows.columns, values, strict=True)) for values in rows.rows]
    lines = [_booking(record) for record in records]
    widths = [max(map(cell_width, column)) for column in zip(*lines, strict=True)]
    for position, (record, (status, target, instalment, cost, currency)) in enumerate(zip(records, lines, strict=True)):
        if not position or record["item_id"] != records[position - 1]["item_id"]:
            typer.echo(f"\n{plain(_item(record))}")
        typer.echo(
            f"  {status:{widths[0]}}  {target}{' ' * (widths[1] - cell_width(target))}  {instalment:>{widths[2]}}  "
            f"{cost:>{widths[3]}} {currency}"
        )


def _item(record: "Mapping[str, Any]") -> str:
    what = record["charge_description"] or record["service_code"] or ""
    if record["step"]:
        what = f"before step {record['step']}"
    taken = f", taken by {record['allocator_id']}" if record["allocator_id"] else ""
    name = f"{record['item_id'][:8]}  " if record["item_id"] else ""
    return (
        f"{name}{record['category']} of {record['origin_month']} on {record['source_account'] or record['source_group']}"
        f"{f': {what}' if what else ''}{taken}"
    )


def _booking(record: "Mapping[str, Any]") -> tuple[str, str, str, str, str]:
    kind = record["corrected_kind"] or record["kind"]
    status = "Remainder" if kind == "remainder" else _WORDS[record["status"]]
    if record["corrected_month"]:
        status = f"{record['corrected_month']}: {status}"
    target_id = record["target_account"] or record["target_group"]
    target = f"to {target_id}" if target_id else ""
    reason = LEFT_REASONS.get(record["reason"] or "", "")
    count = record["tranche_count"]
    instalment = f"{record['tranche_index'] + 1}/{count}" if count else ""
    details = plain(", ".join(filter(None, (target, reason))))
    cost, effective_cost, currency = record["cost"], record["effective_cost"], record["currency"]
    # Savings have no amortised cost.
    if effective_cost != cost and record["category"] != "savings":
        currency = f"{currency}, amortised {amount(effective_cost)}"
    return status, details, instalment, amount(cost), currency


ItemArgument = Annotated[str | None, typer.Argument(help="The item's id, or its beginning.")]
AllocatorOption = Annotated[str | None, typer.Option(help="Instead of an item: all items that this allocator took,")]
MonthOption = Annotated[str | None, typer.Option(help="of this origin month,")]
AccountOption = Annotated[str | None, typer.Option(help="and of this source account.")]
ReasonOption = Annotated[str, typer.Option(help="Why; kept in the audit trail.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command()
def show(item: Annotated[str, typer.Argument(help="The item's id, or its beginning.")]) -> None:
    """Explain one item: which allocator took it and why, whose usage counted, and the formula with its numbers."""
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
    from octo_pipeline.automation.recorded import recorded_as_run_of
    from octo_pipeline.cli.failures import raise_for_failures
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.services.decide import (
        cause,
        choose_items,
        closed_sentence,
        corrected_months,
        decide,
        left_out_sentence,
        require_named_items,
    )
    from octo_pipeline.settings import load_settings
    from octo_pipeline.tables.table import Materialised
    from octo_pipeline.workspace import Workspace

    require_named_items(item, allocator, month)
    workspace = Workspace(load_settings())
    # Rights come before the search, so that people who may not decide do not learn what exists.
    actor = editor(workspace)
    chosen = choose_items(
        workspace, action, item=item, allocator=allocator, month=parse_month(month) if month else None, account=account
    )
    items = chosen.items
    if sentence := left_out_sentence(action, len(chosen.left_out)):
        typer.echo(sentence)
    months = sorted({m for i in items for m in i.months})
    if sentence := closed_sentence(*corrected_months(workspace, items)):
        typer.echo(sentence)
    if items and not yes:
        typer.confirm(
            f"{action.capitalize()} {counted(len(items), 'item')}, booked in {', '.join(months)}?", abort=True
        )
    events = decide(workspace, action, items, reason=reason, actor=actor)
    typer.echo(f"{counted(len(items), 'item')}: {action} recorded.")
    # The launchpad takes one item, or those of a rule; which they are is in the cause.
    config = {"reason": reason} | ({"item": items[0].item_id} if len(items) == 1 else {})
    recorded = recorded_as_run_of(
        workspace, f"{action}_items", config, months, events, cause(action, items, reason, actor)
    )
    done = []
    try:
        for event in recorded:
            done.append(event)
            if isinstance(event, Materialised):
                typer.echo(f"{event.table} {event.month}: {event.outcome}")
    except KeyboardInterrupt:
        typer.echo("Interrupted. The decision is recorded; `octo stale` lists the months to run again.", err=True)
        raise
    raise_for_failures(done)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="The file to write: .csv, .parquet or .xlsx.")],
    month: Annotated[str, typer.Option(help="The booking month, YYYY-MM.")],
    raw: Annotated[bool, typer.Option("--raw", help="CSV for programs: texts as they are.")] = False,
) -> None:
    """Write a month's allocations to a file, each row with everything that explains it.

    In CSV, texts that a spreadsheet would take for a formula get a leading apostrophe, unless it is --raw.
    """
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.services.allocations import export_allocations
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    export_allocations(Workspace(load_settings()), parse_month(month), file, is_raw=raw)
    typer.echo(f"Allocations of {month} written to {file}.")
