"""What a run prints at its end: the month's allocations, totals, and the proof."""

from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.text import Text

from octo_pipeline.cli.output import Output, print_rows
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.wording import amount, counted, plain
from octo_pipeline.services.summary import Summary, summary_of
from octo_pipeline.settings import load_settings
from octo_pipeline.workspace import Workspace

# Longer lists of items that were left are summed up in a last line.
_MOST_LEFT = 12


def print_summary(month: str) -> None:
    """Print the allocations of a month as tables for people, with totals and the proof of conservation."""
    summary = summary_of(Workspace(load_settings()), month)
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    _print_tables(summary)
    for currency, billed, lines in summary.bill.select("currency", "billed", "lines"):
        console.print(plain(f"The bill of {month}: {amount(billed, currency)} in {counted(lines, 'line')}."))
    _print_proof(console, summary)
    for check, result in summary.findings:
        console.print(Text.assemble((check.severity, "yellow"), plain(f" {check.name}: {result.summary}")))


def _print_tables(summary: Summary) -> None:
    for title, rows in {
        f"Distributed in {summary.month}": summary.distributed.billed(),
        f"Left where it was billed in {summary.month}": _with_rest(summary.left, _MOST_LEFT),
        f"Booked on accounts in {summary.month}": summary.accounts.without_repeated_costs(),
    }.items():
        if rows:
            print_rows(title, rows.columns, rows.rows, Output.table)


def _with_rest(rows: Rows, most: int) -> Rows:
    """The first rows, then one row per currency for the others, so that the table adds up."""
    rest: dict[str, list[Any]] = {}
    for items, currency, cost, effective in rows.select("items", "currency", "cost", "effective_cost")[most:]:
        sums = rest.setdefault(currency, [0, Decimal(0), Decimal(0), 0])
        sums[0] += items
        sums[1] += cost
        sums[2] += effective
        sums[3] += 1
    others = [
        ("", "", f"… {n} more lines", items, currency, cost, effective)
        for currency, (items, cost, effective, n) in rest.items()
    ]
    return Rows(rows.columns, (*rows.rows[:most], *others)).without_repeated_costs()


def _print_proof(console: Console, summary: Summary) -> None:
    """The proof as sums: what the month's instalments are due, and what was booked."""
    console.print(Text.assemble(("Proof of conservation", "bold"), ", item by item, to ten decimals:"))
    for category, currency, due, booked, effective_due, effective_booked, items in summary.proof.rows:
        console.print(
            plain(
                f"  {category:8} {counted(items, 'item')} due {due:,.10f} {currency}, "
                f"booked {booked:,.10f} {currency}, difference {due - booked:f}"
            )
        )
        if category != "savings" and (effective_due, effective_booked) != (due, booked):
            console.print(
                plain(
                    f"  {'':8} amortised, due {effective_due:,.10f} {currency}, booked {effective_booked:,.10f} "
                    f"{currency}, difference {effective_due - effective_booked:f}"
                )
            )
    if not summary.proof:
        console.print(f"  Nothing was due in {summary.month}.")
