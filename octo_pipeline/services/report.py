"""The content of a month's report, read from published partitions. How it looks belongs in `report_page`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import duckdb

from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.months import add_months, origin_months
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.sql import Relation, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.services.checks import CHECKS
from octo_pipeline.services.figures import by_allocator
from octo_pipeline.services.periods import state_in_words
from octo_pipeline.services.reasons import changed_since
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.corrections import Corrections, causes_in
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.graph import stale
from octo_pipeline.tables.items import scan_items
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.prepayments import Prepayments
from octo_pipeline.tables.restored_items import create_restored_items
from octo_pipeline.workspace import Workspace


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
    effective: Decimal
    amortised_final: Decimal

    @property
    def is_amortised(self) -> bool:
        """Whether the amortised measure differs from what is billed."""
        return (self.effective, self.amortised_final) != (self.billed, self.final)

    @property
    def share(self) -> float:
        """The part of the bill that was allocated, for a chart; 0 if nothing was billed."""
        return float(self.allocated_out / self.billed) if self.billed else 0.0


@dataclass(frozen=True)
class Report:
    """Everything that the page shows. Amounts are exact decimals, rows are tuples in the order of the page's columns.

    Attributes:
        changed_inputs: what changed since the month was made.
        stale_months: the earlier months that are stale and whose items can be booked in this one.
        state: provisional, or closed on a day.
        corrections: what the month corrects of closed ones, by owner.
        causes: the closed months that it corrects, and why.
    """

    month: str
    previous_month: str | None
    changed_inputs: tuple[str, ...]
    stale_months: tuple[str, ...]
    bills: tuple[Bill, ...]
    rules: tuple[tuple[Any, ...], ...]
    accounts: tuple[tuple[Any, ...], ...]
    left: tuple[tuple[Any, ...], ...]
    prepayments: tuple[tuple[Any, ...], ...]
    cost_groups: tuple[tuple[Any, ...], ...]
    findings: tuple[tuple[str, str], ...]
    state: str
    corrections: tuple[tuple[Any, ...], ...]
    causes: tuple[tuple[str, str], ...]

    @property
    def has_steps(self) -> bool:
        """Whether balances were handed on."""
        return any(category == "balance" for _, _, category, *_ in self.rules)

    def billed(self, currency: str) -> Decimal:
        """The bill in a currency; 0 without one."""
        return next((bill.billed for bill in self.bills if bill.currency == currency), Decimal(0))


def report_of(workspace: Workspace, month: str) -> Report:
    """Read the report of a month.

    Raises:
        OctoError: the month was not run.
    """
    lake = workspace.lake
    lake.require([month], Allocations.name, AccountCosts.name, CostGroupCosts.name)
    before = add_months(month, -1)
    previous = before if before in lake.months(AccountCosts.name) else None
    with lake.connect() as connection:
        explained = create_temp_table(
            connection, "explained", explained_allocations(workspace, [month], has_corrections=False)
        )
        accounts = lake.scan(AccountCosts.name, [month], AccountCosts.columns)
        accounts_before = lake.scan(AccountCosts.name, [previous] if previous else [], AccountCosts.columns)
        line_items = lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS)
        pieces = {
            "explained": explained,
            "line_items": line_items,
            "account_costs": accounts,
            "previous_account_costs": accounts_before,
        }
        restores = _restores(connection, workspace, pieces)
        changed, stale_months = _stale(workspace, month)
        return Report(
            month,
            previous,
            changed,
            stale_months,
            tuple(_bill(row, previous is not None) for row in _fetch(connection, "report_bills", pieces)),
            _rules(by_allocator(connection, explained), _allocators(connection, workspace, explained)),
            _accounts(_fetch(connection, "report_accounts", pieces), previous is not None),
            tuple(_fetch(connection, "report_left", {**pieces, "restores": restores})),
            _prepayments(connection, workspace, month),
            _cost_groups(connection, workspace, month),
            tuple((c.severity, r.summary) for c in CHECKS if not (r := c.run(workspace, month)).passed),
            state_in_words(workspace, month),
            _corrections(connection, workspace, month),
            tuple(sorted(causes_in(lake, month).items())),
        )


def _fetch(
    connection: duckdb.DuckDBPyConnection, template: str, pieces: Mapping[str, Relation]
) -> list[tuple[Any, ...]]:
    return connection.execute(render(f"services/{template}", **pieces)).fetchall()


def _stale(workspace: Workspace, month: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What changed since the month was made, and which earlier months with items for it are stale."""
    partitions = stale(workspace)
    origins = set(origin_months(month)) - {month}
    return changed_since(partitions, month), tuple(sorted({partition.month for partition in partitions} & origins))


