"""Runs as people start, stop and look at them: the real UI, queue, daemon and run processes, on a lake of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from docs.pictures import ask, dagster_ui
from octo_pipeline.model.months import add_months, month_range
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.vendors.aws.sample import write_cur
from tests.emulators.aws import Stalling, stalling_aws, upload

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parent.parent.parent
WAIT = 60_000
# A run process starts within some seconds; the daemon looks every few seconds.
RUN_SECONDS = 400
REPOSITORY = {"repositoryLocationName": "octo_pipeline", "repositoryName": "__repository__"}
# The months are watched, so they are the last ones.
TODAY = datetime.now(UTC).strftime("%Y-%m")
MONTHS = month_range(add_months(TODAY, -10), add_months(TODAY, -1))
ALLOCATOR = {
    "startMonth": MONTHS[0],
    "criteria": [{"and": {"productCode": "AWSSupportEnterprise"}}],
    "allocator": [{"type": "account", "value": "400000000001", "formula": "cost"}],
}
# The code location, in which a file makes the work of a month endless, or kills the next run before it starts.
CODE_LOCATION = """
import multiprocessing, os, signal
from pathlib import Path
from octo_pipeline.lake.lake import Lake
from octo_pipeline.tables import cost_line_items
FOLDER = Path(__file__).parent
FOR_EVER = "(SELECT sum(hash(range)) FROM range(1000000000000)) IS NULL"
run_model, copy = cost_line_items.run_model, Lake.copy

def is_endless(kind, staged):
    if not (FOLDER / f"{kind}-{staged.month}").exists():
        return False
    (FOLDER / "here").touch()
    return True

def in_model(connection, staged, metadata, relations, columns):
    if is_endless("model", staged):
        name = next(iter(relations))
        relations = {**relations, name: f"SELECT * FROM ({relations[name]}) WHERE {FOR_EVER}"}
    run_model(connection, staged, metadata, relations, columns)

def in_copy(lake, connection, query, staged, metadata, **more):
    if is_endless("copy", staged):
        query = f"SELECT * FROM ({query}) WHERE {FOR_EVER}"
    copy(lake, connection, query, staged, metadata, **more)

cost_line_items.run_model, Lake.copy = in_model, in_copy
if (FOLDER / "die").exists() and multiprocessing.parent_process() is not None:
    (FOLDER / "die").unlink()
    os.kill(os.getpid(), signal.SIGKILL)
