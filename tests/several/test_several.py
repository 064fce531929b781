"""What deploy/ describes, run: a month by the daemon, five months two at a time, each process killed once in the middle.

It takes some minutes. What cannot be run here, such as containers and Kubernetes, is named in docs/several-people.md.
"""

import json
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from octo_pipeline.model.months import add_months, month_range
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.vendors.aws.sample import write_cur
from tests.support.git_sync import GitSync
from tests.support.installation import Installation, Person, installation, run_processes, wait_until

pytestmark = pytest.mark.several
LAST = add_months(datetime.now(UTC).strftime("%Y-%m"), -1)
FIVE = month_range(add_months(LAST, -5), add_months(LAST, -1))


def allocator(product_code: str, start_month: str) -> str:
    return json.dumps(
        {
            "startMonth": start_month,
            "criteria": [{"and": {"productCode": product_code}}],
            "allocator": [{"type": "payer", "value": "999988887777", "formula": "cost*usage"}],
        }
    )


RULES = {"allocators/support.json": allocator("AWSSupportEnterprise", FIVE[0])}
REPOSITORY = {"repositoryLocationName": "octo_pipeline", "repositoryName": "__repository__"}
START = """
mutation Start($selector: SensorSelector!) {
  startSensor(sensorSelector: $selector) { __typename ... on Sensor { sensorState { id } } ... on PythonError { message } }
}
"""
RUNS = """
{ runsOrError(limit: 200) { ... on Runs { results { runId status tags { key value } } } } }
"""
# What nobody waits for is killed together, while the first months are made.
KILLED = [["webserver", "console", "proxy"], ["postgres"], ["run"], ["store"], ["daemon"], ["code"]]
BACKFILL = """
mutation Backfill($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) { __typename ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message } }
}
"""


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> GitSync:
    """The repository of the configuration."""
    git = GitSync(tmp_path_factory.mktemp("git"))
    git.commit(RULES)
    git.exchange()
    return git


