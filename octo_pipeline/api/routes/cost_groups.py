"""Cost groups and what they cost."""

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from octo_pipeline.api.callers import Viewer, WorkspaceOf
from octo_pipeline.api.documents import Body, described_body
from octo_pipeline.api.listing import PageOf, answer_rows
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import month_range, parse_month
from octo_pipeline.model.rows import Rows
from octo_pipeline.rules.conditions import pattern_hints
from octo_pipeline.rules.cost_group import parse_cost_group
from octo_pipeline.services.costs import cost_group_costs, find_cost_group

router = APIRouter(prefix="/cost-groups", tags=["cost groups"])

_EXAMPLE = {"id": "shop", "combinations": {"awsOptions": {"filters": [{"andFilters": {"account": "111122223333"}}]}}}
_BY = {"month": "month", "account": "account", "service": "service_code", "vendor": "vendor", "group": "cost_group_id"}


@router.get("")
def list_cost_groups(workspace: WorkspaceOf, _: Viewer, page: PageOf) -> Response:
    """The valid cost groups."""
    groups = workspace.configuration.cost_groups.values()
    rows = [(group.id, group.name, ", ".join(group.vendors), group.version) for group in groups]
    return answer_rows(workspace, page, Rows(("id", "name", "vendors", "version"), tuple(rows)))


@router.post("/validate", openapi_extra=described_body("application/json", _EXAMPLE))
def validate(_: Viewer, content: Body) -> dict[str, Any]:
    """Check a document; nothing is saved. What is wrong is the problem of the answer."""
    group = parse_cost_group(content, file="document")
    return {
        "id": group.id,
        "version": group.version,
        "hints": [{"path": "combinations", "message": hint} for hint in pattern_hints(group.maps())],
    }


@router.get("/{cost_group_id}")
def get_cost_group(workspace: WorkspaceOf, _: Viewer, cost_group_id: str) -> Response:
    """A cost group's document. Its ETag is its version."""
    group = find_cost_group(workspace, cost_group_id)
    return JSONResponse(json.loads(group.document), headers={"ETag": f'"{group.version}"'})


@router.get("/{cost_group_id}/costs")
def get_costs(
    workspace: WorkspaceOf,
    _: Viewer,
    page: PageOf,
    cost_group_id: str,
    month: Annotated[str, Query(description="The month; with from, the last month of the range.")],
    first: Annotated[str | None, Query(alias="from", description="First month of a range.")] = None,
    by: Annotated[
        Literal["month", "account", "service", "vendor", "group"] | None, Query(description="A row for each of these.")
    ] = None,
) -> Response:
    """What a cost group costs; of a family, what each of its groups costs."""
    months = month_range(parse_month(first or month), parse_month(month))
    if not months:
        raise OctoError(f"{first} is after {month}.", code="months-reversed")
    return answer_rows(workspace, page, cost_group_costs(workspace, cost_group_id, months, _BY[by] if by else None))
