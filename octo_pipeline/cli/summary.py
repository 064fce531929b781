"""What a run prints at its end: the month's allocations, totals, and the proof."""

from decimal import Decimal
from typing import Any

import duckdb
from rich.console import Console

from octo_pipeline.cli.output import Output, print_rows
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS
from octo_pipeline.model.wording import amount, counted
from octo_pipeline.services.checks import CHECKS
from octo_pipeline.services.figures import by_allocator
from octo_pipeline.settings import load_settings
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.workspace import Workspace


def print_summary(month: str) -> None:
    """Print the allocations of a month as tables for people, with totals and the proof of conservation."""
    workspace = Workspace(load_settings())
    with workspace.lake.connect() as connection:
        connection.execute(f"CREATE TEMP TABLE rows AS {explained_allocations(workspace.lake, [month])}")
        _print_items(connection, month)
        _print_accounts(connection, month)
        _print_bill(connection, workspace, month)
        _print_proof(connection, month)
    _print_findings(workspace, month)


def _print_items(connection: duckdb.DuckDBPyConnection, month: str) -> None:
    """What was distributed by which rule, and what was left where it was billed."""
    taken = by_allocator(connection, "rows")
    if taken.rows:
        print_rows(f"Distributed in {month}", taken.columns, taken.rows, Output.table)
    left = connection.execute(
        "SELECT category, replace(reason, '_', ' '), "
        "coalesce(charge_description, commitment_discount_type || ' savings, ' || savings_kind, service_code, ''), "
        "count(*), currency, sum(cost) FROM rows WHERE kind = 'item' AND status = 'unchecked_allocated' "
        "GROUP BY ALL ORDER BY category, sum(abs(cost)) DESC, 2, 3"
    ).fetchall()
    if left:
        print_rows(
            f"Left where it was billed in {month}",
            ("category", "why", "what", "items", "currency", "cost"),
            _with_rest(left, 12),
            Output.table,
        )


def _with_rest(rows: list[tuple[Any, ...]], most: int) -> list[tuple[Any, ...]]:
    """The first rows, and one for all others: a total must not hide what is not listed."""
    if len(rows) <= most:
        return rows
    rest: dict[str, list[Any]] = {}
    for row in rows[most:]:
        sums = rest.setdefault(row[4], [0, Decimal(0), 0])
        sums[0] += row[3]
        sums[1] += row[5]
        sums[2] += 1
    return rows[:most] + [("", "", f"… {n} more lines", items, cur, cost) for cur, (items, cost, n) in rest.items()]


def _print_accounts(connection: duckdb.DuckDBPyConnection, month: str) -> None:
    """Who got what, a column a category."""
    rows = connection.execute(
        "SELECT target_account, currency, sum(cost) FILTER (category = 'fee'), "
        "sum(cost) FILTER (category = 'account'), sum(cost) FILTER (category = 'savings') "
        "FROM rows WHERE kind <> 'item' GROUP BY ALL ORDER BY target_account, currency"
    ).fetchall()
    if rows:
        columns = ("account", "currency", "fees", "account_usage", "savings")
        print_rows(f"Booked on accounts in {month}", columns, rows, Output.table)


def _print_bill(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> None:
    line_items = workspace.lake.scan("cost_line_items", [month], LINE_ITEM_COLUMNS)
    bills = connection.execute(
        f"SELECT billing_currency, sum(billed_cost), sum(line_count) FROM {line_items} GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    for currency, billed, lines in bills:
        _console().print(f"The bill of {month}: {amount(billed, currency)} in {lines:,} line{'s' * (lines != 1)}.")


def _print_proof(connection: duckdb.DuckDBPyConnection, month: str) -> None:
    """The proof as sums: what the month's tranches are due, and what was booked."""
    rows = connection.execute(
        "SELECT category, currency, sum(tranche_cost), sum(booked), count(*) FROM ("
        "SELECT category, currency, item_id, origin_month, any_value(tranche_cost) AS tranche_cost, "
        "sum(cost) AS booked FROM rows WHERE kind <> 'item' GROUP BY ALL) GROUP BY ALL ORDER BY 1, 2"
    ).fetchall()
    console = _console()
    console.print("[bold]Proof of conservation[/bold], item by item, to ten decimals:")
    for category, currency, due, booked, items in rows:
        console.print(
            f"  {category:8} {counted(items, 'item')} due {due:,.10f} {currency}, booked {booked:,.10f} {currency}, "
            f"difference {due - booked:f}"
        )
    if not rows:
        console.print(f"  Nothing was due in {month}.")


def _print_findings(workspace: Workspace, month: str) -> None:
    """What the checks of the month have to say."""
    failed = [(check, result) for check in CHECKS if not (result := check.run(workspace, month)).passed]
    for check, result in failed:
        _console().print(f"[yellow]{check.severity}[/yellow] {check.name}: {result.summary}")


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)
