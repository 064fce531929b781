"""Who pays how much: tranches, formulas, rounding and remainders (allocation.md §8 and §9).

Assumptions: |cost| < 10¹⁷ of any currency, so that a cost in units of 10⁻¹⁰ times 36 fits 128 bits.

Stages, for one booking month, each with a template of the same name:
1. ``splits_due``: the items with a tranche due and their tranche, in integers (a DECIMAL divided is a double).
2. ``splits_results``: the formula of each entry over (item × account), which ``splits_targets`` lists; one branch
   per distinct formula. A failed formula is a null result.
3. ``splits_totals``: per item the sum and the number of results, failures, and the split that takes the rounding.
4. ``allocations``: splits (results again, which is cheaper than keeping them), remainders, and the month's items.

Edge cases: an allocator whose entries resolve to nobody leaves the whole tranche as remainder; a split that
rounds to 0 has no row; a mark-up makes the remainder negative; a tranche that fails is one row on the item's own
account, or no row if the item has a single tranche.
Drawback: the formulas are evaluated twice.
"""

from collections.abc import Sequence

import duckdb

from octo_pipeline.allocation.formula_sql import select_sql
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.months import origin_months
from octo_pipeline.model.sql import Relation, Sql, literal, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.rules.formula import parse_formula

ALLOCATION_COLUMNS: dict[str, str] = {
    "item_id": "VARCHAR",
    "origin_month": "VARCHAR",
    "status": "VARCHAR",
    "kind": "VARCHAR",
    "reason": "VARCHAR",
    "target_account_id": "VARCHAR",
    "entry_index": "INTEGER",
    "tranche_index": "INTEGER",
    "cost": MONEY,
}

# The columns of a result that an item's total needs, and those that a written split needs.
_SUMMED = ("item", "rank")
_WRITTEN = (
    "item_id", "origin_month", "account_id", "entry_index", "tranche_index", "rank", "rounding_rank", "rounding",
)  # fmt: skip


def instalments_sql(matched_items: Relation, restored_items: Relation, booking_months: Sequence[str]) -> Sql:
    """SQL of the tranches due in the booking months, whether or not they can be booked yet.

    Args:
        matched_items: relation with `matching.MATCHED_ITEM_COLUMNS`.
        restored_items: relation with the ``item_id`` of the restored items.
        booking_months: the months.

    Returns:
        SQL of (item_id, booking_month, currency, cost).
    """
    return render(
        "allocation/instalments",
        matched_items=matched_items,
        restored_items=restored_items,
        booking_months=rows_sql({"booking_month": "VARCHAR"}, [(month,) for month in booking_months]),
    )


def allocations_sql(
    connection: duckdb.DuckDBPyConnection,
    matched_items: Relation,
    usage_shares: Relation,
    restored_items: Relation,
    month: str,
    allocators: Sequence[Allocator],
) -> Sql:
    """Prepare the allocations of a booking month.

    Args:
        connection: where the relations can be read; temporary tables are created in it.
        matched_items: relation with `matching.MATCHED_ITEM_COLUMNS` of `origin_months(month)`.
        usage_shares: relation with `shares.USAGE_SHARE_COLUMNS` of the booking month.
        restored_items: relation with the ``item_id`` of the restored items.
        month: the booking month.
        allocators: the pinned allocator versions with a tranche due.

    Returns:
        SQL of `ALLOCATION_COLUMNS`, over the temporary tables.
    """
    _create_types(connection, month)
    create_temp_table(connection, "splits_allocators", _allocators_sql(allocators))
    due = create_temp_table(
        connection,
        "splits_due",
        render("allocation/splits_due", matched_items=matched_items, restored_items=restored_items, month=month),
    )
    formulas = _create_targets(connection, usage_shares)
    summed = _results_sql(formulas, due, _SUMMED)
    create_temp_table(connection, "splits_totals", render("allocation/splits_totals", results=summed))
    distributed = Relation(f"({render('allocation/splits_distributed')})")
    return render(
        "allocation/allocations",
        results=_results_sql(formulas, distributed, _WRITTEN),
        matched_items=matched_items,
        restored_items=restored_items,
        month=month,
    )


def _create_types(connection: duckdb.DuckDBPyConnection, month: str) -> None:
    """Create the types of the low-cardinality columns.

    Parquet stores an ENUM by code. Writing these columns as text and rebuilding the dictionary takes half of the
    write time. They are read as VARCHAR.
    """
    types = {
        "splits_month": origin_months(month),
        "splits_status": ("checked_splitted", "checked_allocated", "unchecked_allocated"),
        "splits_kind": ("split", "remainder", "item"),
        "splits_reason": ("no_allocator", "restored", "formula_failed"),
    }
    for name, values in types.items():
        _create_type(connection, name, ", ".join(map(literal, values)))


def _create_type(connection: duckdb.DuckDBPyConnection, name: str, values: str) -> None:
    connection.execute(f"create or replace temp type {name} as enum ({values})")


def _allocators_sql(allocators: Sequence[Allocator]) -> Sql:
    """SQL of the allocators, numbered."""
    columns = {"version": "INTEGER", "allocator_version": "VARCHAR", "default_account": "VARCHAR"}
    return rows_sql(columns, [(i, a.version, a.default_account) for i, a in enumerate(allocators)])


def _create_targets(connection: duckdb.DuckDBPyConnection, usage_shares: Relation) -> list[str]:
    """Create ``splits_targets``; returns the formulas in the order of their numbers."""
    create_temp_table(connection, "splits_formulas", render("allocation/splits_formulas", usage_shares=usage_shares))
    _create_type(connection, "splits_account", render("allocation/splits_accounts", usage_shares=usage_shares))
    create_temp_table(connection, "splits_targets", render("allocation/splits_targets", usage_shares=usage_shares))
    rows = connection.execute(render("allocation/splits_formula_texts")).fetchall()
    return [formula for (formula,) in rows]


def _results_sql(formulas: Sequence[str], items: Relation, columns: Sequence[str]) -> Sql:
    """SQL of the formula results, one row each: the columns, and ``split``, which is null where the formula failed.

    Args:
        formulas: their texts in the order of their numbers.
        items: relation with version, cost and tranche_index.
        columns: what to keep of `items` and of the targets.
    """
    evaluated = []
    for number, formula in enumerate(formulas):
        inputs = render("allocation/splits_inputs", number=number, items=items, columns=columns)
        # Written in place: a CTE per formula took a tenth longer to plan.
        evaluated.append(select_sql(parse_formula(formula), f"({inputs})"))
    return render("allocation/splits_results", formulas=evaluated, items=items, columns=columns)
