"""Which allocator takes which item, in one pass over the data, however many allocators there are.

Assumptions: the columns that criteria read have far fewer distinct values than there are rows, and maps read few
different sets of columns.

Stages:
1. The maps (OR-ed alternatives) of all allocators are put into groups that read the same columns; a map that
   reads fewer columns joins a group that reads more. Each tag that a map names is a column of its own.
2. For each column that any map names, every distinct condition is evaluated once on every distinct value. The
   outcome for a group is one bit string per value: bit *m* is 1 if the group's map *m* does not read the column
   or matches the value. Values with the same bit string form a class, a number; if no bit is 1, the class is null.
3. The classes of a group's columns are combined pair by pair, with the AND of their bit strings, into classes of
   the whole group. So far only distinct values and classes are processed, no rows.
4. Account-usage items are the lines themselves. Of these only the numbers and the columns that maps read are looked at,
   and they are first filtered by the values and combinations of values that any map matches; this removes nearly all
   lines.
5. Items are joined to the classes of their values, and these to the classes of their combinations, all by small
   numbers. An item whose classes are null in every group is taken by nobody. The other columns of account-usage items
   are read of those that somebody takes, by their numbers.
6. The few distinct outcomes are resolved to the taking allocator (the first whose map matches) and the other
   matching allocators, which are conflicts.

Edge cases: every condition treats null and '' as equal. The filter may keep a line that nobody takes, but never removes
one that somebody takes.
Drawbacks: a table of values has as many rows as its column has distinct values, so a criterion on a column of unique
values takes a join of the size of the data. If two columns have so many classes that most pairs hardly ever
occur, the pairs that do occur are collected first, which takes another pass over the group's columns.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import duckdb

from octo_pipeline.allocation.items import ITEM_COLUMNS, item_id_sql, items_sql, uniform_item_sql
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.model.columns import ITEM_GRAINS, LINE_ITEM_COLUMNS
from octo_pipeline.model.months import add_months
from octo_pipeline.model.sql import Relation, Sql, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.rules.allocator import Allocator, criterion_sql
from octo_pipeline.rules.conditions import Condition

CATEGORIES = ("fee", "account", "savings")

MATCHED_ITEM_COLUMNS: dict[str, str] = ITEM_COLUMNS | {
    "allocator_id": "VARCHAR",
    "allocator_version": "VARCHAR",
    "allocator_document": "VARCHAR",
    "first_booking_month": "VARCHAR",
    "tranche_count": "INTEGER",
    "conflicting_allocator_ids": "VARCHAR[]",
    "moving_item_ids": "VARCHAR[]",
}

# What an item records about the allocator that takes it.
_PINNED = ("allocator_id", "allocator_version", "allocator_document", "first_booking_month", "tranche_count")
_TAKEN = {name: kind for name, kind in MATCHED_ITEM_COLUMNS.items() if name not in (*ITEM_COLUMNS, "moving_item_ids")}

# Where a line stands among the lines; the same whenever they are read.
LINE_NUMBER = "line_number"

# Below this, enumerating all pairs of classes takes under a second; scanning the rows for the pairs that occur takes
# longer.
_MOST_PAIRS = 1_000_000
# A filter by more combinations of values than this takes longer than it saves.
_MOST_COMBINATIONS = 100_000


def applying(allocators: Sequence[Allocator], month: str) -> list[Allocator]:
    """The allocators whose window contains the origin month, in the order in which they take items."""
    return [a for a in allocators if a.matches_month(month)]


def matched_items_sql(
    connection: duckdb.DuckDBPyConnection,
    line_items: Relation,
    month: str,
    allocators: Sequence[Allocator],
    categories: Sequence[str] = CATEGORIES,
) -> Sql:
    """Prepare the matching of the month's items.

    Args:
        connection: where `line_items` can be read; temporary tables are made in it.
        line_items: relation with the columns of ``cost_line_items`` and `LINE_NUMBER`, of one month.
        month: the origin month.
        allocators: all valid allocators, in order.
        categories: the categories whose items are returned. Savings items without the others are returned as if nobody
            took fee and account-usage items.

    Returns:
        SQL of `MATCHED_ITEM_COLUMNS` over the temporary tables: every fee and savings item, with null allocator
        columns if nobody takes it, and every account-usage item that an allocator takes. An unused savings item has
        the ids of the taken fee and account-usage items with lines of it, which distribute its cost already.
    """
    live = applying(allocators, month)
    create_temp_table(connection, "matching_allocators", allocators_sql(live, month))
    queries: dict[str, Sql] = {}
    for category in categories:
        alternatives = [
            (i, conditions)
            for i, allocator in enumerate(live)
            if allocator.category == category
            for conditions in allocator.criteria
        ]
        tags = sorted({key for _, conditions in alternatives for key in conditions if key not in LINE_ITEM_COLUMNS})
        names = {tag: f"tag_{number}" for number, tag in enumerate(tags)}
        maps = [_Map(i, {names.get(key, key): c for key, c in conditions.items()}) for i, conditions in alternatives]
        criteria_tags = {name: criterion_sql(tag) for tag, name in names.items()}
        queries[category] = _category_sql(connection, line_items, category, maps, criteria_tags)
    unused_lines = Relation(f"({unused_lines_sql(line_items)})") if moves_savings(live, categories) else None
    return with_moving_sql(queries, unused_lines)


def moves_savings(allocators: Sequence[Allocator], categories: Sequence[str]) -> bool:
    """Whether it is looked for what moves the cost of savings.

    That reads all lines again, so it waits for somebody who takes savings.
    """
    return set(CATEGORIES) <= set(categories) and any(a.category == "savings" for a in allocators)


def unused_lines_sql(line_items: Relation) -> Sql:
    """SQL of the lines of unused commitments: the savings item of each and the fee or account-usage item, by their ids."""
    return render(
        "allocation/match_unused_lines",
        line_items=line_items,
        item_ids={category: item_id_sql(category) for category in CATEGORIES},
    )


def with_moving_sql(queries: Mapping[str, Sql], unused_lines: Relation | None) -> Sql:
    """SQL of `MATCHED_ITEM_COLUMNS` of matched items of several categories, with what moves the cost of each.

    Args:
        queries: of each category its items, without ``moving_item_ids``.
        unused_lines: relation of `unused_lines_sql`; None if nothing moves.
    """
    with_moving = [
        render(
            "allocation/match_moving",
            unused_lines=unused_lines,
            fee_items=queries["fee"],
            account_items=queries["account"],
            savings_items=query,
        )
        if category == "savings" and unused_lines is not None
        else render("allocation/match_unmoving", items_query=query)
        for category, query in queries.items()
    ]
    return Sql(" union all ".join(f"({query})" for query in with_moving))


def without_documents_sql(items_query: Sql) -> Sql:
    """The query of `matched_items_sql` with a null in place of each allocator's document.

    A table of a million items would hold as many copies of it, gigabytes of text.
    """
    return render("allocation/match_without_documents", items_query=items_query)


def with_documents_sql(items: Relation) -> Sql:
    """SQL of `MATCHED_ITEM_COLUMNS` of the rows of `without_documents_sql`, on the connection that matched them."""
    return render("allocation/match_with_documents", items=items)


def due_facts(connection: duckdb.DuckDBPyConnection, matched_items: Relation) -> dict[str, dict[str, str]]:
    """What each booking month takes from these items, for the fingerprints of later tables.

    Returns:
        booking month -> {allocator version: digest of the items due in that month under that version (id, costs,
        instalments, what moves their cost)}. Only equal sets of items have equal digests.
    """
    rows = connection.execute(render("allocation/due_facts", matched_items=matched_items)).fetchall()
    due: dict[str, dict[str, str]] = {}
    for version, first_month, tranches, digest in rows:
        for k in range(tranches):
            due.setdefault(add_months(first_month, k), {})[version] = digest
    return due


def merged_due(parts: Iterable[Mapping[str, Mapping[str, str]]]) -> dict[str, dict[str, str]]:
    """The `due_facts` of items from those of parts in which each of them is once."""
    merged: dict[str, dict[str, str]] = {}
    for part in parts:
        for month, digests in part.items():
            of_month = merged.setdefault(month, {})
            for version, digest in digests.items():
                of_month[version] = _merged_digest(of_month[version], digest) if version in of_month else digest
    return merged


def _merged_digest(one_digest: str, other_digest: str) -> str:
    (ids, items, cost), (other_ids, other_items, other_cost) = (d.split("/") for d in (one_digest, other_digest))
    # As DuckDB writes it: Python has another text for 0.
    return f"{int(ids) ^ int(other_ids)}/{int(items) + int(other_items)}/{Decimal(cost) + Decimal(other_cost):f}"


def allocators_sql(allocators: Sequence[Allocator], month: str) -> Sql:
    """SQL of what an item of the month records about each allocator that may take it, numbered in their order."""
    columns = {"allocator": "INTEGER"} | {name: _TAKEN[name] for name in _PINNED}
    return rows_sql(
        columns,
        [
            (i, a.id, a.version, a.document, a.first_booking_month(month), a.tranche_count)
            for i, a in enumerate(allocators)
        ],
    )


@dataclass(frozen=True)
class _Map:
    allocator: int
    conditions: dict[str, Condition]


@dataclass(frozen=True)
class _PairJoin:
    """Joins a row's class of a group's first columns and its class of the next column to the class they combine to."""

    table: Relation
    first_class: Sql
    second_class: Sql
    value_table: Relation


@dataclass(frozen=True)
class _Group:
    """Maps that read no other columns than these; the names of the group's tables begin with `name`."""

    category: str
    name: str
    columns: tuple[str, ...]
    maps: list[_Map]

    def class_sql(self, count: int) -> Sql:
        """SQL of the class of a row by the first `count` columns."""
        if count == 1:
            return Sql(f"{_value_table(self.category, self.columns[0])}.{self.name}")
        return Sql(f"{self.name}_{count}.class")

    def pair_joins(self, count: int | None = None) -> list[_PairJoin]:
        """The joins from the classes of single columns to the class of the first `count` columns, by default all."""
        joins = []
        for i, column in enumerate(self.columns[1:count], start=2):
            value_table = _value_table(self.category, column)
            joins.append(
                _PairJoin(
                    table=Relation(f"{self.name}_{i}"),
                    first_class=self.class_sql(i - 1),
                    second_class=Sql(f"{value_table}.{self.name}"),
                    value_table=value_table,
                )
            )
        return joins


