"""Which accounts an allocator's entries mean in a booking month (allocation.md §6)."""

from collections.abc import Mapping, Sequence

from octo_pipeline.model.sql import Relation, Sql, rows_sql
from octo_pipeline.model.templates import render
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


def resolved_accounts_sql(
    line_items: Relation,
    allocators: Sequence[Allocator],
    cost_groups: Mapping[str, CostGroup],
    registered: Sequence[tuple[str, str]],
) -> Sql:
    """SQL of the accounts of every entry of the allocators with a tranche due.

    Args:
        line_items: relation with the columns of ``cost_line_items``, of the booking month.
        allocators: the pinned allocator versions.
        cost_groups: the cost groups by id.
        registered: (payer, account) of the accounts registered under a payer.

    Returns:
        SQL of `RESOLVED_ACCOUNT_COLUMNS`, one row per entry and account. An entry that resolves to nobody has
        one row with a null account.
    """
    entries = [(a, i, e) for a in allocators for i, e in enumerate(a.entries)]
    columns = {name: kind for name, kind in RESOLVED_ACCOUNT_COLUMNS.items() if name != "account_id"}
    groups = sorted({e.value for _, _, e in entries if e.type == "costgroup"} & cost_groups.keys())
    return render(
        "allocation/resolved_accounts",
        line_items=line_items,
        entries=rows_sql(columns, [(a.id, a.version, i, e.type, e.value) for a, i, e in entries]),
        has_payers=any(e.type == "payer" for _, _, e in entries),
        registered_accounts=rows_sql({"payer": "VARCHAR", "account": "VARCHAR"}, registered),
        cost_groups={group: cost_groups[group].sql() for group in groups},
    )
