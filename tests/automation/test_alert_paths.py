"""The four ways to an alert, as an installation goes them: real runs in Dagster, ticks of its sensors, and a webhook."""

import json
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin

from octo_pipeline.automation.command_line import recorded_as_run
from octo_pipeline.definitions import defs
from octo_pipeline.services.months import make_months
from octo_pipeline.settings import Settings
from octo_pipeline.vendors.aws.sample import write_cur
from octo_pipeline.workspace import Workspace
from tests.support.reports import write_json
from tests.support.small_month import fee_allocator

pytestmark = pytest.mark.slow
MONTH = "2024-01"


class Installation:
    """A lake, exports of a month, and a Dagster instance whose sensors keep their cursors."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.folder, self.instance = folder, instance
        for name in ("allocators", "cost_groups", "sources"):
            (folder / "config" / name).mkdir(parents=True)
        write_cur(folder / "exports", months=[MONTH], accounts=3, lines=100)
        self.settings = Settings(
            lake=folder / "lake", config=folder / "config", aws_exports=folder / "exports" / "aws", watched_months=1
        )
        self.cursors: dict[str, str | None] = {}

    @property
    def workspace(self) -> Workspace:
        """The workspace of the next process, which reads the configuration again."""
        return Workspace(self.settings)

    def run(self) -> None:
        """What `octo run` does with DAGSTER_HOME: a run of the job `backfill`."""
        workspace = self.workspace
        for _ in recorded_as_run(workspace, [MONTH], make_months(workspace, [MONTH])):
            pass

    def tick(self, name: str) -> None:
        """A tick of a sensor, as the daemon has the code location make it."""
        with dg.SensorEvaluationContext(
            instance_ref=self.instance.get_ref(),
            instance=self.instance,
            cursor=self.cursors.get(name),
            repository_def=defs.get_repository_def(),
            repository_name=defs.get_repository_def().name,
            resources={"workspace": self.workspace},
            code_location_origin=RegisteredCodeLocationOrigin("octo_pipeline"),
        ) as context:
            ticked = defs.resolve_sensor_def(name).evaluate_tick(context)
        errors = [one.run_status.error for one in ticked.dagster_run_reactions or [] if one.error]
        assert not errors
        self.cursors[name] = ticked.cursor


@pytest.fixture
def installation(tmp_path, monkeypatch, webhook) -> Installation:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    with dg.DagsterInstance.get() as instance:
        installation = Installation(tmp_path, instance)
        # The first tick of a sensor for runs only notes where it begins.
        for sensor in ("alert_on_failed_runs", "alert_on_failed_checks"):
            installation.tick(sensor)
        yield installation


def test_a_failed_run_is_posted_with_the_month_and_the_file(installation, webhook):
    data = next(installation.folder.glob("exports/**/*.parquet"))
    data.write_bytes(data.read_bytes()[:-100])
    installation.run()
    installation.tick("alert_on_failed_runs")
    (alert,) = webhook[0]
    assert alert["text"].startswith("*backfill 2024-01 failed*\nmake_the_months: ")
    assert data.name in alert["text"]
    installation.tick("alert_on_failed_runs")
    assert len(webhook[0]) == 1


def test_a_failed_check_is_posted_with_what_it_says(installation, webhook):
    (installation.folder / "config" / "allocators" / "bad.json").write_text('{"category": "fees"}')
    installation.run()
    installation.tick("alert_on_failed_runs")
    installation.tick("alert_on_failed_checks")
    (alert,) = webhook[0]
    assert alert["text"].startswith("*1 failed check in backfill 2024-01*\nmatched_items valid_documents: 2024-01: ")
    assert "bad.json" in alert["text"]


def test_a_source_that_is_down_is_posted_once(installation, webhook, aws, monkeypatch):
    document = {"vendor": "aws", "account": "111122223333", "bucket": "no-such-bucket"}
    write_json(installation.folder / "config" / "sources" / "one.json", document)
    monkeypatch.setattr("octo_pipeline.automation.deliveries.watched_months", lambda now: [MONTH])
    for _ in range(2):
        installation.tick("deliveries")
    (alert,) = webhook[0]
    assert alert["text"].startswith("*1 source down*\n")
    assert "no-such-bucket" in alert["text"]


def test_a_stale_month_that_nobody_makes_is_posted_once(installation, webhook):
    for _ in make_months(installation.workspace, [MONTH]):
        pass
    rule = fee_allocator(criteria=[{"and": {"productCode": "re:^AWSSupport"}}])
    (installation.folder / "config" / "allocators" / "new.json").write_text(json.dumps(rule))
    installation.tick("alert_on_stale_months")
    assert webhook[0] == []
    for _ in range(2):
        installation.tick("alert_on_stale_months")
    (alert,) = webhook[0]
    assert alert["text"] == (
        "*1 stale month: 2024-01*\nChanged and not made again for an hour or more: rules. Look at the sensor restated_months."
    )
