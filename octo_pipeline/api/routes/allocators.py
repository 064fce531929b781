"""Allocators: the documents, checks and simulations of them."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from octo_pipeline.api.callers import Editor, Viewer, WorkspaceOf
from octo_pipeline.api.documents import (
    Body,
    current_version,
    described_body,
    in_turn,
    require_id,
    require_version,
    require_writable,
)
from octo_pipeline.api.listing import PageOf, answer, answer_rows, version_of
from octo_pipeline.lake.lake import fingerprint
from octo_pipeline.model.columns import LINE_ITEMS
from octo_pipeline.model.months import parse_month
from octo_pipeline.model.rows import Rows
from octo_pipeline.rules.allocator import Category, hints_of
from octo_pipeline.rules.documents import read_object
from octo_pipeline.services import rules
from octo_pipeline.services.attributes import attributes, values_query
from octo_pipeline.services.documents import read
from octo_pipeline.services.simulate import current_or_latest, simulate
from octo_pipeline.services.versions import known_version, listed_versions, versions_of
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.workspace import Workspace

router = APIRouter(prefix="/allocators", tags=["allocators"])

_EXAMPLE = {
    "id": "support",
    "category": "fee",
    "startMonth": "2024-01",
    "criteria": [{"and": {"lineType": "Fee"}}],
    "allocator": [{"type": "account", "value": "111122223333", "formula": "cost*usage"}],
}
_DOCUMENT = described_body("application/json", _EXAMPLE)
_NEXT = described_body(
    "application/json",
    {name: value for name, value in _EXAMPLE.items() if name != "startMonth"} | {"id": "support-from-february"},
)
_KEY = (
    "A key of attributes; tag or projectLabel for their names, tag:NAME for the values of one; group for cost groups; "
    "metric for metrics."
)
_COLUMNS = ("id", "name", "category", "step", "priority", "start_month", "end_month", "version")


@router.get("")
def list_allocators(workspace: WorkspaceOf, _: Viewer, page: PageOf) -> Response:
    """The valid allocators in the order in which they take items."""
    rows = [
        (a.id, a.name, a.category, a.step, a.priority, a.start, a.end, a.version)
        for a in workspace.configuration.allocators
    ]
    return answer_rows(workspace, page, Rows(_COLUMNS, tuple(rows)))


@router.post("/validate", openapi_extra=_DOCUMENT)
def validate(workspace: WorkspaceOf, _: Viewer, content: Body) -> dict[str, Any]:
    """Check a document; nothing is saved. What is wrong is the problem of the answer."""
    submission = rules.submitted(workspace, content, "document", datetime.now(UTC))
    unknown = rules.unknown_metrics(workspace, {"document": submission.allocator})
    hints = [{"path": path, "message": hint} for path, hint in hints_of(submission.allocator)]
    hints += [{"path": problem.path, "message": problem.message} for problem in unknown]
    return {"id": submission.allocator.id, "version": submission.allocator.version, "hints": hints}


@router.post("/simulate", openapi_extra=_DOCUMENT)
def simulate_document(
    workspace: WorkspaceOf,
    _: Viewer,
    content: Body,
    month: Annotated[
        str | None, Query(description="The month; the current one if the lake has it, else the latest.")
    ] = None,
) -> dict[str, Any]:
    """What an allocator would do to the items of a month; nothing is saved."""
    now = datetime.now(UTC)
    submission = rules.submitted(workspace, content, "document", now)
    simulation, notes = rules.simulate_submission(workspace, submission, now, parse_month(month) if month else None)
    return simulation.values | {"notes": notes}


@router.get("/attributes")
def list_attributes(_: Viewer, workspace: WorkspaceOf, page: PageOf) -> Response:
    """The keys that criteria of each category and filters of cost groups may have, and what they read."""
    return answer_rows(workspace, page, attributes())


@router.get("/sources")
def list_sources(
    workspace: WorkspaceOf,
    _: Viewer,
    page: PageOf,
    key: Annotated[str, Query(description=_KEY, max_length=1_000, examples=["account"])],
    month: Annotated[
        str | None, Query(description="The month; the current one if the lake has it, else the latest.")
    ] = None,
    category: Annotated[Category | None, Query(description="Only what its items are made of.")] = None,
    text: Annotated[str | None, Query(description="Only values and names that contain it.", max_length=1_000)] = None,
) -> Response:
    """Which values a key has in a month, those of most line items first."""
    month = parse_month(month) if month else current_or_latest(workspace, datetime.now(UTC))
    query = values_query(workspace, key, month, category=category, text=text)
    version = version_of(workspace, (LINE_ITEMS, month), (CostGroupCosts.name, month))
    return answer(workspace, page, query, fingerprint({"query": query, "version": version}))


@router.get("/{allocator_id}")
def get_allocator(workspace: WorkspaceOf, _: Viewer, allocator_id: str) -> Response:
    """A document as it is saved. Its ETag is its version."""
    path = rules.path_of(rules.folder_of(workspace.settings.config), allocator_id)
    headers = {"ETag": f'"{_version(workspace, allocator_id)}"'}
    return JSONResponse(read_object(read(path), file=str(path)), headers=headers)


@router.put("/{allocator_id}", openapi_extra=_DOCUMENT)
@in_turn
def put_allocator(
    workspace: WorkspaceOf, actor: Editor, request: Request, allocator_id: str, content: Body
) -> Response:
    """Save a document: a new one, or with If-Match instead of the version that the caller has seen."""
    require_writable(workspace, "allocators")
    submission = rules.submitted(workspace, content, f"{allocator_id}.json", datetime.now(UTC))
    require_id(submission.allocator.id, allocator_id)
    version = _version(workspace, allocator_id)
    require_version(request, version)
    rules.save(workspace, submission, actor, replace=version is not None)
    headers = {"ETag": f'"{submission.allocator.version}"'}
    return JSONResponse(submission.document, 200 if version else 201, headers)


@router.get("/{allocator_id}/versions")
def list_versions(workspace: WorkspaceOf, _: Viewer, page: PageOf, allocator_id: str) -> Response:
    """What the document said and says, newest first: who saved it when, and the months that are pinned to it."""
    return answer_rows(workspace, page, listed_versions(versions_of(workspace, "allocator", allocator_id)))


@router.get("/{allocator_id}/versions/{version}")
def get_version(workspace: WorkspaceOf, _: Viewer, allocator_id: str, version: str) -> dict[str, Any]:
    """One version, by its beginning, with the document as it was."""
    return known_version(workspace, "allocator", allocator_id, version).values


@router.post("/{allocator_id}/supersede", openapi_extra=_NEXT)
@in_turn
def supersede(
    workspace: WorkspaceOf,
    actor: Editor,
    allocator_id: str,
    content: Body,
    first: Annotated[str, Query(alias="from", description="The first month of the next allocator.")],
) -> dict[str, Any]:
    """End an allocator and start the next one, with an id of its own, in a month."""
    require_writable(workspace, "allocators")
    planned = rules.succession(workspace, allocator_id, content, "document.json", parse_month(first), datetime.now(UTC))
    rules.save_succession(workspace, planned, actor)
    return {"ended": planned.predecessor.document, "started": planned.successor.document}


@router.post("/{allocator_id}/supersede/simulate", openapi_extra=_NEXT)
def simulate_succession(
    workspace: WorkspaceOf,
    _: Viewer,
    allocator_id: str,
    content: Body,
    first: Annotated[str, Query(alias="from", description="The first month of the next allocator.")],
) -> dict[str, Any]:
    """What the next allocator would do in its first month, with the end of the one before it."""
    planned = rules.succession(workspace, allocator_id, content, "document.json", parse_month(first), datetime.now(UTC))
    ended = planned.predecessor.allocator
    return simulate(workspace, planned.successor.allocator, planned.first_month, ended=ended).values


@router.delete("/{allocator_id}", status_code=204)
@in_turn
def delete_allocator(workspace: WorkspaceOf, actor: Editor, request: Request, allocator_id: str) -> None:
    """Remove an allocator. Months that were run with it stay as they are until they are run again."""
    require_writable(workspace, "allocators")
    if "if-match" in request.headers:
        require_version(request, _version(workspace, allocator_id))
    rules.remove(workspace, allocator_id, actor)


def _version(workspace: Workspace, allocator_id: str) -> str | None:
    live = next((a for a in workspace.configuration.allocators if a.id == allocator_id), None)
    path = rules.folder_of(workspace.settings.config).find(allocator_id)
    return current_version(path, live.version if live else None)
