"""What the report of a month says, gathered from published partitions. How it looks is the page's."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import duckdb

from octo_pipeline.model.columns import LINE_ITEM_COLUMNS
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.months import add_months
from octo_pipeline.model.sql import literal
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.services.checks import CHECKS
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.workspace import Workspace

_MOST_ROWS = 60  # more lines than a person reads; the CSV has all


@dataclass(frozen=True)
class Bill:
    """The month's bill in one currency."""

    currency: str
    billed: Decimal
    lines: int
    previous: Decimal | None
    allocated_out: Decimal
    allocated_in: Decimal
    remainder: Decimal
    final: Decimal

    @property
    def share(self) -> float:
        """The part of the bill that was handed out, for a chart; 0 where there is no bill."""
        return float(self.allocated_out / self.billed) if self.billed else 0.0


@dataclass(frozen=True)
class Report:
    """Everything the page shows; amounts are exact decimals, rows are tuples in the order of the page's columns."""

    month: str
    previous_month: str | None
    bills: tuple[Bill, ...]
    rules: tuple[tuple[Any, ...], ...]
    accounts: tuple[tuple[Any, ...], ...]
    left: tuple[tuple[Any, ...], ...]
    left_out: int
    cost_groups: tuple[tuple[Any, ...], ...]
    findings: tuple[tuple[str, str], ...]


def report_of(workspace: Workspace, month: str) -> Report:
    """Gather the report of a month.

    Raises:
        OctoError: the month was not run.
    """
    lake = workspace.lake
    for table in ("allocations", AccountCosts.name, CostGroupCosts.name):
        if month not in lake.months(table):
            raise OctoError(
                f"The lake has no {table} of {month}.",
                code="month-not-made",
                place=month,
                remedy=Remedy("run", month=month),
            )
    before = add_months(month, -1)
    previous = before if before in lake.months(AccountCosts.name) else None
    with lake.connect() as connection:
        connection.execute(f"CREATE TEMP TABLE rows AS {explained_allocations(lake, [month])}")
        for name, of in (("now", month), ("before", previous)):
            connection.execute(
                f"CREATE TEMP TABLE costs_{name} AS SELECT * FROM "
                f"{lake.scan(AccountCosts.name, [of] if of else [], AccountCosts.columns)}"
            )
        left = _left(connection)
        return Report(
            month,
            previous,
            _bills(connection, lake.scan("cost_line_items", [month], LINE_ITEM_COLUMNS), previous is not None),
            _rules(connection, _allocators(connection, workspace, month)),
            _accounts(connection, previous is not None),
            tuple(left[:_MOST_ROWS]),
            max(len(left) - _MOST_ROWS, 0),
            _cost_groups(connection, workspace, month),
            tuple((c.severity, r.summary) for c in CHECKS if not (r := c.run(workspace, month)).passed),
        )


def _bills(connection: duckdb.DuckDBPyConnection, line_items: str, has_previous: bool) -> tuple[Bill, ...]:
    previous = dict(connection.execute("SELECT currency, sum(billed) FROM costs_before GROUP BY currency").fetchall())
    lines = dict(
        connection.execute(
            f"SELECT billing_currency, sum(line_count)::BIGINT FROM {line_items} GROUP BY billing_currency"
        ).fetchall()
    )
    remainders = dict(
        connection.execute(
            "SELECT currency, sum(cost) FROM rows WHERE kind = 'remainder' AND category <> 'savings' GROUP BY currency"
        ).fetchall()
    )
    rows = connection.execute(
        "SELECT currency, sum(billed), sum(allocated_out), sum(allocated_in), sum(final_cost) FROM costs_now "
        "GROUP BY currency ORDER BY sum(abs(billed)) DESC, currency"
    ).fetchall()
    return tuple(
        Bill(
            currency,
            billed,
            lines.get(currency, 0),
            previous.get(currency, Decimal(0)) if has_previous else None,
            out,
            came_in,
            remainders.get(currency, Decimal(0)),
            final,
        )
        for currency, billed, out, came_in, final in rows
    )


