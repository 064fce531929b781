"""Metrics as people put, list and look at them."""

from pathlib import Path

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.templates import render
from octo_pipeline.model.wording import quoted
from octo_pipeline.registry.records import Actor
from octo_pipeline.rules.documents import is_id
from octo_pipeline.rules.metrics import Metric, parse_metric
from octo_pipeline.services.documents import write
from octo_pipeline.tables.metrics import FOLDER, metric_months, quantities_of
from octo_pipeline.workspace import Workspace


def list_metrics(workspace: Workspace) -> Rows:
    """The months of all metrics with the number of their rows and their sum."""
    months = metric_months(workspace)
    with workspace.lake.connect() as connection:
        query = render(
            "services/metric_totals", quantities=quantities_of(workspace, months, workspace.configuration.metrics)
        )
        return Rows.fetched(connection, query)


def metric_rows(workspace: Workspace, metric_id: str, month: str | None) -> Rows:
    """The rows of a metric, of one month or of all.

    Raises:
        OctoError: it has none.
    """
    # Another id could be no folder's name.
    months = [m for m in metric_months(workspace, [metric_id]) if month in (None, m.month)] if is_id(metric_id) else []
    if not months:
        raise OctoError(
            f"The metric {metric_id if is_id(metric_id) else quoted(metric_id)} has no row{f' of {month}' if month else ''}, neither in the configuration nor in the lake.",
            code="metric-unknown",
            place=metric_id,
        )
    with workspace.lake.connect() as connection:
        return Rows.fetched(
            connection,
            render(
                "services/metric_rows", quantities=quantities_of(workspace, months, workspace.configuration.metrics)
            ),
        )


def put_metric(workspace: Workspace, content: bytes, metric_id: str, file: str, actor: Actor) -> tuple[Metric, Path]:
    """Check a CSV, save it as a metric of the configuration instead of the one of this id, and note who did.

    Returns:
        The metric and its file.

    Raises:
        DocumentError: with every wrong line.
        OctoError: the file cannot be written.
    """
    metric = parse_metric(content, metric_id, file=file)
    target = workspace.settings.config / FOLDER / f"{metric_id}.csv"
    write(target, content)
    workspace.registry.note(actor, "save_metric", metric_id, {"file": str(target), "rows": len(metric.quantities)})
    return metric, target
