"""What the sensors ask for: new deliveries once, stale months exactly, and patience with what is down."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from octo_pipeline.automation import deliveries as deliveries_module
from octo_pipeline.automation import restatement, watched
from octo_pipeline.automation.deliveries import Looked, look_for_deliveries
from octo_pipeline.automation.operations import restatement_config
from octo_pipeline.automation.schedules import daily
from octo_pipeline.automation.watched import watched_months
from octo_pipeline.definitions import defs
from octo_pipeline.services.landing import land_month
from octo_pipeline.services.sources import sources
from octo_pipeline.settings import Settings
from octo_pipeline.tables.graph import NOT_MADE, TABLES, stale
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.aws.cur import CurFolderSource
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
    assert watched_months(datetime(2018, 1, 5, tzinfo=UTC)) == ["2018-01"]


def test_a_new_version_is_asked_for_once_by_payer_month_and_version(two_payers, aws, tmp_path):
    looked = Looked()
    found, down = look_for_deliveries(two_payers, ["aws"], NOW, looked)
    assert [(one.account, one.month, one.report) for one in found] == [(PAYER, "2024-01", "octo")]
    # The other payer's bucket has no report at all: it is down, the first goes on.
    assert len(down) == 1
    assert OTHER_PAYER in str(down)
    landed = land_month(two_payers, "aws", sources(two_payers, "aws"), "2024-01")
    assert (landed.new, len(landed.failures), landed.is_complete) == (1, 1, False)
    assert look_for_deliveries(two_payers, ["aws"], NOW, looked)[0] == []

    # The report is refreshed while a run is on its way: the version in between is simply never seen.
    key = f"cur/octo/{period('2024-01')}/octo-1.csv.gz"
    write_rows(tmp_path / "new" / key, ["9"])
    write_json(
        tmp_path / "new" / "cur/octo" / period("2024-01") / "octo-Manifest.json", legacy_manifest([key], assemblyId="2")
    )
    upload(aws, tmp_path / "new")
    (again,) = look_for_deliveries(two_payers, ["aws"], NOW, looked)[0]
    assert again.version.startswith("2-")
    assert again.version != found[0].version


def test_a_source_that_is_down_is_left_alone_longer_and_longer(two_payers):
    moment, looked, waits = NOW, Looked(), []
    for _ in range(8):
        found, down = look_for_deliveries(two_payers, ["aws"], moment, looked)
        assert [one.account for one in found] == [PAYER]
        assert len(down) == 1
        (wait,) = looked.down.values()
        until = datetime.fromisoformat(wait.until)
        waits.append((until - moment).total_seconds() / 60)
        # Before that time it is not asked.
        found, down = look_for_deliveries(two_payers, ["aws"], until - timedelta(seconds=1), looked)
        assert ([one.account for one in found], down) == ([PAYER], {})
        moment = until
    for wait, longest in zip(waits, [10, 20, 40, 80, 160, 320, 360, 360], strict=True):
        assert 0.75 * longest <= wait <= longest


def test_a_source_that_is_back_is_forgotten(two_payers, aws, tmp_path):
    looked = Looked()
    look_for_deliveries(two_payers, ["aws"], NOW, looked)
    key = f"cur/octo/{period('2024-02')}/octo-1.csv.gz"
    aws.put_object(Bucket="other-cur", Key=key, Body=b"")
    found, down = look_for_deliveries(two_payers, ["aws"], NOW + timedelta(hours=1), looked)
    assert (len(found), down, looked.down) == (1, {}, {})


def tick(name: str, workspace: Workspace, instance: dg.DagsterInstance, cursor: str | None = None):
    """A tick of a sensor as the daemon has it, with the configuration as it is now on disk."""
    with dg.build_sensor_context(
        instance=instance,
        repository_def=defs.get_repository_def(),
        cursor=cursor,
        resources={"workspace": Workspace(workspace.settings)},
    ) as context:
        return defs.resolve_sensor_def(name).evaluate_tick(context)


def look(workspace: Workspace, instance: dg.DagsterInstance, cursor: str | None = None):
    return tick("deliveries", workspace, instance, cursor)


def at(monkeypatch, moment: datetime, module: str = "deliveries") -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return moment

    monkeypatch.setattr(f"octo_pipeline.automation.{module}.datetime", Clock)


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def test_one_tick_asks_for_one_run_of_a_month_whatever_vendors_delivered(workspace, instance, monkeypatch):
    available = [
        Available("aws", PAYER, "2024-01", "octo", "v1"),
        Available("azure", None, "2024-01", "export", "v7"),
        Available("azure", None, "2024-02", "export", "v8"),
    ]
    monkeypatch.setattr(
        deliveries_module, "look_for_deliveries", lambda *_: (available, {"other": "other: it is down."})
    )
    tick = look(workspace, instance)
    assert [request.partition_key for request in tick.run_requests] == ["2024-01", "2024-02"]
    assert [request.tags["octo/deliveries"] for request in tick.run_requests] == ["aws, azure", "azure"]


def test_a_run_that_was_lost_is_asked_for_again_and_one_queued_is_not(workspace, instance, monkeypatch):
    available = [Available("aws", PAYER, "2024-01", "octo", "v1")]
    monkeypatch.setattr(deliveries_module, "look_for_deliveries", lambda *_: (list(available), {}))
    at(monkeypatch, NOW)
    first = look(workspace, instance)
    (request,) = first.run_requests
    # Nothing became of it. The next tick waits, and says so.
    second = look(workspace, instance, first.cursor)
    assert not second.run_requests
    assert "2024-01: a run was asked for and has not landed aws" in second.skip_message
    at(monkeypatch, NOW + timedelta(minutes=11))
    run = instance.create_run_for_job(
        defs.resolve_job_def("monthly_allocation"),
        tags={"dagster/partition": "2024-01"},
        status=dg.DagsterRunStatus.STARTED,
    )
    third = look(workspace, instance, second.cursor)
    assert not third.run_requests
    assert f"2024-01: run {run.run_id[:8]} of monthly_allocation has not ended." in third.skip_message
    instance.report_run_failed(run)
    fourth = look(workspace, instance, third.cursor)
    (again,) = fourth.run_requests
    assert again.partition_key == "2024-01"
    assert again.run_key != request.run_key
    # What is new since then is asked for at once.
    available.append(Available("gcp", None, "2024-01", "billing", "v2"))
    assert len(look(workspace, instance, fourth.cursor).run_requests) == 1


def test_the_sensor_sees_what_a_bucket_has_until_it_is_landed(two_payers, instance, monkeypatch):
    monkeypatch.setattr(deliveries_module, "watched_months", lambda now: ["2024-01"])
    tick = look(two_payers, instance)
    (request,) = tick.run_requests
    assert request.partition_key == "2024-01"
    land_month(two_payers, "aws", sources(two_payers, "aws"), "2024-01")
    skipped = look(two_payers, instance)
    assert not skipped.run_requests
    assert OTHER_PAYER in skipped.skip_message


def test_a_cursor_of_an_earlier_version_is_forgotten():
    assert Looked.from_cursor('{"aws 1 at s3://b/": {"failures": 1, "until": "2024-01-01"}}') == Looked()


@pytest.mark.parametrize(("day", "months"), [(1, ["2024-01"]), (10, ["2024-01", "2024-02"])])
def test_the_daily_schedule_asks_for_each_watched_month_that_has_begun_to_be_billed(
    two_payers, aws, tmp_path, day, months
):
    (two_payers.settings.config / "sources" / f"{OTHER_PAYER}.json").unlink()
    if day > 1:
        key = f"cur/octo/{period('2024-02')}/octo-1.csv.gz"
        write_rows(tmp_path / "new" / key, ["9"])
        write_json(
            tmp_path / "new" / "cur/octo" / period("2024-02") / "octo-Manifest.json",
            legacy_manifest([key], billingPeriod={"start": "20240201T000000.000Z", "end": "20240301T000000.000Z"}),
        )
        upload(aws, tmp_path / "new")
    context = dg.build_schedule_context(
        scheduled_execution_time=datetime(2024, 2, day, 6, tzinfo=UTC), resources={"workspace": two_payers}
    )
    requests = daily(context)
    assert [request.partition_key for request in requests] == months
    assert [request.run_key for request in requests] == [f"2024-02-{day:02}/{month}" for month in months]


def test_the_daily_schedule_without_sources_says_why_it_asks_for_nothing(workspace):
    context = dg.build_schedule_context(scheduled_execution_time=NOW, resources={"workspace": workspace})
    skipped = daily(context)
    assert skipped.skip_message == "No source has anything of 2024-01, 2024-02, and nothing of them is landed."


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("{", ["is not a source document in JSON"]),
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
    monkeypatch.setattr(restatement, "TABLES", ALLOCATION_TABLES)


def restate(workspace: Workspace, instance: dg.DagsterInstance, cursor: str | None = None):
    return tick("restated_months", workspace, instance, cursor)


def asked(workspace: Workspace, instance: dg.DagsterInstance) -> list[str]:
    """The months of the one run that is asked for."""
    requests = restate(workspace, instance).run_requests or []
    if not requests:
        return []
    (request,) = requests
    return request.run_config["ops"]["restate_the_months"]["config"]["months"]


def test_a_restated_month_has_exactly_its_booking_months_made_again(tmp_path, instance, without_deliveries):
    workspace = run(workspace_in(tmp_path, LINES, [TWO_MONTHS]), MONTHS)
    assert asked(workspace, instance) == []
    write_lines(workspace, tmp_path, [*USAGE_OF_10_AND_30, line_item("9", "300", "Fee", "Purchase"), *LINES[3:]])
    assert asked(workspace, instance) == ["2024-01"]
    run(workspace, ["2024-01"])
    assert asked(workspace, instance) == ["2024-02"]
    run(workspace, ["2024-02"])
    assert asked(workspace, instance) == []


def test_a_rule_with_an_error_restates_nothing(tmp_path, instance, without_deliveries):
    workspace = run(workspace_in(tmp_path, LINES, [TWO_MONTHS]), MONTHS)
    for document in (workspace.settings.config / "allocators").iterdir():
        document.unlink()
    assert asked(workspace, instance) == MONTHS
    (workspace.settings.config / "allocators" / "half.json").write_text('{"criteria": ')
    assert "half.json" in restate(workspace, instance).skip_message


def test_a_change_is_asked_for_once_as_one_run_and_again_only_after_a_wait(
    tmp_path, instance, without_deliveries, monkeypatch
):
    """Regression: a renamed rule started nine runs, since the first tables that were made changed the run's key."""
    workspace = run(workspace_in(tmp_path, LINES, [TWO_MONTHS]), MONTHS)
    (document,) = (workspace.settings.config / "allocators").iterdir()
    document.rename(document.with_name("renamed.json"))
    first = restate(workspace, instance)
    (request,) = first.run_requests
    assert request.run_config == restatement_config(MONTHS)
    queued = instance.create_run_for_job(
        defs.resolve_job_def("restatement"), run_config=request.run_config, status=dg.DagsterRunStatus.STARTED
    )
    # The run has begun to work: what is left has other fingerprints.
    materialise(Workspace(workspace.settings), MatchedItems(), MONTHS[0])
    second = restate(workspace, instance, first.cursor)
    assert not second.run_requests
    assert f"Run {queued.run_id[:8]} of restatement has not ended" in second.skip_message
    # It is killed.
    instance.report_run_failed(queued)
    third = restate(workspace, instance, first.cursor)
    (again,) = third.run_requests
    assert again.run_key != request.run_key
    assert "was asked for and did not make them" in restate(workspace, instance, third.cursor).skip_message
    at(monkeypatch, datetime.now(UTC) + timedelta(minutes=11), "restatement")
    assert len(restate(workspace, instance, third.cursor).run_requests) == 1


