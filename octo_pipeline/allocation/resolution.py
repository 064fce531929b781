"""Which accounts and cost groups an allocator's entries mean in a booking month (allocation.md §6 and §16).

Stages, for one booking month:
1. ``resolution_groups``: the cost groups that there are, which patterns are tried on.
2. The allocators that name a family of too many values. They have no targets, but a reason.
3. ``resolved_accounts``: each entry with its targets.

Edge cases: an allocator with an entry of type owner is resolved for each account that its items were billed on, and a
rule for balances for each owner that it can match; an
entry that means nobody has one row without a target.
"""

from collections.abc import Mapping, Sequence

import duckdb

from octo_pipeline.allocation import balances
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.model.columns import LINE_ITEM_GRAIN
from octo_pipeline.model.sql import Relation, Sql, regexp_matches, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.rules.cost_group import CostGroup, group_document, group_sql

# A family of more values than this is a mistake, such as a tag with the ids of requests.
MOST_VALUES = 10_000
FAMILY_TOO_LARGE = "family_too_large"

RESOLVED_ACCOUNT_COLUMNS: dict[str, str] = {
    "allocator_id": "VARCHAR",
    "allocator_version": "VARCHAR",
    "own_account_id": "VARCHAR",
    "own_group_id": "VARCHAR",
    "entry_index": "INTEGER",
    "entry_type": "VARCHAR",
    "entry_value": "VARCHAR",
    "account_id": "VARCHAR",
    "group_id": "VARCHAR",
    "reason": "VARCHAR",
}

# The columns of line items that the usage of containers has, too.
_CONTAINER_COLUMNS = ("vendor", "billing_account_id", "sub_account_id", "billing_currency", "tags")
_LINE_COLUMNS = LINE_ITEM_GRAIN | {"service_name": "VARCHAR"}


def resolved_accounts_sql(
    connection: duckdb.DuckDBPyConnection,
    line_items: Relation,
    container_usage: Relation,
    matched_items: Relation,
    month: str,
    allocators: Sequence[Allocator],
    cost_groups: Mapping[str, CostGroup],
    registered: Sequence[tuple[str, str]],
) -> Sql:
    """Prepare the targets of every entry of the allocators with a tranche due.

    A rule for balances has targets if there is anybody whose balance it can match.

    Args:
        connection: where the relations can be read; temporary tables are made in it.
        line_items: relation with the columns of ``cost_line_items``, of the booking month.
        container_usage: relation with the columns of ``container_usage``, of the booking month.
        matched_items: relation with `matching.MATCHED_ITEM_COLUMNS` of `origin_months(month)`.
        month: the booking month.
        allocators: the pinned allocator versions.
        cost_groups: the cost groups by id.
        registered: (payer, account) of the accounts registered under a payer.

    Returns:
        SQL of `RESOLVED_ACCOUNT_COLUMNS`, one row per entry and target. An entry that resolves to nobody has
        one row without a target.
    """
    owners = create_temp_table(connection, "resolution_owners", _owners_sql(matched_items, allocators, month))

    def resolved_sql(allocators: Sequence[Allocator]) -> Sql:
        return _resolved_sql(connection, line_items, container_usage, allocators, cost_groups, registered, owners)

    if not any(a.category == "balance" for a in allocators):
        return resolved_sql(allocators)
    # Whoever something can be booked on can have a balance, so the targets are looked for twice.
    targets = create_temp_table(connection, "resolution_targets", resolved_sql(allocators))
    candidates = balances.candidates(connection, line_items, matched_items, targets, month, allocators)
    rows = connection.execute(render("allocation/resolution_matching_rules", candidates=candidates)).fetchall()
    matching = {version for (version,) in rows}
    with_owner = [a.version for a in allocators if a.has_owner]
    connection.execute(
        render("allocation/resolution_balance_owners", owners=owners, candidates=candidates, versions=with_owner)
    )
    return resolved_sql([a for a in allocators if a.category != "balance" or a.version in matching])


def _resolved_sql(
    connection: duckdb.DuckDBPyConnection,
    line_items: Relation,
    container_usage: Relation,
    allocators: Sequence[Allocator],
    cost_groups: Mapping[str, CostGroup],
    registered: Sequence[tuple[str, str]],
    owners: Relation,
) -> Sql:
    entries = [(a, i, e) for a in allocators for i, e in enumerate(a.entries)]
    patterns = {e.value: regexp_matches(Sql("group_id"), e.pattern) for _, _, e in entries if e.pattern is not None}
    too_large = _naming_large_families(connection, line_items, container_usage, allocators, cost_groups, patterns)
    columns = {
        name: kind
        for name, kind in RESOLVED_ACCOUNT_COLUMNS.items()
        if name not in ("own_account_id", "own_group_id", "account_id", "group_id")
    }
    members = sorted({e.value for _, _, e in entries if e.type == "costgroup" and group_document(cost_groups, e.value)})
    return render(
        "allocation/resolved_accounts",
        line_items=line_items,
        entries=rows_sql(
            columns,
            [
                (a.id, a.version, i, e.type, e.value, FAMILY_TOO_LARGE if a.version in too_large else None)
                for a, i, e in entries
            ],
        ),
        owners=owners,
        has_payers=any(e.type == "payer" for _, _, e in entries),
        registered_accounts=rows_sql({"payer": "VARCHAR", "account": "VARCHAR"}, registered),
        cost_groups={group: group_sql(cost_groups, group) for group in members},
        patterns=patterns,
    )


