"""How a step of the asset graph brings its months up to date, and what events tell as Dagster's metadata."""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from octo_pipeline.assets.failures import in_dagster
from octo_pipeline.assets.metadata import figures_metadata
from octo_pipeline.assets.specs import EVERY_SOURCE_ANSWERED
from octo_pipeline.lake.lake import fingerprint
from octo_pipeline.services.figures import figures
from octo_pipeline.services.months import Failed, Landed, Landing, Step, make_months
from octo_pipeline.tables.table import Materialised
from octo_pipeline.workspace import Workspace


def make_step(
    context: dg.AssetExecutionContext, workspace: Workspace, step: Step, key: dg.AssetKey | None = None
) -> dg.MaterializeResult:
    """Do one step for all months of the run; a bad month stops no other.

    Args:
        context: of the run's step; its partition keys are the months.
        workspace: whose lake and sources.
        step: what is done.
        key: the asset that is made, for a run's step that makes several.

    Raises:
        dg.Failure: it names the months that were not published. Those that were are recorded all the same.
    """
    key = key or context.asset_key
    done: dict[str, Landed | Materialised] = {}
    metadata: dict[str, dict[str, Any]] = {}
    failed: list[Failed] = []
    for event in make_months(workspace, context.partition_keys, [step]):
        if isinstance(event, Landed | Materialised):
            done[event.month] = event
            metadata[event.month] = event_metadata(workspace, event)
            context.log.info(f"{key.to_user_string()} {event.month}: {event.outcome}")
        if isinstance(event, Landed) and event.unanswered:
            context.log.warning("\n".join(map(in_dagster, event.unanswered)))
        if isinstance(event, Failed):
            failed.append(event)
            context.log.error(f"{key.to_user_string()} {event.month}: {in_dagster(event.error)}")
    if failed:
        # Without an output Dagster records nothing by itself, so the good months are recorded one by one.
        for month in done:
            context.log_event(dg.AssetMaterialization(asset_key=key, partition=month, metadata=metadata[month]))
        raise _failure(failed, done)
    for month in done:
        context.add_asset_metadata(metadata[month], asset_key=key, partition_key=month)
    versions = {month: event.fingerprint for month, event in done.items()}
    only = next(iter(versions.values())) if len(versions) == 1 else fingerprint(versions)
    checks = [_answered(done.values())] if isinstance(step, Landing) else []
    return dg.MaterializeResult(asset_key=key, data_version=dg.DataVersion(only), check_results=checks)


def _failure(failed: list[Failed], done: Mapping[str, Landed | Materialised]) -> dg.Failure:
    return dg.Failure(
        description=f"{', '.join(event.month for event in failed)} not published: {in_dagster(failed[0].error)}",
        metadata={
            "not published": dg.MetadataValue.md(
                "\n".join(f"- **{event.month}**: {in_dagster(event.error)}" for event in failed)
            ),
            "published": ", ".join(done) or "none",
        },
        allow_retries=False,
    )


def _answered(events: Iterable[Landed | Materialised]) -> dg.AssetCheckResult:
    """The check of a vendor's raw exports."""
    lines = [
        f"{event.month}: {in_dagster(error)}"
        for event in events
        if isinstance(event, Landed)
        for error in event.unanswered
    ]
    return dg.AssetCheckResult(
        check_name=EVERY_SOURCE_ANSWERED,
        passed=not lines,
        description="\n".join(lines) or "Every source answered.",
    )


def event_metadata(workspace: Workspace, event: Landed | Materialised) -> dict[str, Any]:
    """What happened to a partition, and its figures, as a materialisation's metadata."""
    if isinstance(event, Landed):
        return {
            "outcome": event.outcome,
            "deliveries": event.deliveries,
            "files": event.files,
            "bytes": event.size,
            "fingerprint": event.fingerprint,
        }
    return {
        "outcome": event.outcome,
        "dagster/row_count": event.rows,
        "fingerprint": event.fingerprint,
        "seconds": round(event.seconds, 3),
        **figures_metadata(figures(workspace, event.table, event.month)),
    }
