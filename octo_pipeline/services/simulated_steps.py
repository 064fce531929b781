"""The balances of a month in a simulation: what the steps book with some rules and with others.

A balance depends on everything else that is booked in the month, so all fees and usage of the month are booked here, by
the functions that make the tables. Items of earlier origin months are those of the lake, with their pinned allocators.
"""

from collections.abc import Sequence

import duckdb

from octo_pipeline.allocation import balances, matching, resolution, shares, splits
from octo_pipeline.allocation.explained import explained_sql
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.sql import Relation
from octo_pipeline.model.templates import render
from octo_pipeline.rules.allocator import Allocator, values_named
from octo_pipeline.tables.container_usage import ContainerUsage
from octo_pipeline.tables.dues import origins_read, pinned_allocators
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.metrics import quantities
from octo_pipeline.workspace import Workspace


def step_rules(allocators: Sequence[Allocator], month: str) -> list[Allocator]:
    """The rules among these that hand on balances of the month."""
    return [a for a in matching.applying(allocators, month) if a.category == "balance"]


def earlier_items(workspace: Workspace, month: str) -> Relation:
    """The items of earlier origin months with something due in the month, with `matching.MATCHED_ITEM_COLUMNS`."""
    origins = [origin for origin in origins_read(workspace.lake, month) if origin != month]
    return workspace.lake.scan(MatchedItems.name, origins, MatchedItems.columns)


class MonthBeforeSteps:
    """A month in which everything but the balances is booked by some allocators."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        workspace: Workspace,
        name: str,
        month: str,
        allocators: Sequence[Allocator],
        rules: Sequence[Allocator],
        restored: Relation,
    ) -> None:
        """Book the month.

        Args:
            connection: where the temporary tables are created; the names of those that stay begin with `name`.
            workspace: the lake and the configuration.
            name: a name of its own.
            month: the month, of which the lake has line items.
            allocators: the allocators of fees and usage.
            rules: all rules that `book` will be called with.
            restored: relation with the ``item_id`` of the restored items.
        """
        self._connection, self._month, self._restored = connection, month, restored
        lake, configuration = workspace.lake, workspace.configuration
        self._line_items = lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS)
        numbered = lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS, row_number_as=matching.LINE_NUMBER)
        matched = matching.matched_items_sql(
            connection, numbered, month, sorted(allocators, key=lambda a: a.precedence), ("fee", "account")
        )
        items = render(
            "services/simulation_due_items", matched_items_query=matched, earlier_items=earlier_items(workspace, month)
        )
        self._items = create_temp_table(connection, f"{name}_due_items", items)
        due = self._due([*allocators, *pinned_allocators(lake, month)])
        containers = lake.scan(ContainerUsage.name, [month], ContainerUsage.columns)
        resolved = resolution.resolved_accounts_sql(
            connection,
            self._line_items,
            containers,
            self._items,
            month,
            [*due, *rules],
            configuration.cost_groups,
            workspace.registered_accounts(values_named([*due, *rules], "payer"), month),
        )
        self.resolved = create_temp_table(connection, f"{name}_due_resolved", resolved)
        weights = shares.usage_shares_sql(
            connection,
            self._line_items,
            containers,
            self.resolved,
            month,
            [*due, *rules],
            configuration.cost_groups,
            quantities(workspace, [*due, *rules], month),
            configuration.rates,
            workspace.settings.base_currency,
        )
        self.shares = create_temp_table(connection, f"{name}_due_shares", weights)
        booked = splits.allocations_sql(connection, self._items, self.shares, restored, month, due)
        self._booked = create_temp_table(
            connection, f"{name}_due_rows", render("services/simulation_texts", booked_rows=booked)
        )

    def _due(self, allocators: Sequence[Allocator]) -> list[Allocator]:
        facts = matching.due_facts(self._connection, self._items)
        versions = facts.get(self._month, {})
        by_version = {a.version: a for a in allocators}
        return [by_version[version] for version in sorted(versions)]

    def book(self, name: str, rules: Sequence[Allocator]) -> None:
        """Hand on the balances by these rules.

        Creates ``<name>_step_items``, with `balances.TAKEN_ITEM_COLUMNS`, and ``<name>_step_bookings``, explained.
        """
        rows = balances.book_steps(
            self._connection,
            Relation(f"({balances.booked_sql(self._booked, self._items)})"),
            self._line_items,
            self.shares,
            self._restored,
            self._month,
            rules,
        )
        booked = create_temp_table(
            self._connection,
            f"{name}_step_rows",
            render("services/simulation_in_month", query=f"from {rows}", month=self._month),
        )
        none = Relation(f"({render('services/no_rows', relation=self._items)})")
        items = create_temp_table(self._connection, f"{name}_step_items", balances.items_sql(none, booked))
        weights = Relation(
            f"({render('services/simulation_in_month', query=f'from {self.shares}', month=self._month)})"
        )
        create_temp_table(self._connection, f"{name}_step_bookings", explained_sql(booked, items, weights))
