"""Runs months one by one or in several processes, and shows a line a step and month as it goes."""

import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from octo_pipeline.cli.job_runs import MonthRun, require_partitions, run_month
from octo_pipeline.model.errors import OctoError

# raw_cur, azure_usage, bigquery_export, cost_line_items, matched_items, resolved_accounts, usage_shares,
# allocations, account_costs, cost_group_costs
_MONTHLY_STEPS = 10


def run_with_progress(months: Sequence[str], config: dict[str, Any], workers: int = 1) -> list[MonthRun]:
    """Run the monthly job for each month; a month that fails stops no other.

    With several workers everything up to the matched items is made first, since what is booked in a month
    reads the matched items of the months before it.

    Args:
        months: the months, in the order in which they are run.
        config: Dagster run config of the job.
        workers: how many processes.

    Returns:
        What happened, one or two runs a month.

    Raises:
        OctoError: a month is no partition, the settings do not say where decisions are kept, or months failed; the
            sentences are the steps' own.
    """
    from octo_pipeline.settings import load_settings

    # Asked for here, a registry that nobody said the place of is one sentence before the first month, not one a month.
    _ = load_settings().registry_url
    console = Console(stderr=True)
    with console.status("Loading Dagster"):
        require_partitions(months)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    runs: list[MonthRun] = []
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=len(months) * _MONTHLY_STEPS)
        if workers == 1:
            runs += _one_by_one(months, config, progress, task)
        else:
            for run in _side_by_side(months, config, workers):
                runs.append(run)
                progress.update(task, advance=len(run.lines), description=_shown(run))
    for warning in dict.fromkeys(text for run in runs for text in run.warnings):
        console.print(f"[yellow]{warning}[/]", highlight=False, soft_wrap=True)
    console.print(_sentence(runs))
    if failures := [sentence for run in runs for sentence in run.failures]:
        raise OctoError(" ".join(failures))
    if unanswered := [run.month for run in runs if run.warnings]:
        raise OctoError(
            f"{', '.join(dict.fromkeys(unanswered))} was made from what is landed: a source could not deliver, see above."
        )
    return runs


def _one_by_one(months: Iterable[str], config: dict[str, Any], progress: Progress, task: Any) -> Iterator[MonthRun]:
    for month in months:
        yield run_month(month, config, say=lambda line: progress.update(task, advance=1, description=line))


def _side_by_side(months: Sequence[str], config: dict[str, Any], workers: int) -> Iterator[MonthRun]:
    # Threads and locks of this process must not be copied into the workers.
    spawn = multiprocessing.get_context("spawn")
    failed: set[str] = set()
    with ProcessPoolExecutor(min(workers, len(months)), mp_context=spawn) as pool:
        for phase in (1, 2):
            futures = {pool.submit(run_month, month, config, phase): month for month in months if month not in failed}
            for future in as_completed(futures):
                try:
                    run = future.result()
                except BrokenProcessPool as error:
                    raise OctoError(
                        f"A worker process died (killed, or out of memory) while {futures[future]} was made. What was "
                        "published stays; run this again, it goes on where it stopped. Fewer --workers need less memory."
                    ) from error
                if run.failures:
                    failed.add(run.month)
                yield run


def _shown(run: MonthRun) -> str:
    return run.failures[0] if run.failures else (run.lines[-1] if run.lines else run.month)


def _sentence(runs: Iterable[MonthRun]) -> str:
    """What was written and what was not."""
    outcomes = Counter(line.rsplit(": ", 1)[1] for run in runs for line in run.lines)
    if not outcomes["published"]:
        return "Nothing changed since the last run, so nothing was written."
    return f"{outcomes['published']} partitions published, {outcomes['unchanged']} unchanged."
