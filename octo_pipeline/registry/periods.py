"""The states of months: open, closed, reopened, final; who decided it, when and why. Events are appended, never edited.

What is kept of a closed month belongs in `octo_pipeline.tables.closings`, when a month may close in
`octo_pipeline.services.periods`. Here are the rules between the events of a month, which hold in one transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry import lazy_sqlalchemy as sql
from octo_pipeline.registry.database import Database
from octo_pipeline.registry.records import REASON_LENGTH, Actor, text_problem
from octo_pipeline.registry.statements import append_event, append_rows, fetch_rows, select_columns

if TYPE_CHECKING:
    from sqlalchemy import Connection

PeriodAction = Literal["close", "reopen", "finalise", "accept"]
PeriodState = Literal["open", "closed", "reopened", "final"]
_STATE_AFTER: Mapping[str, PeriodState] = {"close": "closed", "reopen": "reopened", "finalise": "final"}
_ALLOWED_FROM: Mapping[str, tuple[PeriodState, ...]] = {
    "close": ("open", "reopened"),
    "reopen": ("closed",),
    "finalise": ("closed",),
    "accept": ("closed", "final"),
}


@dataclass(frozen=True, slots=True)
class PeriodEvent:
    """Something that was decided about a month.

    Attributes:
        is_proposal: somebody else has to confirm it; until then it changes nothing.
        reason: why; of a closing despite what stood against it, the reason for that; empty if none is needed.
        closing: the fingerprint of what was kept at a closing; of an acceptance the version of the code that is accepted.
        proposed_by: who proposed what the actor confirmed; None where one person decides.
    """

    month: str
    action: PeriodAction
    is_proposal: bool
    actor: str
    reason: str
    closing: str
    proposed_by: str | None
    at: datetime


@dataclass(frozen=True)
class Period:
    """A month and what was decided about it, oldest first."""

    month: str
    events: tuple[PeriodEvent, ...]

    @property
    def state(self) -> PeriodState:
        """Its state; a proposal changes nothing."""
        states = [_STATE_AFTER[e.action] for e in self.events if not e.is_proposal and e.action in _STATE_AFTER]
        return states[-1] if states else "open"

    @property
    def is_closed(self) -> bool:
        """Whether its results stay as they are."""
        return self.state in ("closed", "final")

    @property
    def closing(self) -> PeriodEvent | None:
        """The event that closed it, if it is closed."""
        closings = [event for event in self.events if event.action == "close" and not event.is_proposal]
        return closings[-1] if closings and self.is_closed else None

    @property
    def accepted_code(self) -> frozenset[str]:
        """The versions of the code whose differences may be booked although no delivery and no decision changed."""
        return frozenset(event.closing for event in self.events if event.action == "accept")

    def proposal(self, action: PeriodAction) -> PeriodEvent | None:
        """The proposal of the action that waits to be confirmed, if there is one."""
        last = self.events[-1] if self.events else None
        return last if last and last.is_proposal and last.action == action else None


class Periods:
    """The months that were ever closed or proposed to be."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[str, Period]:
        """Every month with an event, in order."""
        with self._database.reading() as connection:
            return {} if connection is None else _periods(connection)

    def require(
        self, action: PeriodAction, month: str, actor: Actor, *, four_eyes: bool = False, is_proposal: bool = False
    ) -> None:
        """Refuse what `record` would refuse, before any work is done for it.

        Raises:
            OctoError: the state of the month does not allow it, or it needs another person.
        """
        _require_allowed(self.all().get(month, Period(month, ())), action, actor, four_eyes and not is_proposal)

    def record(
        self,
        action: PeriodAction,
        months: Sequence[str],
        actor: Actor,
        *,
        reason: str = "",
        closings: Mapping[str, str] | None = None,
        four_eyes: bool = False,
        is_proposal: bool = False,
    ) -> None:
        """Append an event for each month, in order, all of them or none.

        Args:
            action: what is decided.
            months: the months.
            actor: who decides.
            reason: why.
            closings: month -> what `PeriodEvent.closing` says.
            four_eyes: it needs a proposal by somebody else.
            is_proposal: it is only proposed.

        Raises:
            OctoError: the state of a month does not allow it, or it needs another person. Nothing is recorded then.
        """
        if reason and (problem := text_problem("reason", reason, REASON_LENGTH)):
            raise OctoError(f"The reason is refused: {problem}. Nothing was recorded.", code="period-reason-wrong")
        with self._database.writing() as connection:
            periods = _periods(connection)
            rows = []
            for month in months:
                period = periods.get(month, Period(month, ()))
                _require_allowed(period, action, actor, four_eyes and not is_proposal)
                proposal = period.proposal(action)
                rows.append(
                    {
                        "month": month,
                        "action": action,
                        "is_proposal": is_proposal,
                        "actor": actor,
                        "reason": reason or (proposal.reason if proposal else ""),
                        "closing": (closings or {}).get(month, ""),
                        "proposed_by": proposal.actor if proposal and not is_proposal else None,
                        "at": datetime.now(UTC),
                    }
                )
            append_rows(connection, sql.PERIOD_EVENTS, rows)
            name = f"propose_{action}_period" if is_proposal else f"{action}_period"
            details = {"reason": reason, "closings": dict(closings or {})}
            append_event(connection, actor, name, ", ".join(months), details)


def _periods(connection: "Connection") -> dict[str, Period]:
    query = select_columns(sql.PERIOD_EVENTS, PeriodEvent.__slots__).order_by(sql.PERIOD_EVENTS.c.id)
    events: dict[str, list[PeriodEvent]] = {}
    for row in fetch_rows(connection, query):
        event = PeriodEvent(*row)
        events.setdefault(event.month, []).append(event)
    return {month: Period(month, tuple(events[month])) for month in sorted(events)}


def _require_allowed(period: Period, action: PeriodAction, actor: Actor, needs_proposal: bool) -> None:
    _require_state(period, action)
    if needs_proposal:
        _require_other_person(period.proposal(action), action, period.month, actor)


def _require_state(period: Period, action: PeriodAction) -> None:
    if period.state in _ALLOWED_FROM[action]:
        return
    sentences = {
        "close": f"{period.month} is {period.state} already.",
        "reopen": f"{period.month} is final and is never reopened; a correction is booked in an open month."
        if period.state == "final"
        else f"{period.month} is not closed, so there is nothing to reopen.",
        "finalise": f"{period.month} is final already."
        if period.state == "final"
        else f"{period.month} is not closed; close it before it becomes final.",
        "accept": f"{period.month} is not closed, so nothing of it has to be accepted.",
    }
    raise OctoError(sentences[action], code="period-state", place=period.month)


def _require_other_person(proposal: PeriodEvent | None, action: str, month: str, actor: Actor) -> None:
    if proposal is None:
        raise OctoError(
            f"Two people {action} a month here: one proposes it, another confirms it, and nobody has proposed it for {month}.",
            code="period-not-proposed",
            place=month,
        )
    if proposal.actor == actor:
        raise OctoError(
            f"{actor} proposed to {action} {month}, so somebody else has to confirm it.",
            code="period-own-proposal",
            place=month,
        )
