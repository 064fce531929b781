"""Who pays how much: tranches, formulas, rounding and remainders (allocation.md §8 and §9).

Assumptions: |cost| < 10¹⁷ of any currency, so that a cost in units of 10⁻¹⁰ times 36 fits 128 bits.

Stages, for one booking month:
1. ``due``: the items with a tranche due and their tranche, in integers (a DECIMAL divided is a double).
2. ``results``: the formula of each entry over (item × account), one branch a distinct formula. A failed
   formula is a null result.
3. ``totals``: per item the sum and the number of results, failures, and the split that takes the rounding.
4. Rows: splits (results again, which is cheaper than keeping them), remainders, and the month's items.

Columns of few values are enumerations, which a Parquet file takes by number: written out as texts, and found again
among those of the file's dictionary, they are half of the time it takes to write. They are read as VARCHAR.

Edge cases: an allocator whose entries resolve to nobody leaves the whole tranche as remainder; a split that
becomes 0 by rounding is no row; a mark-up makes the remainder negative; a tranche that fails is one row on the
item's own account, or none where the item has a single tranche.
Drawback: the formulas are evaluated twice.
"""

from collections.abc import Sequence

import duckdb

from octo_pipeline.allocation.formula_sql import select_sql
from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.months import origin_months
from octo_pipeline.model.sql import literal, rows_sql
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

_UNITS = "10000000000::DECIMAL(11,0)"
_UNIT = "0.0000000001::DECIMAL(11,10)"
# A split beyond this is no money but a formula gone wrong; the bound keeps the packed key of stage 3 in 128 bits.
_LARGEST_SPLIT = "1e17"
# Room for the rank in the packed key: 2²² rows of one allocator (entries × accounts).
_RANKS = 2**22


def units(amount: str) -> str:
    """SQL of an amount in units of 10⁻¹⁰, as HUGEINT."""
    return f"({amount} * {_UNITS})::HUGEINT"


def money(count: str) -> str:
    """SQL of the amount that so many units of 10⁻¹⁰ are."""
    return f"(({count})::DECIMAL(38,0) * {_UNIT})::{MONEY}"


def tranche_sql(cost: str, index: str, count: str) -> str:
    """SQL of the tranche D_k of a cost; the differences of truncated shares add up to the cost exactly."""
    c = units(cost)
    return money(f"{c} * (({index}) + 1) // {count} - {c} * ({index}) // {count}")


def due_items_sql(matched_items: str, month: str) -> str:
    """SQL of the taken items with a tranche due in the booking month, with ``tranche_index``."""

    # Months are text; as the number of months since year 0 they can be subtracted.
    def number(column: str) -> str:
        return f"({column}[:4]::INTEGER * 12 + {column}[6:]::INTEGER)"

    index = f"{number(literal(month))} - {number('first_booking_month')}"
    return (
        f"SELECT *, {index} AS tranche_index FROM {matched_items} WHERE allocator_version IS NOT NULL "
        f"AND first_booking_month <= {literal(month)} AND {index} < tranche_count"
    )


