"""The lake's tables as views, for people and tools that use SQL."""

from collections.abc import Mapping, Sequence

from octo_pipeline.allocation.balances import items_sql
from octo_pipeline.allocation.explained import explained_sql
from octo_pipeline.lake.lake import Lake
from octo_pipeline.lake.store import Location
from octo_pipeline.model.sql import Relation, Sql, identifier
from octo_pipeline.model.templates import render
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.closings import closed_items
from octo_pipeline.tables.corrections import Corrections
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.usage_shares import UsageShares
from octo_pipeline.workspace import Workspace


def views(workspace: Workspace) -> dict[str, Sql]:
    """SQL of a view for every table, by name; ``month`` is the partition.

    The view of a table without partitions has no rows. The other views also show months that are published later.
    """
    lake = workspace.lake
    has_month = {table.name: bool(lake.months(table.name)) for table in TABLES}
    every_month = {table.name: lake.path(table.name, "*") for table in TABLES}
    return views_of(workspace, {name: [path] if has_month[name] else [] for name, path in every_month.items()})


def views_of(workspace: Workspace, files: Mapping[str, Sequence[Location]]) -> dict[str, Sql]:
    """The same views over these files of each table; and over `closed_item_files` of the closed months."""
    lake = workspace.lake
    queries = {table.name: Sql(f"from {_rows(lake, table.name, table.columns, 'month', files)}") for table in TABLES}
    # A stored allocation means little without its item and allocator, so people get the explained rows.
    allocations = _rows(lake, Allocations.name, Allocations.columns, "booking_month", files)
    shares = _rows(lake, UsageShares.name, UsageShares.columns, "booking_month", files)
    closed = workspace.closed_months
    of_closed, of_open = (
        Relation(
            f"({render('services/booked_rows', allocations=allocations, listed_months=closed, is_closed=is_closed)})"
        )
        for is_closed in (True, False)
    )
    matched_items = _rows(lake, MatchedItems.name, MatchedItems.columns, "month", files)
    queries[Allocations.name] = render(
        "tables/explained_allocations",
        parts=[
            explained_sql(of_open, Relation(f"({items_sql(matched_items, of_open)})"), shares),
            *([explained_sql(of_closed, closed_items(workspace, closed), shares, is_kept=True)] if closed else []),
        ],
        corrections=_rows(lake, Corrections.name, Corrections.columns, "booking_month", files),
    )
    return queries


def _rows(
    lake: Lake, table: str, columns: dict[str, str], month_as: str, files: Mapping[str, Sequence[Location]]
) -> Relation:
    if not files[table]:
        return lake.scan(table, [], columns, month_as=month_as)
    former = lake.former_columns(table, columns)
    query = render(
        "services/partitions",
        partition_files=[str(file) for file in files[table]],
        partition_columns=[former.get(name, identifier(name)) for name in columns],
        later_columns=lake.later_columns(table, columns),
        month_as=month_as,
    )
    return Relation(f"({query})")
