"""Runs the job in this process and shows a line a step and month as it goes."""

import logging
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from octo_pipeline.errors import OctoError

if TYPE_CHECKING:
    import dagster as dg

# raw_cur, azure_usage, bigquery_export, cost_line_items, matched_items, resolved_accounts, usage_shares,
# allocations, account_costs, cost_group_costs
_MONTHLY_STEPS = 10


class _Lines(logging.Handler):
    """Turns what the assets say into progress."""

    def __init__(self, progress: Progress, total: int) -> None:
        super().__init__(logging.INFO)
        self._progress = progress
        self._task = progress.add_task("starting", total=total)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self._progress.update(self._task, advance=1, description=record.getMessage())

    def sentence(self) -> str:
        """What was written and what was not."""
        outcomes = Counter(line.rsplit(": ", 1)[1] for line in self.lines)
        if not outcomes["published"]:
            return "Nothing changed since the last run, so nothing was written."
        return f"{outcomes['published']} partitions published, {outcomes['unchanged']} unchanged."


def run_with_progress(months: list[str], config: dict[str, Any]) -> None:
    """Run the monthly job for a range of months.

    Args:
        months: consecutive months.
        config: Dagster run config of the job.

    Raises:
        OctoError: a month is no partition, or a step failed; the sentence is the step's own.
    """
    console = Console(stderr=True)
    with console.status("Loading Dagster"):
        import dagster as dg
        from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

        from octo_pipeline.definitions import defs
        from octo_pipeline.partitions import monthly

    keys = monthly.get_partition_keys()
    outside = [m for m in months if m not in keys]
    if outside:
        raise OctoError(
            f"{outside[0]} is outside the partitions {keys[0]} … {keys[-1]}. OCTO_START_MONTH sets the first one."
        )
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    instance_of_home = dg.DagsterInstance.get if os.environ.get("DAGSTER_HOME") else dg.DagsterInstance.ephemeral
    log = logging.getLogger("octo_pipeline")
    with instance_of_home() as instance, Progress(*columns, console=console, transient=True) as progress:
        lines = _Lines(progress, len(months) * _MONTHLY_STEPS)
        log.addHandler(lines)
        log.setLevel(logging.INFO)
        try:
            result = defs.resolve_job_def("monthly_allocation").execute_in_process(
                instance=instance,
                # The events are in Dagster's storage; printed here they would bury the progress.
                run_config=config | {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                tags={ASSET_PARTITION_RANGE_START_TAG: months[0], ASSET_PARTITION_RANGE_END_TAG: months[-1]},
                raise_on_error=False,
            )
        finally:
            log.removeHandler(lines)
    _raise_failure(result)
    console.print(lines.sentence())


def _raise_failure(result: "dg.ExecuteInProcessResult") -> None:
    for event in result.all_events:
        if not event.is_step_failure:
            continue
        failure = event.step_failure_data
        if failure.user_failure_data is not None and failure.user_failure_data.description:
            raise OctoError(failure.user_failure_data.description)
        error = failure.error
        while error is not None and error.cause is not None:
            error = error.cause
        raise OctoError(f"The step {event.step_key} failed: {error.message.strip() if error else 'no reason given'}")
    if not result.success:
        raise OctoError("The run failed before its first step; `octo --debug run …` shows why.")
