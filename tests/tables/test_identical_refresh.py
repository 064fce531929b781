"""A refresh that says the same under another version remakes nothing; one that says anything else does."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from octo_pipeline.services.months import MonthDone, make_months
from octo_pipeline.services.sources import folder_source
from octo_pipeline.settings import Settings
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.content import DIGEST
from octo_pipeline.workspace import Workspace
from tests.support import azure_exports, billing_exports, focus_files, reports

NOW = datetime(2024, 7, 1, tzinfo=UTC)
LINES = [
    reports.ROW | {"identity/LineItemId": line, "lineItem/UnblendedCost": cost, "resourceTags/user:team": team}
    for line, cost, team in (("a", "1.5", "web"), ("b", "2", ""), ("c", "2", ""))
]


def write_aws(folder, refresh, cost="1.5"):
    """A refresh has an id of its own, other line ids, and its rows in another order and other files."""
    lines = [line | {"identity/LineItemId": f"{refresh}{number}"} for number, line in enumerate(LINES)]
    lines[0]["lineItem/UnblendedCost"] = cost
    parts = [lines] if refresh == 1 else [lines[2:], lines[1::-1]]
    keys = [f"r/hourly/20240101-20240201/{refresh}/hourly-{number}.csv.gz" for number in range(len(parts))]
    for key, part in zip(keys, parts, strict=True):
        reports.write_csv(folder / key, reports.csv_text(part))
    manifest = reports.legacy_manifest(keys, assemblyId=f"assembly-{refresh}", reportName="hourly")
    reports.write_json(folder / "r/hourly/20240101-20240201/hourly-Manifest.json", manifest)
    return "2024-01"


def write_azure(folder, refresh, cost="1.5"):
    run = azure_exports.RUN[:-1] + str(refresh)
    rows = [azure_exports.USAGE | {"Cost": cost}, azure_exports.day(4)][:: 1 if refresh == 1 else -1]
    submitted = f"2024-06-0{refresh}T01:00:00Z"
    azure_exports.write(folder, azure_exports.export(*rows, run=run, submitted=submitted))
    return azure_exports.MONTH


def write_focus(folder, refresh, cost="10"):
    path = focus_files.write_csv(folder / "a.csv", focus_files.ROW | {"BilledCost": cost}, focus_files.PLAN_USED)
    os.utime(path, (refresh, refresh))
    return focus_files.MONTH


def write_gcp(folder, refresh, cost="1.5"):
    table = folder / billing_exports.ACCOUNT / billing_exports.DETAILED
    for path in table.glob("*"):
        path.unlink()
    rows = [billing_exports.row(1, cost=float(cost)), billing_exports.row(2)]
    billing_exports.write_export(table / f"{refresh}.parquet", rows)
    return "2024-01"


@pytest.mark.parametrize(
    ("vendor", "write"), [("aws", write_aws), ("azure", write_azure), ("focus", write_focus), ("gcp", write_gcp)]
)
def test_line_items_are_made_again_if_the_rows_differ(workspace, tmp_path, vendor, write):
    (tmp_path / "in").mkdir()

    def made(refresh, **changes):
        month = write(tmp_path / "in", refresh, **changes)
        landed = folder_source(vendor, tmp_path / "in").land(workspace.lake.root, month, NOW + timedelta(days=refresh))
        return [one.is_new for one in landed], materialise(workspace, CostLineItems(), month).outcome

    assert made(1) == ([True], "published")
    assert made(2) == ([True], "unchanged")
    assert made(3, cost="7") == ([True], "published")
    assert made(4, cost="7") == ([True], "unchanged")


def test_nothing_downstream_is_made_again(tmp_path):
    for name in ("in", "config"):
        (tmp_path / name).mkdir()
    workspace = Workspace(Settings(lake=tmp_path / "lake", config=tmp_path / "config", aws_exports=tmp_path / "in"))

    def done(refresh):
        month = write_aws(tmp_path / "in", refresh)
        return next(event for event in make_months(workspace, [month]) if isinstance(event, MonthDone))

    first, second = done(1), done(2)
    assert (first.unchanged, first.failed, second.published, second.failed) == (0, (), 0, ())
    assert second.unchanged == first.published


@pytest.fixture
def land_aws(workspace, tmp_path):
    """Lands a refresh of AWS and returns its delivery."""
    (tmp_path / "in").mkdir()

    def land(refresh, **changes):
        month = write_aws(tmp_path / "in", refresh, **changes)
        source = folder_source("aws", tmp_path / "in")
        (landed,) = source.land(workspace.lake.root, month, NOW + timedelta(days=refresh))
        return landed.delivery

    return land


def test_rows_are_compared_if_there_is_something_to_compare_with(land_aws):
    """A digest takes longer than all the rest of a landing."""
    first, second, third = land_aws(1), land_aws(2), land_aws(3, cost="7")

    assert [DIGEST in delivery.details for delivery in (first, second, third)] == [False, True, False]
    assert (first.content, second.content, third.content) == (first.version, first.version, third.version)


def test_a_delivery_whose_files_are_gone_says_nothing_of_the_next(land_aws):
    first = land_aws(1)
    first.file_paths[0].unlink()
    second = land_aws(2)
    assert second.content == second.version
