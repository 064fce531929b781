"""Data: where bills come from, what came when and what is late, metrics, exchange rates and charges by hand."""

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from starlette.datastructures import UploadFile
from starlette.responses import Response

from octo_pipeline.api.documents import in_turn, require_writable
from octo_pipeline.api.routes.metrics import METRIC_ID
from octo_pipeline.console.forms import Filled, text_of
from octo_pipeline.console.visit import Editing, Typed, Viewing, Visit
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import is_month
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.wording import counted
from octo_pipeline.rules.documents import DocumentError, is_id
from octo_pipeline.services.charges import month_charges
from octo_pipeline.services.checks import CheckResult
from octo_pipeline.services.deliveries import listed_deliveries, source_states
from octo_pipeline.services.metrics import list_metrics, metric_rows, put_metric
from octo_pipeline.services.periods import late_deliveries
from octo_pipeline.services.rates import listed_rates, missing_rates
from octo_pipeline.services.remembered import remembered
from octo_pipeline.services.summary import summary_of
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.metrics import FOLDER

router = APIRouter(prefix="/data")

# The checks about data, by the section of the page that says what they find.
_CHECKS = {
    "deliveries": ("invoices_reconcile",),
    "metrics": ("metrics_delivered", "metrics_current", "metrics_listed"),
    "rates": ("base_currency_known", "rates_current"),
}
_MOST_ROWS = 1_000
# Longer files are replaced by a file, not typed.
_MOST_TYPED = 200_000


@router.get("")
def data_page(visit: Viewing) -> HTMLResponse:
    """The data of a month."""
    workspace = visit.workspace
    now = datetime.now(UTC)
    month = visit.month or f"{now:%Y-%m}"
    is_made = month in workspace.lake.months(AccountCosts.name)
    return visit.page(
        "data",
        month=month,
        sources=source_states(workspace, now),
        deliveries=listed_deliveries(workspace, month),
        late=late_deliveries(workspace, month, now) if is_made else [],
        metrics=list_metrics(workspace),
        rates=listed_rates(workspace, month),
        all_rates=listed_rates(workspace, None),
        missing=missing_rates(workspace, month),
        charges=month_charges(workspace, month),
        findings=_findings(visit, month) if is_made else {section: [] for section in _CHECKS},
    )


@router.get("/metrics/{metric_id}")
def metric_page(visit: Viewing, metric_id: str) -> HTMLResponse:
    """The rows of a metric, and a form that replaces them."""
    month = visit.request.query_params.get("month")
    chosen = month if month is not None and is_month(month) else None
    rows = metric_rows(visit.workspace, metric_id, chosen)
    text, version = _saved(visit, metric_id)
    return _metric_page(visit, metric_id, rows, Filled({"id": metric_id, "csv": text, "version": version}))


@router.get("/new-metric")
def new_metric_page(visit: Editing) -> HTMLResponse:
    """A form for a new metric."""
    return _metric_page(visit, None, None, Filled({"csv": "month,account,quantity\n"}))


@router.post("/metrics")
@in_turn
def save_metric(visit: Editing, form: Typed) -> Response:
    """Save the rows of a metric, of a file or as they were typed."""
    file = form.get("file")
    content = file.file.read() if isinstance(file, UploadFile) and file.filename else str(form.get("csv", "")).encode()
    metric_id = text_of(form, "id")
    text = content.decode("utf-8", "replace")
    values = {"id": metric_id, "csv": text, "version": text_of(form, "version")}
    is_new = "new" in form

    def refused(field: str, problem: str, status_code: int = 422) -> HTMLResponse:
        return _metric_page(
            visit, None if is_new else metric_id, None, Filled(values, {field: problem}), status_code=status_code
        )

    if not re.fullmatch(METRIC_ID, metric_id):
        return refused(
            "id", "An id has letters, digits, dots, hyphens and underscores, and begins with a letter or digit."
        )
    if _saved(visit, metric_id)[1] != values["version"]:
        return refused(
            "", f"Somebody changed or removed {metric_id} since this page was opened. Nothing was saved.", 409
        )
    try:
        require_writable(visit.workspace, FOLDER)
        metric, _ = put_metric(visit.workspace, content, metric_id, f"{metric_id}.csv", visit.actor)
    except DocumentError as error:
        return refused("csv", " ".join(f"{problem.path}: {problem.message}." for problem in error.problems[:20]))
    except OctoError as error:
        if error.code != "configuration-read-only":
            raise
        return refused("", visit.sentence(error), 409)
    return visit.redirect(
        f"/data/metrics/{metric_id}", f"{metric_id} is saved with {counted(len(metric.quantities), 'row')}."
    )


def _metric_page(
    visit: Visit, metric_id: str | None, rows: Rows | None, form: Filled, *, status_code: int = 200
) -> HTMLResponse:
    return visit.page(
        "metric",
        status_code=status_code,
        metric_id=metric_id,
        rows=Rows(rows.columns, rows.rows[:_MOST_ROWS]) if rows else None,
        row_count=len(rows) if rows else 0,
        form=form,
        is_long=len(form.values.get("csv", "")) > _MOST_TYPED,
    )


def _saved(visit: Visit, metric_id: str) -> tuple[str, str]:
    """The text of a metric's file in the configuration and its version; both are empty if there is none."""
    path: Path = visit.workspace.settings.config / FOLDER / f"{metric_id}.csv"
    if not is_id(metric_id) or not path.is_file():
        return "", ""
    content = path.read_bytes()
    return content.decode("utf-8", "replace"), hashlib.sha256(content).hexdigest()[:32]


def _findings(visit: Visit, month: str) -> dict[str, list[tuple[str, Any, CheckResult]]]:
    """The checks of each section that fail; they are those of the month's page, which has computed them as a rule."""
    summary = remembered(visit.workspace, "summary", month, lambda: summary_of(visit.workspace, month))
    return {
        section: [(check.name, check.severity, result) for check, result in summary.findings if check.name in names]
        for section, names in _CHECKS.items()
    }
