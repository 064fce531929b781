"""What the sensors ask for: new deliveries once, stale months exactly, and patience with what is down."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from octo_pipeline.assets.dagster_compat import run_months
from octo_pipeline.automation import sensors, watched
from octo_pipeline.automation.schedules import daily
from octo_pipeline.automation.sensors import deliveries_sensors, look_for_deliveries, restated_months
from octo_pipeline.automation.watched import watched_months
from octo_pipeline.definitions import defs
from octo_pipeline.services.landing import land_month
from octo_pipeline.services.sources import sources
from octo_pipeline.settings import Settings
from octo_pipeline.vendors.source import Available
from octo_pipeline.workspace import Workspace
from tests.emulators.aws import upload
from tests.support.case import run
from tests.support.reports import PAYER, legacy_manifest, legacy_report, period, refused, write_json, write_rows
from tests.support.small_month import FEE_OF_100, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.tables import ALLOCATION_TABLES
from tests.support.workspaces import workspace_in, write_lines

NOW = datetime(2024, 2, 10, 12, tzinfo=UTC)
OTHER_PAYER = "333333333333"


@pytest.fixture
def two_payers(aws, workspace):
    """A workspace with two payers' buckets, the first with a report of the previous month."""
    aws.create_bucket(Bucket="other-cur")
    for payer, bucket in ((PAYER, "company-cur"), (OTHER_PAYER, "other-cur")):
        document = {"vendor": "aws", "account": payer, "bucket": bucket, "prefix": "cur"}
        write_json(workspace.settings.config / "sources" / f"{payer}.json", document)
    legacy_report(Path(workspace.settings.lake).parent / "reports", ["1.5"])
    upload(aws, Path(workspace.settings.lake).parent / "reports")
    return workspace


def test_the_watched_months_are_the_previous_and_the_current_one_or_as_many_as_are_set(monkeypatch):
    assert watched_months(NOW) == ["2024-01", "2024-02"]
    monkeypatch.setattr(watched, "load_settings", lambda: Settings(watched_months=4))
    assert watched_months(NOW) == ["2023-11", "2023-12", "2024-01", "2024-02"]
    request = daily(dg.build_schedule_context(scheduled_execution_time=NOW))
    assert run_months(request.tags) == ("2023-11", "2024-02")
    assert watched_months(datetime(2018, 1, 5, tzinfo=UTC)) == ["2018-01"]


def test_a_new_version_is_asked_for_once_by_payer_month_and_version(two_payers, aws, tmp_path):
    found, down, cursor = look_for_deliveries(two_payers, "aws", NOW, None)
    assert [(one.account, one.month, one.report) for one in found] == [(PAYER, "2024-01", "octo")]
    # The other payer's bucket has no report at all: it is down, the first goes on.
    assert len(down) == 1
    assert OTHER_PAYER in down[0]
    landed = land_month(two_payers, "aws", sources(two_payers, "aws"), "2024-01")
    assert (landed.new, len(landed.failures), landed.is_complete) == (1, 1, False)
    assert look_for_deliveries(two_payers, "aws", NOW, cursor)[0] == []

    # The report is refreshed while a run is on its way: the version in between is simply never seen.
    key = f"cur/octo/{period('2024-01')}/octo-1.csv.gz"
    write_rows(tmp_path / "new" / key, ["9"])
    write_json(
        tmp_path / "new" / "cur/octo" / period("2024-01") / "octo-Manifest.json", legacy_manifest([key], assemblyId="2")
    )
    upload(aws, tmp_path / "new")
    (again,) = look_for_deliveries(two_payers, "aws", NOW, cursor)[0]
    assert again.version.startswith("2-")
    assert again.version != found[0].version


def test_a_source_that_is_down_is_left_alone_longer_and_longer(two_payers):
    moment, cursor, waits = NOW, None, []
    for _ in range(8):
        found, down, cursor = look_for_deliveries(two_payers, "aws", moment, cursor)
        assert [one.account for one in found] == [PAYER]
        assert len(down) == 1
        (wait,) = json.loads(cursor).values()
        until = datetime.fromisoformat(wait["until"])
        waits.append((until - moment).total_seconds() / 60)
        # Before that time it is not asked.
        found, down, cursor = look_for_deliveries(two_payers, "aws", until - timedelta(seconds=1), cursor)
        assert ([one.account for one in found], down) == ([PAYER], [])
        moment = until
    for wait, longest in zip(waits, [10, 20, 40, 80, 160, 320, 360, 360], strict=True):
        assert 0.75 * longest <= wait <= longest


def test_a_source_that_is_back_is_forgotten(two_payers, aws, tmp_path):
    _, _, cursor = look_for_deliveries(two_payers, "aws", NOW, None)
    key = f"cur/octo/{period('2024-02')}/octo-1.csv.gz"
    aws.put_object(Bucket="other-cur", Key=key, Body=b"")
    found, down, cursor = look_for_deliveries(two_payers, "aws", NOW + timedelta(hours=1), cursor)
    assert (len(found), down, cursor) == (1, [], "{}")