@dataclass(frozen=True)
class _Lookup:
    """A condition of a filter: the row's values of the columns are in the query's result."""

    columns: Sequence[str]
    query: Sql


def _value_table(category: str, column: str) -> Relation:
    return Relation(f"matching_{category}_{column}")


def _value_tables(category: str, columns: Sequence[str]) -> dict[str, Relation]:
    return {column: _value_table(category, column) for column in columns}


def _mask_classes(group: _Group, column: str) -> Relation:
    return Relation(f"{group.name}_{column}")


def _outcome_masks(group: _Group) -> Relation:
    """The table (class, mask) of the classes of all of the group's columns."""
    return _mask_classes(group, group.columns[0]) if len(group.columns) == 1 else _combined(group, len(group.columns))


def _combined(group: _Group, count: int) -> Relation:
    return Relation(f"{group.name}_{count}_classes")


def _columns_of(groups: Sequence[_Group]) -> list[str]:
    return sorted({column for group in groups for column in group.columns})


def _category_sql(
    connection: duckdb.DuckDBPyConnection,
    line_items: Relation,
    category: str,
    maps: Sequence[_Map],
    criteria_tags: Mapping[str, Sql],
) -> Sql:
    # Fee and savings items are listed whether taken or not, account-usage items only if taken.
    only_taken = category == "account"
    groups = _groups(category, maps)
    item_columns = uniform_item_sql(category)
    if not groups:
        return render(
            "allocation/match_untaken",
            item_columns=item_columns,
            taken_columns=_TAKEN,
            items=Relation(f"({items_sql(category, line_items)})"),
            only_taken=only_taken,
        )
    if category == "account":
        # Fee lines do no harm here, and excluding them would mean reading more columns.
        items = _with_tags(line_items, criteria_tags) if criteria_tags else line_items
        columns = [LINE_NUMBER, *_columns_of(groups)]
    else:
        # There are few aggregated items, and they are read more than once.
        items = create_temp_table(connection, f"matching_{category}_items", items_sql(category, line_items))
        columns = ["*"]
    _create_value_classes(connection, items, category, groups)
    for group in groups:
        _create_combined_classes(connection, items, group)
    if category == "account" and (filters := _filters(connection, groups)):
        # In a table of its own: a filter leaves sparse batches, and joins over them are slow.
        items = create_temp_table(
            connection,
            "matching_candidates",
            render("allocation/match_candidates", items=items, columns=columns, filters=filters),
        )
    outcomes = {f"outcome_{number}": group for number, group in enumerate(groups)}
    classified_items = create_temp_table(
        connection,
        f"matching_{category}_matched",
        render(
            "allocation/match_classified",
            items=items,
            columns=[LINE_NUMBER] if category == "account" else columns,
            outcome_classes={outcome: group.class_sql(len(group.columns)) for outcome, group in outcomes.items()},
            value_tables=_value_tables(category, _columns_of(groups)),
            pair_joins=[join for group in groups for join in group.pair_joins()],
            only_taken=only_taken,
        ),
    )
    connection.execute("drop table if exists matching_candidates")
    takers = _create_takers(connection, classified_items, outcomes)
    if category == "account":
        classified_items = _taken_lines(connection, line_items, classified_items, list(outcomes))
    return render(
        "allocation/match_taken",
        item_columns=item_columns,
        taken_columns=_TAKEN,
        classified_items=classified_items,
        outcomes=outcomes,
        takers=takers,
        only_taken=only_taken,
    )