def test_a_month_that_is_landed_and_was_never_made_is_stale(workspace, instance, tmp_path):
    legacy_report(tmp_path / "reports", ["1.5"])
    land_month(workspace, "aws", [CurFolderSource(tmp_path / "reports")], "2024-01")
    assert asked(workspace, instance) == ["2024-01"]
    assert {(one.table, one.month, *one.changed) for one in stale(workspace)} == {
        (table.name, "2024-01", NOT_MADE) for table in TABLES
    }


def test_stale_months_reports_changed_documents_once(tmp_path, instance):
    workspace = run(workspace_in(tmp_path, LINES, [TWO_MONTHS]), MONTHS)

    first = tick("stale_months", workspace, instance)
    observations = [event for event in first.asset_events if isinstance(event, dg.AssetObservation)]
    assert [event.asset_key.to_user_string() for event in observations] == ["allocators", "cost_groups"]
    for event in observations:
        instance.report_runless_asset_event(event)
    assert (
        tick("stale_months", workspace, instance, first.cursor).skip_message == "Nothing changed since the last look."
    )
    (document,) = (workspace.settings.config / "allocators").iterdir()
    document.rename(document.with_name("renamed.json"))
    again = [
        event
        for event in tick("stale_months", workspace, instance, first.cursor).asset_events
        if isinstance(event, dg.AssetObservation)
    ]
    assert [event.asset_key.to_user_string() for event in again] == ["allocators"]


