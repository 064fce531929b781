"""What somebody who watches an installation wants to see of it at a glance, as numbers.

It is for alerts and dashboards; what to do about a number, and the exact amounts, are in the report and the checks.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from octo_pipeline.model.months import add_months
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.sql import Relation
from octo_pipeline.model.templates import render
from octo_pipeline.services.overview import overview_of
from octo_pipeline.services.periods import missing_accounts
from octo_pipeline.services.remembered import remembered
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.graph import stale
from octo_pipeline.workspace import Workspace


@dataclass(frozen=True)
class Observed:
    """The state of an installation.

    Attributes:
        months: state (open, closed, reopened, final) -> how many months of the lake have it.
        stale_months: how many months have a table that is not current.
        late_accounts: vendor -> how many accounts delivered the month before the last one and nothing of the last one.
        newest_month: the newest month with costs, which the amounts are of; None if there is none.
        billed: currency -> the bill of the newest month.
        unallocated: currency -> (items, cost) of what stays where it was billed in the newest month.
    """

    months: dict[str, int]
    stale_months: int
    late_accounts: dict[str, int]
    newest_month: str | None
    billed: dict[str, Decimal]
    unallocated: dict[str, tuple[int, Decimal]]


def observed(workspace: Workspace, now: datetime | None = None) -> Observed:
    """The state of an installation; computed again only if something has changed or an hour has passed.

    Args:
        workspace: the installation.
        now: the time that says which month is the last one.

    Raises:
        OctoError: the lake or the registry cannot be read.
    """
    last = add_months((now or datetime.now(UTC)).strftime("%Y-%m"), -1)
    return remembered(workspace, "observed", last, lambda: _observed(workspace, last))


def _observed(workspace: Workspace, last: str) -> Observed:
    lake, periods = workspace.lake, workspace.periods
    made = lake.months(AccountCosts.name)
    newest = made[-1] if made else None
    billed: dict[str, Decimal] = {}
    unallocated: dict[str, tuple[int, Decimal]] = {}
    if newest is not None:
        billed = {total.currency: total.billed for total in overview_of(workspace, newest).current}
        with lake.connect() as connection:
            explained = Relation(f"({explained_allocations(workspace, [newest], has_corrections=False)})")
            rows = Rows.fetched(connection, render("services/unallocated", explained=explained))
        unallocated = {currency: (items, cost) for currency, items, cost in rows.rows}
    return Observed(
        dict(Counter(periods[month].state if month in periods else "open" for month in made)),
        len({partition.month for partition in stale(workspace)}),
        dict(Counter(vendor for vendor, _ in missing_accounts(workspace, last))),
        newest,
        billed,
        unallocated,
    )
