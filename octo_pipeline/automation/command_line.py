"""Records in Dagster what `octo` makes on the command line.

Both functions record events and pass them on. The command line imports this module only where DAGSTER_HOME is set,
because importing Dagster takes seconds.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import dagster as dg

from octo_pipeline.assets.configuration import changed_documents
from octo_pipeline.assets.dagster_compat import RecordedRun, RecordedVersions, cancel_abandoned_runs
from octo_pipeline.assets.failures import failure_in_dagster, in_dagster
from octo_pipeline.automation.accounts import delete_account
from octo_pipeline.automation.operations import backfill, reapply_items, restore_items
from octo_pipeline.automation.recording import (
    asset_events,
    log_lines,
    months_table,
    stale_evaluations,
)
from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.accounts import Removed
from octo_pipeline.services.months import Event, Failed
from octo_pipeline.workspace import Workspace

_Event = TypeVar("_Event", bound=Event | Removed)

_JOBS = {job.name: job for job in (restore_items, reapply_items, delete_account)}


def recorded_as_run(workspace: Workspace, months: Sequence[str], events: Iterable[Event]) -> Iterator[Event]:
    """Record months as a run of the job `backfill`, which does the same from the launchpad.

    Args:
        workspace: its run id becomes the id of the Dagster run.
        months: all months that are made, in order.
        events: what happens to them.
    """
    yield from _recorded(workspace, backfill, {"first": months[0], "last": months[-1]}, months, events, {})


def recorded_as_run_of(
    workspace: Workspace,
    job: str,
    config: Mapping[str, Any],
    months: Sequence[str],
    events: Iterable[_Event],
    cause: Mapping[str, str],
) -> Iterator[_Event]:
    """Record what a command makes again as a run of the job that does the same from the launchpad, such as `restore_items`.

    Events without a run would do for materialisations, but Dagster keeps one result of a check for each run and partition.

    Args:
        workspace: its run id becomes the id of the Dagster run.
        job: its name.
        config: the configuration of its op.
        months: those that are made again, in order, if that is known.
        events: what happens to them.
        cause: why, as in `octo_pipeline.automation.recording.asset_events`.
    """
    yield from _recorded(workspace, _JOBS[job], config, months, events, cause)


def _recorded(
    workspace: Workspace,
    job: dg.JobDefinition,
    config: Mapping[str, Any],
    months: Sequence[str],
    events: Iterable[_Event],
    cause: Mapping[str, str],
) -> Iterator[_Event]:
    done: list[_Event] = []
    (op,) = [node.name for node in job.nodes]
    with dg.DagsterInstance.get() as instance:
        cancel_abandoned_runs(instance)
        span = (months[0], months[-1]) if months else None
        run = RecordedRun(instance, job, {"ops": {op: {"config": dict(config)}}}, workspace.run_id, span)
        versions = RecordedVersions(instance)
        try:
            for observation in changed_documents(workspace, instance):
                run.record(observation)
            for event in events:
                done.append(event)
                for level, sentence in log_lines(event):
                    run.log(level, sentence)
                for asset_event in asset_events(workspace, versions, event, cause):
                    run.record(asset_event)
                yield event
            for evaluation in stale_evaluations(workspace, versions):
                run.record(evaluation)
        except Exception as error:
            run.fail(in_dagster(error) if isinstance(error, OctoError) else str(error))
            raise
        except BaseException:
            run.cancel()
            raise
        if failures := [failure_in_dagster(event) for event in done if isinstance(event, Failed)]:
            run.fail("\n".join(failures))
        else:
            run.succeed({"months": months_table(event for event in done if not isinstance(event, Removed))})