from octo_pipeline.definitions import defs
"""
RUNS = """
{ runsOrError(limit: 100) { ... on Runs { results { runId status jobName creationTime tags { key value } } } } }
"""
TICKS = """
query Ticks($selector: InstigationSelector!) {
  instigationStateOrError(instigationSelector: $selector) {
    ... on InstigationState { ticks(limit: 50) { status skipReason runIds } }
  }
}
"""
START = """
mutation Start($selector: SensorSelector!) {
  startSensor(sensorSelector: $selector) {
    __typename ... on Sensor { sensorState { id selectorId } } ... on PythonError { message }
  }
}
"""
STOP = "mutation Stop($id: String!) { stopSensor(id: $id) { __typename } }"
DRY_RUN = """
mutation DryRun($selector: SensorSelector!, $cursor: String) {
  sensorDryRun(selectorData: $selector, cursor: $cursor) {
    ... on DryRunInstigationTick {
      evaluationResult { skipReason error { message } runRequests { runKey tags { key value } } }
    }
  }
}
"""


@dataclass(frozen=True)
class Run:
    run_id: str
    status: str
    job: str
    tags: Mapping[str, str]

    @property
    def month(self) -> str | None:
        return self.tags.get("dagster/partition")


@dataclass(frozen=True)
class Installation:
    """A lake, its exports and configuration, the address of its UI, and the AWS that has the reports of a month."""

    folder: Path
    address: str
    aws: Stalling

    def deliver(self, *months: str) -> None:
        write_cur(self.folder / "exports", months=list(months), accounts=3, lines=100)

    def deliver_to_bucket(self, month: str) -> None:
        """Put a month's report where it is downloaded from, which stops in the middle of the data."""
        import boto3

        write_cur(self.folder / "uploaded", months=[month], accounts=3, lines=100)
        s3 = boto3.client("s3", endpoint_url=self.aws.address)
        s3.create_bucket(Bucket="company-cur")
        upload(s3, self.folder / "uploaded" / "aws")
        self.aws.parts = (f"{month.replace('-', '')}01-", ".parquet")
        document = {"vendor": "aws", "account": "999988887777", "bucket": "company-cur", "prefix": "cur"}
        source = self.folder / "config" / "sources" / "payer.json"
        source.write_text(json.dumps(document | {"from": month, "to": month}))

    def runs(self, **tags: str) -> list[Run]:
        """The runs with these values of `dagster/…` tags, the newest first."""
        runs = [
            Run(run["runId"], run["status"], run["jobName"], {tag["key"]: tag["value"] for tag in run["tags"]})
            for run in ask(self.address, RUNS)["runsOrError"]["results"]
        ]
        return [run for run in runs if all(run.tags.get(f"dagster/{name}") == value for name, value in tags.items())]

    def ended(self, run_id: str) -> Run:
        def is_over() -> bool:
            return self.run(run_id).status in ("SUCCESS", "FAILURE", "CANCELED")

        wait_until(is_over, f"run {run_id} to end")
        return self.run(run_id)

    def run(self, run_id: str) -> Run:
        return next(run for run in self.runs() if run.run_id == run_id)

    def published(self, month: str) -> set[str]:
        """The tables that have the month."""
        return {file.parent.parent.name for file in (self.folder / "lake").glob(f"*/month={month}/data.parquet")}

    def half_made(self) -> list[str]:
        return [path.name for path in (self.folder / "lake" / ".staging").glob("*") if path.is_dir()]

    def start_sensor(self, name: str) -> str:
        answer = ask(self.address, START, selector={**REPOSITORY, "sensorName": name})["startSensor"]
        return str(answer["sensorState"]["id"])

    def ticks(self, name: str) -> list[dict[str, Any]]:
        answer = ask(self.address, TICKS, selector={**REPOSITORY, "name": name})
        ticks: list[dict[str, Any]] = answer["instigationStateOrError"]["ticks"]
        return ticks

    def dry_run(self, name: str, cursor: str | None) -> dict[str, Any]:
        selector = {**REPOSITORY, "sensorName": name}
        result: dict[str, Any] = ask(self.address, DRY_RUN, selector=selector, cursor=cursor)["sensorDryRun"][
            "evaluationResult"
        ]
        assert result["error"] is None
        return result


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + RUN_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.3)


ALL = {table.name for table in TABLES}