def _taken_lines(
    connection: duckdb.DuckDBPyConnection, line_items: Relation, classified_lines: Relation, outcomes: Sequence[str]
) -> Relation:
    """The account-usage items of the lines that somebody takes, with their outcomes."""
    # In a table of its own: a join by line number leaves sparse batches, and making ids from these is slow. Lines that are not
    # usage are left out when this table is read: as it is made, that test would run on every line of the month.
    lines = create_temp_table(
        connection,
        "matching_account_lines",
        render(
            "allocation/match_taken_lines",
            columns=[*ITEM_GRAINS["account"], "sub_account_name", "service_name", "billed_cost", "effective_cost"],
            outcomes=outcomes,
            line_items=line_items,
            classified_lines=classified_lines,
        ),
    )
    grain = [*ITEM_GRAINS["account"], *outcomes]
    return Relation(f"({render('allocation/items_account', grain=grain, line_items=lines)})")


def _with_tags(items: Relation, criteria_tags: Mapping[str, Sql]) -> Relation:
    return Relation(f"({render('allocation/match_tags', items=items, criteria_tags=criteria_tags)})")


def _groups(category: str, maps: Sequence[_Map]) -> list[_Group]:
    groups: list[_Group] = []
    for m in sorted(maps, key=lambda m: (-len(m.conditions), sorted(m.conditions))):
        columns = tuple(sorted(m.conditions))
        group = next((g for g in groups if set(columns) <= set(g.columns)), None)
        if group is None:
            group = _Group(category, f"matching_{category}_{len(groups)}", columns, [])
            groups.append(group)
        group.maps.append(m)
    return groups


