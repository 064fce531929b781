"""The two sensors for months whose inputs changed: one shows them, the other has them made again.

A sensor only looks and requests runs; what a run does belongs in the jobs.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import dagster as dg

from octo_pipeline.assets.checks import stale_evaluation
from octo_pipeline.assets.configuration import changed_documents
from octo_pipeline.automation.jobs import monthly_allocation
from octo_pipeline.automation.operations import backfill, restatement, restatement_config
from octo_pipeline.automation.patience import Wait, next_wait
from octo_pipeline.automation.unfinished import unfinished_run
from octo_pipeline.lake.lake import fingerprint
from octo_pipeline.tables.graph import TABLES, StalePartition, stale
from octo_pipeline.workspace import Workspace

_RESTATE_SECONDS = 60
# Months that could not be made are not asked for more often than somebody would look.
_LONGEST_WAIT = timedelta(days=1)


@dg.sensor(
    minimum_interval_seconds=_RESTATE_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Shows stale months on the assets themselves, as the check no_month_is_stale, and the documents of the "
    "configuration folder as they are now. It compares fingerprints only and requests no runs.",
)
def stale_months(
    context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]
) -> dg.SensorResult | dg.SkipReason:
    """Report the check of each table whenever its stale months change, and changed documents."""
    by_table: dict[str, list[StalePartition]] = {table.name: [] for table in TABLES}
    for partition in stale(workspace, TABLES):
        by_table[partition.table].append(partition)
    reported = json.loads(context.cursor or "{}")
    current = {
        table: fingerprint({partition.month: partition.fingerprint for partition in partitions})
        for table, partitions in by_table.items()
    }
    changed = [table for table in by_table if reported.get(table) != current[table]]
    observations = changed_documents(workspace, context.instance)
    if not changed and not observations:
        return dg.SkipReason("Nothing changed since the last look.")
    evaluations = [stale_evaluation(table, by_table[table]) for table in changed]
    return dg.SensorResult(asset_events=[*observations, *evaluations], cursor=json.dumps(current))


@dg.sensor(
    job=restatement,
    minimum_interval_seconds=_RESTATE_SECONDS,
    description="Looks for months whose inputs changed after they were made, or that are landed and were never made: a late "
    "delivery of an earlier month, a decision, a rule or a rate; see `octo stale`. Requests one run for all of them, and "
    "none while a run that makes months is queued or running.",
)
def restated_months(
    context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]
) -> dg.SensorResult | dg.SkipReason:
    """Request one run for all stale months, once per change."""
    if problems := workspace.configuration.problems:
        # A rule with an error is left out, so making past months again would undo what the rule allocated.
        return dg.SkipReason(f"Fix the configuration first: {problems[0]}")
    if run := unfinished_run(context.instance, [restatement.name, backfill.name, monthly_allocation.name]):
        return dg.SkipReason(
            f"Run {run.run_id[:8]} of {run.job_name} has not ended. What is stale then is asked for after it."
        )
    partitions = {f"{partition.table}/{partition.month}": partition for partition in stale(workspace, TABLES)}
    if not partitions:
        return dg.SkipReason("Every partition is current.")
    now = datetime.now(UTC)
    asked = {name: (digest, Wait(**wait)) for name, (digest, wait) in json.loads(context.cursor or "{}").items()}
    # Of partitions that were asked for and are still stale, the run was lost or failed.
    before = {
        name: asked[name][1]
        for name, partition in partitions.items()
        if name in asked and asked[name][0] == partition.fingerprint
    }
    waiting = [wait for wait in before.values() if not wait.is_over(now)]
    if len(waiting) == len(partitions):
        return dg.SkipReason(
            f"{', '.join(_months(partitions.values()))}: a run was asked for and did not make them. "
            f"They are asked for again after {min(wait.until for wait in waiting)}."
        )
    waits = {name: next_wait(before.get(name), now, _LONGEST_WAIT) for name in partitions}
    cursor = {name: (partition.fingerprint, asdict(waits[name])) for name, partition in partitions.items()}
    cause = fingerprint({name: partition.fingerprint for name, partition in partitions.items()})
    months = _months(partitions.values())
    request = dg.RunRequest(
        # Dagster drops a key that it has seen, and a change that was taken back may come again.
        run_key=f"{cause}/{now.isoformat()}",
        run_config=restatement_config(months),
        tags={"octo/months": f"{months[0]} … {months[-1]}" if len(months) > 1 else months[0]},
    )
    return dg.SensorResult(run_requests=[request], cursor=json.dumps(cursor))


def _months(partitions: Iterable[StalePartition]) -> list[str]:
    return sorted({partition.month for partition in partitions})