def _restores(connection: duckdb.DuckDBPyConnection, workspace: Workspace, pieces: Mapping[str, Relation]) -> Relation:
    """A table of who restored which item of the month and why."""
    months = sorted({origin for _, origin in _fetch(connection, "report_restored", pieces)})
    if not months:
        columns = {"item_id": "VARCHAR", "actor": "VARCHAR", "reason": "VARCHAR"}
        return create_temp_table(connection, "restores", rows_sql(columns, []))
    items = scan_items(workspace.lake, months)
    restored_items = create_restored_items(connection, workspace.registry.restored_items(months), items)
    # The last decision on an item counts.
    decisions = {
        decision.item_id: decision for month in months for decision in workspace.registry.decisions(origin_month=month)
    }.values()
    query = render("services/report_restores", restored_items=restored_items)
    values = [[getattr(decision, name) for decision in decisions] for name in ("item_id", "actor", "reason")]
    return create_temp_table(connection, "restores", query, values)


def _bill(row: tuple[Any, ...], has_previous: bool) -> Bill:
    bill = Bill(*row)
    return bill if has_previous else replace(bill, previous=None)


def _allocators(
    connection: duckdb.DuckDBPyConnection, workspace: Workspace, explained: Relation
) -> dict[str, Allocator]:
    """The pinned allocators of the month's rows, by id. If there are several versions, the latest origin month's."""
    allocators: dict[str, Allocator] = {}
    for (origin,) in _fetch(connection, "report_origins", {"explained": explained}):
        metadata = workspace.lake.metadata(MatchedItems.name, origin)
        for document in (metadata.facts["allocators"] if metadata else {}).values():
            allocator = Allocator.from_document(document)
            allocators[allocator.id] = allocator
    return allocators


def _rules(by_allocator: Rows, allocators: dict[str, Allocator]) -> tuple[tuple[Any, ...], ...]:
    rows = []
    columns = ("allocator", "category", "accounts", "currency", "items_cost", "split", "remainder")
    amortised = by_allocator.select("effective_split", "effective_remainder")
    for row, effective in zip(by_allocator.select(*columns), amortised, strict=True):
        name, category, accounts, currency, billed, split, remainder = row
        allocator = allocators.get(name)
        title = (allocator.name if allocator else None) or name
        description = (allocator.description if allocator else None) or ""
        booked = tuple(cost or Decimal(0) for cost in (split, remainder, *effective))
        rows.append((title, description, category, currency, billed, *booked[:2], accounts, sum(booked[2:])))
    # The largest amounts matter most to finance.
    return tuple(sorted(rows, key=lambda row: (row[2], -sum(abs(cost or 0) for cost in row[4:7]))))


def _accounts(rows: Sequence[tuple[Any, ...]], has_previous: bool) -> tuple[tuple[Any, ...], ...]:
    return tuple(rows if has_previous else ((*row[:-1], None) for row in rows))


def _prepayments(
    connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str
) -> tuple[tuple[Any, ...], ...]:
    carried = workspace.lake.scan(Prepayments.name, [month], Prepayments.columns)
    query = render("services/largest_prepayments", prepayments=carried, limit=None)
    return tuple(connection.execute(query).fetchall())


def _corrections(
    connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str
) -> tuple[tuple[Any, ...], ...]:
    corrections = workspace.lake.scan(Corrections.name, [month], Corrections.columns)
    rows = _fetch(connection, "corrections_by_owner", {"corrections": corrections})
    return tuple(
        (owner, closed, allocator or "the bill itself", currency, cost, effective_cost)
        for closed, owner, allocator, currency, cost, effective_cost in rows
    )


def _cost_groups(
    connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str
) -> tuple[tuple[Any, ...], ...]:
    names = {group.id: group.name or group.id for group in workspace.configuration.cost_groups.values()}
    costs = workspace.lake.scan(CostGroupCosts.name, [month], CostGroupCosts.columns)
    rows = _fetch(connection, "cost_group_sections", {"cost_group_costs": costs})
    return tuple(
        (
            names.get(group, group),
            currency,
            direct,
            account,
            fee,
            balance,
            correction,
            savings,
            direct + account + fee + balance + correction,
            amortised,
        )
        for group, currency, direct, account, fee, balance, savings, correction, amortised in rows
    )
