"""What cost groups match in a month, and what is proved of it (allocation.md §11).

The filters are evaluated here; the sections are put together by the mart ``cost_group_costs``.

Stages:
1. ``matches_sql`` goes once over line items and rows and sums them by the columns that any filter looks at; of
   these few sums it says which cost groups match, as a list.
2. ``charges_sql`` and ``members_sql`` turn the lists into one row a cost group.

Drawback: a filter on a column of unique values leaves as many sums as there are rows.

Edge cases: an account-usage item is a line item with the same columns, so what is distributed is matched by the
same filters that match its line item, and is subtracted. A row booked from a fee makes its target account a
member of the cost groups that name this very account.
"""

from collections.abc import Mapping, Sequence

from octo_pipeline.allocation.items import is_fee_line_sql, item_id_sql
from octo_pipeline.model.columns import COST_GROUP_COLUMNS, MONEY
from octo_pipeline.model.sql import Sql, literal
from octo_pipeline.model.templates import render
from octo_pipeline.rules.cost_group import CostGroup

COST_GROUP_COST_COLUMNS: dict[str, str] = {
    "cost_group_id": "VARCHAR",
    "section": "VARCHAR",
    "vendor": "VARCHAR",
    "account": "VARCHAR",
    "service_code": "VARCHAR",
    "service_name": "VARCHAR",
    "currency": "VARCHAR",
    "cost": MONEY,
}

# What a filter can look at, under the names it knows.
_FILTERED = ("vendor", *COST_GROUP_COLUMNS.values(), "tags", "project_labels")
# The same of an allocation row: its account is given apart, since it is the source of some and the target of others.
_RENAMED = {"billing_account_id": "payer", "billing_currency": "currency"}

_DISTRIBUTED = "kind = 'item' AND category = 'account' AND status = 'checked_allocated'"
_BOOKED = "kind <> 'item' AND category = 'account'"


def matches_sql(line_items: str, allocations: str, groups: Sequence[CostGroup]) -> str:
    """SQL of what the cost groups match, summed, with ``cost_group_ids`` of those that match it.

    Args:
        line_items: relation with the columns of ``cost_line_items``, of the month.
        allocations: relation of the explained allocations of the month.
        groups: the cost groups.

    Returns:
        One row a part, vendor, account, service, currency and list of cost groups. ``part`` is usage (line items
        of no fee item), fee (the others), distributed (account-usage items), booked (splits and remainders of
        such, matched on the target account) or named (accounts of booked rows that a filter names; they cost 0).
    """
    lines = ", ".join(_FILTERED)
    rows = " UNION ALL ".join(
        (
            f"SELECT CASE WHEN {is_fee_line_sql()} THEN 'fee' ELSE 'usage' END AS part, {lines}, billed_cost AS cost "
            f"FROM {line_items}",
            _rows_as_lines("distributed", allocations, "source_account", _DISTRIBUTED),
            _rows_as_lines("booked", allocations, "target_account", _BOOKED),
        )
    )
    named = {g.id: sql for g in groups if (sql := g.account_sql(vendor=Sql("vendor"), account=Sql("sub_account_id")))}
    targets = f"SELECT DISTINCT vendor, target_account AS sub_account_id FROM {allocations} WHERE kind <> 'item'"
    return (
        "SELECT part, vendor, sub_account_id AS account, service_code, max(service_name) AS service_name, "
        f"billing_currency AS currency, sum(cost)::{MONEY} AS cost, cost_group_ids FROM "
        f"(SELECT *, {_ids({g.id: g.sql() for g in groups})} AS cost_group_ids FROM {_summed(rows, groups)}) "
        "WHERE len(cost_group_ids) > 0 GROUP BY part, vendor, sub_account_id, service_code, billing_currency, "
        "cost_group_ids UNION ALL "
        f"SELECT 'named', vendor, sub_account_id, NULL, NULL, NULL, 0::{MONEY}, cost_group_ids FROM "
        f"(SELECT *, {_ids(named)} AS cost_group_ids FROM ({targets})) WHERE len(cost_group_ids) > 0"
    )


