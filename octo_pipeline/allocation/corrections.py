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

# What differs of a stored row if it is booked otherwise.
_STORED = (
    "status", "kind", "target_account_id", "target_group_id", "entry_index", "step", "cost", "effective_cost",
)  # fmt: skip

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


def untouched_usage_sql(line_items: Relation, items: Relation, month: str) -> Sql:
    """SQL of the usage of a month that no allocator touches, in both measures.

    Args:
        line_items: relation with the columns of ``cost_line_items``, of the month.
        items: relation with `balances.TAKEN_ITEM_COLUMNS`, all items of the month among them.
        month: the month.

    Returns:
        One row per vendor, payer, source_account, service_code and currency.
    """
    # A month lists all of its items, so the allocations need not be joined to know them.
    listed = Relation(f"({render('allocation/listed_account_items', items=items, month=month)})")
    return render("allocation/untouched_usage", line_items=line_items, explained=listed)


def create_changed_items(
    connection: duckdb.DuckDBPyConnection,
    month: str,
    *,
    known_allocations: Relation,
    allocations: Relation,
    known: Relation,
    booked: Relation,
    corrected: Relation,
) -> Relation:
    """The items of a closed month that can be known otherwise than they are booked: only theirs have to be explained.

    Of a million items a few thousand change when a month is restated. Explaining the others on both sides takes longer than
    comparing what is stored of them.

    Args:
        connection: where the relations can be read; a temporary table is made in it.
        month: the closed month.
        known_allocations: the month's allocations as they would be now.
        allocations: those that were booked.
        known: the items as they are now.
        booked: the items that the closing kept.
        corrected: the corrections that closed months have booked for it since.

    Returns:
        A relation with ``item_id``.
    """
    query = render(
        "allocation/changed_items",
        columns=_STORED,
        known_allocations=known_allocations,
        allocations=allocations,
        known=known,
        booked=booked,
        corrected=corrected,
    )
    return create_temp_table(connection, f"changed_{month.replace('-', '_')}", query)


def rows_of_items(rows: Relation, items: Relation) -> Relation:
    """The rows of some items."""
    return Relation(f"({render('allocation/rows_of_items', rows=rows, items=items)})")
