"""Corrections of closed months: as known now, less as booked (periods.md).

Which months are compared, and from what, belongs in `octo_pipeline.tables.corrections`.
"""

import duckdb

from octo_pipeline.allocation.explained import EXPLAINED_ITEM_COLUMNS
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.model.columns import MONEY, TAGS
from octo_pipeline.model.sql import Relation, Sql
from octo_pipeline.model.templates import render

# What names a corrected row, and what describes its item.
_KEY = (
    "item_id", "origin_month", "category", "status", "corrected_kind", "target_account", "target_group", "step",
    "allocator_version",
)  # fmt: skip
_ATTRIBUTES: dict[str, str] = {**EXPLAINED_ITEM_COLUMNS, "tranche_count": "INTEGER", "allocator_id": "VARCHAR"}

CORRECTION_COLUMNS: dict[str, str] = {
    "corrected_month": "VARCHAR",
    **{name: "INTEGER" if name == "step" else "VARCHAR" for name in _KEY},
    **_ATTRIBUTES,
    "cost": MONEY,
    "effective_cost": MONEY,
}


def corrections_sql(
    connection: duckdb.DuckDBPyConnection, known: Relation, booked: Relation, corrected: Relation, month: str
) -> Sql:
    """SQL of what is to be corrected of a closed month's items, splits and remainders.

    Args:
        connection: where the relations can be read; a temporary table is made in it.
        known: the month's rows as they would be now, of `rows_to_compare_sql`.
        booked: those that were booked.
        corrected: the rows with `CORRECTION_COLUMNS` that closed months have booked for it since.
        month: the closed month.

    Returns:
        SQL of `CORRECTION_COLUMNS`, in any order; no row is 0 in both measures.
    """
    relations = {"known": known, "booked": booked, "corrected": corrected}
    # The rows that differ are few, so they are known before anything wide is read.
    differences = create_temp_table(
        connection,
        f"differences_{month.replace('-', '_')}",
        render("allocation/corrections_differences", key=_KEY, **relations),
    )
    return render(
        "allocation/corrections",
        key=_KEY,
        attributes=list(_ATTRIBUTES),
        differences=differences,
        month=month,
        **relations,
    )


def rows_to_compare_sql(explained_allocations: Sql) -> Sql:
    """SQL of explained allocations under the names of `CORRECTION_COLUMNS`."""
    return render(
        "allocation/rows_to_compare", explained_allocations=explained_allocations, names=[*_KEY, *_ATTRIBUTES]
    )


def usage_corrections_sql(known: Relation, booked: Relation, corrected: Relation, month: str) -> Sql:
    """SQL of what is to be corrected of usage that no allocator touches.

    Args:
        known: what it costs now, of `untouched_usage_sql`.
        booked: what it cost when the month was closed.
        corrected: the rows with `CORRECTION_COLUMNS` and the category usage that closed months have booked for it since.
        month: the closed month.

    Returns:
        SQL of some of `CORRECTION_COLUMNS`, one row per payer, account, service and currency; the others are null.
    """
    return render(
        "allocation/corrections_usage",
        known=known,
        booked=booked,
        corrected=corrected,
        month=month,
        no_tags=Sql(f"map {{}}::{TAGS}"),
    )


def untouched_usage_sql(line_items: Relation, explained_allocations: Relation) -> Sql:
    """SQL of the usage of a month that no allocator touches, in both measures.

    Args:
        line_items: relation with the columns of ``cost_line_items``, of the month.
        explained_allocations: relation of the month's explained allocations.

    Returns:
        One row per vendor, payer, source_account, service_code and currency.
    """
    return render("allocation/untouched_usage", line_items=line_items, explained=explained_allocations)
