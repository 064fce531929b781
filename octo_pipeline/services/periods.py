"""Months that close: what stands against closing one, closing, reopening, finalising, and what changed since (periods.md).

The states and who decided them are in `octo_pipeline.registry.periods`, what is kept of a closed month in
`octo_pipeline.tables.closings`, and how a change of it is booked in `octo_pipeline.tables.corrections`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from octo_pipeline.lake.lake import fingerprint
from octo_pipeline.model.columns import LINE_ITEMS
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.months import add_months
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.sql import Relation
from octo_pipeline.model.templates import render
from octo_pipeline.model.vendors import CLOUDS
from octo_pipeline.registry.periods import Period, PeriodAction
from octo_pipeline.registry.records import Actor
from octo_pipeline.services import charges
from octo_pipeline.services.checks import CHECKS
from octo_pipeline.tables.closings import kept_fingerprints, remove_closings, write_closing
from octo_pipeline.tables.corrections import Corrections, changed_months, drift_of, why_changed
from octo_pipeline.tables.graph import order, stale
from octo_pipeline.tables.invoice_costs import InvoiceCosts
from octo_pipeline.tables.known import first_open_month, remove_known, state_of
from octo_pipeline.tables.landed_charges import counted_deliveries
from octo_pipeline.tables.limited import LimitedWorkspace
from octo_pipeline.tables.table import KEPT
from octo_pipeline.vendors.catalog import VENDORS
from octo_pipeline.vendors.landing import Delivery
from octo_pipeline.workspace import Workspace

# Warnings that are no reason to stop work, but one not to close a month: the figures may still change.
_WARNINGS_AGAINST = frozenset(
    {"rates_current", "targets_known", "base_currency_known", "conserved_over_months", "owners_have_cost_centres"}
)
# The state of a month whose amounts can still change, as results say it.
PROVISIONAL = "provisional"
# What names no invoice is never seen to be final, so it is given some days more.
DAYS_WITHOUT_INVOICES = 3
# Another person who closes the month needs seconds, and a dead process holds a month in a bucket for 20; a run takes minutes.
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class PeriodStatus:
    """The state of a month of the lake.

    Attributes:
        state: open, closed, reopened or final.
        decided_by: who closed, reopened or finalised it; None for a month that was always open.
        proposal: a sentence about what waits for a second person; empty if nothing does.
        changed: why it is known otherwise than it is booked: delivery, decision or code; empty if it is not.
        corrected_in: the open month in which the difference is booked; None if the lake has none yet.
    """

    month: str
    state: str
    decided_by: str | None
    decided_at: datetime | None
    reason: str
    proposal: str
    changed: str
    corrected_in: str | None


def periods_of(workspace: Workspace) -> list[PeriodStatus]:
    """The months of the lake and their states, in order. A limited reader is not told why, as reasons name anybody."""
    if isinstance(workspace, LimitedWorkspace):
        return [
            replace(status, decided_by=None, reason="", proposal="", changed="", corrected_in=None)
            for status in periods_of(workspace.whole)
        ]
    first_open = first_open_month(workspace)
    statuses = []
    for month in sorted({*workspace.lake.months(LINE_ITEMS), *workspace.periods}):
        period = workspace.periods.get(month, Period(month, ()))
        events = [event for event in period.events if not event.is_proposal and event.action != "accept"]
        last = events[-1] if events else None
        waiting = period.events[-1] if period.events and period.events[-1].is_proposal else None
        changed = why_changed(workspace, month) if period.is_closed else ""
        statuses.append(
            PeriodStatus(
                month,
                period.state,
                last.actor if last else None,
                last.at if last else None,
                last.reason if last else "",
                f"{waiting.actor} proposed to {waiting.action} it" if waiting else "",
                changed,
                first_open if period.is_closed else None,
            )
        )
    return statuses


def state_in_words(workspace: Workspace, month: str) -> str:
    """The state of a month as results say it: provisional, or closed on a day."""
    period = workspace.periods.get(month)
    closing = period.closing if period else None
    if period is None or closing is None:
        return PROVISIONAL
    return f"{'final, ' if period.state == 'final' else ''}closed on {closing.at:%Y-%m-%d} by {closing.actor}"


def readiness(
    workspace: Workspace, month: str, now: datetime | None = None, *, closed_before: Sequence[str] = ()
) -> list[str]:
    """Why a month should not be closed yet, a sentence each; none if it may be.

    Args:
        workspace: the lake.
        month: the month.
        now: the current time.
        closed_before: open months that are proposed to be closed before it.

    Raises:
        OctoError: it cannot be closed at all: it is closed already, an earlier month is open, or it is not made or stale.
    """
    _require_closable(workspace, month, closed_before)
    reasons = [
        *late_deliveries(workspace, month, now or datetime.now(UTC)),
        *_missing_invoices(workspace, month),
    ]
    for check in CHECKS:
        if check.severity == "error" or check.name in _WARNINGS_AGAINST:
            result = check.run(workspace, month)
            if not result.passed:
                reasons.append(result.summary)
    return reasons


def close(
    workspace: Workspace,
    months: Sequence[str],
    actor: Actor,
    *,
    despite: str = "",
    now: datetime | None = None,
    is_proposal: bool = False,
) -> None:
    """Close months in order: from now on their results stay as they are.

    Args:
        workspace: a workspace of its own; its states are read before.
        months: the months, each of which follows on the closed ones.
        actor: who closes them.
        despite: the reason to close them although something stands against it.
        now: the current time.
        is_proposal: only propose it to a second person.

    Raises:
        OctoError: a month cannot be closed, or something stands against it. The months before it are closed.
    """
    for number, month in enumerate(months):
        # Each month is closed on what the one before left.
        current = replace(workspace)
        # Before anything is computed, and before a run is waited for.
        current.registry.periods.require(
            "close", month, actor, four_eyes=workspace.settings.four_eyes, is_proposal=is_proposal
        )
        with _at_rest(current, month):
            reasons = readiness(current, month, now, closed_before=months[:number] if is_proposal else ())
            if reasons and not despite:
                raise OctoError(
                    f"{month} is not ready to be closed. {' '.join(reasons)}",
                    code="period-not-ready",
                    place=month,
                    remedy=Remedy("periods close", month, despite="REASON", to="close it all the same"),
                )
            if is_proposal:
                current.registry.periods.record("close", [month], actor, reason=despite, is_proposal=True)
            else:
                keep_as_closed(current, month, actor, reason=despite)


def keep_as_closed(workspace: Workspace, month: str, actor: Actor, *, reason: str = "") -> None:
    """Close a month that is ready, or whose closing somebody answers for.

    What is kept is written first and counts once the registry names it, so a closing that is killed leaves the month open.

    Raises:
        OctoError: another process closed or changed the month meanwhile.
    """
    # A reopening that was killed may have left it.
    remove_known(workspace, month)
    closing_id = write_closing(workspace, month)
    with workspace.lake.hold(KEPT, month):
        _require_as_kept(workspace, month, closing_id)
        workspace.registry.periods.record(
            "close", [month], actor, reason=reason, closings={month: closing_id}, four_eyes=workspace.settings.four_eyes
        )
    remove_closings(workspace, month)


def _require_as_kept(workspace: Workspace, month: str, closing_id: str) -> None:
    kept = kept_fingerprints(workspace, month, closing_id)
    for table in (table for table in order() if table.name in KEPT):
        current = {workspace.lake.fingerprint(table.name, month), fingerprint(table.inputs(workspace, month))}
        if current != {kept.get(table.name)}:
            raise OctoError(
                f"{table.name} {month} changed while the month was being closed, so it is still open. Close it again.",
                code="period-changed-meanwhile",
                place=month,
            )


@contextmanager
def _at_rest(workspace: Workspace, month: str) -> Iterator[None]:
    """A month that no other process makes, closes or reopens as long as the context lasts.

    Raises:
        OctoError: another process does, and goes on doing so.
    """
    with workspace.lake.lease(month, PATIENCE_SECONDS) as is_held:
        if not is_held:
            raise OctoError(
                f"Another process is making, closing or reopening {month}. Try again when it has ended.",
                code="period-busy",
                place=month,
            )
        yield


def through(workspace: Workspace, month: str) -> list[str]:
    """The open months of the lake up to a month, in order."""
    return [m for m in workspace.lake.months(LINE_ITEMS) if m <= month and not workspace.is_closed(m)]


def reopen(workspace: Workspace, month: str, actor: Actor, *, reason: str, is_proposal: bool = False) -> None:
    """Reopen the newest closed month: its results are made again from current rules, deliveries and decisions.

    Raises:
        OctoError: it is not the newest closed month, or it is final.
    """
    if not reason.strip():
        raise OctoError("A month is reopened for a reason, which is kept; give it.", code="period-reason-missing")
    newest = workspace.closed_months[-1] if workspace.closed_months else None
    if newest and month in workspace.closed_months and month != newest:
        raise OctoError(
            f"{newest} was closed after {month} and rests on it; months are reopened from the newest back.",
            code="period-not-newest",
            place=month,
            remedy=Remedy("periods reopen", newest, reason="REASON", to="reopen it first"),
        )
    with _at_rest(workspace, month):
        _record(workspace, "reopen", month, actor, reason, is_proposal)
        if not is_proposal:
            remove_known(workspace, month)
            remove_closings(workspace, month)


def finalise(workspace: Workspace, month: str, actor: Actor, *, reason: str = "", is_proposal: bool = False) -> None:
    """Make a closed month final: it is never reopened; corrections of it are still booked in open months.

    Raises:
        OctoError: it is not closed.
    """
    _record(workspace, "finalise", month, actor, reason, is_proposal)


def accept(workspace: Workspace, month: str, actor: Actor, *, reason: str = "") -> None:
    """Let what only a new version of the program computes otherwise be booked as corrections of a closed month.

    Raises:
        OctoError: the month is not closed.
    """
    code = str(state_of(workspace, month)["code"])
    workspace.registry.periods.record("accept", [month], actor, reason=reason, closings={month: code})


def drift(workspace: Workspace, month: str, *, with_current_rules: bool = False) -> tuple[str, Rows]:
    """What a closed month is known as now, against what is booked for it.

    Args:
        workspace: the lake.
        month: a closed month.
        with_current_rules: preview it with today's rules instead of those it was closed with. Nothing is ever booked of it.

    Returns:
        Why it differs (delivery, decision, code; empty if it does not), and a row per currency, owner and allocator,
        the largest first.

    Raises:
        OctoError: the month is not closed.
    """
    workspace.closing(month)
    cause = why_changed(workspace, month)
    if with_current_rules:
        return cause, drift_of(workspace, month, with_current_rules=True)
    return cause, drift_of(workspace, month) if cause else Rows(DRIFT_COLUMNS, ())


DRIFT_COLUMNS = (
    "currency",
    "owner_type",
    "owner",
    "allocator",
    "booked",
    "known",
    "difference",
    "effective_difference",
)


def corrections_of(workspace: Workspace, month: str) -> Rows:
    """The corrections that a month has booked: by closed month, owner, allocator and currency."""
    rows = workspace.lake.scan(Corrections.name, [month], Corrections.columns)
    with workspace.lake.connect() as connection:
        return Rows.fetched(connection, render("services/corrections_by_owner", corrections=rows))


def waiting_months(workspace: Workspace) -> list[str]:
    """The closed months whose corrections wait, because the lake has no open month after them yet."""
    if not workspace.closed_months or first_open_month(workspace) is not None:
        return []
    return [month for month in workspace.closed_months if why_changed(workspace, month) not in ("", "code")]


def unaccepted_months(workspace: Workspace) -> list[str]:
    """The closed months that only a new version of the program computes otherwise."""
    changed = changed_months(workspace, first_open_month(workspace) or "")
    return [
        month for month in workspace.closed_months if why_changed(workspace, month) == "code" and month not in changed
    ]


def _record(
    workspace: Workspace, action: PeriodAction, month: str, actor: Actor, reason: str, is_proposal: bool
) -> None:
    workspace.registry.periods.record(
        action, [month], actor, reason=reason, four_eyes=workspace.settings.four_eyes, is_proposal=is_proposal
    )


def _require_closable(workspace: Workspace, month: str, closed_before: Sequence[str]) -> None:
    period = workspace.periods.get(month)
    if period and period.is_closed:
        raise OctoError(f"{month} is {period.state} already.", code="period-closed-already", place=month)
    lake = workspace.lake
    made = lake.months(LINE_ITEMS)
    absent = [table.name for table in order() if month not in lake.months(table.name)]
    if absent:
        raise OctoError(
            f"The lake has no {absent[0]} of {month}, so there is nothing to close.",
            code="month-not-made",
            place=month,
            remedy=Remedy("run", month=month),
        )
    if earlier := [m for m in made if m < month and not workspace.is_closed(m) and m not in closed_before]:
        raise OctoError(
            f"{earlier[0]} is open, and months close in order.",
            code="period-earlier-open",
            place=month,
            remedy=Remedy("periods close", through=month, to="close all of them"),
        )
    # A stale month would be closed as one thing and known as another.
    outdated = [partition for partition in stale(workspace) if partition.month <= month]
    if outdated:
        first = outdated[0]
        raise OctoError(
            f"{first.table} {first.month} is stale ({', '.join(first.changed)}), and a month is closed as it is known.",
            code="period-stale",
            place=month,
            remedy=Remedy("run", month=first.month, to="bring it up to date"),
        )


def late_deliveries(workspace: Workspace, month: str, now: datetime) -> list[str]:
    """Accounts that delivered the month before and not this one, or not since the vendor's closing day."""
    if now < _day(month, 1):
        return [f"{month} has not ended."]
    delivered = _regular_deliveries(workspace, month)
    sentences = [
        f"The {vendor} account {account} delivered {add_months(month, -1)} and nothing of {month}."
        for vendor, account in missing_accounts(workspace, month)
    ]
    invoiced = _invoiced_payers(workspace, month)
    for (vendor, account), delivery in sorted(delivered.items()):
        # A FOCUS source is of any number of payers.
        names_invoices = account in invoiced or vendor not in CLOUDS
        ready = _day(month, VENDORS[vendor].closing_day + (0 if names_invoices else DAYS_WITHOUT_INVOICES))
        which = f"its closing day {ready:%Y-%m-%d}"
        if not names_invoices:
            which = (
                f"{ready:%Y-%m-%d}, {DAYS_WITHOUT_INVOICES} days after its closing day, as its exports name no invoice"
            )
        if now < ready:
            sentences.append(f"What the {vendor} account {account} is billed of {month} may change until {which}.")
        elif delivery.fetched_at < ready:
            sentences.append(
                f"The {vendor} account {account} delivered {month} last on {delivery.fetched_at:%Y-%m-%d}, before {which}."
            )
    return sentences