def _create_value_classes(
    connection: duckdb.DuckDBPyConnection, items: Relation, category: str, groups: Sequence[_Group]
) -> None:
    """Evaluate every distinct condition once per distinct value of its column, and number the outcomes by group.

    Creates a table ``<value table>`` (value, a class for each group) for each column, and a table
    ``<group>_<column>`` (class, mask) for each of its groups.
    """
    for column in _columns_of(groups):
        table = _value_table(category, column)
        column_groups = [group for group in groups if column in group.columns]
        conditions: dict[Condition, str] = {}
        masks = {}
        for group in column_groups:
            map_conditions = [m.conditions.get(column) for m in group.maps]
            masks[group.name] = [
                "'1'" if condition is None else conditions.setdefault(condition, f"c{len(conditions)}")
                for condition in map_conditions
            ]
        values = create_temp_table(
            connection, f"{table}_distinct", render("allocation/match_values", column=column, items=items)
        )
        value_masks = create_temp_table(
            connection,
            f"{table}_masks",
            render(
                "allocation/match_masks",
                conditions=[condition.sql(Sql("value")) for condition in conditions],
                masks=masks,
                values=values,
            ),
        )
        mask_classes = {
            group.name: create_temp_table(
                connection,
                _mask_classes(group, column),
                render("allocation/match_mask_classes", group=group.name, value_masks=value_masks),
            )
            for group in column_groups
        }
        create_temp_table(
            connection,
            table,
            render("allocation/match_value_classes", mask_classes=mask_classes, value_masks=value_masks),
        )


