"""Who pays how much: tranches, formulas, rounding and remainders, in both measures (allocation.md §8 and §9).

Assumptions: |cost| < 10¹⁷ of any currency, so that a cost in units of 10⁻¹⁰ times 36 fits 128 bits.

Stages, for one booking month, each with a template of the same name:
1. ``splits_due``: the items with a tranche due and their tranches, in integers (a DECIMAL divided is a double).
2. ``splits_amounts``: what is split. Where an item's measures are the same, one amount stands for both; a savings item
   has no effective cost. So a formula is evaluated for the effective cost only where this differs.
3. ``splits_results``: the formula of each entry over (amount × account), which ``splits_targets`` lists; one branch
   per distinct formula. A failed formula is a null result.
4. ``splits_totals``: per amount the sum and the number of results, failures, and the split that takes the rounding. The
   unused commitments whose cost is distributed already (``splits_moved``) are taken out here, when it is known which
   formulas fail.
5. ``splits_booked``: the splits (results again, which is cheaper than keeping them), both measures in a row.
6. ``allocations``: splits, remainders, and the month's items.

Edge cases: an allocator whose entries resolve to nobody leaves the whole tranche as remainder; a split that
rounds to 0 in both measures has no row; a mark-up makes the remainder negative; a tranche that fails in one measure fails
in both, and is one row on the item's own account, or no row if the item has a single tranche.
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
from octo_pipeline.model.wording import LEFT_REASONS
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.rules.formula import parse_formula

BOOKED_COLUMNS: dict[str, str] = {
    "item_id": "VARCHAR",
    "origin_month": "VARCHAR",
    "status": "VARCHAR",
    "kind": "VARCHAR",
    "reason": "VARCHAR",
    "target_account_id": "VARCHAR",
    "target_group_id": "VARCHAR",
    "entry_index": "INTEGER",
    "tranche_index": "INTEGER",
    "cost": MONEY,
    "effective_cost": MONEY,
}
# What the row of a balance holds of its item. The items of other categories have a table of their own.
BALANCE_ITEM_COLUMNS: dict[str, str] = {
    "own_account_id": "VARCHAR",
    "own_group_id": "VARCHAR",
    "currency": "VARCHAR",
    "allocator_id": "VARCHAR",
    "allocator_version": "VARCHAR",
    "allocator_document": "VARCHAR",
    "conflicting_allocator_ids": "VARCHAR[]",
}
ALLOCATION_COLUMNS: dict[str, str] = BOOKED_COLUMNS | {"step": "INTEGER"} | BALANCE_ITEM_COLUMNS

# The columns of a result that an amount's total needs, and those that a written split needs.
_SUMMED = ("amount", "rank")
_WRITTEN = (
    "item_id", "origin_month", "account_id", "group_id", "entry_index", "tranche_index", "rank", "rounding_rank",
    "rounding",
)  # fmt: skip
_WRITTEN_IN_BOTH = (*_WRITTEN, "effective_rounding_rank", "effective_rounding")

# An empty relation for months before which no formula failed.
NONE_FAILED = Relation(f"({rows_sql({'item_id': 'VARCHAR'}, [])})")


def instalments_sql(matched_items: Relation, restored_items: Relation, booking_months: Sequence[str]) -> Sql:
    """SQL of the tranches due in the booking months, whether or not they can be booked yet.

    Args:
        matched_items: relation with `matching.MATCHED_ITEM_COLUMNS`.
        restored_items: relation with the ``item_id`` of the restored items.
        booking_months: the months.

    Returns:
        SQL of (item_id, booking_month, currency, cost, effective_cost).
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
    failed_before: Relation = NONE_FAILED,
    *,
    of_balances: bool = False,
) -> Sql:
    """Prepare the allocations of a booking month.

    Args:
        connection: where the relations can be read; temporary tables are created in it.
        matched_items: relation with `matching.MATCHED_ITEM_COLUMNS` of `origin_months(month)`.
        usage_shares: relation with `shares.USAGE_SHARE_COLUMNS` of the booking month.
        restored_items: relation with the ``item_id`` of the restored items.
        month: the booking month.
        allocators: the pinned allocator versions with a tranche due.
        failed_before: relation with the ``item_id`` of earlier months' items that are not distributed because their
            formula failed; see `failed_moving_items`.
        of_balances: whether the items are balances, which a cost group can own: then they have ``own_group_id``.

    Returns:
        SQL of `BOOKED_COLUMNS`, over the temporary tables.
    """
    _create_types(connection, month)
    create_temp_table(connection, "splits_allocators", _allocators_sql(allocators))
    create_temp_table(connection, "splits_variants", render("allocation/splits_variants", usage_shares=usage_shares))
    create_temp_table(
        connection,
        "splits_due",
        render(
            "allocation/splits_due",
            matched_items=matched_items,
            restored_items=restored_items,
            month=month,
            own_group="items.own_group_id" if of_balances else "null::varchar",
        ),
    )
    formulas = _create_targets(connection, usage_shares)
    amounts = create_temp_table(connection, "splits_amounts", render("allocation/splits_amounts"))
    create_temp_table(
        connection, "splits_totals", render("allocation/splits_totals", results=_results_sql(formulas, amounts))
    )
    create_temp_table(connection, "splits_failed_items", render("allocation/splits_failed_items"))
    moved = render(
        "allocation/splits_moved",
        matched_items=matched_items,
        restored_items=restored_items,
        failed_before=failed_before,
    )
    create_temp_table(connection, "splits_moved", moved)
    connection.execute(render("allocation/splits_keep_unmoved"))
    return render(
        "allocation/allocations",
        booked_splits=_booked_sql(connection, formulas),
        matched_items=matched_items,
        restored_items=restored_items,
        month=month,
    )


