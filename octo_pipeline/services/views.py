"""The lake's tables as views, for people and tools that ask in SQL."""

from octo_pipeline.allocation.explained import explained_sql
from octo_pipeline.lake.lake import Lake
from octo_pipeline.model.sql import Relation, identifier, literal
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.usage_shares import UsageShares


def views(lake: Lake) -> dict[str, str]:
    """SQL of a view for every table, by name; ``month`` is the partition.

    A table that has no partition yet is a view without rows.
    """
    queries = {table.name: f"from {_every_month(lake, table.name, table.columns, 'month')}" for table in TABLES}
    # People read allocations with what explains them.
    queries[Allocations.name] = explained_sql(
        _every_month(lake, Allocations.name, Allocations.columns, "booking_month"),
        _every_month(lake, MatchedItems.name, MatchedItems.columns, "month"),
        _every_month(lake, UsageShares.name, UsageShares.columns, "booking_month"),
    )
    return queries


def _every_month(lake: Lake, table: str, columns: dict[str, str], month_as: str) -> Relation:
    """A relation over all partitions, those to come included: a view outlives the months it was made with."""
    if not lake.months(table):
        return lake.scan(table, [], columns, month_as=month_as)
    files = literal(str(lake.root / table / "month=*" / "data.parquet"))
    selected = ", ".join(map(identifier, columns))
    return Relation(
        f"(select month as {month_as}, {selected} from read_parquet({files}, hive_partitioning = true, "
        "hive_types = {month: varchar}))"
    )
