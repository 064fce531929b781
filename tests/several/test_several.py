"""What deploy/ describes, run: a month by the daemon, five months two at a time, each process killed once in the middle.

It takes some minutes. What cannot be run here, such as containers and Kubernetes, is named in docs/several-people.md.
"""

import json
import os
import signal
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from octo_pipeline.model.months import add_months, month_range
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.vendors.aws.sample import write_cur
from tests.support.installation import Installation, installation, run_processes, wait_until

pytestmark = pytest.mark.several
LAST = add_months(datetime.now(UTC).strftime("%Y-%m"), -1)
FIVE = month_range(add_months(LAST, -5), add_months(LAST, -1))
ALLOCATOR = {
    "startMonth": FIVE[0],
    "criteria": [{"and": {"productCode": "AWSSupportEnterprise"}}],
    "allocator": [{"type": "payer", "value": "999988887777", "formula": "cost*usage"}],
}
REPOSITORY = {"repositoryLocationName": "octo_pipeline", "repositoryName": "__repository__"}
START = """
mutation Start($selector: SensorSelector!) {
  startSensor(sensorSelector: $selector) { __typename ... on Sensor { sensorState { id } } ... on PythonError { message } }
}
"""
RUNS = """
{ runsOrError(limit: 200) { ... on Runs { results { runId status tags { key value } } } } }
"""
BACKFILL = """
mutation Backfill($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) { __typename ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message } }
}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("several")
    (folder / "config" / "allocators").mkdir(parents=True)
    (folder / "config" / "cost_groups").mkdir()
    (folder / "config" / "allocators" / "support.json").write_text(json.dumps(ALLOCATOR))
    exports = folder / "exports"
    exports.mkdir()
    settings = {"OCTO_AWS_EXPORTS": str(exports), "OCTO_START_MONTH": FIVE[0], "OCTO_WATCHED_MONTHS": "12"}
    with installation(folder, **settings) as running:
        yield running


def deliver(installed: Installation, months: list[str]) -> None:
    write_cur(Path(installed.settings["OCTO_AWS_EXPORTS"]), months=months, accounts=3, lines=400)


def runs(installed: Installation) -> list[dict[str, Any]]:
    results = installed.ask(RUNS)["runsOrError"]["results"]
    return [
        {"id": run["runId"], "status": run["status"], "tags": {tag["key"]: tag["value"] for tag in run["tags"]}}
        for run in results
    ]


def statuses(installed: Installation, month: str) -> list[str]:
    return [run["status"] for run in runs(installed) if run["tags"].get("dagster/partition") == month]


def say(sentence: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {sentence}", flush=True)


def test_every_month_is_made_once_whatever_is_killed(installed: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    installed.settings["OCTO_TOKEN"] = installed.octo("registry", "init", "--admin", "ana").splitlines()[-1].strip()
    deliver(installed, [LAST])
    say(installed.octo("doctor"))
    for name in ("deliveries", "restated_months"):
        installed.ask(START, selector={**REPOSITORY, "sensorName": name})
    wait_until(lambda: "SUCCESS" in statuses(installed, LAST), "the month of the daemon")
    say(f"{LAST} was made by the daemon: {statuses(installed, LAST)}")

    deliver(installed, FIVE)
    params = {
        "selector": {
            "partitionSetName": "monthly_allocation_partition_set",
            "repositorySelector": REPOSITORY,
        },
        "partitionNames": FIVE,
    }
    say(str(installed.ask(BACKFILL, params=params)))
    most = Watch(installed)
    most.start()
    for name in ("webserver", "run", "daemon", "postgres", "code", "api"):
        wait_until(lambda: bool(run_processes(installed.processes["code"])), "a run to be at work")
        say(f"killing {name}; {[(run['tags'].get('dagster/partition'), run['status']) for run in runs(installed)]}")
        if name == "run":
            os.kill(run_processes(installed.processes["code"])[0], signal.SIGKILL)
        else:
            installed.processes[name].kill()
            installed.processes[name].start()
        time.sleep(5)
    installed.processes["store"].pause(10)

    def is_made(month: str) -> bool:
        of_month = statuses(installed, month)
        return "SUCCESS" in of_month and not set(of_month) & {"QUEUED", "NOT_STARTED", "STARTING", "STARTED"}

    for month in FIVE:
        wait_until(lambda month=month: is_made(month), f"{month} to be made")  # type: ignore[misc]
        say(f"{month}: {statuses(installed, month)}")
    most.stop()
    say(f"at most {most.most} runs at once")
    assert most.most == 2

    months = [*FIVE, LAST]
    assert installed.octo("stale").startswith("Every partition is current")
    request = urllib.request.Request(
        f"{installed.api}/api/v1/months", headers={"Authorization": f"Bearer {installed.settings['OCTO_TOKEN']}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert {row["month"] for row in json.load(answer)["items"]} == set(months)
    for name in ("DAGSTER_HOME", "DAGSTER_POSTGRES_URL"):
        monkeypatch.setenv(name, installed.settings[name])
    published: Counter[tuple[str, str]] = Counter()
    with dg.DagsterInstance.get() as instance:
        for table in TABLES:
            records = instance.fetch_materializations(dg.AssetKey(table.name), limit=500).records
            for record in records:
                event = record.asset_materialization
                assert event is not None
                if event.metadata["outcome"].value == "published":
                    published[table.name, str(event.partition)] += 1
    assert {key: count for key, count in published.items() if count > 1} == {}


class Watch(threading.Thread):
    """Counts how many runs are at work at once."""

    def __init__(self, installed: Installation) -> None:
        super().__init__(daemon=True)
        self._installed, self._ended, self.most = installed, threading.Event(), 0

    def run(self) -> None:
        while not self._ended.wait(1):
            at_work = [run for run in runs(self._installed) if run["status"] in ("STARTING", "STARTED")]
            self.most = max(self.most, len(at_work))

    def stop(self) -> None:
        self._ended.set()
        self.join()
