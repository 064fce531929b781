"""What leaves the lake: the journal, and why costs changed."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response

from octo_pipeline.api.callers import Viewer, WorkspaceOf
from octo_pipeline.api.listing import PageOf, answer_rows
from octo_pipeline.model.months import add_months, parse_month
from octo_pipeline.model.rows import exact
from octo_pipeline.outputs.journal import journal_of
from octo_pipeline.services.causes import Cause, changes_of, subject_of

router = APIRouter(tags=["outputs"])


@router.get("/months/{month}/journal")
def get_journal(
    workspace: WorkspaceOf,
    _: Viewer,
    page: PageOf,
    month: Annotated[str, Path(description="The booking month, YYYY-MM.")],
    by: Annotated[
        Literal["cost-centre", "account", "group"],
        Query(description="A line per cost centre and ledger account, per account, or per cost group."),
    ] = "cost-centre",
) -> Response:
    """The debits and credits that finance posts of a month; they add up to the cents of each invoice."""
    return answer_rows(workspace, page, journal_of(workspace, parse_month(month), by).lines)


@router.get("/explanations")
def explain_costs(
    workspace: WorkspaceOf,
    _: Viewer,
    owner: Annotated[str, Query(description="An account, a cost group or a cost centre.")],
    month: Annotated[str, Query(description="The month, YYYY-MM.")],
    against: Annotated[
        str | None, Query(description="The month it is compared with; the one before if left out.")
    ] = None,
) -> dict[str, Any]:
    """Why what an owner costs changed: causes that add up to the whole change, the largest first."""
    after = parse_month(month)
    before = parse_month(against) if against else add_months(after, -1)
    subject = subject_of(workspace, owner, (before, after))
    return {
        "owner": {"kind": subject.kind, "id": subject.id},
        "before": before,
        "after": after,
        "changes": [
            {
                "currency": change.currency,
                "cost_before": exact(change.before),
                "cost_after": exact(change.after),
                "effective_cost_before": exact(change.effective_before),
                "effective_cost_after": exact(change.effective_after),
                "causes": [_as_json(cause) for cause in change.causes],
            }
            for change in changes_of(workspace, subject, before, after)
        ],
    }


def _as_json(cause: Cause) -> dict[str, Any]:
    return {"cause": cause.in_words} | {name: exact(value) for name, value in asdict(cause).items()}
