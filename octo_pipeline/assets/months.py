"""Runs a step of the asset graph for the month of a run, and turns its events into Dagster's metadata."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg

from octo_pipeline.assets.failures import failure_in_dagster, in_dagster
from octo_pipeline.assets.markdown import markdown_list
from octo_pipeline.assets.metadata import figures_metadata
from octo_pipeline.assets.specs import EVERY_SOURCE_ANSWERED
from octo_pipeline.lake.store import Location
from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.figures import figures
from octo_pipeline.services.months import Failed, Landed, Step, make_months, require_inputs
from octo_pipeline.services.periods import state_in_words
from octo_pipeline.services.reasons import reasons
from octo_pipeline.services.sources import NewAccountError
from octo_pipeline.tables.table import KEPT, Materialised, Table
from octo_pipeline.vendors.catalog import VENDORS
from octo_pipeline.workspace import Workspace


def make_step(
    context: dg.AssetExecutionContext, workspace: Workspace, step: Step, key: dg.AssetKey | None = None
) -> dg.MaterializeResult:
    """Do one step for the month of the run.

    Args:
        context: the context of the run's step; its partition is the month.
        workspace: the lake and the sources.
        step: the step to do.
        key: the asset that is made, if the run's step makes several.

    Raises:
        dg.Failure: the month was not published; its description says why.
    """
    key = key or context.asset_key
    month = context.partition_key
    if isinstance(step, Table):
        try:
            require_inputs(workspace, step, month)
        except OctoError as error:
            raise dg.Failure(in_dagster(error), allow_retries=False) from None
    (event,) = [
        event for event in make_months(workspace, [month], [step]) if isinstance(event, Landed | Materialised | Failed)
    ]
    if isinstance(event, Failed):
        raise dg.Failure(failure_in_dagster(event), allow_retries=False) from None
    context.log.info(f"{key.to_user_string()} {month}: {event.outcome}")
    checks = []
    if isinstance(event, Landed):
        checks = [answered(event)]
        if event.unanswered:
            context.log.warning("\n".join(map(in_dagster, event.unanswered)))
    return dg.MaterializeResult(
        asset_key=key,
        metadata=event_metadata(workspace, event),
        data_version=dg.DataVersion(event.fingerprint),
        check_results=checks,
    )


def answered(event: Landed) -> dg.AssetCheckResult:
    """The check of a vendor's raw exports of a month."""
    sentences = "\n".join(map(in_dagster, event.unanswered)) or "Every source answered."
    is_new = bool(event.unanswered) and all(isinstance(error, NewAccountError) for error in event.unanswered)
    return dg.AssetCheckResult(
        asset_key=VENDORS[event.vendor].raw_asset,
        check_name=EVERY_SOURCE_ANSWERED,
        passed=not event.unanswered,
        # Of an account that was just registered nothing is missed yet, so nobody is alerted.
        severity=dg.AssetCheckSeverity.WARN if is_new else dg.AssetCheckSeverity.ERROR,
        description=f"{event.month}: {sentences}",
    )


def event_metadata(workspace: Workspace, event: Landed | Materialised) -> dict[str, Any]:
    """What happened to a partition and why, where it is, and its figures, as a materialisation's metadata."""
    if isinstance(event, Landed):
        return {
            "dagster/uri": _uri(workspace.lake.root / "landing" / event.vendor),
            "outcome": event.outcome,
            "deliveries": event.deliveries,
            "files": event.files,
            "bytes": event.size,
            "fingerprint": event.fingerprint,
        }
    changed = reasons(workspace, event.changed)
    return {
        "outcome": event.outcome,
        **({"made": event.note} if event.note else {}),
        **({"period": state_in_words(workspace, event.month)} if event.table in KEPT else {}),
        **({"changed inputs": dg.MetadataValue.md(markdown_list(changed))} if changed else {}),
        "dagster/uri": _uri(workspace.lake.path(event.table, event.month)),
        "dagster/storage_kind": "parquet",
        # The view of `octo sql` and `octo catalog`.
        "dagster/table_name": event.table,
        "dagster/row_count": event.rows,
        "fingerprint": event.fingerprint,
        "seconds": round(event.seconds, 3),
        **figures_metadata(figures(workspace, event.table, event.month)),
    }


def _uri(location: Location) -> str:
    # As people see it in the lake: the month's equals sign needs no escape.
    return f"file://{quote(str(location), safe='/=')}" if isinstance(location, Path) else str(location)
