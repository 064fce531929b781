"""What cost groups match in a month, and what is proved of it (allocation.md §11).

The filters are evaluated here; the sections are put together by the mart ``cost_group_costs``.

Stages:
1. ``cost_group_matches`` goes once over line items and rows and sums them by the columns that any filter looks at;
   for these few sums it says which cost groups match, as a list.
2. ``cost_group_charges`` and ``cost_group_members`` turn the lists into one row per cost group.

Drawback: a filter on a column of unique values leaves as many sums as there are rows.

Edge cases: an account-usage item is a line item with the same columns, so what is distributed is matched by the
same filters that match its line item, and is subtracted. A row booked from a fee makes its target account a
member of the cost groups that name this very account.
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
}

# What a filter can look at, under the names it knows.
_FILTERED = ("vendor", *COST_GROUP_COLUMNS.values(), "tags", "project_labels")


def matches_sql(line_items: Relation, allocations: Relation, groups: Sequence[CostGroup]) -> Sql:
    """SQL of what the cost groups match, summed, with ``cost_group_ids`` of those that match it.

    Args:
        line_items: relation with the columns of ``cost_line_items``, of the month.
        allocations: relation of the explained allocations of the month.
        groups: the cost groups.

    Returns:
        One row per part, vendor, account, service, currency and list of cost groups. ``part`` is usage (line items
        of no fee item), fee (the others), distributed (account-usage items), booked (splits and remainders of
        such, matched on the target account) or named (accounts of booked rows that a filter names; they cost 0).
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
    """SQL of the charges that a cost group's filters match: (cost_group_id, part, …, cost)."""
    return render("allocation/cost_group_charges", matches=matches)


def members_sql(matches: Relation) -> Sql:
    """SQL of the accounts of each cost group: (cost_group_id, account)."""
    return render("allocation/cost_group_members", matches=matches)


def filtered_costs_sql(line_items: Relation, allocations: Relation, groups: Sequence[CostGroup]) -> Sql:
    """SQL of what is proved of the cost groups: filtered again, item by item, where `matches_sql` keeps lists.

    Args:
        line_items: relation with the columns of ``cost_line_items``, of the month.
        allocations: relation of the explained allocations of the month.
        groups: the cost groups.

    Returns:
        (cost_group_id, section, currency, cost), one row per cost group, section (direct or account) and currency with
        a cost. The cost group ``''`` matches everything.
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
        for options in group.combinations.by_vendor().values():
            columns |= dict.fromkeys(COST_GROUP_COLUMNS[key] for conditions in options.filters for key in conditions)
            columns |= dict.fromkeys(column for filters, column in options.label_lists() if filters)
    return list(columns)
