"""Which accounts an allocator's entries mean in a booking month (allocation.md §6)."""

from collections.abc import Mapping, Sequence

import duckdb

from octo_pipeline.model.sql import literal, rows_sql
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.rules.cost_group import CostGroup

RESOLVED_ACCOUNT_COLUMNS: dict[str, str] = {
    "allocator_id": "VARCHAR",
    "allocator_version": "VARCHAR",
    "entry_index": "INTEGER",
    "entry_type": "VARCHAR",
    "entry_value": "VARCHAR",
    "account_id": "VARCHAR",
}


def resolve_accounts(
    connection: duckdb.DuckDBPyConnection,
    line_items: str,
    allocators: Sequence[Allocator],
    cost_groups: Mapping[str, CostGroup],
    registered: Sequence[tuple[str, str]],
) -> str:
    """Resolve every entry of the allocators that have a tranche due.

    Args:
        connection: where `line_items` can be read; temporary tables are made in it.
        line_items: relation with the columns of ``cost_line_items``, of the booking month.
        allocators: the pinned allocator versions.
        cost_groups: the cost groups by id.
        registered: (payer, account) of accounts that are registered to a payer.

    Returns:
        SQL of `RESOLVED_ACCOUNT_COLUMNS`, one row an entry and account. An entry that resolves to nobody is
        one row with a null account.
    """
    entries = [(a, i, e) for a in allocators for i, e in enumerate(a.entries)]
    columns = {name: kind for name, kind in RESOLVED_ACCOUNT_COLUMNS.items() if name != "account_id"}
    rows = [(a.id, a.version, i, e.type, e.value) for a, i, e in entries]
    connection.execute(f"CREATE OR REPLACE TEMP TABLE resolution_entries AS {rows_sql(columns, rows)}")
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE resolution_members (entry_type VARCHAR, entry_value VARCHAR, account_id VARCHAR)"
    )
    values = {kind: sorted({e.value for _, _, e in entries if e.type == kind}) for kind in ("payer", "costgroup")}
    connection.execute(
        "INSERT INTO resolution_members SELECT DISTINCT 'account', entry_value, entry_value "
        "FROM resolution_entries WHERE entry_type = 'account'"
    )
    if values["payer"]:
        _add_payer_members(connection, line_items, registered)
    groups = [cost_groups[value] for value in values["costgroup"] if value in cost_groups]
    if groups:
        _add_cost_group_members(connection, line_items, groups)
    return (
        "SELECT allocator_id, allocator_version, entry_index, entry_type, entry_value, account_id "
        "FROM resolution_entries LEFT JOIN resolution_members USING (entry_type, entry_value) "
        "ORDER BY allocator_version, entry_index, account_id"
    )


def _add_payer_members(
    connection: duckdb.DuckDBPyConnection, line_items: str, registered: Sequence[tuple[str, str]]
) -> None:
    known = rows_sql({"payer": "VARCHAR", "account": "VARCHAR"}, registered)
    connection.execute(
        "INSERT INTO resolution_members SELECT 'payer', payer, account FROM ("
        f"SELECT billing_account_id AS payer, sub_account_id AS account FROM {line_items} "
        f"UNION {known}) "
        "WHERE payer IN (SELECT entry_value FROM resolution_entries WHERE entry_type = 'payer')"
    )


def _add_cost_group_members(
    connection: duckdb.DuckDBPyConnection, line_items: str, groups: Sequence[CostGroup]
) -> None:
    # One pass over the line items for all groups: a flag a group, then the flags turned into rows.
    flags = ", ".join(f"bool_or({group.sql()}) AS g{i}" for i, group in enumerate(groups))
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE resolution_flags AS SELECT sub_account_id, {flags} "
        f"FROM {line_items} GROUP BY sub_account_id"
    )
    for i, group in enumerate(groups):
        connection.execute(
            f"INSERT INTO resolution_members SELECT 'costgroup', {literal(group.id)}, sub_account_id "
            f"FROM resolution_flags WHERE g{i}"
        )