def allocate(
    connection: duckdb.DuckDBPyConnection,
    matched_items: str,
    usage_shares: str,
    restored_items: str,
    month: str,
    allocators: Sequence[Allocator],
) -> str:
    """Compute the allocations of a booking month.

    Args:
        connection: where the relations can be read; temporary tables are made in it.
        matched_items: relation with `matching.MATCHED_ITEM_COLUMNS` of `origin_months(month)`.
        usage_shares: relation with `shares.USAGE_SHARE_COLUMNS` of the booking month.
        restored_items: relation with ``item_id`` of the items that are restored.
        month: the booking month.
        allocators: the pinned allocator versions that have a tranche due.

    Returns:
        SQL of `ALLOCATION_COLUMNS`.
    """
    _create_types(connection, month)
    _create_due(connection, matched_items, restored_items, month, allocators)
    formulas = _create_targets(connection, usage_shares)
    _create_totals(connection, _results_sql(formulas, "splits_due", ("item", "rank")))
    # Evaluated again from the totals, which know the item: joining results with them costs more than the formulas.
    written = (
        "item_id",
        "origin_month",
        "account_id",
        "entry_index",
        "tranche_index",
        "rank",
        "rounding_rank",
        "rounding",
    )
    results = _results_sql(formulas, "(SELECT *, item_cost AS cost FROM splits_totals WHERE NOT is_failed)", written)
    splits = (
        "SELECT item_id, origin_month, 'checked_splitted'::splits_status AS status, 'split'::splits_kind AS kind, "
        "NULL::splits_reason AS reason, "
        "account_id AS target_account_id, entry_index, tranche_index, "
        f"split + CASE WHEN rank = rounding_rank THEN rounding ELSE 0::{MONEY} END AS cost "
        f"FROM ({results}) WHERE cost <> 0"
    )
    remainders = (
        "SELECT item_id, origin_month, 'checked_splitted'::splits_status, 'remainder'::splits_kind, "
        "CASE WHEN is_failed THEN 'formula_failed'::splits_reason END, "
        "CASE WHEN is_failed THEN own_account ELSE coalesce(default_account, own_account) END::splits_account, "
        "NULL::INTEGER, tranche_index, CASE WHEN is_failed THEN tranche ELSE remainder END AS cost "
        "FROM splits_totals WHERE CASE WHEN is_failed THEN tranche_count > 1 ELSE true END AND cost <> 0"
    )
    items = (
        f"SELECT item_id, {literal(month)}::splits_month, CASE WHEN reason IS NULL THEN 'checked_allocated'::splits_status "
        "ELSE 'unchecked_allocated'::splits_status END, 'item'::splits_kind, reason, NULL::splits_account, "
        f"NULL::INTEGER, NULL::INTEGER, cost FROM ({_items_sql(matched_items, restored_items, month)})"
    )
    return f"{splits} UNION ALL {remainders} UNION ALL {items}"


def _create_types(connection: duckdb.DuckDBPyConnection, month: str) -> None:
    types = {
        "splits_month": origin_months(month),
        "splits_status": ("checked_splitted", "checked_allocated", "unchecked_allocated"),
        "splits_kind": ("split", "remainder", "item"),
        "splits_reason": ("no_allocator", "restored", "formula_failed"),
    }
    for name, values in types.items():
        listed = ", ".join(map(literal, values))
        connection.execute(f"CREATE OR REPLACE TEMP TYPE {name} AS ENUM ({listed})")


def _create_due(
    connection: duckdb.DuckDBPyConnection,
    matched_items: str,
    restored_items: str,
    month: str,
    allocators: Sequence[Allocator],
) -> None:
    columns = {"version": "INTEGER", "allocator_version": "VARCHAR", "default_account": "VARCHAR"}
    rows = [(i, a.version, a.default_account) for i, a in enumerate(allocators)]
    connection.execute(f"CREATE OR REPLACE TEMP TABLE splits_allocators AS {rows_sql(columns, rows)}")
    # Numbers stand for ids and versions from here on: the results are wide only where they are written.
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE splits_due AS SELECT row_number() OVER ()::INTEGER AS item, item_id, "
        "origin_month::splits_month AS origin_month, version, default_account, sub_account_id AS own_account, cost, tranche_count, tranche_index, "
        f"CASE WHEN tranche_count = 1 THEN cost ELSE {tranche_sql('cost', 'tranche_index', 'tranche_count')} END "
        f"AS tranche FROM ({due_items_sql(matched_items, month)}) "
        "JOIN splits_allocators USING (allocator_version) "
        f"WHERE item_id NOT IN (SELECT item_id FROM {restored_items})"
    )


def _create_targets(connection: duckdb.DuckDBPyConnection, usage_shares: str) -> list[str]:
    """Number the formulas; returns their texts in the order of their numbers."""
    formulas = [
        text for (text,) in connection.execute(f"SELECT DISTINCT formula FROM {usage_shares} ORDER BY 1").fetchall()
    ]
    numbered = rows_sql({"number": "INTEGER", "formula": "VARCHAR"}, list(enumerate(formulas)))
    connection.execute(f"CREATE OR REPLACE TEMP TABLE splits_formulas AS {numbered}")
    connection.execute(
        "CREATE OR REPLACE TEMP TYPE splits_account AS ENUM (SELECT DISTINCT account FROM ("
        f"SELECT account_id AS account FROM {usage_shares} UNION ALL SELECT own_account FROM splits_due UNION ALL "
        "SELECT default_account FROM splits_allocators) WHERE account IS NOT NULL ORDER BY account)"
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE splits_targets AS SELECT version, account_rank AS rank, entry_index, "
        "entry_months, account_id::splits_account AS account_id, number AS formula_number, usage_share AS usage, "
        "group_usage_share AS group_usage, accounts::DOUBLE AS accounts "
        f"FROM {usage_shares} JOIN splits_allocators USING (allocator_version) JOIN splits_formulas USING (formula)"
    )
    return formulas


