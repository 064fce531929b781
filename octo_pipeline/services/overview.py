"""A month at a glance, against the months before it: what was billed, what was shared out, and what is paid.

Everything is read from the costs of accounts, which are small however many splits a month has.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from octo_pipeline.model.months import add_months
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.templates import render
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.workspace import Workspace

_TREND_MONTHS = 12


@dataclass(frozen=True)
class Total:
    """The costs of one month in one currency.

    Attributes:
        billed: the bill.
        allocated_out: what was taken off the accounts it was billed to.
        allocated_in: what is booked in this month of what was taken off.
        corrections: what is booked of closed months.
        final: what accounts and cost groups pay.
        amortised_final: the same in the amortised measure.
        base_final: `final` in the base currency; None if an amount has no rate.
        owners: how many accounts and cost groups have costs.
    """

    month: str
    currency: str
    billed: Decimal
    effective: Decimal
    allocated_out: Decimal
    allocated_in: Decimal
    corrections: Decimal
    final: Decimal
    amortised_final: Decimal
    base_currency: str
    base_billed: Decimal | None
    base_final: Decimal | None
    owners: int

    @property
    def is_amortised(self) -> bool:
        """Whether the amortised measure differs from what is billed."""
        return (self.effective, self.amortised_final) != (self.billed, self.final)

    @property
    def share(self) -> Decimal | None:
        """The part of the bill that was shared out; None without a bill."""
        return self.allocated_out / self.billed if self.billed > 0 else None


@dataclass(frozen=True)
class Overview:
    """A month and up to eleven months before it.

    Attributes:
        month: the month.
        totals: of all months, in order; of a month the largest currency first.
    """

    month: str
    totals: tuple[Total, ...]

    @property
    def months(self) -> list[str]:
        """The months that there are, in order."""
        return sorted({total.month for total in self.totals})

    @property
    def current(self) -> list[Total]:
        """The totals of the month."""
        return [total for total in self.totals if total.month == self.month]

    def previous(self, currency: str) -> Total | None:
        """The total of the month before in a currency."""
        before = add_months(self.month, -1)
        return next((t for t in self.totals if (t.month, t.currency) == (before, currency)), None)

    def trend(self, currency: str) -> list[tuple[str, Decimal]]:
        """What was paid in a currency, by month; a month without is 0."""
        paid = {total.month: total.final for total in self.totals if total.currency == currency}
        return [(month, paid.get(month, Decimal(0))) for month in self.months]

    @property
    def base(self) -> Total | None:
        """The totals of the month together in the base currency; None if there is one currency or a rate is missing."""
        known = [t for t in self.current if t.base_final is not None and t.base_billed is not None]
        if len(self.current) < 2 or len(known) < len(self.current):
            return None
        zero = Decimal(0)
        billed = sum((t.base_billed or zero for t in known), zero)
        final = sum((t.base_final or zero for t in known), zero)
        base_currency = known[0].base_currency
        return Total(
            self.month, base_currency, billed, billed, zero, zero, zero, final, final, base_currency, billed, final,
            sum(t.owners for t in known),
        )  # fmt: skip

    def rows(self) -> Rows:
        """The totals for programs."""
        columns = tuple(Total.__dataclass_fields__)
        return Rows(columns, tuple(_values(total, columns) for total in self.totals))


def _values(total: Total, columns: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(getattr(total, name) for name in columns)


def overview_of(workspace: Workspace, month: str) -> Overview:
    """The totals of a month and of the months before it.

    Raises:
        OctoError: the month was not run.
    """
    lake = workspace.lake
    lake.require([month], AccountCosts.name)
    first = add_months(month, 1 - _TREND_MONTHS)
    months = [m for m in lake.months(AccountCosts.name) if first <= m <= month]
    costs = lake.scan(AccountCosts.name, months, AccountCosts.columns, month_as="month")
    with lake.connect() as connection:
        rows = connection.execute(render("services/overview", account_costs=costs)).fetchall()
    return Overview(month, tuple(Total(*row) for row in rows))
