"""Which runs are queued or at work, so that no sensor asks for the same work again."""

from collections.abc import Iterable

import dagster as dg

from octo_pipeline.assets.dagster_compat import is_of_a_command, run_months

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def unfinished_run(
    instance: dg.DagsterInstance, jobs: Iterable[str] | None = None, month: str | None = None
) -> dg.DagsterRun | None:
    """A run that has not ended.

    Args:
        instance: whose runs.
        jobs: the names of the jobs that count; all if not given.
        month: count only runs that name it, alone or within a range.
    """
    names = None if jobs is None else set(jobs)
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED)):
        # A command may have been killed, and nothing would end its run. The lake bears it if both make a month.
        if is_of_a_command(run) or (names is not None and run.job_name not in names):
            continue
        months = run_months(run.tags)
        if month is None or (months and months[0] <= month <= months[1]):
            return run
    return None