def _results_sql(formulas: Sequence[str], items: str, columns: Sequence[str]) -> str:
    """SQL of the formula results, one row each: the columns, and split, which is null where the formula failed.

    Args:
        formulas: their texts in the order of their numbers.
        items: relation with version, cost and tranche_index.
        columns: what to keep of `items` and of the targets.
    """
    kept = ", ".join(columns)
    targets = f"{items} AS items JOIN splits_targets USING (version)"
    branches = []
    for number, text in enumerate(formulas):
        inputs = (
            f"(SELECT {kept}, items.cost::DOUBLE / entry_months AS cost, usage, accounts, group_usage FROM {targets} "
            f"WHERE formula_number = {number} AND tranche_index < entry_months)"
        )
        evaluated = select_sql(parse_formula(text), inputs)
        branches.append(
            f"SELECT {kept}, CASE WHEN abs(result) < {_LARGEST_SPLIT} THEN result::{MONEY} END AS split "
            f"FROM ({evaluated})"
        )
    return " UNION ALL ".join(branches) or f"SELECT {kept}, NULL::{MONEY} AS split FROM {targets} WHERE false"


def _create_totals(connection: duckdb.DuckDBPyConnection, results: str) -> None:
    # The largest absolute split, ties to the lowest rank (account id, then entry), as the maximum of one number.
    # It stays a DECIMAL: making a HUGEINT of one costs a division of 128 bits, ten times all the rest of this.
    size = f"abs(split) * {_RANKS}::DECIMAL(7,0)"
    key = f"{size} + ({_RANKS} - rank) * {_UNIT}"
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE splits_totals AS WITH sums AS ("
        f"SELECT item, coalesce(sum(split), 0)::{MONEY} AS splitted, count(*) AS results, "
        "count(*) - count(split) AS failures, "
        f"max({key}) FILTER (split <> 0) AS largest, max({size}) AS size FROM ({results}) GROUP BY item), "
        "due AS (SELECT splits_due.*, coalesce(results, 0) AS results, coalesce(failures, 0) > 0 AS is_failed, "
        f"largest, size, (tranche - coalesce(splitted, 0::{MONEY}))::{MONEY} AS rest "
        "FROM splits_due LEFT JOIN sums USING (item)), "
        # |r| ≤ (m+1)·10⁻¹⁰ + |D|·10⁻¹², the right side cut to whole units of 10⁻¹⁰, as r is. The first part alone is
        # enough for nearly every item and needs no division.
        f"judged AS (SELECT *, largest IS NOT NULL AND CASE WHEN abs(rest) <= (results + 1) * {_UNIT} THEN true "
        f"ELSE abs(rest) <= {money('results + 1 + ' + units('abs(tranche)') + ' // 1000000000000')} END AS is_rounding "
        "FROM due) "
        f"SELECT item_id, origin_month, version, own_account, default_account, cost AS item_cost, tranche_count, tranche_index, "
        "tranche, is_failed, "
        # What the key adds to the size has seven digits at most, so the detour by DOUBLE is exact.
        f"CASE WHEN is_rounding THEN {_RANKS} - round((largest - size)::DOUBLE * 1e10)::INTEGER END AS rounding_rank, "
        f"CASE WHEN is_rounding THEN rest ELSE 0::{MONEY} END AS rounding, "
        f"CASE WHEN is_rounding THEN 0::{MONEY} ELSE rest END AS remainder FROM judged"
    )


def _items_sql(matched_items: str, restored_items: str, month: str) -> str:
    """SQL of the month's items and why each is not distributed (null where it is)."""
    return (
        "SELECT item_id, cost, CASE "
        "WHEN allocator_version IS NULL THEN 'no_allocator'::splits_reason "
        f"WHEN item_id IN (SELECT item_id FROM {restored_items}) THEN 'restored'::splits_reason "
        "WHEN item_id IN (SELECT item_id FROM splits_totals WHERE is_failed AND tranche_count = 1) "
        "THEN 'formula_failed'::splits_reason END AS reason "
        f"FROM {matched_items} WHERE origin_month = {literal(month)}"
    )
