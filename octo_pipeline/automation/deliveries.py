"""The sensor that looks for new deliveries of all vendors, and asks for one run of each month that has some."""

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from octo_pipeline.assets.failures import in_dagster
from octo_pipeline.automation.alerts import post
from octo_pipeline.automation.jobs import monthly_allocation
from octo_pipeline.automation.patience import Wait, next_wait
from octo_pipeline.automation.unfinished import unfinished_run
from octo_pipeline.automation.watched import watched_months
from octo_pipeline.lake.lake import fingerprint
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import counted
from octo_pipeline.services.landing import new_versions
from octo_pipeline.services.sources import sources
from octo_pipeline.vendors.catalog import VENDORS
from octo_pipeline.vendors.source import Available, Source
from octo_pipeline.workspace import Workspace

# Asking a source means waiting for the network, and Dagster stops a sensor that takes minutes.
_SOURCES_AT_ONCE = 8
_LONGEST_WAIT_FOR_A_SOURCE = timedelta(hours=6)
# Asking again for what could not be landed reminds people of it, so not more than once a day.
_LONGEST_WAIT_FOR_A_RUN = timedelta(days=1)


@dataclass(frozen=True)
class Asked:
    """A run that was asked for: for which deliveries, and from when on it is asked for again."""

    deliveries: str
    wait: Wait


@dataclass
class Looked:
    """What the sensor remembers from tick to tick, as JSON in its cursor.

    Attributes:
        at: vendor -> when its sources were asked last (ISO 8601).
        down: source -> when it is asked again.
        asked: month -> the run that was asked for and has not landed its deliveries yet.
    """

    at: dict[str, str] = field(default_factory=dict)
    down: dict[str, Wait] = field(default_factory=dict)
    asked: dict[str, Asked] = field(default_factory=dict)

    @classmethod
    def from_cursor(cls, cursor: str | None) -> "Looked":
        """What a cursor holds; nothing if it is of an earlier version."""
        values: dict[str, Any] = json.loads(cursor or "{}")
        if not values.keys() <= cls.__dataclass_fields__.keys():
            return cls()
        return cls(
            values.get("at", {}),
            {name: Wait(**wait) for name, wait in values.get("down", {}).items()},
            {
                month: Asked(asked["deliveries"], Wait(**asked["wait"]))
                for month, asked in values.get("asked", {}).items()
            },
        )

    def to_cursor(self) -> str:
        """The text that `from_cursor` reads."""
        return json.dumps(asdict(self))

    def vendors_to_ask(self, now: datetime) -> list[str]:
        """The vendors whose last look is long enough ago; ticks are never exactly on time."""
        return [
            name
            for name, vendor in VENDORS.items()
            if name not in self.at
            or now - datetime.fromisoformat(self.at[name]) >= timedelta(seconds=0.9 * vendor.look_seconds)
        ]


def look_for_deliveries(
    workspace: Workspace, vendors: Iterable[str], now: datetime, looked: Looked
) -> tuple[list[Available], dict[str, str]]:
    """Ask the vendors' sources what is new in the watched months.

    Args:
        workspace: has the sources and the lake.
        vendors: whose sources.
        now: with a time zone.
        looked: is brought up to date. A source that is down is not asked again for a while.

    Returns:
        The versions that are not landed, and a sentence for each source that is down, by the source's name.
    """
    offering = [source for vendor in vendors for source in sources(workspace, vendor)]
    waiting = {name for name, wait in looked.down.items() if not wait.is_over(now)}
    asked = [source for source in offering if source.name not in waiting]
    months = watched_months(now)

    def ask(source: Source) -> list[Available] | OctoError:
        try:
            return new_versions(workspace, source, months)
        except OctoError as error:
            return error

    with ThreadPoolExecutor(_SOURCES_AT_ONCE) as pool:
        answers = dict(zip([source.name for source in asked], pool.map(ask, asked), strict=True))
    deliveries: list[Available] = []
    sentences = {}
    for name, answer in answers.items():
        before = looked.down.pop(name, None)
        if isinstance(answer, OctoError):
            wait = looked.down[name] = next_wait(before, now, _LONGEST_WAIT_FOR_A_SOURCE)
            sentences[name] = f"{name}: {in_dagster(answer)} It is asked again after {wait.until}."
        else:
            deliveries += answer
    looked.at |= {vendor: now.isoformat() for vendor in vendors}
    return deliveries, sentences


@dg.sensor(
    job=monthly_allocation,
    minimum_interval_seconds=min(vendor.look_seconds for vendor in VENDORS.values()),
    description="Looks for new versions of all vendors' exports in the watched months. Requests one run of each month that "
    "has some. If they are not landed and the run has ended, the run is asked for again. A source that is down is logged "
    "and not asked again for a while; that it is down is posted once to OCTO_ALERT_WEBHOOK, if that is set.",
)
def deliveries(
    context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]
) -> dg.SensorResult | dg.SkipReason:
    """Request a run of each month with deliveries that are not landed."""
    now = datetime.now(UTC)
    looked = Looked.from_cursor(context.cursor)
    before = set(looked.down)
    available, down = look_for_deliveries(workspace, looked.vendors_to_ask(now), now, looked)
    for sentence in down.values():
        context.log.warning(sentence)
    if new := [sentence for name, sentence in down.items() if name not in before]:
        try:
            post(f"{counted(len(new), 'source')} down", new)
        except OctoError as error:
            # Deliveries of other sources are not kept waiting for the webhook.
            context.log.warning(str(error))
    requests: list[dg.RunRequest] = []
    reasons: list[str] = []
    for month, of_month in _by_month(available):
        request = _request(context.instance, month, of_month, now, looked)
        if isinstance(request, str):
            reasons.append(request)
            context.log.info(request)
        else:
            requests.append(request)
    context.update_cursor(looked.to_cursor())
    if requests:
        return dg.SensorResult(run_requests=requests)
    return dg.SkipReason("\n".join([*down.values(), *reasons]) or "Every version is landed.")


def _by_month(available: Iterable[Available]) -> Iterator[tuple[str, list[Available]]]:
    months: dict[str, list[Available]] = {}
    for delivery in available:
        months.setdefault(delivery.month, []).append(delivery)
    yield from sorted(months.items())


def _request(
    instance: dg.DagsterInstance, month: str, available: list[Available], now: datetime, looked: Looked
) -> dg.RunRequest | str:
    """The run of a month, or why none is asked for."""
    versions = {f"{d.vendor}/{d.account or ''}/{d.report}": d.version for d in available}
    digest = fingerprint(versions)
    if run := unfinished_run(instance, month=month):
        return f"{month}: run {run.run_id[:8]} of {run.job_name} has not ended."
    before = looked.asked.get(month)
    if before and before.deliveries != digest:
        before = None
    if before and not before.wait.is_over(now):
        return f"{month}: a run was asked for and has not landed {', '.join(versions)}. It is asked for again after {before.wait.until}."
    wait = next_wait(before.wait if before else None, now, _LONGEST_WAIT_FOR_A_RUN)
    looked.asked[month] = Asked(digest, wait)
    return dg.RunRequest(
        # Dagster drops a key that it has seen, and a version that was taken back may be offered again.
        run_key=f"{month}/{digest}/{now.isoformat()}",
        partition_key=month,
        tags={"octo/deliveries": ", ".join(sorted({delivery.vendor for delivery in available}))},
    )