def failed_moving_items(connection: duckdb.DuckDBPyConnection, matched_items: Relation, month: str) -> list[str]:
    """The items of the month whose formula failed and that would have moved the cost of a spread savings item.

    Later months book the instalments of that savings item, and cannot see from their own rows that it was not moved.

    Args:
        connection: the one that `allocations_sql` was called with.
        matched_items: relation with `matching.MATCHED_ITEM_COLUMNS` of the month.
        month: the month.
    """
    query = render("allocation/splits_failed_moving_items", matched_items=matched_items, month=month)
    return [item_id for (item_id,) in connection.execute(query).fetchall()]


def _create_types(connection: duckdb.DuckDBPyConnection, month: str) -> None:
    """Create the types of the low-cardinality columns.

    Parquet stores an ENUM by code. Writing these columns as text and rebuilding the dictionary takes half of the
    write time. They are read as VARCHAR.
    """
    types = {
        "splits_month": origin_months(month),
        "splits_status": ("checked_splitted", "checked_allocated", "unchecked_allocated"),
        "splits_kind": ("split", "remainder", "item"),
        "splits_reason": tuple(LEFT_REASONS),
        "splits_measures": ("billed", "same", "both"),
    }
    for name, values in types.items():
        _create_type(connection, name, ", ".join(map(literal, values)))


def _create_type(connection: duckdb.DuckDBPyConnection, name: str, values: str) -> None:
    connection.execute(f"create or replace temp type {name} as enum ({values})")


def _allocators_sql(allocators: Sequence[Allocator]) -> Sql:
    columns = {
        "allocator_version": "VARCHAR",
        "default_account": "VARCHAR",
        "default_group": "VARCHAR",
        "has_owner": "BOOLEAN",
    }
    return rows_sql(columns, [(a.version, a.default_account, a.default_group, int(a.has_owner)) for a in allocators])


def _create_targets(connection: duckdb.DuckDBPyConnection, usage_shares: Relation) -> list[str]:
    """Create ``splits_targets``; returns the formulas in the order of their numbers."""
    create_temp_table(connection, "splits_formulas", render("allocation/splits_formulas", usage_shares=usage_shares))
    _create_type(connection, "splits_account", render("allocation/splits_accounts", usage_shares=usage_shares))
    _create_type(connection, "splits_group", render("allocation/splits_groups", usage_shares=usage_shares))
    create_temp_table(connection, "splits_targets", render("allocation/splits_targets", usage_shares=usage_shares))
    rows = connection.execute(render("allocation/splits_formula_texts")).fetchall()
    return [formula for (formula,) in rows]


def _results_sql(formulas: Sequence[str], amounts: Relation) -> Sql:
    """SQL of the formula results, one row each: amount, rank, and ``split``, which is null where the formula failed."""
    evaluated = [
        # Written in place: a CTE per formula took a tenth longer to plan.
        select_sql(parse_formula(formula), f"({_inputs_sql(number, amounts, _SUMMED)})")
        for number, formula in enumerate(formulas)
    ]
    return render("allocation/splits_results", formulas=evaluated)


def _booked_sql(connection: duckdb.DuckDBPyConnection, formulas: Sequence[str]) -> Sql:
    """SQL of the splits in both measures, a branch per formula and measures that it is evaluated for."""
    distributed = Relation(f"({render('allocation/splits_distributed')})")
    branches = []
    for number, measures in connection.execute(render("allocation/splits_formula_measures")).fetchall():
        formula = parse_formula(formulas[number])
        columns = _WRITTEN_IN_BOTH if measures == "both" else _WRITTEN
        evaluated = select_sql(formula, f"({_inputs_sql(number, distributed, columns, measures)})")
        if measures == "both":
            other = render("allocation/splits_other_measure", evaluated=evaluated)
            evaluated = select_sql(formula, f"({other})", result="other_result")
        branches.append({"measures": measures, "evaluated": evaluated})
    return render("allocation/splits_booked", branches=branches)


def _inputs_sql(number: int, items: Relation, columns: Sequence[str], measures: str | None = None) -> Sql:
    """SQL of what a formula is evaluated over.

    Args:
        number: the formula's number.
        items: relation with version, cost and tranche_index.
        columns: what to keep of `items` and of the targets.
        measures: only items with these measures; None for all.
    """
    return render("allocation/splits_inputs", number=number, items=items, columns=columns, measures=measures)