def _allocators(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> dict[str, Allocator]:
    """The pinned allocators of the month's rows by id; of several versions the latest origin month's."""
    origins = [m for (m,) in connection.execute("SELECT DISTINCT origin_month FROM rows ORDER BY 1").fetchall()]
    found: dict[str, Allocator] = {}
    for origin in origins:
        metadata = workspace.lake.metadata(MatchedItems.name, origin)
        for document in (metadata.facts["allocators"] if metadata else {}).values():
            allocator = Allocator.from_document(document)
            found[allocator.id] = allocator
    return found


def _rules(connection: duckdb.DuckDBPyConnection, allocators: dict[str, Allocator]) -> tuple[tuple[Any, ...], ...]:
    rows = connection.execute(
        "SELECT allocator_id, category, currency, sum(cost) FILTER (kind = 'item'), "
        "coalesce(sum(cost) FILTER (kind = 'split'), 0), coalesce(sum(cost) FILTER (kind = 'remainder'), 0), "
        "count(DISTINCT target_account) FILTER (kind = 'split') "
        "FROM rows WHERE allocator_id IS NOT NULL GROUP BY ALL ORDER BY category, sum(abs(cost)) DESC, allocator_id"
    ).fetchall()
    told = []
    for name, category, currency, billed, split, remainder, accounts in rows:
        allocator = allocators.get(name)
        title = (allocator.name if allocator else None) or name
        description = (allocator.description if allocator else None) or ""
        told.append((title, description, category, currency, billed, split, remainder, accounts))
    return tuple(told)


def _accounts(connection: duckdb.DuckDBPyConnection, has_previous: bool) -> tuple[tuple[Any, ...], ...]:
    change = "n.final_cost - coalesce(b.final_cost, 0)" if has_previous else "NULL"
    return tuple(
        connection.execute(
            "SELECT n.account, a.name, n.currency, n.billed, n.allocated_out, n.allocated_in, "
            f"n.savings_in - n.savings_out, n.final_cost, {change} FROM costs_now AS n "
            "LEFT JOIN costs_before AS b USING (account, currency) "
            "LEFT JOIN (SELECT source_account, max(source_account_name) AS name FROM rows GROUP BY ALL) AS a "
            "ON a.source_account = n.account ORDER BY abs(n.final_cost) DESC, n.account, n.currency"
        ).fetchall()
    )


def _left(connection: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT source_account, coalesce(charge_description, "
        "CASE savings_kind WHEN 'used' THEN 'Savings of ' ELSE 'Unused part of ' END || commitment_discount_id, "
        "service_code, ''), category, "
        "CASE reason WHEN 'no_allocator' THEN 'no rule takes it' WHEN 'restored' THEN 'restored by a person' "
        "ELSE 'the formula of its rule failed' END, currency, sum(cost) FROM rows "
        "WHERE kind = 'item' AND status = 'unchecked_allocated' GROUP BY ALL ORDER BY sum(abs(cost)) DESC, 1, 2"
    ).fetchall()


def _cost_groups(
    connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str
) -> tuple[tuple[Any, ...], ...]:
    names = {group.id: group.name or group.id for group in workspace.configuration.cost_groups.values()}
    sections = ("direct", "account", "fee")
    sums = ", ".join(f"coalesce(sum(cost) FILTER (section = {literal(s)}), 0)" for s in (*sections, "savings"))
    whole = "coalesce(sum(cost) FILTER (section <> 'savings'), 0)"
    rows: Sequence[tuple[Any, ...]] = connection.execute(
        f"SELECT cost_group_id, currency, {sums}, {whole} FROM "
        f"{workspace.lake.scan(CostGroupCosts.name, [month], CostGroupCosts.columns)} GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    return tuple((names.get(row[0], row[0]), *row[1:]) for row in rows)
