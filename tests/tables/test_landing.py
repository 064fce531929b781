"""Landing a month whatever the clock says."""

from datetime import UTC, datetime, timedelta, tzinfo

from octo_pipeline.sources.aws_cur import CurFolderSource
from octo_pipeline.sources.landing import newest_deliveries
from octo_pipeline.tables import landing
from octo_pipeline.tables.landing import land_month
from tests.sources.reports import legacy_report

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