def test_a_metric_that_changed_is_observed_in_its_month_and_has_what_it_weighs_made_again(
    tmp_path, instance, without_deliveries
):
    entries = [{"type": "account", "value": account, "months": 2} for account in "12"]
    weighed = fee_allocator(allocator=entries, usageOf={"metric": "heads"})
    workspace = workspace_in(tmp_path, LINES, [weighed])
    metric = workspace.settings.config / "metrics" / "heads.csv"
    metric.parent.mkdir()
    metric.write_text("month,account,quantity\n2024-01,1,3\n2024-01,2,1\n2024-02,1,1\n")
    run(workspace, MONTHS)

    def observed(cursor: str | None) -> tuple[list[str | None], str]:
        """The months of the metrics that are observed, and the cursor after it."""
        result = tick("stale_months", workspace, instance, cursor)
        observations = [event for event in result.asset_events if isinstance(event, dg.AssetObservation)]
        for event in observations:
            instance.report_runless_asset_event(event)
        return [e.partition for e in observations if e.asset_key.to_user_string() == "metrics"], result.cursor

    months, cursor = observed(None)
    assert months == ["2024-01", "2024-02"]

    metric.write_text("month,account,quantity\n2024-01,1,3\n2024-01,2,1\n2024-02,1,2\n2024-02,2,2\n")

    assert observed(cursor)[0] == ["2024-02"]
    assert asked(workspace, instance) == ["2024-02"]