def test_the_sensor_asks_for_a_run_of_the_month_with_the_version_as_its_key(two_payers, monkeypatch):
    # The sensor looks at the real clock, so the report must be of the current month.
    month = datetime.now(UTC).strftime("%Y-%m")
    monkeypatch.setattr("octo_pipeline.automation.sensors.watched_months", lambda now: ["2024-01", month])
    with dg.build_sensor_context(resources={"workspace": two_payers}) as context:
        result = deliveries_sensors["aws"](context)
    (request,) = result.run_requests
    (found,) = look_for_deliveries(two_payers, "aws", NOW, None)[0]
    assert request.run_key == f"aws/{PAYER}/2024-01/octo/{found.version}"
    assert request.partition_key == "2024-01"
    assert request.tags["octo/account"] == PAYER
    land_month(two_payers, "aws", sources(two_payers, "aws"), "2024-01")
    with dg.build_sensor_context(resources={"workspace": two_payers}) as context:
        skipped = deliveries_sensors["aws"](context)
    assert isinstance(skipped, dg.SkipReason)
    assert OTHER_PAYER in (skipped.skip_message or "")


@pytest.mark.parametrize("name", ["aws_deliveries", "azure_deliveries", "gcp_deliveries"])
def test_the_daemon_takes_what_the_sensor_returns(workspace, monkeypatch, name):
    """Regression: Dagster refuses a result with a cursor if the sensor has set one; called directly it is not seen."""
    vendor = name.removesuffix("_deliveries")
    found = Available(vendor, PAYER, "2024-01", "octo", "v1")
    monkeypatch.setattr(sensors, "look_for_deliveries", lambda *_: ([found], ["other: it is down."], '{"other": 1}'))
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(
            instance=instance, repository_def=defs.get_repository_def(), resources={"workspace": workspace}
        ) as context,
    ):
        tick = defs.resolve_sensor_def(name).evaluate_tick(context)
    assert [one.run_key for one in tick.run_requests or []] == [f"{vendor}/{PAYER}/2024-01/octo/v1"]
    assert tick.cursor == '{"other": 1}'


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("{", ["is no JSON document of a source"]),
        ('{"vendor": "ibm"}', ["vendor must be one of", '"ibm"']),
        ('{"vendor": "aws", "account": "1", "bucket": "company-cur"}', ["account: "]),
        ('{"vendor": "aws", "account": "111122223333"}', ["bucket: Field required"]),
        ('{"vendor": "aws", "account": "111122223333", "bucket": "b-c", "secret": "hush"}', ["secret: "]),
    ],
)
def test_a_wrong_document_is_named_and_its_values_are_not_shown(workspace, text, parts):
    (workspace.settings.config / "sources").mkdir()
    (workspace.settings.config / "sources" / "one.json").write_text(text)
    with refused("one.json", *parts) as _:
        sources(workspace, "aws")
    try:
        sources(workspace, "aws")
    except Exception as error:
        assert "hush" not in str(error)


TWO_MONTHS = fee_allocator() | {"allocator": [{"type": "account", "value": "1", "months": 2, "formula": "cost"}]}
MONTHS = ["2024-01", "2024-02", "2024-03", "2024-04"]
LINES = [*USAGE_OF_10_AND_30, FEE_OF_100, *(line_item("1", "5", billing_month=month) for month in MONTHS[1:])]


@pytest.fixture
def without_deliveries(monkeypatch):
    """The line items of these tests come from no delivery, so their own fingerprint is not asked for."""
    monkeypatch.setattr(sensors, "TABLES", ALLOCATION_TABLES)


def asked(workspace: Workspace) -> list[tuple[str, str]]:
    with dg.build_sensor_context(resources={"workspace": Workspace(workspace.settings)}) as context:
        result = restated_months(context)
    if isinstance(result, dg.SkipReason):
        return []
    return [run_months(request.tags) for request in result.run_requests]


def test_a_restated_month_has_exactly_its_booking_months_made_again(tmp_path, without_deliveries):
    workspace = run(workspace_in(tmp_path, LINES, [TWO_MONTHS]), MONTHS)
    assert asked(workspace) == []
    write_lines(workspace, tmp_path, [*USAGE_OF_10_AND_30, line_item("9", "300", "Fee", "Purchase"), *LINES[3:]])
    assert asked(workspace) == [("2024-01", "2024-01")]
    run(workspace, ["2024-01"])
    assert asked(workspace) == [("2024-02", "2024-02")]
    run(workspace, ["2024-02"])
    assert asked(workspace) == []


def test_a_rule_with_an_error_restates_nothing(tmp_path, without_deliveries):
    workspace = run(workspace_in(tmp_path, LINES, [TWO_MONTHS]), MONTHS)
    for document in (workspace.settings.config / "allocators").iterdir():
        document.unlink()
    assert asked(workspace) == [("2024-01", "2024-04")]
    (workspace.settings.config / "allocators" / "half.json").write_text('{"criteria": ')
    with dg.build_sensor_context(resources={"workspace": Workspace(workspace.settings)}) as context:
        skipped = restated_months(context)
    assert isinstance(skipped, dg.SkipReason)
    assert "half.json" in (skipped.skip_message or "")


def test_months_with_a_gap_are_ranges_of_their_own_and_a_change_has_a_key_of_its_own(tmp_path, without_deliveries):
    workspace = run(workspace_in(tmp_path, LINES, [TWO_MONTHS]), MONTHS)
    keys = []
    for amount in ("6", "7", "6"):
        changed = [
            *USAGE_OF_10_AND_30,
            line_item("9", amount, "Fee", "Purchase"),
            *LINES[3:-1],
            line_item("1", amount, billing_month="2024-04"),
        ]
        write_lines(workspace, tmp_path, changed)
        with dg.build_sensor_context(resources={"workspace": Workspace(workspace.settings)}) as context:
            result = restated_months(context)
        keys.append([request.run_key for request in result.run_requests])
        assert [key.split("/")[:2] for key in keys[-1]] == [["2024-01", "2024-01"], ["2024-04", "2024-04"]]
    assert keys[0] == keys[2]
    assert not set(keys[0]) & set(keys[1])
