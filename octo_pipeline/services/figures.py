"""What finance wants to know about a published partition: its figures, tables and charts, read from the lake.

How they are drawn or recorded is up to the caller. A name of an amount or percentage ends in its currency.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import duckdb

from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.sql import Relation
from octo_pipeline.model.templates import render
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.corrections import Corrections, causes_in
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.prepayments import Prepayments
from octo_pipeline.tables.resolved_accounts import ResolvedAccounts
from octo_pipeline.tables.usage_shares import UsageShares
from octo_pipeline.workspace import Workspace

_PREVIEW = 10
_BARS = 15


@dataclass(frozen=True)
class Bars:
    """A bar chart of amounts, with a bar per label, in this order."""

    title: str
    bars: tuple[tuple[str, Decimal], ...]


@dataclass(frozen=True)
class Figures:
    """The figures, tables and charts of a partition, by name."""

    numbers: dict[str, Decimal | int]
    tables: dict[str, Rows]
    charts: dict[str, Bars]


def figures(workspace: Workspace, table: str, month: str) -> Figures:
    """The figures of a published partition; empty for a table that has none.

    Args:
        workspace: whose lake.
        table: the table's name.
        month: a month whose partition is there.
    """
    read_figures = _TABLES.get(table)
    if read_figures is None:
        return Figures({}, {}, {})
    with workspace.lake.connect() as connection:
        return read_figures(connection, workspace, month)


def by_allocator(connection: duckdb.DuckDBPyConnection, explained: Relation) -> Rows:
    """What each allocator took and where it went.

    Args:
        connection: where `explained` can be read.
        explained: relation of explained allocations.
    """
    return _rows(connection, "allocated_by_allocator", explained=explained)


def _rows(connection: duckdb.DuckDBPyConnection, template: str, **pieces: object) -> Rows:
    return Rows.fetched(connection, render(f"services/{template}", **pieces))


def _by_currency(rows: Rows) -> dict[str, Decimal | int]:
    """Figures from rows of a currency and its amounts. Each is named after its column and the currency."""
    return {
        f"{name.replace('_', ' ')} {row[0]}": value
        for row in rows.rows
        for name, value in zip(rows.columns[1:], row[1:], strict=True)
        if value is not None
    }


def _line_items(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> Figures:
    line_items = workspace.lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS)
    totals = _by_currency(_rows(connection, "bill", line_items=line_items))
    return Figures(totals, {"bill": _rows(connection, "bill_by_payer", line_items=line_items)}, {})


def _matched_items(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> Figures:
    items = workspace.lake.scan(MatchedItems.name, [month], MatchedItems.columns)
    counts = _rows(connection, "matched_items_counts", matched_items=items)
    taken = _rows(connection, "matched_items_by_allocator", matched_items=items)
    return Figures(dict(zip(counts.columns, counts.rows[0], strict=True)), {"by allocator": taken}, {})


def _resolved_accounts(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> Figures:
    resolved = workspace.lake.scan(ResolvedAccounts.name, [month], ResolvedAccounts.columns)
    entries = _rows(connection, "resolved_entries", resolved_accounts=resolved)
    nobody = entries.column("accounts").count(0)
    return Figures({"entries": len(entries), "entries of nobody": nobody}, {"entries": entries}, {})


def _usage_shares(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> Figures:
    shares = workspace.lake.scan(UsageShares.name, [month], UsageShares.columns)
    largest = _rows(connection, "largest_shares", usage_shares=shares, limit=_PREVIEW)
    (accounts,) = _rows(connection, "usage_share_accounts", usage_shares=shares).column("accounts")
    return Figures({"accounts": accounts}, {"largest shares": largest}, {})


def _allocations(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> Figures:
    explained = create_temp_table(
        connection, "explained", explained_allocations(workspace, [month], has_corrections=False)
    )
    totals = _by_currency(_rows(connection, "allocated_totals", explained=explained))
    savings = _by_currency(_rows(connection, "allocated_savings", explained=explained))
    tables = {
        "by allocator": by_allocator(connection, explained),
        "left where it was billed": _rows(connection, "left_items", explained=explained, limit=_PREVIEW),
    }
    return Figures(totals | savings, tables, {})


def _account_costs(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> Figures:
    costs = workspace.lake.scan(AccountCosts.name, [month], AccountCosts.columns)
    totals = _by_currency(_rows(connection, "account_totals", account_costs=costs))
    largest = _rows(connection, "largest_accounts", account_costs=costs, limit=_PREVIEW)
    allocated = _rows(connection, "allocated_to_accounts", account_costs=costs, limit=_BARS)
    charts = {
        f"allocated per account {currency}": Bars(f"Allocated to accounts in {month}, {currency}", bars)
        for currency, bars in _bars(allocated).items()
    }
    # Dagster plots it over the months.
    percent = _by_currency(_rows(connection, "allocated_percent", account_costs=costs))
    return Figures(totals | percent, {"largest accounts": largest}, charts)


def _bars(rows: Rows) -> dict[str, tuple[tuple[str, Any], ...]]:
    """Rows of currency, label and value as the bars of each currency."""
    bars: dict[str, list[tuple[str, Any]]] = {}
    for currency, label, value in rows.rows:
        bars.setdefault(currency, []).append((label, value))
    return {currency: tuple(values) for currency, values in bars.items()}


def _cost_group_costs(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> Figures:
    costs = workspace.lake.scan(CostGroupCosts.name, [month], CostGroupCosts.columns)
    groups = _rows(connection, "cost_group_sections", cost_group_costs=costs)
    return Figures({"cost groups": len(set(groups.column("cost_group")))}, {"cost groups": groups}, {})


def _corrections(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> Figures:
    corrections = workspace.lake.scan(Corrections.name, [month], Corrections.columns)
    by_owner = _rows(connection, "corrections_by_owner", corrections=corrections)
    causes = tuple(sorted(causes_in(workspace.lake, month).items()))
    tables = {
        "corrected months": Rows(("closed month", "differs because of"), causes),
        "corrections": Rows(by_owner.columns, by_owner.rows[:_PREVIEW]),
    }
    return Figures({"corrected months": len(causes)}, {name: rows for name, rows in tables.items() if rows}, {})


def _prepayments(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> Figures:
    carried = workspace.lake.scan(Prepayments.name, [month], Prepayments.columns)
    totals = _by_currency(_rows(connection, "prepayment_totals", prepayments=carried))
    largest = _rows(connection, "largest_prepayments", prepayments=carried, limit=_PREVIEW)
    return Figures(totals, {"largest prepayments": largest}, {})


_TABLES: dict[str, Callable[[duckdb.DuckDBPyConnection, Workspace, str], Figures]] = {
    LINE_ITEMS: _line_items,
    MatchedItems.name: _matched_items,
    ResolvedAccounts.name: _resolved_accounts,
    UsageShares.name: _usage_shares,
    Allocations.name: _allocations,
    Corrections.name: _corrections,
    AccountCosts.name: _account_costs,
    CostGroupCosts.name: _cost_group_costs,
    Prepayments.name: _prepayments,
}
