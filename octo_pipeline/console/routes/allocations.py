"""Allocations: the items of a month and what is booked of them, the story of each, and restoring and re-applying."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from starlette.responses import Response

from octo_pipeline.api.listing import JSON, XLSX, Page, answer, cut_page, fetched_page, position_of, version_of
from octo_pipeline.api.routes.allocations import Category, Status
from octo_pipeline.api.work import start_decision
from octo_pipeline.console.visit import Editing, Seeing, Typed, Visit
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import parse_month
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.wording import LEFT_REASONS, counted
from octo_pipeline.services import allocations
from octo_pipeline.services.allocations import Filters
from octo_pipeline.services.decide import (
    choose_items,
    closed_sentence,
    contradicted,
    corrected_months,
    decided_costs,
    left_out_sentence,
    story_of,
)
from octo_pipeline.services.remembered import remembered
from octo_pipeline.tables.allocations import Allocations

router = APIRouter(prefix="/allocations")

_PAGE_ROWS = 50
_STORY_ROWS = 200
_FORMATS = {
    "csv": "text/csv",
    "xlsx": XLSX,
    "parquet": "application/vnd.apache.parquet",
    "ndjson": "application/x-ndjson",
}
_STATUS_WORDS = {
    "unchecked_allocated": "Unchecked Allocated",
    "checked_allocated": "Checked Allocated",
    "checked_splitted": "Checked Splitted",
}
# The filters in the address, as they are called there.
_FILTERS = tuple(Filters.__dataclass_fields__)
# What is wrong with a decision, which is shown on its page with what was typed.
_REFUSED = ("decision-contradicts", "decision-wrong", "item-ambiguous", "no-such-items")

Text = Annotated[str | None, Query(max_length=2_000)]
Action = Literal["restore", "reapply"]


@router.get("")
def allocations_page(
    visit: Seeing,
    sort: Annotated[str | None, Query(max_length=100)] = None,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
) -> Response:
    """The items of a month and the rows booked in it, of what is filtered."""
    month = visit.month
    if month is None or month not in visit.workspace.lake.months(Allocations.name):
        return visit.page("month_missing", month=month)
    filters = _filters(visit)
    workspace = visit.workspace
    version = _version(visit, month)
    page = Page(JSON, cursor, _PAGE_ROWS, sort or None, is_raw=False)
    is_large = allocations.is_large(workspace, month)

    def read() -> tuple[Rows, str | None]:
        if is_large and (not sort or sort.removeprefix("-") in allocations.LARGE_SORTS):
            start = position_of(page, version)
            some = allocations.large_page(workspace, month, filters, sort=page.sort, start=start, length=_PAGE_ROWS + 1)
            return cut_page(page, version, some)
        return fetched_page(workspace, page, allocations.listed_allocations(workspace, month, filters), version)

    try:
        rows, following = remembered(workspace, f"allocations {filters} {page}", month, read)
    except OctoError as error:
        if error.code not in ("list-changed", "cursor-wrong", "sort-column-unknown"):
            raise
        return visit.redirect(visit.address(cursor=None, sort=None), "The list begins again, because it has changed.")
    return visit.page(
        "allocations",
        month=month,
        filters=filters,
        **_listed(rows),
        following=following,
        cursor=cursor,
        sort=page.sort,
        sorts=tuple(allocations.LARGE_SORTS) if is_large else None,
        totals=None if is_large else _totals(visit, month, filters),
        rules=sorted(allocator.id for allocator in workspace.configuration.allocators),
        groups=sorted(workspace.configuration.cost_groups),
        categories=get_args(Category),
        status_words=_STATUS_WORDS,
        left_reasons=LEFT_REASONS,
    )


@router.get("/totals")
def totals_part(visit: Seeing) -> HTMLResponse:
    """What is filtered adds up to, for a month so large that its page does not wait for it."""
    month = visit.month or ""
    filters = _filters(visit)
    totals = _totals(visit, month, filters)
    return visit.page("allocation_totals", month=month, filters=filters, totals=totals, status_words=_STATUS_WORDS)


@router.get("/file")
def download(
    visit: Seeing, month: str, kind: Annotated[Literal["csv", "xlsx", "parquet", "ndjson"], Query(alias="format")]
) -> Response:
    """What is filtered, as a file."""
    month = parse_month(month)
    page = Page(_FORMATS[kind], None, _PAGE_ROWS, visit.request.query_params.get("sort") or None, is_raw=False)
    query = allocations.listed_allocations(visit.workspace, month, _filters(visit))
    response = answer(visit.workspace, page, query, _version(visit, month))
    response.headers["Content-Disposition"] = f'attachment; filename="allocations-{month}.{kind}"'
    return response


@router.get("/decision")
def decision_page(visit: Editing, action: Action) -> HTMLResponse:
    """What a decision would do, before it is made."""
    return _decision_page(visit, action, dict(visit.request.query_params))


@router.post("/decision")
def decide(visit: Editing, form: Typed) -> Response:
    """Restore or re-apply items, and make their months again."""
    asked = {name: str(value) for name, value in form.items()}
    action: Action = "reapply" if asked.get("action") == "reapply" else "restore"
    reason = asked.get("reason", "").strip()
    if not reason:
        return _decision_page(visit, action, asked, "Say why; it is kept with the decision.")
    try:
        work = start_decision(
            visit.operations, visit.workspace, visit.actor, action, reason=reason, **_items_asked(asked)
        )
    except OctoError as error:
        if error.code not in _REFUSED:
            raise
        return _decision_page(visit, action, asked, visit.sentence(error))
    words = "restored" if action == "restore" else "re-applied"
    notice = f"{counted(len(work.item_ids), 'item')} {'is' if len(work.item_ids) == 1 else 'are'} {words}."
    left_out = left_out_sentence(action, len(work.left_out))
    path = visit.address(f"/operations/{work.operation.id}", month=asked.get("month"), item=asked.get("item"))
    return visit.redirect(
        path, " ".join(filter(None, (notice, left_out, closed_sentence(work.closed_months, work.corrected_in))))
    )


@router.get("/{item_id}")
def story_page(visit: Seeing, item_id: str) -> HTMLResponse:
    """Everything about one item."""
    asked = visit.request.query_params.get("month")
    story = story_of(visit.workspace, item_id, [parse_month(asked)] if asked else None)
    booked = story.months.column("booking_month")
    month = asked or (booked[0] if booked else str(story.facts["origin_month"]))
    rows = Rows((), ())
    if month in visit.workspace.lake.months(Allocations.name):
        filters = Filters(item=str(story.facts["item_id"]))
        if allocations.is_large(visit.workspace, month):
            rows = allocations.large_page(
                visit.workspace, month, filters, sort="-cost", start=0, length=_STORY_ROWS + 1
            )
        else:
            page = Page(JSON, None, _STORY_ROWS, "-cost", is_raw=False)
            query = allocations.listed_allocations(visit.workspace, month, filters)
            rows, _ = fetched_page(visit.workspace, page, query, _version(visit, month))
    return visit.page(
        "allocation_story",
        story=story,
        month=month,
        **_listed(rows),
        most=_STORY_ROWS,
        status_words=_STATUS_WORDS,
        left_reasons=LEFT_REASONS,
    )


def _listed(rows: Rows) -> dict[str, Any]:
    """The rows of a list, and whether an amortised cost says more than the billed one. Savings have none."""
    records = [dict(zip(rows.columns, row, strict=True)) for row in rows.rows]
    has_amortised = any(row["effective_cost"] != row["cost"] for row in records if row["category"] != "savings")
    return {"rows": records, "has_amortised": has_amortised}


def _filters(visit: Visit) -> Filters:
    asked = visit.request.query_params
    values = {name: asked[name].strip() for name in _FILTERS if asked.get(name, "").strip()}
    for name, allowed in (("status", get_args(Status)), ("category", get_args(Category))):
        if values.get(name) not in (None, *allowed):
            # What is not one of them finds nothing, which the page would not explain.
            del values[name]
    return Filters(**values)


def _version(visit: Visit, month: str) -> str:
    tables = (Allocations.name, "corrections", "matched_items", "cost_group_costs")
    return version_of(visit.workspace, *((table, month) for table in tables))


def _totals(visit: Visit, month: str, filters: Filters) -> Rows:
    workspace = visit.workspace
    compute = allocations.large_totals if allocations.is_large(workspace, month) else allocations.allocation_totals
    return remembered(workspace, f"totals {filters}", month, lambda: compute(workspace, month, filters))


def _items_asked(asked: Mapping[str, str]) -> dict[str, str | None]:
    names = ("item", "allocator", "month", "account")
    return {name: asked.get(name, "").strip() or None for name in names}


def _decision_page(visit: Visit, action: Action, asked: Mapping[str, str], problem: str = "") -> HTMLResponse:
    named = _items_asked(asked)
    chosen = choose_items(visit.workspace, action, **named)
    # If all of a rule are decided on already, the page is about them and offers nothing.
    items = chosen.items or chosen.left_out
    months = sorted({month for item in items for month in item.months})
    closed, corrected_in = corrected_months(visit.workspace, items)
    return visit.page(
        "allocation_decision",
        status_code=422 if problem else 200,
        action=action,
        named=named,
        items=items,
        costs=decided_costs(visit.workspace, items),
        left_out=left_out_sentence(action, len(chosen.left_out)) if chosen.items else "",
        months=[month for month in months if month not in closed],
        closed=closed_sentence(closed, corrected_in),
        contradicting=len(contradicted(visit.workspace, action, items)),
        reason=asked.get("reason", ""),
        problem=problem,
    )
