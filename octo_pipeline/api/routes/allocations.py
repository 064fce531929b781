"""Allocations: the items of a month and what is booked of them; stories, restores and re-applies."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from octo_pipeline.api.callers import Editor, SeenWorkspace, WorkspaceOf
from octo_pipeline.api.listing import PageOf, answer, version_of
from octo_pipeline.api.work import start_decision
from octo_pipeline.model.months import parse_month
from octo_pipeline.services.allocations import Filters, listed_allocations
from octo_pipeline.services.decide import story

router = APIRouter(prefix="/allocations", tags=["allocations"])

Status = Literal["unchecked_allocated", "checked_allocated", "checked_splitted"]
Category = Literal["fee", "account", "savings", "balance"]


class DecisionRequest(BaseModel):
    """Which items are restored or re-applied, and why."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"allocator": "support", "month": "2024-01", "reason": "billed to us alone"}]},
    )

    reason: str = Field(min_length=1, description="Why; kept in the audit trail.")
    item: str | None = Field(None, description="An item's id, or its beginning.")
    allocator: str | None = Field(None, description="Instead of an item: all items that this allocator took,")
    month: str | None = Field(None, description="of this origin month,")
    account: str | None = Field(None, description="and of this source account.")


@router.get("")
def list_allocations(
    workspace: SeenWorkspace,
    page: PageOf,
    month: Annotated[str, Query(description="The booking month, YYYY-MM.")],
    status: Annotated[Status | None, Query()] = None,
    category: Annotated[Category | None, Query()] = None,
    account: Annotated[str | None, Query(description="Source or target: an account or a cost group.")] = None,
    cost_group: Annotated[str | None, Query(description="A cost group, its family or its accounts.")] = None,
    allocator: Annotated[str | None, Query(description="Only items that it took.")] = None,
    service: Annotated[str | None, Query(description="Only this service code.")] = None,
    text: Annotated[str | None, Query(description="Part of a description or service code.")] = None,
    item: Annotated[str | None, Query(description="Only the item with this id.")] = None,
) -> Response:
    """The items of a month and the rows booked in it; the rows of an item are next to each other."""
    month = parse_month(month)
    filters = Filters(status, category, account, cost_group, allocator, service, text, item)
    query = listed_allocations(workspace, month, filters)
    tables = ("allocations", "corrections", "matched_items")
    return answer(workspace, page, query, version_of(workspace, *((table, month) for table in tables)))


@router.get("/{item_id}")
def get_story(workspace: SeenWorkspace, item_id: str) -> dict[str, Any]:
    """One item in sentences: who took it and why, whose usage counted, and the formula with its numbers."""
    return {"item_id": item_id, "sentences": story(workspace, item_id)}


@router.post("/restore", status_code=202)
def restore(workspace: WorkspaceOf, actor: Editor, request: Request, decision: DecisionRequest) -> Response:
    """Undo the distribution of items in every month, and keep it undone until they are re-applied."""
    return _decide("restore", workspace, actor, request, decision)


@router.post("/reapply", status_code=202)
def reapply(workspace: WorkspaceOf, actor: Editor, request: Request, decision: DecisionRequest) -> Response:
    """Take restores back."""
    return _decide("reapply", workspace, actor, request, decision)


def _decide(
    action: Literal["restore", "reapply"],
    workspace: WorkspaceOf,
    actor: Editor,
    request: Request,
    decision: DecisionRequest,
) -> Response:
    work = start_decision(
        request.app.state.operations,
        workspace,
        actor,
        action,
        reason=decision.reason,
        item=decision.item,
        allocator=decision.allocator,
        month=parse_month(decision.month) if decision.month else None,
        account=decision.account,
    )
    body = work.operation.as_json() | {
        "items": list(work.item_ids),
        "left_out": list(work.left_out),
        "months": list(work.months),
        "closed_months": list(work.closed_months),
        "corrected_in": work.corrected_in,
    }
    headers = {"Location": str(request.url_for("get_operation", operation_id=work.operation.id))}
    return JSONResponse(body, 202, headers)
