"""The items of every category: those of ``matched_items`` and the balances, which ``allocations`` holds.

Whoever asks about an item whatever its category asks here.
"""

from collections.abc import Sequence

from octo_pipeline.allocation import balances
from octo_pipeline.lake.lake import Lake
from octo_pipeline.model.sql import Relation
from octo_pipeline.tables.allocations import HAS_BALANCES, Allocations
from octo_pipeline.tables.matched_items import MatchedItems


def scan_items(lake: Lake, origins: Sequence[str] | None = None) -> Relation:
    """A relation with `octo_pipeline.allocation.balances.TAKEN_ITEM_COLUMNS`.

    Args:
        lake: the lake.
        origins: the origin months; None means all. The origin month of a balance is the month that it is of.
    """
    matched = lake.scan(MatchedItems.name, origins, MatchedItems.columns)
    months = lake.months(Allocations.name) if origins is None else origins
    metadata = lake.metadata_of(Allocations.name, months)
    of_balances = [month for month, partition in metadata.items() if partition.facts.get(HAS_BALANCES)]
    booked = lake.scan(Allocations.name, of_balances, Allocations.columns) if of_balances else None
    return Relation(f"({balances.items_sql(matched, booked)})")
