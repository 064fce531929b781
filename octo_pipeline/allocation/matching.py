"""Which allocator takes which item, in one pass over the data whatever the number of allocators.

Assumptions: the columns that criteria look at have far fewer distinct values than there are rows.

Stages:
1. The maps (OR-ed alternatives) of all allocators are numbered in the order of allocation.md §5.
2. For each column that any map names, every distinct condition is evaluated once on every distinct value. The
   outcome is one bit string a value: bit *m* is 1 if map *m* does not look at the column or holds on the value.
   Values on which no map can hold are left out.
3. Items are joined to these value tables; the AND of an item's bit strings says which maps match.
4. The distinct outcomes, which are few, are resolved to the taking allocator (the first bit) and the others,
   which are conflicts.

Edge cases: null and '' are one value; an item that lacks a value in any value table matches nothing.
Drawback: a value table is as large as its column has distinct values, so a criterion on a column of unique
values costs a join of the size of the data.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from octo_pipeline.allocation.allocator import Allocator
from octo_pipeline.allocation.conditions import Condition
from octo_pipeline.allocation.items import ITEM_COLUMNS, items_sql, uniform_item
from octo_pipeline.allocation.months import add_months
from octo_pipeline.allocation.sql import identifier, rows_sql

CATEGORIES = ("fee", "account", "savings")

MATCHED_ITEM_COLUMNS: dict[str, str] = ITEM_COLUMNS | {
    "allocator_id": "VARCHAR",
    "allocator_version": "VARCHAR",
    "allocator_document": "VARCHAR",
    "first_booking_month": "VARCHAR",
    "tranche_count": "INTEGER",
    "conflicting_allocator_ids": "VARCHAR[]",
}

# What an item keeps of the allocator that takes it.
_PINNED = ("allocator_id", "allocator_version", "allocator_document", "first_booking_month", "tranche_count")


def applying(allocators: Sequence[Allocator], month: str) -> list[Allocator]:
    """The allocators whose window holds the origin month, in the order in which they take items."""
    return [a for a in allocators if a.matches_month(month)]


def match_items(
    connection: duckdb.DuckDBPyConnection, line_items: str, month: str, allocators: Sequence[Allocator]
) -> str:
    """Match the month's items.

    Args:
        connection: where `line_items` can be read; temporary tables are made in it.
        line_items: relation with the columns of ``cost_line_items``, of one month.
        month: the origin month.
        allocators: all valid allocators, in order.

    Returns:
        SQL of `MATCHED_ITEM_COLUMNS`: every fee and savings item, allocator columns null where nobody takes
        it, and every account-usage item that an allocator takes.
    """
    live = applying(allocators, month)
    _create_allocator_table(connection, live, month)
    queries = []
    for category in CATEGORIES:
        rules = [(i, a) for i, a in enumerate(live) if a.category == category]
        queries.append(_match_category(connection, line_items, category, rules))
    return " UNION ALL ".join(queries)


def _create_allocator_table(connection: duckdb.DuckDBPyConnection, allocators: Sequence[Allocator], month: str) -> None:
    columns = {name: MATCHED_ITEM_COLUMNS[name] for name in _PINNED}
    rows = [
        (i, a.id, a.version, a.document, a.first_booking_month(month), a.tranche_count)
        for i, a in enumerate(allocators)
    ]
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE matching_allocators AS {rows_sql({'allocator': 'INTEGER'} | columns, rows)}"
    )


@dataclass(frozen=True)
class _Map:
    allocator: int
    conditions: dict[str, Condition]


def _match_category(
    connection: duckdb.DuckDBPyConnection,
    line_items: str,
    category: str,
    rules: Sequence[tuple[int, Allocator]],
) -> str:
    maps = [_Map(number, dict(criteria)) for number, allocator in rules for criteria in allocator.criteria]
    items = f"({items_sql(category, line_items)})"
    if category != "account":
        # Aggregated items are few and read more than once; account-usage items are the lines themselves.
        connection.execute(f"CREATE OR REPLACE TEMP TABLE matching_{category}_items AS SELECT * FROM {items}")
        items = f"matching_{category}_items"
    selected = uniform_item(category)
    taken_columns = [name for name in MATCHED_ITEM_COLUMNS if name not in ITEM_COLUMNS]
    if not maps:
        untaken = ", ".join(f"NULL::{MATCHED_ITEM_COLUMNS[name]} AS {name}" for name in taken_columns)
        return f"SELECT {selected}, {untaken} FROM {items}{' WHERE false' if category == 'account' else ''}"
    # Fee and savings items are listed whether taken or not; of the account-usage items only the taken ones.
    join, condition = ("JOIN", " WHERE bit_count(mask) > 0") if category == "account" else ("LEFT JOIN", "")
    columns = sorted({column for m in maps for column in m.conditions})
    for column in columns:
        _create_value_table(connection, items, category, column, maps)
    values = {column: _value_table(category, column) for column in columns}
    joins = "".join(
        f" {join} {table} ON coalesce({identifier(column)}, '') = {table}.value" for column, table in values.items()
    )
    mask = " & ".join(f"{table}.mask" for table in values.values())
    masked = f"matching_{category}_masked"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {masked} AS SELECT * FROM "
        f"(SELECT items.*, {mask} AS mask FROM {items} AS items{joins}){condition}"
    )
    _create_takers(connection, masked, maps)
    return (
        f"SELECT {selected}, {', '.join(taken_columns)} FROM {masked} {join} {masked}_takers USING (mask) "
        f"{join} matching_allocators USING (allocator)"
    )


def _value_table(category: str, column: str) -> str:
    return f"matching_{category}_{column}"


def _create_value_table(
    connection: duckdb.DuckDBPyConnection, items: str, category: str, column: str, maps: Sequence[_Map]
) -> None:
    """Evaluate every distinct condition on the column once per distinct value."""
    conditions: dict[Condition, str] = {}
    bits = []
    for m in maps:
        condition = m.conditions.get(column)
        bits.append("'1'" if condition is None else conditions.setdefault(condition, f"c{len(conditions)}"))
    evaluated = ", ".join(
        f"CASE WHEN {condition.sql('value')} THEN '1' ELSE '0' END AS {name}" for condition, name in conditions.items()
    )
    table = _value_table(category, column)
    # Distinct values first, in a table of their own: in one query the optimiser filters on the conditions before
    # it makes the values distinct, and evaluates every pattern on every row.
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {table}_distinct AS "
        f"SELECT DISTINCT coalesce({identifier(column)}, '') AS value FROM {items}"
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT value, concat({', '.join(bits)})::BIT AS mask "
        f"FROM (SELECT value, {evaluated} FROM {table}_distinct)"
    )
    connection.execute(f"DELETE FROM {table} WHERE bit_count(mask) = 0")


def _create_takers(connection: duckdb.DuckDBPyConnection, masked: str, maps: Sequence[_Map]) -> None:
    """Resolve each distinct outcome to the allocator that takes the item and those in conflict with it."""
    rows = [(i, m.allocator) for i, m in enumerate(maps)]
    columns = {"map": "INTEGER", "allocator": "INTEGER"}
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {masked}_maps AS {rows_sql(columns, rows)}")
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {masked}_takers AS "
        f"WITH hits AS (SELECT DISTINCT mask, allocator FROM (SELECT DISTINCT mask FROM {masked}), {masked}_maps "
        "WHERE get_bit(mask, map) = 1), "
        "takers AS (SELECT mask, min(allocator) AS allocator FROM hits GROUP BY mask) "
        "SELECT takers.mask, takers.allocator, "
        "coalesce(list(losers.allocator_id ORDER BY losers.allocator) FILTER (losers.allocator IS NOT NULL), []) "
        "AS conflicting_allocator_ids FROM takers "
        "JOIN hits ON hits.mask = takers.mask "
        "LEFT JOIN matching_allocators AS losers ON losers.allocator = hits.allocator "
        "AND hits.allocator <> takers.allocator GROUP BY takers.mask, takers.allocator"
    )


def due_facts(connection: duckdb.DuckDBPyConnection, matched_items: str) -> dict[str, dict[str, str]]:
    """What each booking month will take from these items, for the fingerprints of later tables.

    Returns:
        booking month -> {allocator version: digest of the items due in it under that version (id, cost,
        instalments)}. Two sets of items have the same digests only if they are the same set.
    """
    rows = connection.execute(
        "SELECT allocator_version, first_booking_month, tranche_count, "
        "bit_xor(md5_number(item_id || cost::VARCHAR))::VARCHAR || '/' || count(*)::VARCHAR || '/' || sum(cost)::VARCHAR "
        f"FROM {matched_items} WHERE allocator_version IS NOT NULL GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    due: dict[str, dict[str, str]] = {}
    for version, first, count, digest in rows:
        for k in range(count):
            due.setdefault(add_months(first, k), {})[version] = digest
    return due
