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
    """Run the monthly job for each month; a month that fails stops no other.

    Args:
        months: the months, in the order in which they are run.
        config: Dagster run config of the job.

    Raises:
        OctoError: a month is no partition, or months failed; the sentences are the steps' own.
    """
    console = Console(stderr=True)
    with console.status("Loading Dagster"):
        import dagster as dg

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
    job = defs.resolve_job_def("monthly_allocation")
    # The events are in Dagster's storage; printed here they would bury the progress.
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    failures = []
    log = logging.getLogger("octo_pipeline")
    with instance_of_home() as instance, Progress(*columns, console=console, transient=True) as progress:
        lines = _Lines(progress, len(months) * _MONTHLY_STEPS)
        log.addHandler(lines)
        log.setLevel(logging.INFO)
        try:
            for month in months:
                result = job.execute_in_process(
                    instance=instance, run_config=config | quiet, partition_key=month, raise_on_error=False
                )
                failures += _failures(result, month)
        finally:
            log.removeHandler(lines)
    console.print(lines.sentence())
    if failures:
        raise OctoError(" ".join(failures))


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
