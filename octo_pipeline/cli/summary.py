"""What a run prints at its end: the month's allocations, totals, and the proof."""

from decimal import Decimal
from typing import Any

import duckdb
from rich.console import Console

from octo_pipeline.cli.output import Output, amount, print_rows
from octo_pipeline.settings import load_settings
from octo_pipeline.tables.allocation import explained_allocations
from octo_pipeline.tables.workspace import Workspace


def print_summary(month: str) -> None:
    """Print the allocations of a month as tables for people, with totals and the proof of conservation."""
    workspace = Workspace(load_settings())
    with workspace.lake.connect() as connection:
        connection.execute(f"CREATE TEMP TABLE rows AS {explained_allocations(workspace.lake, [month])}")
        _print_items(connection, month)
        _print_targets(connection, month)
        _print_proof(connection, workspace, month)


def _print_items(connection: duckdb.DuckDBPyConnection, month: str) -> None:
    """What was to be distributed, and what became of it."""
    for status, title, column, value in (
        ("checked_allocated", "Distributed (Checked Allocated)", "allocator", "allocator_id"),
        (
            "unchecked_allocated",
            "Left where it was billed (Unchecked Allocated)",
            "why",
            "replace(reason, '_', ' ')",
        ),
    ):
        rows = connection.execute(
            f"SELECT category, {value}, "
            "coalesce(charge_description, commitment_discount_type || ' savings, ' || savings_kind, service_code, ''), "
            "count(*), currency, sum(cost) FROM rows WHERE kind = 'item' AND status = $1 "
            "GROUP BY ALL ORDER BY category, sum(abs(cost)) DESC, 2, 3",
            [status],
        ).fetchall()
        columns = ("category", column, "what", "items", "currency", "cost")
        if rows:
            print_rows(f"{title}, {month}", columns, _with_rest(rows, 15), Output.table)


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


def _print_targets(connection: duckdb.DuckDBPyConnection, month: str) -> None:
    """Who got what."""
    rows = connection.execute(
        "SELECT target_account, allocator_id || CASE kind WHEN 'remainder' THEN ' (remainder)' ELSE '' END, category, "
        "count(*), currency, sum(cost) FROM rows "
        "WHERE kind <> 'item' GROUP BY ALL ORDER BY target_account, category, 2"
    ).fetchall()
    columns = ("account", "allocator", "category", "rows", "currency", "cost")
    if rows:
        print_rows(f"Booked in {month} (Checked Splitted)", columns, rows, Output.table)


def _print_proof(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> None:
    """The proof as sums: what the month's tranches are due, and what was booked."""
    rows = connection.execute(
        "SELECT category, currency, sum(tranche_cost), sum(booked), sum(tranche_cost) - sum(booked) FROM ("
        "SELECT category, currency, item_id, origin_month, any_value(tranche_cost) AS tranche_cost, "
        "sum(cost) AS booked FROM rows WHERE kind <> 'item' GROUP BY ALL) GROUP BY ALL ORDER BY 1, 2"
    ).fetchall()
    console = Console()
    console.print("[bold]Proof of conservation[/bold] (each item was proved before the month was published)")
    for category, currency, due, booked, difference in rows:
        console.print(
            f"  {category:8} due {amount(due, currency)}, booked {amount(booked, currency)}, difference {difference}"
        )
    if not rows:
        console.print(f"  Nothing was booked in {month}.")
    problems = workspace.configuration.problems
    for problem in problems:
        console.print(f"[yellow]left out[/yellow] {problem}")
