"""What finance asks of a published partition: its figures, tables and charts, read from the lake.

Here belongs what is shown of a month wherever it is shown; how it is drawn or recorded is the caller's matter.
A figure's name ends in its unit: a currency, or percent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import duckdb

from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, MONEY
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.sql import literal
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.resolved_accounts import ResolvedAccounts
from octo_pipeline.tables.usage_shares import UsageShares
from octo_pipeline.workspace import Workspace

_PREVIEW = 10
_BARS = 15
_MONTHS = 24


@dataclass(frozen=True)
class Bars:
    """A bar chart: one bar a label, in the order given; `unit` is a currency or percent."""

    title: str
    unit: str
    bars: tuple[tuple[str, Decimal], ...]


@dataclass(frozen=True)
class Figures:
    """What there is to say about a partition."""

    numbers: dict[str, Decimal | int]
    tables: dict[str, Rows]
    charts: dict[str, Bars]


def figures(workspace: Workspace, table: str, month: str) -> Figures:
    """The figures of a published partition; none for a table that has nothing to tell.

    Args:
        workspace: whose lake.
        table: the table's name.
        month: a month whose partition is there.
    """
    tell = _TABLES.get(table)
    if tell is None:
        return Figures({}, {}, {})
    with workspace.lake.connect() as connection:
        return tell(connection, workspace, month)


def by_allocator(connection: duckdb.DuckDBPyConnection, rows: str) -> Rows:
    """What each allocator took and where it went.

    Args:
        connection: where `rows` can be read.
        rows: relation of explained allocations.
    """
    return _rows(
        connection,
        "SELECT allocator_id AS allocator, category, count(*) FILTER (kind = 'item') AS items, "
        "count(DISTINCT target_account) FILTER (kind = 'split') AS accounts, currency, "
        "sum(cost) FILTER (kind = 'item') AS items_cost, sum(cost) FILTER (kind = 'split') AS split, "
        "sum(cost) FILTER (kind = 'remainder') AS remainder "
        f"FROM {rows} WHERE allocator_id IS NOT NULL GROUP BY ALL ORDER BY category, allocator_id, currency",
    )


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> Rows:
    found = connection.execute(query)
    return Rows(tuple(column[0] for column in found.description or ()), tuple(found.fetchall()))


def _by_currency(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, Decimal | int]:
    """Figures from a query of a currency and amounts; each is named after its column and the currency."""
    found = _rows(connection, query)
    return {
        f"{name} {row[0]}": value
        for row in found.rows
        for name, value in zip(found.columns[1:], row[1:], strict=True)
        if value is not None
    }


def _line_items(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> Figures:
    lines = workspace.lake.scan("cost_line_items", [month], LINE_ITEM_COLUMNS)
    totals = _by_currency(
        connection,
        "SELECT billing_currency, sum(billed_cost) AS billed, sum(effective_cost) AS effective, sum(list_cost) AS list "
        f"FROM {lines} GROUP BY ALL ORDER BY ALL",
    )
    by_payer = _rows(
        connection,
        "SELECT vendor, billing_account_id AS payer, charge_category, sum(line_count)::BIGINT AS lines, "
        f"billing_currency AS currency, sum(billed_cost) AS billed FROM {lines} GROUP BY ALL ORDER BY ALL",
    )
    return Figures(totals, {"bill": by_payer}, {})


def _matched_items(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> Figures:
    items = workspace.lake.scan(MatchedItems.name, [month], MatchedItems.columns)
    counts = _rows(
        connection,
        "SELECT count(*) FILTER (allocator_id IS NOT NULL) AS taken, count(*) FILTER (allocator_id IS NULL) AS untaken, "
        f"count(*) FILTER (len(conflicting_allocator_ids) > 0) AS conflicts FROM {items}",
    )
    taken = _rows(
        connection,
        "SELECT coalesce(allocator_id, '(nobody)') AS allocator, category, count(*) AS items, "
        f"billing_currency AS currency, sum(cost)::{MONEY} AS cost, "
        "count(*) FILTER (len(conflicting_allocator_ids) > 0) AS conflicts "
        f"FROM {items} GROUP BY ALL ORDER BY category, sum(abs(cost)) DESC",
    )
    return Figures(dict(zip(counts.columns, counts.rows[0], strict=True)), {"by allocator": taken}, {})


def _resolved_accounts(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> Figures:
    resolved = workspace.lake.scan(ResolvedAccounts.name, [month], ResolvedAccounts.columns)
    entries = _rows(
        connection,
        "SELECT allocator_id AS allocator, entry_index AS entry, entry_type AS type, entry_value AS value, "
        f"count(account_id) AS accounts FROM {resolved} GROUP BY ALL ORDER BY ALL",
    )
    nobody = sum(1 for row in entries.rows if row[-1] == 0)
    return Figures({"entries": len(entries.rows), "entries of nobody": nobody}, {"entries": entries}, {})


def _usage_shares(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> Figures:
    shares = workspace.lake.scan(UsageShares.name, [month], UsageShares.columns)
    largest = _rows(
        connection,
        "SELECT allocator_id AS allocator, account_id AS account, round(usage_share * 100, 2) AS percent, "
        "usage_cost AS usage, usage_currency AS currency "
        f"FROM {shares} ORDER BY usage_share DESC NULLS LAST, allocator_id, account_id LIMIT {_PREVIEW}",
    )
    (accounts,) = connection.execute(f"SELECT count(DISTINCT account_id) FROM {shares}").fetchone() or (0,)
    return Figures({"accounts": accounts}, {"largest shares": largest}, {})


def _allocations(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> Figures:
    connection.execute(f"CREATE TEMP TABLE rows AS {explained_allocations(workspace.lake, [month])}")
    totals = _by_currency(
        connection,
        "SELECT currency, coalesce(sum(cost) FILTER (kind = 'split'), 0) AS allocated, "
        "coalesce(sum(cost) FILTER (status = 'unchecked_allocated'), 0) AS unallocated, "
        "coalesce(sum(cost) FILTER (kind = 'remainder'), 0) AS remainder "
        "FROM rows WHERE category <> 'savings' GROUP BY ALL ORDER BY ALL",
    )
    savings = _by_currency(
        connection,
        "SELECT currency, coalesce(sum(cost) FILTER (kind <> 'item'), 0) AS savings_allocated "
        "FROM rows WHERE category = 'savings' GROUP BY ALL ORDER BY ALL",
    )
    left = _rows(
        connection,
        "SELECT category, replace(reason, '_', ' ') AS why, source_account AS account, "
        "coalesce(charge_description, commitment_discount_id, service_code) AS what, currency, sum(cost) AS cost "
        f"FROM rows WHERE status = 'unchecked_allocated' GROUP BY ALL ORDER BY sum(abs(cost)) DESC, 3, 4 LIMIT {_PREVIEW}",
    )
    return Figures(
        totals | savings, {"by allocator": by_allocator(connection, "rows"), "left where it was billed": left}, {}
    )


def _account_costs(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> Figures:
    costs = workspace.lake.scan(AccountCosts.name, [month], AccountCosts.columns)
    totals = _by_currency(
        connection,
        "SELECT currency, sum(billed) AS billed, sum(allocated_in) AS allocated, sum(final_cost) AS final "
        f"FROM {costs} GROUP BY ALL ORDER BY ALL",
    )
    largest = _rows(
        connection,
        "SELECT account, currency, billed, allocated_out, allocated_in, savings_in - savings_out AS savings, "
        f"final_cost FROM {costs} ORDER BY abs(final_cost) DESC, account, currency LIMIT {_PREVIEW}",
    )
    charts = {}
    for (currency,) in connection.execute(
        f"SELECT currency FROM {costs} WHERE allocated_in <> 0 GROUP BY ALL ORDER BY ALL"
    ).fetchall():
        bars = connection.execute(
            f"SELECT account, allocated_in FROM {costs} WHERE currency = {literal(currency)} AND allocated_in <> 0 "
            f"ORDER BY abs(allocated_in) DESC, account LIMIT {_BARS}"
        ).fetchall()
        charts[f"allocated per account {currency}"] = Bars(
            f"Allocated to accounts in {month}, {currency}", currency, tuple(bars)
        )
    return Figures(totals, {"largest accounts": largest}, charts | _shares(connection, workspace, month))


def _shares(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> dict[str, Bars]:
    """How much of each month's bill was handed out, up to this month, a chart a currency."""
    months = [one for one in workspace.lake.months(AccountCosts.name) if one <= month][-_MONTHS:]
    costs = workspace.lake.scan(AccountCosts.name, months, AccountCosts.columns, month_as="month")
    found = connection.execute(
        "SELECT currency, month, sum(allocated_out) * 100 / sum(billed) "
        f"FROM {costs} GROUP BY ALL HAVING sum(billed) <> 0 ORDER BY ALL"
    ).fetchall()
    by_currency: dict[str, list[tuple[str, Decimal]]] = {}
    for currency, of, percent in found:
        by_currency.setdefault(currency, []).append((of, Decimal(str(round(percent, 2)))))
    return {
        f"share of the bill allocated {currency}": Bars(
            f"Share of the {currency} bill that was allocated", "percent", tuple(bars)
        )
        for currency, bars in by_currency.items()
    }


def _cost_group_costs(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> Figures:
    costs = workspace.lake.scan(CostGroupCosts.name, [month], CostGroupCosts.columns)
    groups = _rows(
        connection,
        "SELECT cost_group_id AS cost_group, currency, "
        + ", ".join(
            f"coalesce(sum(cost) FILTER (section = '{section}'), 0) AS {section}"
            for section in ("direct", "account", "fee", "savings")
        )
        + f" FROM {costs} GROUP BY ALL ORDER BY ALL",
    )
    return Figures({"cost groups": len({row[0] for row in groups.rows})}, {"cost groups": groups}, {})


_TABLES: dict[str, Callable[[duckdb.DuckDBPyConnection, Workspace, str], Figures]] = {
    "cost_line_items": _line_items,
    MatchedItems.name: _matched_items,
    ResolvedAccounts.name: _resolved_accounts,
    UsageShares.name: _usage_shares,
    Allocations.name: _allocations,
    AccountCosts.name: _account_costs,
    CostGroupCosts.name: _cost_group_costs,
}
