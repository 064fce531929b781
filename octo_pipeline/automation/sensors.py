"""The sensors: new deliveries of a vendor, and months that are to be made again.

A sensor only looks and asks for runs; what a run does is the jobs' matter.
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
# Sources wait for the network, not for the processor; Dagster ends a look that takes minutes.
_SIDE_BY_SIDE = 8
_FIRST_WAIT = timedelta(minutes=10)
_LONGEST_WAIT = timedelta(hours=6)


@dataclass(frozen=True)
class _Wait:
    """A source that was down: how often in a row, and until when it is left alone."""

    failures: int
    until: str

    def is_over(self, now: datetime) -> bool:
        return datetime.fromisoformat(self.until) <= now


def _wait(before: _Wait | None, now: datetime) -> _Wait:
    """Twice as long each time, with jitter, so that sources that fell together do not come back together."""
    failures = before.failures + 1 if before else 1
    pause = min(_FIRST_WAIT * 2 ** min(failures - 1, 10), _LONGEST_WAIT) * random.uniform(0.75, 1)  # noqa: S311
    return _Wait(failures, (now + pause).isoformat())


def look_for_deliveries(
    workspace: Workspace, vendor: str, now: datetime, cursor: str | None
) -> tuple[list[Available], list[str], str]:
    """Ask the vendor's sources what is new in the watched months.

    Args:
        workspace: whose sources and lake.
        vendor: the vendor's name.
        now: with a time zone.
        cursor: what the look before returned; None at the first.

    Returns:
        The versions that are not landed, a sentence for each source that is down, and the next cursor. A
        source that is down is left alone for a while; the others are asked all the same.
    """
    waits = {name: _Wait(**wait) for name, wait in json.loads(cursor or "{}").items()}
    asked = [one for one in sources(workspace, vendor) if one.name not in waits or waits[one.name].is_over(now)]
    months = watched_months(now)

    def ask(source: Source) -> list[Available] | OctoError:
        try:
            return new_versions(workspace, source, months)
        except OctoError as error:
            return error

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        answers = dict(zip([one.name for one in asked], pool.map(ask, asked), strict=True))
    down = {name: answer for name, answer in answers.items() if isinstance(answer, OctoError)}
    still = {name: wait for name, wait in waits.items() if not wait.is_over(now)}
    still |= {name: _wait(waits.get(name), now) for name in down}
    found = [one for answer in answers.values() if not isinstance(answer, OctoError) for one in answer]
    sentences = [f"{name}: {error} It is asked again after {still[name].until}." for name, error in down.items()]
    return found, sentences, json.dumps({name: asdict(wait) for name, wait in still.items()})


def _deliveries_sensor(vendor: Vendor) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{vendor.name}_deliveries",
        job=monthly_allocation,
        minimum_interval_seconds=vendor.look_seconds,
        description=f"New versions of {vendor.deliveries} in the watched months. Asks for a run of the month, once for each account, "
        "month and version; a source that is down is logged and left alone for a while.",
    )
    def deliveries(
        context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]
    ) -> dg.SensorResult | dg.SkipReason:
        found, down, cursor = look_for_deliveries(workspace, vendor.name, datetime.now(UTC), context.cursor)
        for sentence in down:
            context.log.warning(sentence)
        context.update_cursor(cursor)
        if not found:
            return dg.SkipReason("\n".join(down) or "Every version is landed.")
        return dg.SensorResult(run_requests=[_request(one) for one in found])

    return deliveries


def _request(found: Available) -> dg.RunRequest:
    return dg.RunRequest(
        run_key="/".join((found.vendor, found.account or "", found.month, found.report, found.version)),
        partition_key=found.month,
        tags={"octo/account": found.account or "unknown", "octo/report": found.report, "octo/version": found.version},
    )


deliveries_sensors = {name: _deliveries_sensor(vendor) for name, vendor in VENDORS.items()}


@dg.sensor(
    minimum_interval_seconds=_RESTATE_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Shows stale months on the assets themselves, as the check no_month_is_stale. Looks at fingerprints "
    "only; asks for no run.",
)
def stale_months(context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]) -> dg.SensorResult:
    """Report the check of each table whenever its stale months change."""
    by_table: dict[str, list[StalePartition]] = {table.name: [] for table in TABLES}
    for one in stale(workspace, TABLES):
        by_table[one.table].append(one)
    before = json.loads(context.cursor or "{}")
    now = {table: fingerprint({one.month: one.fingerprint for one in found}) for table, found in by_table.items()}
    changed = [table for table in by_table if before.get(table) != now[table]]
    return dg.SensorResult(
        asset_events=[stale_evaluation(table, by_table[table]) for table in changed], cursor=json.dumps(now)
    )


@dg.sensor(
    job=restatement,
    minimum_interval_seconds=_RESTATE_SECONDS,
    description="Months whose inputs changed since they were made: by a late delivery of an earlier month, a decision, "
    "a rule, a rate. Asks for exactly those months, once for each change; see `octo stale`.",
)
def restated_months(
    context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]
) -> dg.SensorResult | dg.SkipReason:
    """Request one run for each unbroken range of stale months."""
    if problems := workspace.configuration.problems:
        # A rule with an error is left out: rebuilding past months without it would undo what it allocated.
        return dg.SkipReason(f"Mend the configuration first: {problems[0]}")
    found = stale(workspace, TABLES)
    if not found:
        return dg.SkipReason("Every partition is current.")
    return dg.SensorResult(run_requests=[_restatement(partitions) for partitions in _ranges(found)])


def _ranges(found: list[StalePartition]) -> Iterator[list[StalePartition]]:
    """The stale partitions by unbroken ranges of months."""
    by_month = sorted(found, key=lambda one: (one.month, one.table))
    block: list[StalePartition] = []
    for one in by_month:
        if block and one.month > add_months(block[-1].month, 1):
            yield block
            block = []
        block.append(one)
    yield block


def _restatement(partitions: list[StalePartition]) -> dg.RunRequest:
    first, last = partitions[0].month, partitions[-1].month
    wanted = fingerprint({f"{one.table}/{one.month}": one.fingerprint for one in partitions})
    return dg.RunRequest(
        run_key=f"{first}/{last}/{wanted}",
        tags=month_range_tags(first, last),
    )