def test_a_change_that_was_taken_back_is_asked_for_when_it_comes_again(tmp_path, instance, without_deliveries):
    """Regression: Dagster drops a request whose key it has seen, and the same change had the same key."""
    workspace = run(workspace_in(tmp_path, LINES, [TWO_MONTHS]), MONTHS)
    document = workspace.settings.config / "allocators" / "a0.json"
    original, changed = document.read_text(), json.dumps(TWO_MONTHS | {"expiration": 5})
    cursor, keys = None, []
    for text in (changed, original, changed):
        document.write_text(text)
        asked_for = restate(workspace, instance, cursor)
        (request,) = asked_for.run_requests
        keys.append(request.run_key)
        cursor = asked_for.cursor
        run(workspace, MONTHS)
    assert len(set(keys)) == 3


def test_a_version_that_is_offered_again_is_asked_for_again(workspace, instance, monkeypatch):
    keys, cursor = [], None
    for version in ("v1", "v2", "v1"):
        available = [Available("aws", PAYER, "2024-01", "octo", version)]
        monkeypatch.setattr(deliveries_module, "look_for_deliveries", lambda *_, offered=available: (offered, {}))
        asked_for = look(workspace, instance, cursor)
        (request,) = asked_for.run_requests
        keys.append(request.run_key)
        cursor = asked_for.cursor
    assert len(set(keys)) == 3
