"""Which allocator takes which item, in one pass over the data whatever the number of allocators.

Assumptions: the columns that criteria look at have far fewer distinct values than there are rows, and maps look
at few different sets of columns.

Stages:
1. The maps (OR-ed alternatives) of all allocators are put into groups that look at the same columns; a map that
   looks at fewer columns joins a group that looks at more.
2. For each column that any map names, every distinct condition is evaluated once on every distinct value. The
   outcome for a group is one bit string a value: bit *m* is 1 if the group's map *m* does not look at the column
   or holds on the value. Values with the same bit string are one class, a number; where no bit is 1 it is null.
3. The classes of a group's columns are combined pair by pair, with the AND of their bit strings, into classes of
   the whole group. Everything so far is about distinct values and classes; rows are not touched.
4. Account-usage items, which are the lines themselves, are first filtered by the values and combinations of values
   that some map holds on; nearly all lines end here.
5. Items are joined to the values' classes and those to their combinations, all by small numbers. An item whose
   classes are null in every group is taken by nobody.
6. The distinct outcomes, which are few, are resolved to the taking allocator (the first of all maps that hold)
   and the others, which are conflicts.

Edge cases: null and '' are alike to every condition. The filter may let a line pass that nobody takes, never stop
one that somebody does.
Drawbacks: a table of values is as large as its column has distinct values, so a criterion on a column of unique
values costs a join of the size of the data. Where two columns have so many classes that most pairs can hardly
occur, the pairs that do occur are collected first, which is another pass over the group's columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from octo_pipeline.allocation.items import ITEM_COLUMNS, items_sql, uniform_item_sql
from octo_pipeline.model.months import add_months
from octo_pipeline.model.sql import Relation, Sql, identifier, rows_sql
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.rules.conditions import Condition

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
    connection: duckdb.DuckDBPyConnection,
    line_items: Relation,
    month: str,
    allocators: Sequence[Allocator],
    categories: Sequence[str] = CATEGORIES,
) -> str:
    """Match the month's items.

    Args:
        connection: where `line_items` can be read; temporary tables are made in it.
        line_items: relation with the columns of ``cost_line_items``, of one month.
        month: the origin month.
        allocators: all valid allocators, in order.
        categories: those whose items are wanted.

    Returns:
        SQL of `MATCHED_ITEM_COLUMNS`: every fee and savings item, allocator columns null where nobody takes
        it, and every account-usage item that an allocator takes.
    """
    live = applying(allocators, month)
    _create_allocator_table(connection, live, month)
    queries = []
    for category in categories:
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


@dataclass(frozen=True)
class _Group:
    """Maps that look at no other columns than these; `name` is the beginning of its tables' names."""

    name: str
    columns: tuple[str, ...]
    maps: list[_Map]


# Up to here making all pairs of classes takes well under a second, which reading the rows for them does not.
_MOST_PAIRS = 1_000_000
# A filter by more combinations of values than this costs more than it saves.
_MOST_COMBINATIONS = 100_000


def _match_category(
    connection: duckdb.DuckDBPyConnection,
    line_items: Relation,
    category: str,
    rules: Sequence[tuple[int, Allocator]],
) -> str:
    items = f"({items_sql(category, line_items)})"
    if category != "account":
        # Aggregated items are few and read more than once; account-usage items are the lines themselves.
        connection.execute(f"CREATE OR REPLACE TEMP TABLE matching_{category}_items AS SELECT * FROM {items}")
        items = f"matching_{category}_items"
    selected = uniform_item_sql(category)
    taken_columns = [name for name in MATCHED_ITEM_COLUMNS if name not in ITEM_COLUMNS]
    groups = _groups(category, [_Map(i, dict(criteria)) for i, allocator in rules for criteria in allocator.criteria])
    if not groups:
        untaken = ", ".join(f"NULL::{MATCHED_ITEM_COLUMNS[name]} AS {name}" for name in taken_columns)
        return f"SELECT {selected}, {untaken} FROM {items}{' WHERE false' if category == 'account' else ''}"
    # Lines of fee items have no values that would harm here, and telling them apart means to read more columns.
    _create_classes(connection, line_items if category == "account" else items, category, groups)
    for group in groups:
        _combine_classes(connection, items, category, group)
    outcomes = [f"outcome_{number}" for number in range(len(groups))]
    found = ", ".join(
        f"{_group_class(category, g, len(g.columns))} AS {o}" for g, o in zip(groups, outcomes, strict=True)
    )
    if category == "account" and (condition := _filter(connection, category, groups)):
        # In a table of their own: what a filter leaves of the lines comes in crumbs, which joins are slow with.
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE matching_candidates AS SELECT * FROM {items} AS items WHERE {condition}"
        )
        items = "matching_candidates"
    # Fee and savings items are listed whether taken or not; of the account-usage items only the taken ones.
    is_taken = " OR ".join(f"{outcome} IS NOT NULL" for outcome in outcomes)
    join, condition = ("JOIN", f" WHERE {is_taken}") if category == "account" else ("LEFT JOIN", "")
    matched = f"matching_{category}_matched"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {matched} AS SELECT items.*, {found} "
        f"FROM {items} AS items{_class_joins(category, groups)}{condition}"
    )
    # Where rules take most of a month, its lines need not be kept twice.
    connection.execute("DROP TABLE IF EXISTS matching_candidates")
    _create_takers(connection, matched, groups, outcomes)
    same = " AND ".join(f"{matched}.{outcome} IS NOT DISTINCT FROM takers.{outcome}" for outcome in outcomes)
    return (
        f"SELECT {selected}, {', '.join(taken_columns)} FROM {matched} {join} {matched}_takers AS takers ON {same} "
        f"{join} matching_allocators USING (allocator)"
    )