@pytest.fixture(scope="module")
def installed(git: GitSync, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("several")
    exports = folder / "exports"
    exports.mkdir()
    settings = {
        "OCTO_AWS_EXPORTS": str(exports),
        "OCTO_START_MONTH": FIVE[0],
        "OCTO_WATCHED_MONTHS": "12",
        "OCTO_CONFIG": str(git.link),
    }
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


def kill(installed: Installation, names: list[str]) -> None:
    say(
        f"killing {', '.join(names)}; {[(run['tags'].get('dagster/partition'), run['status']) for run in runs(installed)]}"
    )
    if names == ["run"]:
        os.kill(run_processes(installed.processes["code"])[0], signal.SIGKILL)
        return
    processes = [installed.processes[name] for name in names]
    for process in processes:
        process.kill()
    if names == ["store"]:
        # Requests of the lake end in the middle, and are refused for as long as a server takes to start.
        time.sleep(5)
    for process in processes:
        process.begin()
    for process in processes:
        process.start()


def figure_on_page(person: Person, month: str, title: str) -> str:
    """A figure of the page of a month, as soon as the page is there again."""
    pages: list[str] = []

    def is_there() -> bool:
        pages.extend(page for page in [person.page(f"/?month={month}")] if page is not None)
        return bool(pages)

    wait_until(is_there, f"the page of {month}")
    (figure,) = re.findall(rf"{title} ([\d,.]+ USD)", pages[-1])
    return str(figure)


def bill_on_page(person: Person, month: str) -> str:
    return figure_on_page(person, month, "The bill")


def bill_in_lake(installed: Installation, month: str) -> str:
    query = f"SELECT sum(billed_cost) AS bill FROM cost_line_items WHERE month = '{month}'"
    (row,) = json.loads(installed.octo("sql", query, "--output", "json"))
    return f"{Decimal(row['bill']):,.2f} USD"


def test_every_month_is_made_once_whatever_is_killed(
    installed: Installation, git: GitSync, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.settings["OCTO_TOKEN"] = installed.octo("registry", "init", "--admin", "ana").splitlines()[-1].strip()
    person = Person(installed.proxy, installed.settings["OCTO_TOKEN"])
    person.sign_in()
    deliver(installed, [LAST])
    say(installed.octo("doctor"))
    for name in ("deliveries", "restated_months"):
        installed.ask(START, selector={**REPOSITORY, "sensorName": name})
    wait_until(lambda: "SUCCESS" in statuses(installed, LAST), "the month of the daemon")
    say(f"{LAST} was made by the daemon: {statuses(installed, LAST)}")
    bill = bill_on_page(person, LAST)
    assert bill == bill_in_lake(installed, LAST)
    say(f"the console's page of {LAST} has its bill: {bill}")

    deliver(installed, FIVE)
    params = {
        "selector": {
            "partitionSetName": "monthly_allocation_partition_set",
            "repositorySelector": REPOSITORY,
        },
        "partitionNames": FIVE,
    }
    say(str(installed.ask(BACKFILL, params=params)))
    watch = Watch(installed)
    watch.start()
    for names in KILLED:
        wait_until(lambda: bool(run_processes(installed.processes["code"])), "a run to be at work")
        kill(installed, names)
        # The session outlives each of them.
        assert bill_on_page(person, LAST) == bill
        say("the console's page is as before")

    def is_all_made() -> bool:
        # The sensors have what was lost made by one run for all such months.
        if any(run["status"] in ("QUEUED", "NOT_STARTED", "STARTING", "STARTED") for run in runs(installed)):
            return False
        made = {row["month"] for row in json.loads(installed.octo("periods", "list", "--output", "json"))}
        return made == {*FIVE, LAST} and installed.octo("stale").startswith("Every partition is current")

    wait_until(is_all_made, "every month to be made")
    for month in FIVE:
        say(f"{month}: {statuses(installed, month)}")
    watch.stop()
    say(f"at most {watch.most} runs at once")
    assert watch.most == 2

    for month in FIVE:
        assert bill_on_page(person, month) == bill_in_lake(installed, month)
    say(f"the console's pages have the bills of {', '.join(FIVE)}")
    for name in ("DAGSTER_HOME", "DAGSTER_POSTGRES_URL"):
        monkeypatch.setenv(name, installed.settings[name])
    # A publication whose event was lost with PostgreSQL or its run has one of "unchanged" from the next run.
    once, seen = published(), published(any_outcome=True)
    of_last = {table for table, month in seen if month == LAST}
    assert of_last
    assert seen.keys() >= {(table, month) for table in of_last for month in FIVE}
    assert {key: count for key, count in once.items() if count > 1} == {}
    say(f"{len(seen)} partitions, {len(once)} publications seen, none of a partition twice")

    # Somebody commits a rule, and git-sync exchanges the link: nothing is started again.
    shared = figure_on_page(person, LAST, "Shared out")
    git.commit(RULES | {"allocators/compute.json": allocator("AmazonEC2", LAST)})
    git.exchange()
    page = person.page("/rules")
    assert page is not None
    assert "compute" in page
    say("the console has the rule of the next commit")
    wait_until(lambda: published()["account_costs", LAST] == 2, f"{LAST} to be made by the next rules")
    wait_until(lambda: installed.octo("stale").startswith("Every partition is current"), "the rest of it")
    say(f"{LAST} was made again: shared out {shared}, then {figure_on_page(person, LAST, 'Shared out')}")
    assert figure_on_page(person, LAST, "Shared out") != shared
    assert {key for key, count in published().items() if count > 1 and key[1] != LAST} == set()


def published(any_outcome: bool = False) -> Counter[tuple[str, str]]:
    """How many times each table and month was published, or looked at, by Dagster's events."""
    counts: Counter[tuple[str, str]] = Counter()
    with dg.DagsterInstance.get() as instance:
        for table in TABLES:
            for record in instance.fetch_materializations(dg.AssetKey(table.name), limit=500).records:
                event = record.asset_materialization
                assert event is not None
                if any_outcome or event.metadata["outcome"].value == "published":
                    counts[table.name, str(event.partition)] += 1
    return counts


class Watch(threading.Thread):
    """Prints what becomes of each run, and counts how many are at work at once."""

    def __init__(self, installed: Installation) -> None:
        super().__init__(daemon=True)
        self._installed, self._ended, self.most = installed, threading.Event(), 0
        self._statuses: dict[str, str] = {}

    def run(self) -> None:
        while not self._ended.wait(1):
            now = runs(self._installed)
            self.most = max(self.most, sum(run["status"] in ("STARTING", "STARTED") for run in now))
            for run in now:
                if self._statuses.get(run["id"]) != run["status"]:
                    say(f"  {run['id'][:8]} of {run['tags'].get('dagster/partition', 'all')}: {run['status']}")
                    self._statuses[run["id"]] = run["status"]

    def stop(self) -> None:
        self._ended.set()
        self.join()
