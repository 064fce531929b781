"""Accounts and what they cost: those of a month as a list, and one of them over the months.

Registered accounts that have no costs in the month are listed too, and accounts that have costs without being registered.
Registering, renaming and removing them belongs in `accounts`.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.months import add_months
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.sql import Sql, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.services.accounts import Listed, listed
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.prepayments import Prepayments
from octo_pipeline.workspace import Workspace

_TREND_MONTHS = 12
_REGISTERED = (
    "vendor", "id", "name", "kind", "payer", "api", "payer_state", "cur", "status", "problem", "last_delivery",
)  # fmt: skip


@dataclass(frozen=True)
class AccountFilters:
    """Which accounts a list has; empty for all.

    Attributes:
        text: part of an id or a name, in capitals or not.
        vendor: of this vendor.
        state: open or completed registrations, or unregistered accounts.
    """

    text: str = ""
    vendor: str = ""
    state: str = ""


@dataclass(frozen=True)
class AccountPage:
    """A page of the list of accounts.

    Attributes:
        rows: one per account and currency.
        totals: of the whole list, by currency: accounts, billed and final_cost.
        has_more: whether rows follow.
    """

    rows: Rows
    totals: Rows
    has_more: bool


@dataclass(frozen=True)
class AccountCostsOf:
    """What one account costs.

    Attributes:
        months: by month and currency, the newest of a currency last; up to twelve months.
        services: what it was billed by service, in the month before and the month.
        prepayments: what it paid already that is booked later.
    """

    months: Rows
    services: Rows
    prepayments: Rows

    def currencies(self) -> list[str]:
        """The currencies of its costs, those first in which most is billed."""
        billed: dict[str, Decimal] = {}
        for currency, cost in self.months.select("currency", "billed"):
            billed[currency] = billed.get(currency, Decimal()) + abs(cost)
        return sorted(billed, key=lambda currency: (-billed[currency], currency))

    def of(self, currency: str, month: str) -> dict[str, Any] | None:
        """The costs of a month in a currency; None if there are none."""
        records = (dict(zip(self.months.columns, row, strict=True)) for row in self.months.rows)
        return next((r for r in records if (r["currency"], r["month"]) == (currency, month)), None)

    def trend(self, currency: str) -> list[tuple[str, Decimal]]:
        """What it paid in a currency, by month; a month without is 0."""
        paid = {m: cost for m, c, cost in self.months.select("month", "currency", "final_cost") if c == currency}
        return [(month, paid.get(month, Decimal(0))) for month in sorted(set(self.months.column("month")))]


def accounts_page(
    workspace: Workspace, month: str | None, filters: AccountFilters, *, sort: str, offset: int, limit: int
) -> AccountPage:
    """A page of the accounts that are registered or have costs in a month.

    Args:
        workspace: as the reader sees it.
        month: the month of the costs; None if no month has any.
        filters: which accounts.
        sort: name, billed or final_cost; registered accounts first otherwise.
        offset: how many rows come before the page.
        limit: how many the page has at most.
    """
    lake = workspace.lake
    months = [month] if month else []
    rows = render(
        "services/accounts_with_costs",
        registrations=_registered(listed(workspace)),
        account_costs=lake.scan(AccountCosts.name, months, AccountCosts.columns),
        line_items=lake.scan(LINE_ITEMS, months, LINE_ITEM_COLUMNS),
        vendor=filters.vendor,
        state=filters.state,
        text=filters.text.strip().lower(),
    )
    page = render("services/accounts_page", listed=rows, sort=sort, row_count=limit + 1, row_offset=offset)
    with lake.connect() as connection:
        fetched = Rows.fetched(connection, page)
        totals = Rows.fetched(connection, render("services/accounts_totals", listed=rows))
    return AccountPage(Rows(fetched.columns, fetched.rows[:limit]), totals, len(fetched) > limit)


def costs_of_account(workspace: Workspace, account: str, month: str) -> AccountCostsOf:
    """What an account costs in a month and the months before it.

    Raises:
        OctoError: the month was not run.
    """
    lake = workspace.lake
    lake.require([month], AccountCosts.name)
    months = [m for m in lake.months(AccountCosts.name) if add_months(month, 1 - _TREND_MONTHS) <= m <= month]
    previous = add_months(month, -1)
    both = [m for m in lake.months(LINE_ITEMS) if m in (previous, month)]
    with lake.connect() as connection:
        return AccountCostsOf(
            *(
                Rows.fetched(connection, query)
                for query in (
                    render(
                        "services/costs_of_account",
                        account_costs=lake.scan(AccountCosts.name, months, AccountCosts.columns, month_as="month"),
                        account=account,
                    ),
                    render(
                        "services/services_of_account",
                        line_items=lake.scan(LINE_ITEMS, both, LINE_ITEM_COLUMNS),
                        account=account,
                        month=month,
                        previous_month=previous,
                    ),
                    render(
                        "services/prepayments_of_account",
                        prepayments=lake.scan(Prepayments.name, [month], Prepayments.columns),
                        account=account,
                    ),
                )
            )
        )


def _registered(entries: list[Listed]) -> Sql:
    rows = []
    for entry in entries:
        values = entry.values
        last = entry.last_delivery
        states = {"api": values["API"], "payer_state": values["PAYER"], "cur": values["CUR"]}
        values |= states | {"last_delivery": f"{last:%Y-%m-%d}" if last else None}
        rows.append([values[name] for name in _REGISTERED])
    return rows_sql(dict.fromkeys(_REGISTERED, "VARCHAR"), rows)