def _groups(category: str, maps: Sequence[_Map]) -> list[_Group]:
    groups: list[_Group] = []
    for m in sorted(maps, key=lambda m: (-len(m.conditions), sorted(m.conditions))):
        columns = tuple(sorted(m.conditions))
        group = next((g for g in groups if set(columns) <= set(g.columns)), None)
        if group is None:
            group = _Group(f"matching_{category}_{len(groups)}", columns, [])
            groups.append(group)
        group.maps.append(m)
    return groups


def _value_table(category: str, column: str) -> str:
    return f"matching_{category}_{column}"


def _group_class(category: str, group: _Group, count: int) -> str:
    """SQL of the class of a row by the group's first columns."""
    if count == 1:
        return f"{_value_table(category, group.columns[0])}.{group.name}"
    return f"{group.name}_{count}.class"


def _class_joins(category: str, groups: Sequence[_Group], count: int | None = None) -> str:
    """The joins that find a row's classes by the groups' columns, or by the first `count` of them."""
    columns = sorted({column for group in groups for column in group.columns[:count]})
    joins = [
        f" LEFT JOIN {table} ON items.{identifier(column)} IS NOT DISTINCT FROM {table}.value"
        for column in columns
        for table in [_value_table(category, column)]
    ]
    for group in groups:
        for i, column in enumerate(group.columns[1:count], start=2):
            pairs = f"{group.name}_{i}"
            joins.append(
                f" LEFT JOIN {pairs} ON {_group_class(category, group, i - 1)} = {pairs}.first_class "
                f"AND {_value_table(category, column)}.{group.name} = {pairs}.second_class"
            )
    return "".join(joins)


def _create_classes(connection: duckdb.DuckDBPyConnection, items: str, category: str, groups: Sequence[_Group]) -> None:
    """Evaluate every distinct condition once per distinct value of its column, and number the outcomes by group.

    Makes a table ``<value table>`` (value, a class for each group) for each column, and a table
    ``<group>_<column>`` (class, mask) for each of its groups.
    """
    for column in sorted({column for group in groups for column in group.columns}):
        table = _value_table(category, column)
        looking = [group for group in groups if column in group.columns]
        conditions: dict[Condition, str] = {}
        masks = []
        for group in looking:
            found = [m.conditions.get(column) for m in group.maps]
            bits = ["'1'" if c is None else conditions.setdefault(c, f"c{len(conditions)}") for c in found]
            masks.append(f"concat({', '.join(bits)})::BIT AS {group.name}")
        evaluated = ", ".join(
            f"CASE WHEN {condition.sql(Sql('value'))} THEN '1' ELSE '0' END AS {name}"
            for condition, name in conditions.items()
        )
        # Distinct values first, in a table of their own: in one query the optimiser filters on the conditions
        # before it makes the values distinct, and evaluates every pattern on every row.
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {table}_distinct AS SELECT DISTINCT {identifier(column)} AS value FROM {items}"
        )
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {table}_masks AS SELECT value, {', '.join(masks)} "
            f"FROM (SELECT value, {evaluated} FROM {table}_distinct)"
        )
        for group in looking:
            connection.execute(
                f"CREATE OR REPLACE TEMP TABLE {group.name}_{column} AS SELECT row_number() OVER ()::INTEGER AS class, "
                f"mask FROM (SELECT DISTINCT {group.name} AS mask FROM {table}_masks WHERE bit_count({group.name}) > 0)"
            )
        classes = ", ".join(f"{group.name}_{column}.class AS {group.name}" for group in looking)
        joins = "".join(
            f" LEFT JOIN {group.name}_{column} ON {table}_masks.{group.name} = {group.name}_{column}.mask"
            for group in looking
        )
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT value, {classes} FROM {table}_masks{joins}")


