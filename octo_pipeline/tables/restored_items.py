"""The restored items: what the registry's decisions hold for among the items of the lake.

Everything that asks whether an item is restored asks here, because a decision can name an item by a former id
(`octo_pipeline.allocation.items.former_item_id_sql`).
"""

from collections.abc import Sequence

import duckdb

from octo_pipeline.allocation.items import restored_items_sql
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.model.sql import Relation, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.registry.records import RestoredItem


def create_restored_items(
    connection: duckdb.DuckDBPyConnection, decisions: Sequence[RestoredItem], matched_items: Relation
) -> Relation:
    """Create the table of restored items.

    Args:
        connection: where `matched_items` can be read.
        decisions: the registry's restored items of the origin months of `matched_items`.
        matched_items: relation with `octo_pipeline.allocation.items.ITEM_COLUMNS`.

    Returns:
        A relation with the ``item_id`` of each restored item and the ``decided_item_id`` of the decision; an item that
        two decisions hold for is there twice.
    """
    if not decisions:
        none = rows_sql({"item_id": "VARCHAR", "decided_item_id": "VARCHAR"}, [])
        return create_temp_table(connection, "restored_items", none)
    # There can be a million of them, so they are bound as lists instead of written out.
    values = [[decision.item_id for decision in decisions], [decision.origin_month for decision in decisions]]
    decided = create_temp_table(connection, "decided_items", render("tables/restore_decisions"), values)
    return create_temp_table(connection, "restored_items", restored_items_sql(matched_items, decided))
