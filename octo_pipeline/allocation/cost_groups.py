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
from dataclasses import dataclass

import duckdb

from octo_pipeline.allocation.items import item_id_sql
from octo_pipeline.allocation.resolution import large_families
from octo_pipeline.model.columns import COST_GROUP_COLUMNS, MONEY
from octo_pipeline.model.sql import Relation, Sql, literal
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
    "corrected_month": "VARCHAR",
    "cost": MONEY,
    "effective_cost": MONEY,
    "base_currency": "VARCHAR",
    "base_cost": MONEY,
    "base_effective_cost": MONEY,
}

# The columns that a filter can read, under the names of line items.
_FILTERED = ("vendor", *COST_GROUP_COLUMNS.values(), "tags", "project_labels")


@dataclass(frozen=True)
class TabledGroup:
    """A cost group, or a family of them, as its table reads it.

    Attributes:
        condition: whether a row under the names of line items matches.
        account_condition: whether an account of a vendor belongs to it without a line item; None if none does.
        columns: the columns of line items that `condition` reads.
        id: SQL of the id of the group that a charge stands under.
        member_id: the same of fees and savings on an account.
        value: SQL of the family's value of a row, and the name of its column in `id`.
        family_id: of a family its id.
        is_by_payer: whether fees and savings stand under the payer of their item.
    """

    condition: Sql
    account_condition: Sql | None
    columns: tuple[str, ...]
    id: Sql
    member_id: Sql
    value: tuple[str, Sql] | None = None
    family_id: str | None = None
    is_by_payer: bool = False


def tabled_groups(
    connection: duckdb.DuckDBPyConnection, line_items: Relation, groups: Sequence[CostGroup]
) -> list[TabledGroup]:
    """The groups and families that have a table: all but the families of containers, which are only targets.

    A family of more values than are split over stands as one group with its own id.

    Args:
        connection: where the relation can be read; a temporary table is made in it.
        line_items: relation with the columns of ``cost_line_items``, of the month.
        groups: the cost groups.
    """
    families = [group for group in groups if group.by and not group.of]
    large = large_families(connection, line_items, families)
    tabled = []
    for number, group in enumerate(group for group in groups if not group.of):
        is_family = group.by is not None and group.id not in large
        id_sql, member_id, value = literal(group.id), literal(group.id), None
        if group.by and is_family:
            prefix = literal(f"{group.id}/")
            value = (f"family_{number}", group.by.value_sql())
            id_sql = Sql(f"{prefix} || {value[0]}")
            member_id = Sql(f"{prefix} || coalesce(account, '')") if group.by.kind == "account" else prefix
        tabled.append(
            TabledGroup(
                condition=group.sql(),
                account_condition=group.account_sql(vendor=Sql("vendor"), account=Sql("account")),
                columns=tuple(_columns_read(group)),
                id=id_sql,
                member_id=member_id,
                value=value,
                family_id=group.id if group.by else None,
                is_by_payer=group.by is not None and is_family and group.by.kind == "payer",
            )
        )
    return tabled


def matches_sql(line_items: Relation, allocations: Relation, groups: Sequence[TabledGroup]) -> Sql:
    """SQL of what the cost groups match, summed, each sum with the ``cost_group_ids`` that match it.

    ``member_ids`` are the groups that the fees and savings on its account stand under: those of a family by tag have
    no tag.

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
    return render(
        "allocation/cost_group_matches",
        line_items=line_items,
        allocations=allocations,
        filtered=_FILTERED,
        filter_columns=_filter_columns(groups),
        family_columns=[f"{group.value[1]} as {group.value[0]}" for group in groups if group.value],
        charge_ids=[(group.id, group.condition) for group in groups],
        member_ids=[(group.member_id, group.condition) for group in groups],
        naming_ids=[(group.member_id, group.account_condition) for group in groups if group.account_condition],
    )


def charges_sql(matches: Relation) -> Sql:
    """SQL of the charges that a cost group's filters match: (cost_group_id, part, …, cost, effective_cost)."""
    return render("allocation/cost_group_charges", matches=matches)


def members_sql(matches: Relation, allocations: Relation, groups: Sequence[TabledGroup]) -> Sql:
    """SQL of the accounts of each cost group: (cost_group_id, account, payer).

    The payer is null but in families by payer, where only the rows of this payer count; '' is for rows without one.
    """
    return render(
        "allocation/cost_group_members",
        matches=matches,
        allocations=allocations,
        payer_families=[f"{group.family_id}/" for group in groups if group.is_by_payer],
    )


def group_corrections_sql(known: Relation, booked: Relation, corrected: Relation) -> Sql:
    """SQL of what cost groups cost otherwise in closed months than is booked: the sections of corrections.

    Args:
        known: relation with `COST_GROUP_COST_COLUMNS` and ``month`` of the closed months as they would be now.
        booked: the same as it was closed.
        corrected: the same, of the closed months in which corrections of these months were booked.

    Returns:
        SQL of (cost_group_id, section, vendor, account, service_code, service_name, currency, corrected_month, cost,
        effective_cost), ``correction`` and ``savings_correction`` being the sections.
    """
    return render("allocation/cost_group_corrections", known=known, booked=booked, corrected=corrected)


def filtered_costs_sql(line_items: Relation, allocations: Relation, groups: Sequence[TabledGroup]) -> Sql:
    """SQL for the proofs of the cost groups: filters item by item again, where `matches_sql` keeps lists.

    Args:
        line_items: relation with the columns of ``cost_line_items``, of the month.
        allocations: relation of the explained allocations of the month.
        groups: the cost groups.

    Returns:
        (cost_group_id, section, currency, cost, effective_cost), one row per cost group, section (direct or account) and
        currency with a cost in either measure. The cost group ``''`` matches everything. A family has one row under its
        own id.
    """
    return render(
        "allocation/filtered_costs",
        line_items=line_items,
        allocations=allocations,
        filtered=_FILTERED,
        filter_columns=_filter_columns(groups),
        item_id=item_id_sql("account"),
        cost_groups={literal(""): "true"}
        | {literal(group.family_id) if group.family_id else group.id: group.condition for group in groups},
    )


def _filter_columns(groups: Sequence[TabledGroup]) -> list[str]:
    """The columns that any filter looks at, and those that charges are summed by."""
    columns: dict[str, None] = dict.fromkeys(("part", "vendor", "sub_account_id", "service_code", "billing_currency"))
    for group in groups:
        columns |= dict.fromkeys(group.columns)
    return list(columns)


def _columns_read(group: CostGroup) -> dict[str, None]:
    columns: dict[str, None] = {}
    for _, options in group.combinations.by_vendor():
        columns |= dict.fromkeys(COST_GROUP_COLUMNS[key] for conditions in options.filters for key in conditions)
        columns |= dict.fromkeys(column for filters, column in options.label_lists() if filters)
    return columns
