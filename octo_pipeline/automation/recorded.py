"""Records in Dagster what is made outside of it, if DAGSTER_HOME says that there is one.

Importing this module does not import Dagster, which takes seconds.
"""

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from octo_pipeline.services.accounts import Removed
    from octo_pipeline.services.months import Event
    from octo_pipeline.workspace import Workspace

_Event = TypeVar("_Event", bound="Event | Removed")


def recorded_as_run(
    workspace: "Workspace", months: Sequence[str], events: "Iterable[Event]"
) -> "Generator[Event, None, None]":
    """Pass the events on; with DAGSTER_HOME, record them as a run in Dagster."""
    if os.environ.get("DAGSTER_HOME"):
        from octo_pipeline.automation import command_line

        events = command_line.recorded_as_run(workspace, months, events)
    yield from events


def recorded_as_run_of(
    workspace: "Workspace",
    job: str,
    config: Mapping[str, Any],
    months: Sequence[str],
    events: Iterable[_Event],
    cause: Mapping[str, str],
) -> Generator[_Event, None, None]:
    """Pass the events on; with DAGSTER_HOME, record them as a run of the job that does the same from the launchpad.

    Args:
        workspace: its run id becomes the id of the Dagster run.
        job: its name.
        config: the configuration of its op.
        months: those that are made again, in order, if that is known.
        events: what happens to them.
        cause: why: names and texts.
    """
    if os.environ.get("DAGSTER_HOME"):
        from octo_pipeline.automation import command_line

        events = command_line.recorded_as_run_of(workspace, job, config, months, events, cause)
    yield from events
