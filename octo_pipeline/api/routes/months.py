"""Months: their states, what they cost, what deserves attention, closing them, and making them."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from octo_pipeline.api.callers import Admin, Editor, SeenWorkspace, Viewer, WorkspaceOf
from octo_pipeline.api.listing import PageOf, answer_rows
from octo_pipeline.api.work import start_run
from octo_pipeline.model.months import parse_month
from octo_pipeline.model.rows import Rows
from octo_pipeline.registry.records import Actor
from octo_pipeline.services import costs, periods
from octo_pipeline.services.checks import CHECKS
from octo_pipeline.services.overview import overview_of
from octo_pipeline.services.summary import summary_of
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.workspace import Workspace

router = APIRouter(prefix="/months", tags=["months"])

Month = Annotated[str, Path(description="The month, YYYY-MM.", examples=["2024-01"])]
_COLUMNS = (
    "month", "state", "decided_by", "decided_at", "reason", "changed", "corrected_in", "proposal",
)  # fmt: skip


class PeriodRequest(BaseModel):
    """Why a month is closed, reopened or finalised."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reason": "invoices are sent"}]})

    reason: str = Field("", description="Why; it is kept. Reopening needs one, as closing does what is not ready.")
    is_proposal: bool = Field(False, description="Only propose it; another administrator confirms it.")


@router.get("")
def list_months(workspace: SeenWorkspace, page: PageOf) -> Response:
    """The months of the lake, their states, and which closed ones are known otherwise by now."""
    rows = [
        (p.month, p.state, p.decided_by, p.decided_at, p.reason, p.changed, p.corrected_in, p.proposal)
        for p in periods.periods_of(workspace)
    ]
    return answer_rows(workspace, page, Rows(_COLUMNS, tuple(rows)))


@router.get("/{month}/summary")
def get_summary(workspace: SeenWorkspace, month: Month) -> dict[str, Any]:
    """The result of a month: the bill, what was distributed and left, and the proof that it adds up."""
    month = parse_month(month)
    workspace.lake.require([month], AccountCosts.name)
    summary = summary_of(workspace, month)
    tables = {name: getattr(summary, name) for name in ("bill", "distributed", "left", "accounts", "proof")}
    return {
        "month": month,
        "state": periods.state_in_words(workspace, month),
        "prepayments": costs.prepayments(workspace, month).records(),
        "findings": [{"check": c.name, "severity": c.severity, "summary": r.summary} for c, r in summary.findings],
    } | {name: rows.records() for name, rows in tables.items()}


@router.get("/{month}/overview")
def get_overview(workspace: SeenWorkspace, page: PageOf, month: Month) -> Response:
    """The totals of a month and of up to eleven months before it, by currency."""
    return answer_rows(workspace, page, overview_of(workspace, parse_month(month)).rows())


@router.get("/{month}/account-costs")
def get_account_costs(workspace: SeenWorkspace, page: PageOf, month: Month) -> Response:
    """What each account was billed, what was moved away from it and to it, and what it pays."""
    return answer_rows(workspace, page, costs.account_costs(workspace, parse_month(month)))


@router.get("/{month}/checks")
def get_checks(workspace: WorkspaceOf, _: Viewer, month: Month) -> list[dict[str, Any]]:
    """Every check of a month and what it says."""
    month = parse_month(month)
    workspace.lake.require([month], AccountCosts.name)
    results = ((check, check.run(workspace, month)) for check in CHECKS)
    return [
        {"check": c.name, "table": c.table, "severity": c.severity, "passed": r.passed, "summary": r.summary}
        for c, r in results
    ]


@router.get("/{month}/readiness")
def get_readiness(workspace: WorkspaceOf, _: Viewer, month: Month) -> dict[str, Any]:
    """Why a month should not be closed yet."""
    month = parse_month(month)
    reasons = periods.readiness(workspace, month)
    return {"month": month, "is_ready": not reasons, "reasons": reasons}


@router.get("/{month}/drift")
def get_drift(
    workspace: WorkspaceOf,
    _: Viewer,
    month: Month,
    with_current_rules: Annotated[bool, Query(description="Preview it with today's rules; never booked.")] = False,
) -> dict[str, Any]:
    """What a closed month is known as now, against what is booked for it, and why it differs."""
    month = parse_month(month)
    why, rows = periods.drift(workspace, month, with_current_rules=with_current_rules)
    return {"month": month, "cause": why, "differences": rows.records()}


@router.get("/{month}/corrections")
def get_corrections(workspace: WorkspaceOf, _: Viewer, page: PageOf, month: Month) -> Response:
    """What a month corrects of closed ones."""
    return answer_rows(workspace, page, periods.corrections_of(workspace, parse_month(month)))


@router.post("/{month}/close")
def close(workspace: WorkspaceOf, actor: Admin, month: Month, body: PeriodRequest) -> dict[str, Any]:
    """Close a month. With a reason it is closed although something stands against it."""
    month = parse_month(month)
    periods.close(workspace, [month], actor, despite=body.reason, is_proposal=body.is_proposal)
    return _state(workspace, month)


@router.post("/{month}/reopen")
def reopen(workspace: WorkspaceOf, actor: Admin, month: Month, body: PeriodRequest) -> dict[str, Any]:
    """Reopen the newest closed month."""
    return _changed(periods.reopen, workspace, actor, month, body)


@router.post("/{month}/finalise")
def finalise(workspace: WorkspaceOf, actor: Admin, month: Month, body: PeriodRequest) -> dict[str, Any]:
    """Make a closed month final: it is never reopened."""
    return _changed(periods.finalise, workspace, actor, month, body)


@router.post("/{month}/run", status_code=202)
def run(workspace: WorkspaceOf, actor: Editor, request: Request, month: Month) -> Response:
    """Land what is new and make all tables of a month. The answer is an operation."""
    operation = start_run(request.app.state.operations, workspace, actor, parse_month(month))
    headers = {"Location": str(request.url_for("get_operation", operation_id=operation.id))}
    return JSONResponse(operation.as_json(), 202, headers)


def _changed(
    change: Callable[..., None], workspace: Workspace, actor: Actor, month: str, body: PeriodRequest
) -> dict[str, Any]:
    month = parse_month(month)
    change(workspace, month, actor, reason=body.reason, is_proposal=body.is_proposal)
    return _state(workspace, month)


def _state(workspace: Workspace, month: str) -> dict[str, Any]:
    """The state after a change, which the workspace of the request has not seen."""
    states = {period.month: period for period in periods.periods_of(Workspace(workspace.settings))}
    return {"month": month, "state": states[month].state, "proposal": states[month].proposal}
