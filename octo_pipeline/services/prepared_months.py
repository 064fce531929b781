"""What all simulations of a month begin with: its line items, and which of its items the live allocators take.

Somebody who writes a rule tries it on the same month again and again, so both are kept in this process, in temporary tables
of one connection per month. They depend on the partition of the line items and on the live allocators alone. Whatever else a
simulation reads (cost groups, rates, metrics, the registry, other months) is read each time. Of a large month nothing is kept.
"""

import os
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from threading import Lock

import duckdb

from octo_pipeline.allocation import matching
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.lake.lake import Lake
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.sql import Relation, Sql, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.workspace import Workspace

# A simulation is a hundred statements and more. Over so few line items, each takes longer to plan and to share out than to run.
_SMALL_MONTH = 200_000
_MOST = 2
_lock = Lock()
_kept: OrderedDict[Hashable, "PreparedMonth"] = OrderedDict()


@contextmanager
def prepared_month(workspace: Workspace, month: str) -> Iterator["PreparedMonth"]:
    """A month for one simulation, with what an earlier one left if nothing that it depends on has changed.

    Args:
        workspace: the lake and the live allocators.
        month: a month of which the lake has line items.
    """
    lake, allocators = workspace.lake, workspace.configuration.allocators
    if lake.rows(LINE_ITEMS, month) > _SMALL_MONTH:
        with lake.connect() as connection:
            yield PreparedMonth(connection, _scanned_lines(lake, month), month, allocators)
        return
    key = _key(workspace, month)
    with _lock:
        prepared = _kept.pop(key, None)
    connection = prepared.connection if prepared else lake.open(threads=1)
    try:
        with lake.connect(threads=1, opened=connection):
            if prepared is None:
                lines = create_temp_table(connection, "simulated_lines", Sql(f"from {_scanned_lines(lake, month)}"))
                prepared = PreparedMonth(connection, lines, month, allocators)
            yield prepared
    except BaseException:
        connection.close()
        raise
    with _lock:
        _kept[key] = prepared
        while len(_kept) > _MOST:
            _kept.popitem(last=False)


def _scanned_lines(lake: Lake, month: str) -> Relation:
    return lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS, row_number_as=matching.LINE_NUMBER)


def _key(workspace: Workspace, month: str) -> Hashable:
    """What differs if the line items of the month or the live allocators are others. A forked process has no connection."""
    lake = workspace.lake
    partition = lake.identities([LINE_ITEMS])[f"{LINE_ITEMS}/{month}"]
    versions = tuple(a.version for a in workspace.configuration.allocators)
    return os.getpid(), str(lake.path(LINE_ITEMS, month)), partition, repr(lake.duckdb_config()), versions


class PreparedMonth:
    """The line items of a month, and the items that the live allocators take, which are matched when somebody asks.

    Attributes:
        connection: where its tables are, and where a simulation makes its own.
        lines: relation with the columns of ``cost_line_items`` and `matching.LINE_NUMBER`.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        lines: Relation,
        month: str,
        allocators: Sequence[Allocator],
    ) -> None:
        self.connection = connection
        self.lines = lines
        self._month = month
        self._live = allocators
        self._taken: dict[str, Relation] = {}
        self._live_items: dict[tuple[str, ...], Relation] = {}

    @cached_property
    def has_commitments(self) -> bool:
        """Whether a commitment covers any line, or has an unused part."""
        query = render("services/simulation_commitments", line_items=self.lines)
        return self.connection.execute(query).fetchall() == [(True,)]

    def live_items(self, categories: Sequence[str]) -> Relation:
        """The items of these categories that the live allocators take.

        Returns:
            A relation with `matching.MATCHED_ITEM_COLUMNS`, ``own_group_id`` and ``step``.
        """
        key = tuple(categories)
        if key not in self._live_items:
            queries = {category: Sql(f"from {self._taken_by_live(category)}") for category in categories}
            items = self.with_moving(self._live, queries)
            name = "_".join(["all_live_items", *categories])
            self._live_items[key] = create_temp_table(self.connection, name, items)
        return self._live_items[key]

    def with_moving(self, allocators: Sequence[Allocator], queries: Mapping[str, Sql]) -> Sql:
        """SQL of the items that are taken, of each category, with what moves their cost.

        Args:
            allocators: those that take them.
            queries: category -> a query with `matching.MATCHED_ITEM_COLUMNS`, but without ``moving_item_ids``.
        """
        moves = matching.moves_savings(matching.applying(allocators, self._month), list(queries))
        items = matching.with_moving_sql(queries, self._unused_lines if moves else None)
        return render(
            "services/simulation_taken_items",
            matched_items_query=items or rows_sql(matching.MATCHED_ITEM_COLUMNS, []),
        )

    def _taken_by_live(self, category: str) -> Relation:
        if category not in self._taken:
            live = [a for a in self._live if a.category == category]
            query = matching.matched_items_sql(self.connection, self.lines, self._month, live, [category])
            taken = render("services/simulation_kept_items", matched_items_query=query)
            self._taken[category] = create_temp_table(self.connection, f"taken_{category}_items", taken)
        return self._taken[category]

    @cached_property
    def _unused_lines(self) -> Relation:
        return create_temp_table(self.connection, "unused_lines", matching.unused_lines_sql(self.lines))