def _day(month: str, day: int) -> datetime:
    """A day of the month after this one."""
    return datetime.fromisoformat(f"{add_months(month, 1)}-{day:02d}T00:00:00+00:00")


def missing_accounts(workspace: Workspace, month: str) -> list[tuple[str, str]]:
    """(vendor, account) of what delivered the month before and nothing of this one, in order."""
    before = _regular_deliveries(workspace, add_months(month, -1))
    return sorted(before.keys() - _regular_deliveries(workspace, month).keys())


def _regular_deliveries(workspace: Workspace, month: str) -> dict[tuple[str, str], Delivery]:
    """The deliveries of a month by vendor and account, but for charges by hand: nobody expects those every month."""
    return {(d.vendor, d.account): d for d in counted_deliveries(workspace, month) if d.vendor != charges.VENDOR}


def _missing_invoices(workspace: Workspace, month: str) -> list[str]:
    """Payers that the vendor invoices, and that have costs of the month without an invoice."""
    with workspace.lake.connect() as connection:
        invoices = _invoices_until(workspace, month)
        rows = connection.execute(render("services/not_invoiced", invoice_costs=invoices, month=month)).fetchall()
    return [
        f"{cost:,.2f} {currency} of the {vendor} payer {payer} has no invoice yet, and the payer is invoiced."
        for vendor, payer, currency, cost in rows
    ]


def _invoiced_payers(workspace: Workspace, month: str) -> set[str]:
    """The payers whose exports of the month or before name an invoice."""
    with workspace.lake.connect() as connection:
        invoices = _invoices_until(workspace, month)
        return {
            payer
            for (payer,) in connection.execute(render("services/invoiced_payers", invoice_costs=invoices)).fetchall()
        }


def _invoices_until(workspace: Workspace, month: str) -> Relation:
    lake = workspace.lake
    until = [made for made in lake.months(InvoiceCosts.name) if made <= month]
    return lake.scan(InvoiceCosts.name, until, InvoiceCosts.columns)
