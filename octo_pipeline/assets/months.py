"""How every monthly asset runs a range of months in one step."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg

from octo_pipeline.assets.metadata import figures_metadata
from octo_pipeline.lake.lake import fingerprint
from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.figures import figures
from octo_pipeline.tables.table import Materialised, Table, materialise
from octo_pipeline.workspace import Workspace

# Dagster's own log belongs to the run; this one is for whoever started it, such as the command line's progress.
_log = logging.getLogger(__name__)


def materialise_months(
    context: dg.AssetExecutionContext, workspace: Workspace, table: Table, key: dg.AssetKey | None = None
) -> dg.MaterializeResult:
    """Bring the step's months of a table up to date; see `run_months`."""

    def say(made: Materialised) -> dict[str, Any]:
        return outcome_metadata(made) | figures_metadata(figures(workspace, made.table, made.month))

    return run_months(context, key or context.asset_key, lambda month: materialise(workspace, table, month), say)


def run_months(
    context: dg.AssetExecutionContext,
    key: dg.AssetKey,
    make: Callable[[str], Any],
    say: Callable[[Any], Mapping[str, Any]],
) -> dg.MaterializeResult:
    """Make the months of a step one by one; a bad month stops no other.

    Args:
        context: of the step; its partition keys are the months.
        key: the asset that is made.
        make: makes a month and returns what happened; raises OctoError for a month that stays as it was.
        say: the metadata of what happened; its ``fingerprint`` is the partition's data version.

    Raises:
        dg.Failure: it names the months that were not published. Those that were are recorded all the same.
    """
    done: dict[str, Mapping[str, Any]] = {}
    failed: dict[str, OctoError] = {}
    for month in context.partition_keys:
        try:
            done[month] = say(make(month))
            sentence = f"{key.to_user_string()} {month}: {done[month].get('outcome', 'done')}"
            context.log.info(sentence)
            _log.info(sentence)
        except OctoError as error:
            failed[month] = error
            context.log.error(f"{key.to_user_string()} {month}: {error}")
            _log.error(f"{key.to_user_string()} {month}: failed")
    if failed:
        # Without an output Dagster records nothing by itself, so the good months are recorded one by one.
        for month, metadata in done.items():
            context.log_event(dg.AssetMaterialization(asset_key=key, partition=month, metadata=dict(metadata)))
        raise _failure(failed, done)
    for month, metadata in done.items():
        context.add_asset_metadata(dict(metadata), asset_key=key, partition_key=month)
    versions = {month: str(metadata["fingerprint"]) for month, metadata in done.items() if "fingerprint" in metadata}
    only = next(iter(versions.values())) if len(done) == 1 and versions else fingerprint(versions)
    return dg.MaterializeResult(asset_key=key, data_version=dg.DataVersion(only))


def _failure(failed: Mapping[str, OctoError], done: Sequence[str] | Mapping[str, Any]) -> dg.Failure:
    first = next(iter(failed))
    return dg.Failure(
        description=f"{', '.join(failed)} not published: {failed[first]}",
        metadata={
            "not published": dg.MetadataValue.md("\n".join(f"- **{m}**: {e}" for m, e in failed.items())),
            "published": ", ".join(done) or "none",
        },
        allow_retries=False,
    )


def outcome_metadata(made: Materialised) -> dict[str, Any]:
    """What happened to a partition, as metadata."""
    return {
        "outcome": made.outcome,
        "dagster/row_count": made.rows,
        "fingerprint": made.fingerprint,
        "seconds": round(made.seconds, 3),
    }