def _create_combined_classes(connection: duckdb.DuckDBPyConnection, items: Relation, group: _Group) -> None:
    """Combine the classes of the group's columns, one column after the other.

    For the *n*-th column this creates a table ``<group>_<n>`` (first_class, second_class, class, mask) with the class
    that the class of the columns so far and that of the column combine to, and ``<group>_<n>_classes`` (class, mask).
    """
    first_classes = _mask_classes(group, group.columns[0])
    for i, join in enumerate(group.pair_joins(), start=2):
        second_classes = _mask_classes(group, group.columns[i - 1])
        if _count(connection, first_classes) * _count(connection, second_classes) <= _MOST_PAIRS:
            pairs = render("allocation/match_all_pairs", first_classes=first_classes, second_classes=second_classes)
        else:
            pairs = render(
                "allocation/match_occurring_pairs",
                items=items,
                first_class=join.first_class,
                second_class=join.second_class,
                value_tables=_value_tables(group.category, group.columns[:i]),
                pair_joins=group.pair_joins(i - 1),
                first_classes=first_classes,
                second_classes=second_classes,
            )
        pair_classes = create_temp_table(connection, join.table, render("allocation/match_pair_classes", pairs=pairs))
        first_classes = create_temp_table(
            connection, _combined(group, i), render("allocation/match_combined_classes", pair_classes=pair_classes)
        )


def _filters(connection: duckdb.DuckDBPyConnection, groups: Sequence[_Group]) -> list[list[_Lookup]]:
    """A filter for each group. A row with a class in any group passes at least one of them; few other rows do.

    A join copies every column of a row, and a filter does not; and in a filter DuckDB looks a text up only once for each
    value of a Parquet dictionary. So rows are filtered before they are joined.

    Returns:
        For each group the look-ups that all must succeed; empty if most rows would pass.
    """
    filters = [_lookups(connection, group) for group in groups]
    return filters if all(filters) else []


def _lookups(connection: duckdb.DuckDBPyConnection, group: _Group) -> list[_Lookup]:
    """Look-ups that succeed for every row with a class in the group; none if they would succeed for most rows."""
    value_tables = _value_tables(group.category, group.columns)
    combinations = create_temp_table(
        connection,
        f"{group.name}_combinations",
        render(
            "allocation/match_combinations",
            value_tables=value_tables,
            values=value_tables[group.columns[0]],
            pair_joins=group.pair_joins(),
            group=group.name,
            limit=_MOST_COMBINATIONS + 1,
        ),
    )
    if _count(connection, combinations) <= _MOST_COMBINATIONS:
        return [_Lookup(group.columns, Sql(f"from {combinations}"))]
    return [
        _Lookup([column], render("allocation/match_column_values", values=values, group=group.name))
        for column, values in value_tables.items()
        if 2 * _count(connection, values, group.name) < _count(connection, values)
    ]


def _count(connection: duckdb.DuckDBPyConnection, table: Relation, column: str = "*") -> int:
    """The number of rows of the table, or of its rows with a value in the column."""
    count: int = connection.table(table).aggregate(f"count({column})").fetchall()[0][0]
    return count


def _create_takers(
    connection: duckdb.DuckDBPyConnection, classified_items: Relation, outcomes: Mapping[str, _Group]
) -> Relation:
    """Resolve each distinct outcome to the allocator that takes the item and to the conflicting ones."""
    numbered_outcomes = create_temp_table(
        connection,
        f"{classified_items}_outcomes",
        render("allocation/match_outcomes", outcomes=outcomes, classified_items=classified_items),
    )
    columns = {"map": "INTEGER", "allocator": "INTEGER"}
    outcome_groups = {
        outcome: {
            "masks": _outcome_masks(group),
            "maps": Relation(f"({rows_sql(columns, [(i, m.allocator) for i, m in enumerate(group.maps)])})"),
        }
        for outcome, group in outcomes.items()
    }
    return create_temp_table(
        connection,
        f"{classified_items}_takers",
        render("allocation/match_takers", outcome_groups=outcome_groups, numbered_outcomes=numbered_outcomes),
    )
