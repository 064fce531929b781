"""What accounts and cost groups cost, read from the marts."""

from collections.abc import Sequence

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.templates import render
from octo_pipeline.rules.cost_group import CostGroup
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.tables.prepayments import Prepayments
from octo_pipeline.workspace import Workspace


def account_costs(workspace: Workspace, month: str) -> Rows:
    """What each account was billed, what was moved away from it and to it, and what it pays.

    Raises:
        OctoError: the month was not run.
    """
    lake = workspace.lake
    lake.require([month], AccountCosts.name)
    costs = lake.scan(AccountCosts.name, [month], AccountCosts.columns)
    query = render("services/account_costs", account_costs=costs, columns=list(AccountCosts.columns))
    with lake.connect() as connection:
        return Rows.fetched(connection, query)


def account_costs_over_months(workspace: Workspace, account: str, months: Sequence[str]) -> Rows:
    """What an account costs in each of these months and currencies, what that is made of, and how it changed.

    Returns:
        A row per month and currency; ``change`` is the final cost less that of the month before, if that month is among
        them and has costs in the currency.

    Raises:
        OctoError: a month was not run, or the account has no costs in any of them.
    """
    lake = workspace.lake
    lake.require(months, AccountCosts.name)
    costs = lake.scan(AccountCosts.name, months, AccountCosts.columns, month_as="month")
    by_month = render("services/costs_of_account", account_costs=costs, account=account)
    with lake.connect() as connection:
        rows = Rows.fetched(connection, render("services/costs_with_change", costs=by_month))
    if not rows:
        raise OctoError(
            f"{account} has no costs in {' to '.join(dict.fromkeys((months[0], months[-1])))}.",
            code="account-without-costs",
            place=account,
        )
    return rows


def prepayments(workspace: Workspace, month: str) -> Rows:
    """What is due later, by currency: at the start of the month, billed, booked, and at its end, in both measures."""
    carried = workspace.lake.scan(Prepayments.name, [month], Prepayments.columns)
    with workspace.lake.connect() as connection:
        return Rows.fetched(connection, render("services/prepayment_totals", prepayments=carried))


def cost_group_totals(workspace: Workspace, months: Sequence[str]) -> Rows:
    """What each cost group costs, by month and currency; of a family all of its groups together.

    Returns:
        (cost_group, month, currency, cost, effective_cost), the groups by id, without their savings.
    """
    months = [month for month in workspace.lake.months(CostGroupCosts.name) if month in months]
    costs = workspace.lake.scan(CostGroupCosts.name, months, CostGroupCosts.columns, month_as="month")
    with workspace.lake.connect() as connection:
        return Rows.fetched(connection, render("services/cost_group_totals", cost_group_costs=costs))


def is_family_of_groups(workspace: Workspace, cost_group: str) -> bool:
    """Whether the id is that of a family, whose groups have ids of their own."""
    group = workspace.configuration.cost_groups.get(cost_group)
    return group is not None and group.by is not None


def find_cost_group(workspace: Workspace, cost_group: str) -> CostGroup:
    """The cost group of the configuration with this id.

    Raises:
        OctoError: there is none.
    """
    group = workspace.configuration.cost_groups.get(cost_group)
    if group is None:
        raise unknown_cost_group(cost_group)
    return group


def unknown_cost_group(cost_group: str) -> OctoError:
    """The error that no cost group has this id."""
    return OctoError(
        f"There is no cost group {cost_group}.",
        code="cost-group-unknown",
        place=cost_group,
        remedy=Remedy("cost-groups list", to="see all"),
    )


def cost_group_costs(workspace: Workspace, cost_group: str, months: Sequence[str], by: str | None = None) -> Rows:
    """What a cost group costs in these months, section by section.

    Args:
        workspace: whose lake.
        cost_group: its id; that of a family stands for all of its groups, which share nothing.
        months: all together.
        by: the column with a row per value and currency, whose sections are columns: month, account, service_code, vendor
            or cost_group_id; if left out, every row of the table.

    Raises:
        OctoError: a month was not run, or there is no such cost group.
    """
    lake = workspace.lake
    lake.require(months, CostGroupCosts.name)
    costs = lake.scan(CostGroupCosts.name, months, CostGroupCosts.columns, month_as="month")
    is_family = is_family_of_groups(workspace, cost_group)
    of_group = render("services/costs_of_group", cost_group_costs=costs, cost_group=cost_group, is_family=is_family)
    if by:
        query = render("services/cost_group_costs_by", column=by, cost_group_costs=f"({of_group})")
    else:
        query = render("services/cost_group_costs", cost_group_costs=f"({of_group})")
    with lake.connect() as connection:
        rows = Rows.fetched(connection, query)
    # A group that is no longer in the configuration still has costs in the months that were made with it.
    if not rows:
        find_cost_group(workspace, cost_group)
    return rows
