"""Landing a month whatever the clock says, and whatever a source takes back."""

import json
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

from octo_pipeline.services import landing
from octo_pipeline.services.landing import land_month, new_versions
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.vendors.aws.cur import CurFolderSource
from octo_pipeline.vendors.landing import newest_deliveries
from octo_pipeline.workspace import Workspace
from tests.support.reports import PAYER, legacy_report, write_json, write_rows

MONTH = "2024-01"


def test_a_delivery_that_is_landed_after_the_clock_was_set_back_is_the_newest(workspace, tmp_path, monkeypatch):
    """Regression: it counted as older than the one landed before, and the month stayed as it was without a word."""
    sources = [CurFolderSource(tmp_path / "exports")]
    legacy_report(tmp_path / "exports", ["1"], assemblyId="first")
    (first,) = land_month(workspace, "aws", sources, MONTH).deliveries

    class SetBack(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) - timedelta(days=40)

    monkeypatch.setattr(landing, "datetime", SetBack)
    legacy_report(tmp_path / "exports", ["2"], assemblyId="second")
    landed = land_month(workspace, "aws", sources, MONTH)
    assert landed.new == 1
    (newest,) = newest_deliveries(workspace.lake.root, MONTH)
    assert newest.version.startswith("second-")
    assert first.fetched_at < newest.fetched_at <= datetime.now(UTC)


def landed(workspace: Workspace, folder: Path) -> tuple[int, list[str]]:
    """Land January from the folder: how many are new, and the version that counts."""
    month = land_month(workspace, "aws", [CurFolderSource(folder)], "2024-01")
    return month.new, [one.version for one in month.deliveries]


def test_a_refresh_that_was_taken_back_counts_no_more(workspace, tmp_path):
    """Regression: the version before it was known already, so the one that was taken back stayed the newest."""
    for name, assembly, cost in (("first", "a", "1"), ("second", "b", "9")):
        legacy_report(tmp_path / name, [cost], assemblyId=assembly)
    _, first = landed(workspace, tmp_path / "first")
    new, second = landed(workspace, tmp_path / "second")
    assert (new, second != first) == (1, True)
    assert landed(workspace, tmp_path / "first") == (1, first)
    assert landed(workspace, tmp_path / "first") == (0, first)
    assert [one.version for one in newest_deliveries(workspace.lake.root, "2024-01")] == first
    newest = newest_deliveries(workspace.lake.root, "2024-01")[0]
    assert CostLineItems().inputs(workspace, "2024-01")[f"landing/aws/{PAYER}"] == newest.content


def test_a_version_that_was_taken_back_and_is_offered_again_is_news_to_the_sensor(workspace, tmp_path):
    for name, assembly in (("first", "a"), ("second", "b")):
        legacy_report(tmp_path / name, ["1"], assemblyId=assembly)
        landed(workspace, tmp_path / name)
    (found,) = new_versions(workspace, CurFolderSource(tmp_path / "first"), ["2024-01"])
    assert found.version.startswith("a-")
    assert new_versions(workspace, CurFolderSource(tmp_path / "second"), ["2024-01"]) == []


def test_two_reports_of_one_payer_do_not_take_turns(workspace, tmp_path):
    legacy_report(tmp_path / "reports", ["1"])
    other = json.loads((tmp_path / "reports/cur/octo/20240101-20240201/octo-Manifest.json").read_text())
    write_rows(tmp_path / "reports/cur/other/20240101-20240201/other-1.csv.gz", ["1"])
    changed = {"reportName": "other", "reportKeys": ["cur/other/20240101-20240201/other-1.csv.gz"], "assemblyId": "z"}
    write_json(tmp_path / "reports/cur/other/20240101-20240201/other-Manifest.json", other | changed)
    new, first = landed(workspace, tmp_path / "reports")
    assert (new, len(first)) == (2, 1)
    assert landed(workspace, tmp_path / "reports") == (0, first)
