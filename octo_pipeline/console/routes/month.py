"""The month: its state, what it costs, what needs attention, and making and closing it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from starlette.responses import Response

from octo_pipeline.api.operations import Operation
from octo_pipeline.api.work import start_run
from octo_pipeline.console.visit import Administering, Editing, Seeing, Typed, Viewing, Visit
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import parse_month
from octo_pipeline.model.rows import Rows
from octo_pipeline.services import allocations, costs, periods
from octo_pipeline.services.overview import overview_of
from octo_pipeline.services.remembered import remembered
from octo_pipeline.services.summary import summary_of

router = APIRouter()


@dataclass(frozen=True)
class _Fix:
    """What helps against what a check says.

    Attributes:
        words: of the link.
        path: the page that helps.
        section: where on the page.
        status: the status of allocations that it lists.
    """

    words: str
    path: str
    section: str = ""
    status: str | None = None

    def address(self, visit: Visit) -> str:
        """Where the link leads."""
        return visit.address(self.path, status=self.status) + (f"#{self.section}" if self.section else "")


_FIXES = {
    "base_currency_known": _Fix("See the rates", "/data", "rates"),
    "covered_usage_once": _Fix("See the rules", "/rules"),
    "formulas_hold": _Fix("See what stays where it was billed", "/allocations", status="unchecked_allocated"),
    "invoices_reconcile": _Fix("See the deliveries", "/data", "deliveries"),
    "metrics_current": _Fix("See the metrics", "/data", "metrics"),
    "metrics_delivered": _Fix("See the metrics", "/data", "metrics"),
    "metrics_listed": _Fix("See the metrics", "/data", "metrics"),
    "no_conflicts": _Fix("See the rules", "/rules"),
    "no_conflicts_in_steps": _Fix("See the rules", "/rules"),
    "no_over_allocation": _Fix("See the rules", "/rules"),
    "owners_have_cost_centres": _Fix("See the statements", "/statements"),
    "rates_current": _Fix("See the rates", "/data", "rates"),
    "targets_known": _Fix("See the rules", "/rules"),
    "unknown_line_types": _Fix("See the deliveries", "/data", "deliveries"),
    "values_resolve": _Fix("See the cost groups", "/cost-groups"),
}


@dataclass(frozen=True)
class _Readiness:
    """Whether a month may be closed.

    Attributes:
        is_possible: whether it can be closed at all, if need be for a reason.
        reasons: what stands against it.
    """

    is_possible: bool
    reasons: list[str]


@router.get("/")
def month_page(visit: Seeing) -> HTMLResponse:
    """The month at a glance."""
    month = visit.month
    if month is None or month not in visit.months:
        return visit.page("month_missing", month=month)
    workspace = visit.workspace
    overview = remembered(workspace, "overview", month, lambda: overview_of(workspace, month))
    statuses = periods.periods_of(workspace)
    status = next(s for s in statuses if s.month == month)
    if allocations.is_large(workspace, month) and "all" not in visit.request.query_params:
        # Nobody waits for what is added up from all rows: the page asks for it when it is there.
        return visit.page("month", month=month, overview=overview, status=status, summary=None, work=_work(visit))
    summary = remembered(workspace, "summary", month, lambda: summary_of(workspace, month))
    # What stands against closing is about everybody.
    is_limited = visit.user.cost_groups is not None
    is_closable = status.state in ("open", "reopened") and not is_limited
    return visit.page(
        "month",
        month=month,
        overview=overview,
        summary=summary,
        distributed=_distributed(summary.distributed),
        status=status,
        first_open=next((s.month for s in statuses if s.state in ("open", "reopened")), None),
        readiness=_readiness(visit, month) if is_closable else None,
        prepayments=remembered(workspace, "prepayments", month, lambda: costs.prepayments(workspace, month)),
        corrections=None
        if is_limited
        else remembered(workspace, "corrections", month, lambda: periods.corrections_of(workspace, month)),
        drift=periods.drift(workspace, month)[1] if status.changed else None,
        work=_work(visit),
        fixes=_FIXES,
        four_eyes=workspace.settings.four_eyes,
    )


@router.post("/months/{month}/run")
def run(visit: Editing, month: str) -> Response:
    """Land what is new and make the month."""
    operation = start_run(visit.operations, visit.workspace, visit.actor, parse_month(month))
    return visit.redirect(f"/operations/{operation.id}?month={month}")


@router.post("/months/{month}/close")
def close(visit: Administering, month: str, form: Typed) -> Response:
    """Close the month, or propose it."""
    month, reason, is_proposal = parse_month(month), _reason(form), "propose" in form
    periods.close(visit.workspace, [month], visit.actor, despite=reason, is_proposal=is_proposal)
    return visit.redirect(f"/?month={month}", f"{month} is {'proposed to be closed' if is_proposal else 'closed'}.")


@router.post("/months/{month}/reopen")
def reopen(visit: Administering, month: str, form: Typed) -> Response:
    """Reopen the month, or propose it."""
    return _changed(visit, periods.reopen, parse_month(month), form, "reopened")


@router.post("/months/{month}/finalise")
def finalise(visit: Administering, month: str, form: Typed) -> Response:
    """Make the month final, or propose it."""
    return _changed(visit, periods.finalise, parse_month(month), form, "made final")


@router.get("/operations/{operation_id}")
def operation_page(visit: Viewing, operation_id: str) -> HTMLResponse:
    """How far a piece of long work is."""
    return visit.page("operation", operation=visit.operations.get(operation_id))


def _work(visit: Visit) -> list[Operation]:
    """What is being run, of which limited viewers see nothing."""
    if visit.user.cost_groups is not None:
        return []
    return [operation for operation in visit.operations.all() if not operation.is_done]


def _changed(visit: Visit, change: Callable[..., None], month: str, form: Typed, words: str) -> Response:
    is_proposal = "propose" in form
    change(visit.workspace, month, visit.actor, reason=_reason(form), is_proposal=is_proposal)
    return visit.redirect(f"/?month={month}", f"{month} is {'proposed to be ' if is_proposal else ''}{words}.")


def _reason(form: Typed) -> str:
    return str(form.get("reason", "")).strip()


def _readiness(visit: Visit, month: str) -> _Readiness:
    try:
        return _Readiness(True, periods.readiness(visit.workspace, month))
    except OctoError as error:
        return _Readiness(False, [visit.sentence(error)])


def _distributed(rows: Rows) -> list[dict[str, Any]]:
    """What each rule took, the largest amounts of each currency first."""
    records = [dict(zip(rows.columns, row, strict=True)) for row in rows.rows]
    return sorted(records, key=lambda row: (row["currency"], -abs(row["items_cost"] or 0)))
