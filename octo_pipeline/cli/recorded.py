"""Records in Dagster what a command makes, if DAGSTER_HOME says that there is one."""

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from octo_pipeline.cli.output import sentence
from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.months import Failed

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


def raise_for_failures(events: "Iterable[object]") -> None:
    """Fail if a step failed.

    Raises:
        OctoError: the sentences of all steps that failed.
    """
    failures = [event for event in events if isinstance(event, Failed)]
    if failures:
        message = " ".join(f"{event.month} was not published: {sentence(event.error)}" for event in failures)
        raise OctoError(message, code="months-failed") from failures[0].error


def raise_for_checks(workspace: "Workspace", months: "Sequence[str]") -> None:
    """Fail if money of a month is not distributed as it should be, although the month is made and proved.

    Raises:
        OctoError: the sentences of the failed checks whose severity is error.
    """
    from octo_pipeline.services.checks import failed_checks

    failed = [
        f"{month}: {result.summary}" for month in months for _, result in failed_checks(workspace, month, "error")
    ]
    if failed:
        raise OctoError("\n".join(["What was made is published, but a check failed.", *failed]), code="checks-failed")
