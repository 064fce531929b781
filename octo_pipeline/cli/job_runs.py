"""Runs the monthly job for one month in this process, without Dagster's own output.

Here belongs what a process does that runs months; how several are shared out and shown is `progress`'s matter.
"""

import atexit
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from octo_pipeline.model.errors import OctoError

if TYPE_CHECKING:
    import dagster as dg


@dataclass(frozen=True)
class MonthRun:
    """What happened to a month.

    Attributes:
        lines: what the steps said, ``<table> <month>: <outcome>`` each.
        failures: a sentence for each step that failed.
        warnings: what a source could not deliver while the month was made from what is landed.
    """

    month: str
    lines: tuple[str, ...]
    failures: tuple[str, ...]
    warnings: tuple[str, ...]


def run_month(
    month: str,
    config: dict[str, Any],
    phase: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> MonthRun:
    """Run the job for a month.

    Args:
        month: a partition.
        config: Dagster run config of the job.
        phase: 1 for what reads no other months, 2 for the rest, None for all.
        say: called with each step's line as it comes.
    """
    job, selection = _job(), _selection(phase)
    if phase == 2:
        config = {}
    # The events are in Dagster's storage; printed they would bury the progress.
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with _lines(say) as lines:
        result = job.execute_in_process(
            instance=_instance(os.environ.get("DAGSTER_HOME")),
            run_config=config | quiet,
            partition_key=month,
            raise_on_error=False,
            asset_selection=selection,
        )
    return MonthRun(month, tuple(lines), tuple(_failures(result, month)), tuple(_warnings(result)))


@cache
def _job() -> "dg.JobDefinition":
    from octo_pipeline.definitions import defs

    return defs.resolve_job_def("monthly_allocation")


@cache
def _selection(phase: int | None) -> "list[dg.AssetKey] | None":
    if phase is None:
        return None
    import dagster as dg

    from octo_pipeline.definitions import defs

    graph = defs.resolve_asset_graph()
    first = dg.AssetSelection.groups("raw", "normalisation", "configuration") | dg.AssetSelection.assets(
        "matched_items"
    )
    selected = first if phase == 1 else dg.AssetSelection.all() - first
    return sorted(selected.resolve(graph), key=lambda key: key.to_user_string())


@cache
def _instance(home: str | None) -> "dg.DagsterInstance":
    """The process's own: making one takes as long as a small table of a month."""
    import dagster as dg

    instance = dg.DagsterInstance.get() if home else dg.DagsterInstance.ephemeral()
    atexit.register(instance.dispose)
    return instance


@contextmanager
def _lines(say: Callable[[str], None]) -> Iterator[list[str]]:
    """Collect what the assets say in this process."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())
            say(lines[-1])

    log, handler = logging.getLogger("octo_pipeline"), Collector(logging.INFO)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        log.removeHandler(handler)


def _failures(result: "dg.ExecuteInProcessResult", month: str) -> list[str]:
    """What failed, a sentence a step; empty if the run succeeded."""
    if result.success:
        return []
    found = []
    for event in result.all_events:
        if event.is_step_failure:
            failure = event.step_failure_data
            described = failure.user_failure_data.description if failure.user_failure_data else None
            error = failure.error
            while error is not None and error.cause is not None:
                error = error.cause
            reason = error.message.strip() if error else "no reason given"
            found.append(described or f"{month}: the step {event.step_key} failed: {reason}")
    return found or [f"{month}: the run failed before its first step; `octo --debug run …` shows why."]


def _warnings(result: "dg.ExecuteInProcessResult") -> list[str]:
    from octo_pipeline.assets.raw import EVERY_SOURCE_ANSWERED

    found = [
        one.description
        for one in result.get_asset_check_evaluations()
        if one.check_name == EVERY_SOURCE_ANSWERED and not one.passed
    ]
    return [text for text in found if text]


def require_partitions(months: Sequence[str]) -> None:
    """Refuse months that are no partition, before anything is loaded that needs the dbt manifest.

    Raises:
        OctoError: it names the first such month and the setting; or the manifest cannot be built.
    """
    from octo_pipeline.assets.partitions import monthly
    from octo_pipeline.tables.dbt import dbt_project

    # Without it the definitions do not load, and would say so in Dagster's words.
    _ = dbt_project().manifest_folder
    keys = monthly.get_partition_keys()
    outside = [month for month in months if month not in keys]
    if outside:
        raise OctoError(
            f"{outside[0]} is outside the partitions {keys[0]} … {keys[-1]}. OCTO_START_MONTH sets the first one."
        )
