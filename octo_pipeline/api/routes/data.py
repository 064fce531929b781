"""Data: sources, deliveries, charges by hand and exchange rates."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import JSONResponse

from octo_pipeline.api.callers import Admin, Editor, Viewer, WorkspaceOf
from octo_pipeline.api.documents import Body, described_body
from octo_pipeline.api.listing import PageOf, answer_rows
from octo_pipeline.model.months import parse_month
from octo_pipeline.services import charges
from octo_pipeline.services import deliveries as services
from octo_pipeline.services.landing import delivery_of, reland, remove_delivery
from octo_pipeline.services.rates import listed_rates
from octo_pipeline.services.sources import sources
from octo_pipeline.vendors.landing import verify

router = APIRouter(tags=["data"])

MonthQuery = Annotated[str | None, Query(description="Only this month, YYYY-MM.")]
Month = Annotated[str, PathParameter(description="The month, YYYY-MM.", examples=["2024-01"])]
Version = Annotated[str, PathParameter(description="The version of a delivery, or its beginning.", min_length=1)]
Mode = Annotated[
    charges.ImportMode, Query(description="Whether the file has all charges of the month, or the others stay.")
]
_CSV = described_body(
    "text/csv",
    "month,account,description,amount,currency,seller\n2024-01,111122223333,Support contract,100.00,USD,A partner\n",
)


@router.get("/sources")
def list_sources(workspace: WorkspaceOf, _: Viewer, page: PageOf) -> Response:
    """The sources of exports, what each delivered last, and what is late. Secrets are never told."""
    states = services.source_states(workspace, datetime.now(UTC))
    return answer_rows(workspace, page, services.listed_sources(states))


@router.get("/deliveries")
def list_deliveries(workspace: WorkspaceOf, _: Viewer, page: PageOf, month: MonthQuery = None) -> Response:
    """The landed deliveries, oldest first, and which of them count."""
    return answer_rows(workspace, page, services.listed_deliveries(workspace, parse_month(month) if month else None))


@router.get("/deliveries/{version}")
def get_delivery(workspace: WorkspaceOf, _: Viewer, version: Version) -> dict[str, Any]:
    """One delivery with its files."""
    return services.delivery_values(delivery_of(workspace, version))


@router.post("/deliveries/{version}/verify")
def verify_delivery(workspace: WorkspaceOf, _: Viewer, version: Version) -> dict[str, Any]:
    """Compare a delivery's files with the sizes and checksums that were landed."""
    delivery = delivery_of(workspace, version)
    verify(delivery)
    return services.delivery_values(delivery)


@router.post("/deliveries/{version}/reland", status_code=202)
def reland_delivery(workspace: WorkspaceOf, actor: Admin, request: Request, version: Version) -> Response:
    """Fetch a delivery again from its source. The answer is an operation."""
    delivery = delivery_of(workspace, version)
    operation = request.app.state.operations.start(
        "reland", actor, lambda: [reland(workspace, delivery, sources(workspace, delivery.vendor), actor)]
    )
    headers = {"Location": str(request.url_for("get_operation", operation_id=operation.id))}
    return JSONResponse(operation.as_json(), 202, headers)


@router.delete("/deliveries/{version}", status_code=204)
def delete_delivery(workspace: WorkspaceOf, actor: Admin, version: Version) -> None:
    """Remove a delivery. The next run uses the newest one that is left."""
    remove_delivery(workspace, delivery_of(workspace, version), actor)


@router.get("/rates")
def list_rates(workspace: WorkspaceOf, _: Viewer, page: PageOf, month: MonthQuery = None) -> Response:
    """The exchange rates to the base currency; with a month those that count in it."""
    return answer_rows(workspace, page, listed_rates(workspace, parse_month(month) if month else None))


@router.get("/charges/{month}")
def list_charges(workspace: WorkspaceOf, _: Viewer, page: PageOf, month: Month) -> Response:
    """The charges by hand of a month."""
    return answer_rows(workspace, page, charges.listed_charges(charges.month_charges(workspace, month)))


@router.post("/charges/{month}/preview", openapi_extra=_CSV)
def preview_charges(
    workspace: WorkspaceOf,
    _: Viewer,
    month: Month,
    content: Body,
    mode: Mode = charges.ImportMode.replace_month,
) -> list[dict[str, Any]]:
    """What importing a CSV would change; nothing is imported."""
    return charges.listed_changes(_planned(workspace, content, month, mode)).records()


@router.put("/charges/{month}", openapi_extra=_CSV)
def import_charges(
    workspace: WorkspaceOf, actor: Editor, month: Month, content: Body, mode: Mode
) -> list[dict[str, Any]]:
    """Import the charges of a month from a CSV; the answer has what changed."""
    planned = _planned(workspace, content, month, mode)
    charges.run_import(workspace, planned, actor)
    return charges.listed_changes(planned).records()


def _planned(workspace: WorkspaceOf, content: bytes, month: str, mode: charges.ImportMode) -> charges.ChargesImport:
    return charges.plan_content(workspace, content, Path("charges.csv"), parse_month(month), mode)