@pytest.fixture(scope="module")
def installation(tmp_path_factory, aws_server) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("installation")
    for name in ("config/allocators", "config/cost_groups", "config/sources", "home", "exports/aws"):
        (folder / name).mkdir(parents=True)
    (folder / "config" / "allocators" / "support.json").write_text(json.dumps(ALLOCATOR))
    (folder / "home" / "dagster.yaml").write_bytes((ROOT / "dagster.yaml").read_bytes())
    (folder / "location.py").write_text(CODE_LOCATION)
    location = {"relative_path": str(folder / "location.py"), "location_name": "octo_pipeline", "attribute": "defs"}
    (folder / "workspace.yaml").write_text(json.dumps({"load_from": [{"python_file": location}]}))
    settings = {
        "OCTO_LAKE": str(folder / "lake"),
        "OCTO_CONFIG": str(folder / "config"),
        "OCTO_AWS_EXPORTS": str(folder / "exports" / "aws"),
        "OCTO_START_MONTH": MONTHS[0],
        "OCTO_WATCHED_MONTHS": "36",
        "DAGSTER_HOME": str(folder / "home"),
        "PYTHONPATH": str(ROOT),
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch, stalling_aws(aws_server) as aws:
        for name in [name for name in os.environ if name.startswith("OCTO_")]:
            patch.delenv(name)
        for name, value in settings.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL", aws.address)
        with dagster_ui(str(Path(sys.executable).parent / "dagster"), str(folder / "workspace.yaml")) as address:
            yield Installation(folder, address, aws)


@pytest.fixture
def page(browser):
    opened = browser.new_page(viewport={"width": 1600, "height": 1000})
    opened.set_default_timeout(WAIT)
    yield opened
    opened.close()


def materialise(page, installation: Installation, months: str, button: str) -> None:
    """Launch months as people do, from the graph of the job."""
    page.goto(f"{installation.address}/locations/octo_pipeline/jobs/monthly_allocation")
    page.get_by_role("button", name="Materialize all").first.click()
    dialog = page.get_by_role("dialog")
    box = dialog.get_by_placeholder("ex:")
    box.fill(months)
    box.press("Enter")
    dialog.get_by_role("button", name=button).click()
    dialog.wait_for(state="hidden")


def run_of(installation: Installation, month: str) -> Run:
    """The newest run of a month, as soon as there is one."""
    wait_until(lambda: bool(installation.runs(partition=month)), f"a run of {month}")
    return installation.runs(partition=month)[0]


def re_execute_from_failure(page, installation: Installation, run: Run) -> Run:
    page.goto(f"{installation.address}/runs/{run.run_id}")
    page.get_by_role("button", name="Re-execute").last.wait_for()
    page.get_by_test_id("re-execution-dropdown-button").or_(
        page.locator("button:has([aria-label='arrow_drop_down'])")
    ).last.click()
    page.get_by_text("From failure", exact=True).click()
    # It is asked for where the run is part of a backfill that has ended.
    confirm = page.get_by_role("dialog").get_by_role("button", name="Confirm")

    def is_launched() -> bool:
        if confirm.is_visible():
            confirm.click()
        return installation.runs(partition=run.month)[0].run_id != run.run_id

    wait_until(is_launched, "the re-execution")
    return installation.ended(installation.runs(partition=run.month)[0].run_id)


def test_a_month_that_is_launched_from_the_graph_is_made_by_the_daemon(page, installation):
    installation.deliver(MONTHS[0])
    materialise(page, installation, MONTHS[0], "Launch 1 run")
    run = installation.ended(run_of(installation, MONTHS[0]).run_id)
    assert (run.status, run.job) == ("SUCCESS", "monthly_allocation")
    assert installation.published(MONTHS[0]) == ALL
    page.goto(f"{installation.address}/runs/{run.run_id}")
    page.get_by_text("Success", exact=True).first.wait_for()


def terminate(page, installation: Installation, month: str) -> Run:
    run = run_of(installation, month)
    page.goto(f"{installation.address}/runs/{run.run_id}")
    page.get_by_role("button", name="Terminate").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Terminate 1 run").click()
    assert installation.ended(run.run_id).status == "CANCELED"
    page.get_by_text("Canceled", exact=True).first.wait_for()
    # The process is gone, and left nothing that is not whole.
    wait_until(lambda: installation.half_made() == [], "the run's process to end")
    return run


@pytest.mark.parametrize(("kind", "month"), [("model", MONTHS[1]), ("copy", MONTHS[2])], ids=["model", "copy"])
def test_terminate_stops_a_run_at_once_and_a_re_execution_does_the_rest(page, installation, kind, month):
    """Regression: a run that was terminated inside a dbt model went on until the query had ended by itself."""
    installation.deliver(month)
    endless, here = installation.folder / f"{kind}-{month}", installation.folder / "here"
    here.unlink(missing_ok=True)
    endless.touch()
    materialise(page, installation, month, "Launch 1 run")
    wait_until(here.exists, "the endless work")
    run = terminate(page, installation, month)
    assert installation.published(month) < ALL
    assert "account_costs" not in installation.published(month)

    endless.unlink()
    again = re_execute_from_failure(page, installation, run)
    assert again.status == "SUCCESS"
    assert installation.published(month) == ALL


def test_terminate_stops_a_download_whose_server_says_nothing(page, installation):
    month = MONTHS[9]
    installation.deliver_to_bucket(month)
    materialise(page, installation, month, "Launch 1 run")
    wait_until(installation.aws.is_there.is_set, "the middle of the download")
    run = terminate(page, installation, month)
    assert installation.published(month) == set()
    assert not [*(installation.folder / "lake" / "landing").glob(f"aws/*/month={month}/*")]

    installation.aws.parts = ()
    again = re_execute_from_failure(page, installation, run)
    assert again.status == "SUCCESS"
    assert installation.published(month) == ALL


def test_a_damaged_month_of_a_range_stops_no_other_and_its_re_execution_does_the_rest(page, installation):
    months = MONTHS[3:6]
    first, damaged, last = months
    installation.deliver(*months)
    (data,) = installation.folder.glob(f"exports/aws/**/{damaged.replace('-', '')}01-*/*.parquet")
    whole = data.read_bytes()
    data.write_bytes(whole[:-100])
    materialise(page, installation, f"[{months[0]}...{months[-1]}]", "Launch backfill")
    runs = {month: installation.ended(run_of(installation, month).run_id) for month in months}
    assert [run.status for run in runs.values()] == ["SUCCESS", "FAILURE", "SUCCESS"]
    for month in (first, last):
        assert installation.published(month) == ALL
    assert installation.published(damaged) == set()
    # Of each month one run, and of no other month.
    backfill = runs[first].tags["dagster/backfill"]
    assert sorted(run.month for run in installation.runs(backfill=backfill)) == months
    page.goto(f"{installation.address}/runs/{runs[damaged].run_id}")
    page.get_by_text(data.name).first.wait_for()

    data.write_bytes(whole)
    again = re_execute_from_failure(page, installation, runs[damaged])
    assert again.status == "SUCCESS"
    assert again.tags["dagster/is_resume_retry"] == "true"
    assert installation.published(damaged) == ALL


def test_what_octo_run_makes_is_seen_as_a_run(page, installation):
    installation.deliver(MONTHS[6])
    program = "from octo_pipeline.cli.main import main; main()"
    command = [sys.executable, "-c", program, "run", "--month", MONTHS[6]]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    run = run_of(installation, MONTHS[6])
    assert (run.status, run.job) == ("SUCCESS", "backfill"), made.stderr
    page.goto(f"{installation.address}/runs")
    page.get_by_text(run.run_id[:8]).first.wait_for()
    page.goto(f"{installation.address}/overview/activity/timeline")
    page.get_by_text("backfill", exact=True).first.wait_for()


def test_a_run_that_is_killed_before_it_starts_is_asked_for_again(page, installation):
    installation.deliver(MONTHS[7])
    (installation.folder / "die").touch()
    sensor = installation.start_sensor("deliveries")
    try:
        lost = installation.ended(run_of(installation, MONTHS[7]).run_id)
    finally:
        ask(installation.address, STOP, id=sensor)
    assert not (installation.folder / "die").exists()
    assert lost.status == "FAILURE"
    wait_until(lambda: len(installation.runs(partition=MONTHS[7])) == 2, "the second run")
    again = installation.ended(installation.runs(partition=MONTHS[7])[0].run_id)
    assert again.tags["dagster/parent_run_id"] == lost.run_id
    assert again.status == "SUCCESS"
    assert installation.published(MONTHS[7]) == ALL
    # Only what was new was asked for.
    assert [
        run.month for run in installation.runs(sensor_name="deliveries") if "dagster/parent_run_id" not in run.tags
    ] == [MONTHS[7]]
    page.goto(f"{installation.address}/runs")
    page.get_by_text(again.run_id[:8]).first.wait_for()


def test_a_run_that_is_lost_for_good_is_asked_for_after_a_while(installation):
    installation.deliver(MONTHS[8])
    first = installation.dry_run("deliveries", None)
    (request,) = first["runRequests"]
    digest = request["runKey"].split("/")[1]

    def cursor(until: str) -> str:
        return json.dumps({"asked": {MONTHS[8]: {"deliveries": digest, "wait": {"failures": 1, "until": until}}}})

    early = installation.dry_run("deliveries", cursor("2999-01-01T00:00:00+00:00"))
    assert not early["runRequests"]
    assert f"{MONTHS[8]}: a run was asked for and has not landed" in early["skipReason"]
    late = installation.dry_run("deliveries", cursor("2024-01-01T00:00:00+00:00"))
    assert [request["runKey"].split("/")[0] for request in late["runRequests"]] == [MONTHS[8]]
    assert installation.runs(partition=MONTHS[8]) == []


def test_a_renamed_rule_is_one_run(page, installation):
    """Regression: nine runs in eight minutes over the same months."""
    tables = installation.folder / "lake" / "account_costs"
    made = sorted(folder.name.removeprefix("month=") for folder in tables.iterdir())
    rules = installation.folder / "config" / "allocators"
    (rules / "support.json").rename(rules / "enterprise-support.json")
    sensor = installation.start_sensor("restated_months")
    try:
        wait_until(lambda: any(run.job == "restatement" for run in installation.runs()), "the restatement")
        run = next(run for run in installation.runs() if run.job == "restatement")
        assert installation.ended(run.run_id).status == "SUCCESS"
        looked = len(installation.ticks("restated_months"))
        # Two more looks.
        wait_until(lambda: len(installation.ticks("restated_months")) >= looked + 2, "two more ticks")
    finally:
        ask(installation.address, STOP, id=sensor)
    assert [run.job for run in installation.runs()].count("restatement") == 1
    assert installation.ticks("restated_months")[0]["skipReason"] == "Every partition is current."
    assert run.tags["octo/months"] == (f"{made[0]} … {made[-1]}" if len(made) > 1 else made[0])
    page.goto(f"{installation.address}/runs/{run.run_id}")
    page.get_by_text(f"{made[-1]}: ").first.wait_for()
