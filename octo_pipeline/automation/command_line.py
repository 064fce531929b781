"""Records in Dagster what `octo` makes on the command line.

Both functions record events and pass them on. The command line imports this module only where DAGSTER_HOME is set,
because importing Dagster takes seconds.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import dagster as dg

from octo_pipeline.assets.configuration import changed_documents
from octo_pipeline.assets.dagster_compat import RecordedRun, cancel_abandoned_runs
from octo_pipeline.assets.failures import failure_in_dagster, in_dagster
from octo_pipeline.automation.operations import backfill, make_the_months
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


def recorded_as_run(workspace: Workspace, months: Sequence[str], events: Iterable[Event]) -> Iterator[Event]:
    """Record months as a run of the job `backfill`, which does the same from the launchpad.

    Args:
        workspace: its run id becomes the id of the Dagster run.
        months: all months that are made, in order.
        events: what happens to them.
    """
    config = {"ops": {make_the_months.name: {"config": {"first": months[0], "last": months[-1]}}}}
    done: list[Event] = []
    with dg.DagsterInstance.get() as instance:
        cancel_abandoned_runs(instance)
        run = RecordedRun(instance, backfill, config, workspace.run_id, (months[0], months[-1]))
        try:
            for observation in changed_documents(workspace, instance):
                run.record(observation)
            for event in events:
                done.append(event)
                for level, sentence in log_lines(event):
                    run.log(level, sentence)
                for asset_event in asset_events(workspace, instance, event):
                    run.record(asset_event)
                yield event
            for evaluation in stale_evaluations(workspace):
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
            run.succeed({"months": months_table(done)})


def recorded_without_run(workspace: Workspace, events: Iterable[_Event], cause: Mapping[str, str]) -> Iterator[_Event]:
    """Record what a command without a run makes, such as a restore, as runless events with its cause."""
    with dg.DagsterInstance.get() as instance:
        for event in events:
            for asset_event in asset_events(workspace, instance, event, cause):
                instance.report_runless_asset_event(asset_event)
            yield event
