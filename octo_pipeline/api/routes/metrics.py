"""Metrics that costs are distributed by."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from octo_pipeline.api.callers import Editor, Viewer, WorkspaceOf
from octo_pipeline.api.documents import Body, described_body, require_writable
from octo_pipeline.api.listing import PageOf, answer_rows
from octo_pipeline.model.months import parse_month
from octo_pipeline.services.metrics import list_metrics, metric_rows, put_metric

router = APIRouter(prefix="/metrics", tags=["metrics"])

_CSV = described_body("text/csv", "month,account,quantity\n2024-01,111122223333,12\n")
# Of a metric that is saved; the configuration may have others.
METRIC_ID = "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
MetricId = Annotated[str, Path(pattern=METRIC_ID, description="The metric's id.")]


@router.get("")
def list_all(workspace: WorkspaceOf, _: Viewer, page: PageOf) -> Response:
    """The months of all metrics, of the configuration and of the lake."""
    return answer_rows(workspace, page, list_metrics(workspace))


@router.get("/{metric_id}")
def get_rows(
    workspace: WorkspaceOf,
    _: Viewer,
    page: PageOf,
    metric_id: MetricId,
    month: Annotated[str | None, Query(description="The month; all if left out.")] = None,
) -> Response:
    """The rows of a metric."""
    return answer_rows(workspace, page, metric_rows(workspace, metric_id, parse_month(month) if month else None))


@router.put("/{metric_id}", openapi_extra=_CSV)
def put(workspace: WorkspaceOf, actor: Editor, metric_id: MetricId, content: Body) -> dict[str, Any]:
    """Save a CSV as the metric of this id, instead of the one that there is."""
    require_writable(workspace, "metrics")
    metric, _ = put_metric(workspace, content, metric_id, f"{metric_id}.csv", actor)
    return {"id": metric_id, "rows": len(metric.quantities), "months": sorted(metric.by_month)}