def charges_sql(matches: str) -> str:
    """SQL of the charges that a cost group's filters match: (cost_group_id, part, …, cost)."""
    return (
        "SELECT unnest(cost_group_ids) AS cost_group_id, part, vendor, account, service_code, service_name, currency, "
        f"cost FROM {matches} WHERE part IN ('usage', 'distributed', 'booked')"
    )


def members_sql(matches: str) -> str:
    """SQL of the accounts of each cost group: (cost_group_id, account)."""
    return (
        f"SELECT DISTINCT unnest(cost_group_ids) AS cost_group_id, account FROM {matches} "
        "WHERE part IN ('usage', 'fee', 'named')"
    )


def _rows_as_lines(part: str, allocations: str, account: str, condition: str) -> str:
    """SQL of allocation rows under the names of line items, on the account that is given."""
    columns = ", ".join(
        f"{account} AS {name}" if name == "sub_account_id" else f"{_RENAMED.get(name, name)} AS {name}"
        for name in _FILTERED
    )
    return f"SELECT {literal(part)} AS part, {columns}, cost FROM {allocations} WHERE {condition}"


def _summed(rows: str, groups: Sequence[CostGroup]) -> str:
    """A relation of the rows summed by what the filters look at: a filter costs more than a sum, and is asked less."""
    columns = {"part": None, "vendor": None, "sub_account_id": None, "service_code": None, "billing_currency": None}
    for group in groups:
        for options in group.combinations.by_vendor().values():
            columns |= dict.fromkeys(COST_GROUP_COLUMNS[key] for conditions in options.filters for key in conditions)
            columns |= dict.fromkeys(column for filters, column in options.label_lists() if filters)
    by = ", ".join(columns)
    name = "" if "service_name" in columns else "max(service_name) AS service_name, "
    return f"(SELECT {by}, {name}sum(cost)::{MONEY} AS cost FROM ({rows}) GROUP BY {by})"


def _ids(conditions: Mapping[str, str]) -> str:
    """SQL of the list of the ids whose condition holds."""
    flags = ", ".join(f"CASE WHEN {sql} THEN {literal(name)} END" for name, sql in conditions.items())
    return f"list_filter([{flags}]::VARCHAR[], lambda id: id IS NOT NULL)"


def filtered_costs_sql(line_items: str, allocations: str, groups: Sequence[CostGroup]) -> Sql:
    """SQL of what is proved of the cost groups: filtered again, item by item, where `matches_sql` keeps lists.

    Args:
        line_items: relation with the columns of ``cost_line_items``, of the month.
        allocations: relation of the explained allocations of the month.
        groups: the cost groups.

    Returns:
        (cost_group_id, section, currency, cost), one row per cost group, section (direct or account) and currency with
        a cost. The cost group ``''`` matches everything.
    """
    booked = _rows_as_lines("booked", allocations, "target_account", _BOOKED)
    return render(
        "allocation/filtered_costs",
        sections={
            "direct": _summed(_undistributed(line_items, allocations), groups),
            "account": _summed(booked, groups),
        },
        cost_groups={"": "true"} | {group.id: group.sql() for group in groups},
    )


def _undistributed(line_items: str, allocations: str) -> str:
    """The line items of no fee item whose own item was not distributed, found by the item's id."""
    gone = f"(SELECT item_id, source_account, service_code FROM {allocations} WHERE {_DISTRIBUTED})"
    # An id costs a hash, so it is asked only where some item of the same account and service is gone.
    suspect = (
        f"(sub_account_id, coalesce(service_code, '')) IN (SELECT (source_account, coalesce(service_code, '')) "
        f"FROM {gone})"
    )
    return (
        f"SELECT 'usage' AS part, {', '.join(_FILTERED)}, billed_cost AS cost FROM {line_items} "
        f"WHERE NOT {is_fee_line_sql()} AND "
        f"CASE WHEN {suspect} THEN {item_id_sql('account')} NOT IN (SELECT item_id FROM {gone}) ELSE true END"
    )
