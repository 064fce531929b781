"""Cost groups: the documents, what they match, who names them, and what they cost."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from octo_pipeline.api.callers import Editor, SeenWorkspace, Viewer, WorkspaceOf
from octo_pipeline.api.documents import (
    Body,
    current_version,
    described_body,
    in_turn,
    require_id,
    require_version,
    require_writable,
)
from octo_pipeline.api.listing import PageOf, answer_rows
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import month_range, parse_month
from octo_pipeline.model.rows import Rows
from octo_pipeline.rules.conditions import pattern_hints
from octo_pipeline.rules.documents import read_object
from octo_pipeline.services import cost_groups
from octo_pipeline.services.costs import cost_group_costs
from octo_pipeline.services.documents import read
from octo_pipeline.services.versions import known_version, listed_versions, versions_of
from octo_pipeline.workspace import Workspace

router = APIRouter(prefix="/cost-groups", tags=["cost groups"])

_EXAMPLE = {"id": "shop", "combinations": {"awsOptions": {"filters": [{"andFilters": {"account": "111122223333"}}]}}}
_DOCUMENT = described_body("application/json", _EXAMPLE)
_BY = {"month": "month", "account": "account", "service": "service_code", "vendor": "vendor", "group": "cost_group_id"}


@router.get("")
def list_cost_groups(workspace: SeenWorkspace, page: PageOf) -> Response:
    """The valid cost groups."""
    groups = workspace.configuration.cost_groups.values()
    rows = [(group.id, group.name, ", ".join(group.vendors), group.version) for group in groups]
    return answer_rows(workspace, page, Rows(("id", "name", "vendors", "version"), tuple(rows)))


@router.post("/validate", openapi_extra=_DOCUMENT)
def validate(_: Viewer, content: Body) -> dict[str, Any]:
    """Check a document; nothing is saved. What is wrong is the problem of the answer."""
    group = cost_groups.submitted_group(content, "document").group
    return {
        "id": group.id,
        "version": group.version,
        "hints": [{"path": "combinations", "message": hint} for hint in pattern_hints(group.maps())],
    }


@router.post("/preview", openapi_extra=_DOCUMENT)
def preview(
    workspace: WorkspaceOf,
    _: Viewer,
    content: Body,
    month: Annotated[
        str | None, Query(description="The month; the current one if the lake has it, else the latest.")
    ] = None,
) -> dict[str, Any]:
    """What a document matches in a month: accounts, of a family its groups, and what was billed; nothing is saved."""
    group = cost_groups.submitted_group(content, "document").group
    month = parse_month(month) if month else None
    return cost_groups.preview_group(workspace, group, month, datetime.now(UTC)).values


@router.get("/{cost_group_id}")
def get_cost_group(workspace: SeenWorkspace, cost_group_id: str) -> Response:
    """A document as it is saved. Its ETag is its version."""
    path = cost_groups.path_of(workspace, cost_group_id)
    headers = {"ETag": f'"{_version(workspace, cost_group_id)}"'}
    return JSONResponse(read_object(read(path), file=str(path)), headers=headers)


@router.put("/{cost_group_id}", openapi_extra=_DOCUMENT)
@in_turn
def put_cost_group(
    workspace: WorkspaceOf, actor: Editor, request: Request, cost_group_id: str, content: Body
) -> Response:
    """Save a document: a new one, or with If-Match instead of the version that the caller has seen."""
    require_writable(workspace, "cost_groups")
    submission = cost_groups.submitted_group(content, f"{cost_group_id}.json")
    require_id(submission.group.id, cost_group_id)
    version = _version(workspace, cost_group_id)
    require_version(request, version)
    cost_groups.save_group(workspace, submission, actor, replace=version is not None)
    headers = {"ETag": f'"{submission.group.version}"'}
    return JSONResponse(submission.document, 200 if version else 201, headers)


@router.get("/{cost_group_id}/uses")
def list_uses(workspace: WorkspaceOf, _: Viewer, cost_group_id: str) -> list[dict[str, Any]]:
    """Which allocators and cost centres mean a cost group. While one names it by its id, it cannot be removed."""
    cost_groups.path_of(workspace, cost_group_id)
    return [asdict(use) for use in cost_groups.uses_of(workspace, cost_group_id)]


@router.get("/{cost_group_id}/versions")
def list_versions(workspace: WorkspaceOf, _: Viewer, page: PageOf, cost_group_id: str) -> Response:
    """What the document said and says, newest first: who saved it when, and the months that were made with it."""
    return answer_rows(workspace, page, listed_versions(versions_of(workspace, "cost_group", cost_group_id)))


@router.get("/{cost_group_id}/versions/{version}")
def get_version(workspace: WorkspaceOf, _: Viewer, cost_group_id: str, version: str) -> dict[str, Any]:
    """One version, by its beginning, with the document as it was."""
    return known_version(workspace, "cost_group", cost_group_id, version).values


@router.delete("/{cost_group_id}", status_code=204)
@in_turn
def delete_cost_group(workspace: WorkspaceOf, actor: Editor, request: Request, cost_group_id: str) -> None:
    """Remove a cost group that no rule names. Months that were run with it stay as they are until they are run again."""
    require_writable(workspace, "cost_groups")
    if "if-match" in request.headers:
        require_version(request, _version(workspace, cost_group_id))
    cost_groups.remove_group(workspace, cost_group_id, actor)


# A group of a family has a slash in its id, and so may its value.
@router.get("/{cost_group_id:path}/costs")
def get_costs(
    workspace: SeenWorkspace,
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


def _version(workspace: Workspace, cost_group_id: str) -> str | None:
    group = workspace.configuration.cost_groups.get(cost_group_id)
    path = cost_groups.folder_of(workspace.settings.config).find(cost_group_id)
    return current_version(path, group.version if group else None)