def _combine_classes(connection: duckdb.DuckDBPyConnection, items: str, category: str, group: _Group) -> None:
    """Make a table ``<group>_<n>`` (first_class, second_class, class, mask) for each column but the first.

    It says to which class the class by the columns so far and that of the *n*-th column combine, and
    ``<group>_outcomes`` (class, mask) which maps hold in the class of all columns.
    """
    combined = f"{group.name}_{group.columns[0]}"
    for i, column in enumerate(group.columns[1:], start=2):
        second = f"{group.name}_{column}"
        pairs = f"{combined} AS a, {second} AS b"
        if _count(connection, f"FROM {combined}") * _count(connection, f"FROM {second}") > _MOST_PAIRS:
            first_class = _group_class(category, group, i - 1)
            second_class = f"{_value_table(category, column)}.{group.name}"
            joins = _class_joins(category, [group], i - 1)
            value = _value_table(category, column)
            pairs = (
                f"(SELECT DISTINCT {first_class} AS first_class, {second_class} AS second_class FROM {items} AS items"
                f"{joins} LEFT JOIN {value} ON items.{identifier(column)} IS NOT DISTINCT FROM {value}.value) "
                f"JOIN {combined} AS a ON a.class = first_class JOIN {second} AS b ON b.class = second_class"
            )
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {group.name}_{i} AS "
            "SELECT first_class, second_class, dense_rank() OVER (ORDER BY mask)::INTEGER AS class, mask "
            f"FROM (SELECT a.class AS first_class, b.class AS second_class, a.mask & b.mask AS mask FROM {pairs}) "
            "WHERE bit_count(mask) > 0"
        )
        combined = f"{group.name}_{i}_classes"
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {combined} AS SELECT DISTINCT class, mask FROM {group.name}_{i}"
        )
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {group.name}_outcomes AS FROM {combined}")


def _filter(connection: duckdb.DuckDBPyConnection, category: str, groups: Sequence[_Group]) -> str:
    """SQL of a condition that passes every row with a class in some group, and few others; '' if there is none such.

    Joins multiply the cost of every column that a row carries through them, and a filter does not; and DuckDB looks
    a text up once for each value of a Parquet dictionary here. So rows are filtered before they are joined.
    """
    conditions = [_group_filter(connection, category, group) for group in groups]
    return " OR ".join(filter(None, conditions)) if all(conditions) else ""


def _group_filter(connection: duckdb.DuckDBPyConnection, category: str, group: _Group) -> str | None:
    """SQL of a condition that holds on every row with a class in the group; None if it would hold on most rows."""
    tables = [_value_table(category, column) for column in group.columns]
    # concat makes '' of null, which IN would not find, and nothing tells the two apart.
    looked_up = [f"concat(items.{identifier(column)}, '')" for column in group.columns]
    values = ", ".join(f"concat({table}.value, '') AS v{i}" for i, table in enumerate(tables))
    joins = tables[0]
    for i, table in enumerate(tables[1:], start=2):
        pairs = f"{group.name}_{i}"
        joins += (
            f" JOIN {pairs} ON {_group_class(category, group, i - 1)} = {pairs}.first_class "
            f"JOIN {table} ON {table}.{group.name} = {pairs}.second_class"
        )
    combinations = f"{group.name}_combinations"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {combinations} AS SELECT {values} FROM {joins} "
        f"WHERE {tables[0]}.{group.name} IS NOT NULL LIMIT {_MOST_COMBINATIONS + 1}"
    )
    if _count(connection, f"FROM {combinations}") <= _MOST_COMBINATIONS:
        return f"({', '.join(looked_up)}) IN (FROM {combinations})"
    selective = [
        f"{looked} IN (SELECT concat(value, '') FROM {table} WHERE {group.name} IS NOT NULL)"
        for looked, table in zip(looked_up, tables, strict=True)
        if 2 * _count(connection, f"FROM {table} WHERE {group.name} IS NOT NULL") < _count(connection, f"FROM {table}")
    ]
    return f"({' AND '.join(selective)})" if selective else None


def _count(connection: duckdb.DuckDBPyConnection, rows: str) -> int:
    found: int = connection.execute(f"SELECT count(*) {rows}").fetchall()[0][0]
    return found


def _create_takers(
    connection: duckdb.DuckDBPyConnection, matched: str, groups: Sequence[_Group], outcomes: Sequence[str]
) -> None:
    """Resolve each distinct outcome to the allocator that takes the item and those in conflict with it."""
    selected = ", ".join(outcomes)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {matched}_outcomes AS SELECT row_number() OVER () AS number, {selected} "
        f"FROM (SELECT DISTINCT {selected} FROM {matched})"
    )
    hits = []
    for group, outcome in zip(groups, outcomes, strict=True):
        maps = rows_sql(
            {"map": "INTEGER", "allocator": "INTEGER"}, [(i, m.allocator) for i, m in enumerate(group.maps)]
        )
        hits.append(
            f"SELECT number, allocator FROM {matched}_outcomes JOIN {group.name}_outcomes ON {outcome} = class "
            f"JOIN ({maps}) AS maps ON get_bit(mask, map) = 1"
        )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {matched}_takers AS "
        f"WITH hits AS MATERIALIZED ({' UNION '.join(hits)}), "
        "takers AS (SELECT number, min(allocator) AS allocator FROM hits GROUP BY number) "
        f"SELECT {selected}, takers.allocator, "
        "coalesce(list(losers.allocator_id ORDER BY losers.allocator) FILTER (losers.allocator IS NOT NULL), []) "
        f"AS conflicting_allocator_ids FROM takers JOIN {matched}_outcomes USING (number) "
        "JOIN hits ON hits.number = takers.number "
        "LEFT JOIN matching_allocators AS losers ON losers.allocator = hits.allocator "
        f"AND hits.allocator <> takers.allocator GROUP BY {selected}, takers.allocator"
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
