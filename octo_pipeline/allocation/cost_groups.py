"""What cost groups match in a month, and what is proved about it (allocation.md §11).

This module evaluates the filters; the mart ``cost_group_costs`` puts the sections together.

Stages:
1. ``cost_group_matches`` reads line items and allocation rows once and sums them by the columns that any filter reads.
   For each of these few sums it lists the cost groups that match.
2. ``cost_group_charges`` and ``cost_group_members`` turn the lists into one row per cost group.

Drawback: a filter on a column of unique values leaves as many sums as there are rows.

Edge cases: an account-usage item is a line item with the same columns, so the filters that match a line item also
match its item; if the item is distributed, it is subtracted. A row booked from a fee makes its target account a
member of the cost groups that name this account.
"""

from collections.abc import Sequence

from octo_pipeline.allocation.items import item_id_sql
from octo_pipeline.model.columns import COST_GROUP_COLUMNS, MONEY
from octo_pipeline.model.sql import Relation, Sql
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
    "effective_cost": MONEY,
    "base_currency": "VARCHAR",
    "base_cost": MONEY,
    "base_effective_cost": MONEY,
}

# The columns that a filter can read, under the names of line items.
_FILTERED = ("vendor", *COST_GROUP_COLUMNS.values(), "tags", "project_labels")


def matches_sql(line_items: Relation, allocations: Relation, groups: Sequence[CostGroup]) -> Sql:
    """SQL of what the cost groups match, summed, each sum with the ``cost_group_ids`` that match it.

    Args:
        line_items: relation with the columns of ``cost_line_items``, of the month.
        allocations: relation of the explained allocations of the month.
        groups: the cost groups.

    Returns:
        One row per part, vendor, account, service, currency and list of cost groups. ``part`` is usage (line items
        that belong to no fee item), fee (the other line items), distributed (account-usage items), booked (their
        splits and remainders, matched on the target account) or named (accounts of booked rows that a filter names;
        they cost 0).
    """
    naming = {g.id: g.account_sql(vendor=Sql("vendor"), account=Sql("account")) for g in groups}
    return render(
        "allocation/cost_group_matches",
        line_items=line_items,
        allocations=allocations,
        filtered=_FILTERED,
        filter_columns=_filter_columns(groups),
        cost_groups={g.id: g.sql() for g in groups},
        naming_groups={name: condition for name, condition in naming.items() if condition},
    )


def charges_sql(matches: Relation) -> Sql:
    """SQL of the charges that a cost group's filters match: (cost_group_id, part, …, cost, effective_cost)."""
    return render("allocation/cost_group_charges", matches=matches)


def members_sql(matches: Relation) -> Sql:
    """SQL of the accounts of each cost group: (cost_group_id, account)."""
    return render("allocation/cost_group_members", matches=matches)


def filtered_costs_sql(line_items: Relation, allocations: Relation, groups: Sequence[CostGroup]) -> Sql:
    """SQL for the proofs of the cost groups: filters item by item again, where `matches_sql` keeps lists.

    Args:
        line_items: relation with the columns of ``cost_line_items``, of the month.
        allocations: relation of the explained allocations of the month.
        groups: the cost groups.

    Returns:
        (cost_group_id, section, currency, cost, effective_cost), one row per cost group, section (direct or account) and
        currency with a cost in either measure. The cost group ``''`` matches everything.
    """
    return render(
        "allocation/filtered_costs",
        line_items=line_items,
        allocations=allocations,
        filtered=_FILTERED,
        filter_columns=_filter_columns(groups),
        item_id=item_id_sql("account"),
        cost_groups={"": "true"} | {group.id: group.sql() for group in groups},
    )


def _filter_columns(groups: Sequence[CostGroup]) -> list[str]:
    """The columns that any filter looks at, and those that charges are summed by."""
    columns: dict[str, None] = dict.fromkeys(("part", "vendor", "sub_account_id", "service_code", "billing_currency"))
    for group in groups:
        for _, options in group.combinations.by_vendor():
            columns |= dict.fromkeys(COST_GROUP_COLUMNS[key] for conditions in options.filters for key in conditions)
            columns |= dict.fromkeys(column for filters, column in options.label_lists() if filters)
    return list(columns)
