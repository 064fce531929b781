"""The sensors: one per vendor for new deliveries, and two for months whose inputs changed.

A sensor only looks and requests runs; what a run does belongs in the jobs.
"""

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from octo_pipeline.assets.checks import stale_evaluation
from octo_pipeline.assets.dagster_compat import month_range_tags
from octo_pipeline.assets.failures import in_dagster
from octo_pipeline.automation.jobs import monthly_allocation, restatement
from octo_pipeline.automation.watched import watched_months
from octo_pipeline.lake.lake import fingerprint
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import add_months
from octo_pipeline.services.landing import new_versions
from octo_pipeline.services.sources import sources
from octo_pipeline.tables.graph import TABLES, StalePartition, stale
from octo_pipeline.vendors.catalog import VENDORS
from octo_pipeline.vendors.source import Available, Source
from octo_pipeline.vendors.vendor import Vendor
from octo_pipeline.workspace import Workspace

_RESTATE_SECONDS = 60
# Asking a source means waiting for the network, and Dagster stops a sensor that takes minutes.
_SOURCES_AT_ONCE = 8
_FIRST_WAIT = timedelta(minutes=10)
_LONGEST_WAIT = timedelta(hours=6)


@dataclass(frozen=True)
class _Wait:
    """A source that is down: how many times in a row it failed, and when it is asked again."""

    failures: int
    until: str

    def is_over(self, now: datetime) -> bool:
        return datetime.fromisoformat(self.until) <= now


def _next_wait(before: _Wait | None, now: datetime) -> _Wait:
    """Twice as long each time, with jitter, so that sources that failed together are not asked together again."""
    failures = before.failures + 1 if before else 1
    pause = min(_FIRST_WAIT * 2 ** min(failures - 1, 10), _LONGEST_WAIT) * random.uniform(0.75, 1)  # noqa: S311
    return _Wait(failures, (now + pause).isoformat())


def look_for_deliveries(
    workspace: Workspace, vendor: str, now: datetime, cursor: str | None
) -> tuple[list[Available], list[str], str]:
    """Ask the vendor's sources what is new in the watched months.

    Args:
        workspace: has the sources and the lake.
        vendor: the vendor's name.
        now: with a time zone.
        cursor: the cursor that the previous call returned; None for the first call.

    Returns:
        The versions that are not landed, a sentence for each source that is down, and the next cursor. A source
        that is down is not asked again for a while; the others are asked as usual.
    """
    waits = {name: _Wait(**wait) for name, wait in json.loads(cursor or "{}").items()}
    waiting = {name: wait for name, wait in waits.items() if not wait.is_over(now)}
    asked = [source for source in sources(workspace, vendor) if source.name not in waiting]
    months = watched_months(now)

    def ask(source: Source) -> list[Available] | OctoError:
        try:
            return new_versions(workspace, source, months)
        except OctoError as error:
            return error

    with ThreadPoolExecutor(_SOURCES_AT_ONCE) as pool:
        answers = dict(zip([source.name for source in asked], pool.map(ask, asked), strict=True))
    down = {name: answer for name, answer in answers.items() if isinstance(answer, OctoError)}
    waiting |= {name: _next_wait(waits.get(name), now) for name in down}
    deliveries = [delivery for answer in answers.values() if not isinstance(answer, OctoError) for delivery in answer]
    sentences = [
        f"{name}: {in_dagster(error)} It is asked again after {waiting[name].until}." for name, error in down.items()
    ]
    return deliveries, sentences, json.dumps({name: asdict(wait) for name, wait in waiting.items()})


def _deliveries_sensor(vendor: Vendor) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{vendor.name}_deliveries",
        job=monthly_allocation,
        minimum_interval_seconds=vendor.look_seconds,
        description=f"Looks for new versions of {vendor.deliveries} in the watched months. Requests one run of the month "
        "per account, month and version. A source that is down is logged and not asked again for a while.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]
    ) -> dg.SensorResult | dg.SkipReason:
        deliveries, down, cursor = look_for_deliveries(workspace, vendor.name, datetime.now(UTC), context.cursor)
        for sentence in down:
            context.log.warning(sentence)
        context.update_cursor(cursor)
        if not deliveries:
            return dg.SkipReason("\n".join(down) or "Every version is landed.")
        return dg.SensorResult(run_requests=[_delivery_request(delivery) for delivery in deliveries])

    return sensor


def _delivery_request(delivery: Available) -> dg.RunRequest:
    account, report, version = delivery.account, delivery.report, delivery.version
    return dg.RunRequest(
        run_key="/".join((delivery.vendor, account or "", delivery.month, report, version)),
        partition_key=delivery.month,
        tags={"octo/account": account or "unknown", "octo/report": report, "octo/version": version},
    )


deliveries_sensors = {name: _deliveries_sensor(vendor) for name, vendor in VENDORS.items()}


@dg.sensor(
    minimum_interval_seconds=_RESTATE_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Shows stale months on the assets themselves, as the check no_month_is_stale. It compares fingerprints "
    "only and requests no runs.",
)
def stale_months(context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]) -> dg.SensorResult:
    """Report the check of each table whenever its stale months change."""
    by_table: dict[str, list[StalePartition]] = {table.name: [] for table in TABLES}
    for partition in stale(workspace, TABLES):
        by_table[partition.table].append(partition)
    reported = json.loads(context.cursor or "{}")
    current = {
        table: fingerprint({partition.month: partition.fingerprint for partition in partitions})
        for table, partitions in by_table.items()
    }
    changed = [table for table in by_table if reported.get(table) != current[table]]
    return dg.SensorResult(
        asset_events=[stale_evaluation(table, by_table[table]) for table in changed], cursor=json.dumps(current)
    )


@dg.sensor(
    job=restatement,
    minimum_interval_seconds=_RESTATE_SECONDS,
    description="Looks for months whose inputs changed after they were made: a late delivery of an earlier month, a "
    "decision, a rule or a rate. Requests exactly those months, once per change; see `octo stale`.",
)
def restated_months(
    context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]
) -> dg.SensorResult | dg.SkipReason:
    """Request one run for each unbroken range of stale months."""
    if problems := workspace.configuration.problems:
        # A rule with an error is left out, so making past months again would undo what the rule allocated.
        return dg.SkipReason(f"Fix the configuration first: {problems[0]}")
    partitions = stale(workspace, TABLES)
    if not partitions:
        return dg.SkipReason("Every partition is current.")
    return dg.SensorResult(run_requests=[_restatement_request(unbroken) for unbroken in _unbroken_ranges(partitions)])


def _unbroken_ranges(partitions: list[StalePartition]) -> Iterator[list[StalePartition]]:
    """Group the stale partitions into ranges of months without a gap."""
    unbroken: list[StalePartition] = []
    for partition in sorted(partitions, key=lambda partition: (partition.month, partition.table)):
        if unbroken and partition.month > add_months(unbroken[-1].month, 1):
            yield unbroken
            unbroken = []
        unbroken.append(partition)
    yield unbroken


def _restatement_request(partitions: list[StalePartition]) -> dg.RunRequest:
    first, last = partitions[0].month, partitions[-1].month
    change = fingerprint({f"{partition.table}/{partition.month}": partition.fingerprint for partition in partitions})
    return dg.RunRequest(run_key=f"{first}/{last}/{change}", tags=month_range_tags(first, last))