def _owners_sql(matched_items: Relation, allocators: Sequence[Allocator], month: str) -> Sql:
    """SQL of the accounts that the items of the allocators with an entry of type owner were billed on.

    Args:
        matched_items: relation with `matching.MATCHED_ITEM_COLUMNS` of `origin_months(month)`.
        allocators: the pinned allocator versions with a tranche due.
        month: the booking month.

    Returns:
        SQL of (allocator_version, own_account_id, own_group_id); an item of these has no group of its own.
    """
    versions = [allocator.version for allocator in allocators if allocator.has_owner]
    if not versions:
        return rows_sql(dict.fromkeys(("allocator_version", "own_account_id", "own_group_id"), "VARCHAR"), [])
    return render("allocation/resolution_owners", matched_items=matched_items, versions=versions, month=month)


def families_named(allocators: Sequence[Allocator], cost_groups: Mapping[str, CostGroup]) -> set[str]:
    """The families that the allocators name, by a group of theirs or by a pattern, which can hit any."""
    if any(entry.pattern is not None for a in allocators for entry in a.entries):
        return {group.id for group in cost_groups.values() if group.by}
    documents = [group_document(cost_groups, group) for a in allocators for group in a.groups_named]
    return {document[0].id for document in documents if document and document[0].by}


def container_lines(container_usage: Relation) -> Relation:
    """The usage of containers under the names of line items, with its ``cost``."""
    line_columns = {
        name: name if name in _CONTAINER_COLUMNS else f"null::{kind}" for name, kind in _LINE_COLUMNS.items()
    }
    query = render("allocation/container_lines", line_columns=line_columns, container_usage=container_usage)
    return Relation(f"({query})")


def family_rows(family: CostGroup, line_items: Relation, container_usage: Relation) -> Relation:
    """The rows that a family takes its values from, with the columns that its filters read."""
    return container_lines(container_usage) if family.of == "containers" else line_items


def _naming_large_families(
    connection: duckdb.DuckDBPyConnection,
    line_items: Relation,
    container_usage: Relation,
    allocators: Sequence[Allocator],
    cost_groups: Mapping[str, CostGroup],
    patterns: Mapping[str, Sql],
) -> set[str]:
    """Create ``resolution_groups``; returns the versions of the allocators that name a family of too many values."""
    families = [cost_groups[family_id] for family_id in sorted(families_named(allocators, cost_groups))]
    plain_groups = [group for group in cost_groups.values() if not group.by] if patterns else []
    large = _create_groups(connection, line_items, container_usage, families, plain_groups)
    if not large:
        return set()
    hits_query = render("allocation/resolution_family_hits", most=MOST_VALUES, patterns=patterns)
    hits = {entry_value for _, entry_value in connection.execute(hits_query).fetchall()}
    return {
        a.version
        for a in allocators
        if any(entry.value in hits for entry in a.entries if entry.pattern is not None)
        or any((d := group_document(cost_groups, group)) and d[0].id in large for group in a.groups_named)
    }


def large_families(
    connection: duckdb.DuckDBPyConnection, line_items: Relation, families: Sequence[CostGroup]
) -> set[str]:
    """The families of line items that have more values in the month than are split over."""
    return _create_groups(connection, line_items, line_items, families, []) if families else set()


def _create_groups(
    connection: duckdb.DuckDBPyConnection,
    line_items: Relation,
    container_usage: Relation,
    families: Sequence[CostGroup],
    plain_groups: Sequence[CostGroup],
) -> set[str]:
    """Create ``resolution_groups``; returns the families with too many groups."""
    groups = render(
        "allocation/resolution_groups",
        line_items=line_items,
        plain_groups={group.id: group.sql() for group in plain_groups},
        family_documents={
            family.id: {
                "rows": family_rows(family, line_items, container_usage),
                "condition": family.sql(),
                "value": family.by.value_sql(),
            }
            for family in families
            if family.by
        },
    )
    create_temp_table(connection, "resolution_groups", groups)
    large_query = render("allocation/resolution_large_families", most=MOST_VALUES)
    return {family_id for (family_id,) in connection.execute(large_query).fetchall()}
