"""Which files make which report: the layouts of S3, and what must not be taken for a report."""

import json

import pytest

from octo_pipeline.vendors.aws.cur_manifest import month_of_folder
from octo_pipeline.vendors.aws.cur_reports import find_reports
from tests.support.reports import (
    PARQUET_ROW,
    PAYER,
    ROW,
    csv_text,
    legacy_manifest,
    legacy_report,
    period,
    refused,
    write_csv,
    write_json,
    write_parquet,
    write_rows,
)


def found(path, month=None):
    """What is found, by report and month: the content of the files tells them apart."""
    return [(one.report, one.month, [file.name for file in one.files]) for one in find_reports(path, month=month)]


def contents(report):
    return [file.open().read() for file in report.files]


def create_new(root, *, assembly="new", month="2024-01", name="octo", prefix="cur", account=PAYER):
    """A legacy report in the CREATE_NEW layout: data and a copy of the manifest below the assembly."""
    folder = root / prefix / name / period(month)
    key = f"{prefix}/{name}/{period(month)}/{assembly}/{name}-1.csv"
    write_csv(root / key, csv_text([ROW | {"identity/LineItemId": assembly}]))
    manifest = legacy_manifest([key], month, assemblyId=assembly, reportName=name, account=account)
    for at in (folder / assembly, folder):
        write_json(at / f"{name}-Manifest.json", manifest)
    return folder


def data_export(root, *, month="2024-01", execution="", files=None, name="export", key="BILLING_PERIOD"):
    """A CUR 2.0 export; `files` is what the manifest lists, if other than the one file that is there."""
    data = f"team/{name}/data/{key}={month}/{execution}{name}-00001.snappy.parquet"
    write_parquet(root / data, [PARQUET_ROW])
    listed = files or [f"s3://some-bucket/{data}"]
    manifest = {
        "executionId": "e-1",
        "dataFiles": listed,
        "columns": [],
        "exportArn": f"arn:aws:x:y:{PAYER}:export/z",
    }
    return write_json(root / f"team/{name}/metadata/{key}={month}/{name}-Manifest.json", manifest)


def test_overwrite(tmp_path):
    manifest = legacy_report(tmp_path, ["1.5", "2"])
    write_rows(manifest.parent / "octo-3.csv.gz", ["99"])  # left over from a longer refresh
    (report,) = find_reports(tmp_path)
    assert (report.report, report.month, report.account) == ("octo", "2024-01", PAYER)
    assert [file.name for file in report.files] == ["octo-1.csv.gz", "octo-2.csv.gz"]
    assert report.version.startswith("a1b2c3-")
    assert report.source == str(manifest)


def test_create_new_takes_the_current_refresh(tmp_path):
    folder = create_new(tmp_path, assembly="old")
    create_new(tmp_path, assembly="new")
    (report,) = find_reports(tmp_path)
    assert b"new" in contents(report)[0]
    assert find_reports(folder)[0].version == report.version


def test_one_refresh_by_itself_is_a_report(tmp_path):
    folder = create_new(tmp_path)
    (report,) = find_reports(folder / "new")
    assert (report.month, b"new" in contents(report)[0]) == ("2024-01", True)


def test_several_reports_periods_and_payers(tmp_path):
    create_new(tmp_path, name="hourly")
    create_new(tmp_path, name="daily")
    create_new(tmp_path, name="hourly", month="2024-02")
    create_new(tmp_path / "other", name="hourly", account="999999999999")
    assert found(tmp_path) == [
        ("daily", "2024-01", ["daily-1.csv"]),
        ("hourly", "2024-01", ["hourly-1.csv"]),
        ("hourly", "2024-01", ["hourly-1.csv"]),
        ("hourly", "2024-02", ["hourly-1.csv"]),
    ]
    assert {one.account for one in find_reports(tmp_path)} == {PAYER, "999999999999"}
    assert found(tmp_path, "2024-02") == [("hourly", "2024-02", ["hourly-1.csv"])]
    assert found(tmp_path, "2023-12") == []


def test_legacy_parquet_lies_in_folders_of_its_own(tmp_path):
    key = "cur/octo/octo/year=2024/month=1/octo-00001.snappy.parquet"
    write_parquet(tmp_path / key, [PARQUET_ROW])
    write_json(tmp_path / "cur/octo" / period("2024-01") / "octo-Manifest.json", legacy_manifest([key]))
    expected = [("octo", "2024-01", ["octo-00001.snappy.parquet"])]
    assert found(tmp_path) == found(tmp_path / "cur") == found(tmp_path / "cur/octo") == expected


def test_data_export_in_overwrite_mode(tmp_path):
    data_export(tmp_path)
    write_parquet(tmp_path / "team/export/data/BILLING_PERIOD=2024-01/export-00002.snappy.parquet", [])
    (report,) = find_reports(tmp_path)
    assert (report.report, report.month, report.account) == ("export", "2024-01", PAYER)
    assert [file.name for file in report.files] == ["export-00001.snappy.parquet"]
    assert report.version.startswith("e-1-")


def test_data_export_in_create_new_mode_with_keys_and_lower_case_folders(tmp_path):
    execution = "2024-02-01T02:03:04.000Z-e-1/"
    key = f"team/export/data/billing_period=2024-01/{execution}export-00001.snappy.parquet"
    manifest = data_export(tmp_path, execution=execution, files=[key], key="billing_period")
    write_json(manifest.parent / execution / manifest.name, json.loads(manifest.read_text()))
    old = manifest.parent / "2024-01-09T02:03:04.000Z-e-0" / manifest.name
    write_json(old, {"executionId": "e-0", "dataFiles": ["gone"]})
    assert found(tmp_path) == [("export", "2024-01", ["export-00001.snappy.parquet"])]
    assert find_reports(tmp_path)[0].version.startswith("e-1-")


def test_a_copy_of_manifest_and_files_in_one_folder(tmp_path):
    write_rows(tmp_path / "octo-1.csv.gz", ["1"])
    key = f"cur/octo/{period('2024-01')}/new/octo-1.csv.gz"
    write_json(tmp_path / "octo-Manifest.json", legacy_manifest([key]))
    assert found(tmp_path) == [("octo", "2024-01", ["octo-1.csv.gz"])]


@pytest.mark.parametrize("name", ["part.parquet", "part.csv", "part.csv.gz", "part.csv.zip", "PART.CSV"])
def test_one_data_file(tmp_path, name):
    (report,) = find_reports(write_rows(tmp_path / name, ["1"]))
    assert (report.month, report.account) == ("2024-01", None)
    assert report.report == name.split(".")[0]


def test_data_files_of_several_months(tmp_path):
    for number, start in enumerate(["2024-01-01T00:00:00Z", "2024-02-01 00:00:00+00:00", "2024-01-01"]):
        text = csv_text([ROW | {"bill/BillingPeriodStartDate": start, "identity/LineItemId": str(number)}])
        write_csv(tmp_path / f"{number}.csv", text)
    (tmp_path / "README.md").write_text("not data")
    (tmp_path / "below").mkdir()
    write_rows(tmp_path / "below" / "old.csv", ["1"])
    assert found(tmp_path) == [
        (tmp_path.name, "2024-01", ["0.csv", "2.csv"]),
        (tmp_path.name, "2024-02", ["1.csv"]),
    ]
    assert found(tmp_path, "2024-02") == [(tmp_path.name, "2024-02", ["1.csv"])]


def test_the_version_of_loose_files_is_their_content(tmp_path):
    first = find_reports(write_rows(tmp_path / "a.csv", ["1"]))[0].version
    assert find_reports(tmp_path / "a.csv")[0].version == first
    assert find_reports(write_rows(tmp_path / "a.csv", ["2"]))[0].version != first


def test_files_without_rows_are_of_the_month_that_is_said(tmp_path):
    write_csv(tmp_path / "empty.csv", csv_text([]))
    with refused("empty.csv does not say its month: it has no rows", "Specify the month"):
        find_reports(tmp_path)
    assert found(tmp_path, "2024-03") == [(tmp_path.name, "2024-03", ["empty.csv"])]
    write_csv(tmp_path / "also-empty.csv", csv_text([]))
    write_rows(tmp_path / "full.csv", ["1"])
    assert found(tmp_path) == [(tmp_path.name, "2024-01", ["also-empty.csv", "empty.csv", "full.csv"])]


def test_a_new_text_is_a_new_version(tmp_path):
    manifest = legacy_report(tmp_path)
    first = find_reports(tmp_path)[0].version
    manifest.write_text(manifest.read_text() + "\n")
    second = find_reports(tmp_path)[0].version
    assert first != second
    assert first.split("-")[0] == second.split("-")[0] == "a1b2c3"


@pytest.mark.parametrize(
    ("name", "month"),
    [
        ("20240101-20240201", "2024-01"),
        ("20241201-20241231", "2024-12"),
        ("BILLING_PERIOD=2024-02", "2024-02"),
        ("billing_period=2024-02", "2024-02"),
        ("20241301-20240201", None),
        ("2024-01", None),
        ("x20240101-20240201", None),
    ],
)
def test_month_of_folder(name, month):
    assert month_of_folder(name) == month


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (
            {"billingPeriod": {"start": "20240201T000000.000Z"}},
            ["is of 2024-02, but its folder is of 2024-01"],
        ),
        (
            {"billingPeriod": {"start": "January"}},
            ["does not say its month: billingPeriod.start is 'January'"],
        ),
        ({"reportName": "daily"}, ["is the manifest of another report", "it says 'daily'", "after 'octo'"]),
        ({"reportKeys": []}, ["lists no data files"]),
        ({"reportKeys": "octo-1.csv"}, ["is not a manifest of a Cost and Usage Report"]),
        ({"reportKeys": ["a/octo-1.csv", "a/octo-1.csv"]}, ["lists a data file twice"]),
        ({"reportKeys": ["cur/../../secret.csv"]}, ["lists 'cur/../../secret.csv', which is not a file below"]),
        ({"reportKeys": ["s3://some-bucket/"]}, ["lists 's3://some-bucket/', which is not a file below"]),
        (
            {"reportKeys": ["cur/octo/20240101-20240201/octo-9.csv.gz"]},
            ["octo-9.csv.gz is listed in", "is not below"],
        ),
        ({"reportKeys": ["/etc/passwd"]}, ["etc/passwd is listed in", "is not below"]),
        (
            {"reportKeys": ["cur/octo/20240201-20240301/octo-1.csv.gz"]},
            ["is of 2024-01, but its data file cur/octo/20240201-20240301/octo-1.csv.gz is of 2024-02"],
        ),
        (
            {"reportKeys": ["cur/octo/20240101-20240201/octo-Manifest.json"]},
            ["files of several or unknown formats"],
        ),
        ({"assemblyId": "../../x"}, ["cannot be the version of a delivery"]),
    ],
)
def test_a_manifest_that_is_wrong(tmp_path, changes, parts):
    manifest = legacy_report(tmp_path)
    write_json(manifest, json.loads(manifest.read_text()) | changes)
    with refused(*parts):
        find_reports(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x80", "[" * 100_000])
def test_a_manifest_that_is_none(tmp_path, text):
    manifest = legacy_report(tmp_path)
    manifest.write_text(text, "latin-1")
    with refused(f"{manifest} is no"):
        find_reports(tmp_path)


def test_another_months_manifest_does_not_disturb(tmp_path):
    legacy_report(tmp_path)
    write_json(tmp_path / "cur/octo" / period("2024-02") / "octo-Manifest.json", "broken")
    assert [one.month for one in find_reports(tmp_path, month="2024-01")] == ["2024-01"]
    with refused("is not a JSON object"):
        find_reports(tmp_path)


def test_a_missing_file_is_not_replaced_by_another_refreshs(tmp_path):
    folder = create_new(tmp_path)
    data = folder / "new" / "octo-1.csv"
    data.rename(folder / "octo-1.csv")  # as OVERWRITE would have left it
    with refused("new/octo-1.csv is listed in", "is not below"):
        find_reports(tmp_path)


def test_refreshes_without_the_manifest_that_tells_the_current_one(tmp_path):
    folder = create_new(tmp_path, assembly="old")
    create_new(tmp_path, assembly="new")
    (folder / "octo-Manifest.json").unlink()
    with refused("are refreshes of one report", "Copy the whole folder of the period"):
        find_reports(tmp_path)


@pytest.mark.parametrize("is_loose", [True, False])
def test_links_that_lead_out_are_refused(tmp_path, is_loose):
    root = tmp_path / "reports"
    manifest = legacy_report(root)
    data = manifest.with_name("octo-1.csv.gz")
    data.rename(tmp_path / "secret.csv.gz")
    data.symlink_to(tmp_path / "secret.csv.gz")
    if is_loose:
        manifest.unlink()
    with refused(f"{data}", "is a link that leads out of"):
        find_reports(manifest.parent if is_loose else root)


def test_a_folder_or_file_without_report(tmp_path):
    with refused(f"{tmp_path} holds no Cost and Usage Report"):
        find_reports(tmp_path)
    with refused("nowhere does not exist"):
        find_reports(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    with refused("notes.txt holds no Cost and Usage Report"):
        find_reports(tmp_path / "notes.txt")
    with refused("'January' is not a month"):
        find_reports(tmp_path, month="January")


def test_loose_files_of_several_formats(tmp_path):
    for name in ("a.csv", "b.parquet"):
        write_rows(tmp_path / name, ["1"])
    with refused("has files of several or unknown formats (a.csv, b.parquet)"):
        find_reports(tmp_path)


def test_a_loose_file_of_no_bytes(tmp_path):
    (tmp_path / "a.csv").touch()
    with refused("a.csv is empty (0 bytes)"):
        find_reports(tmp_path)


def test_a_loose_file_whose_period_is_no_date(tmp_path):
    write_csv(tmp_path / "a.csv", csv_text([ROW | {"bill/BillingPeriodStartDate": "1/1/2024"}]))
    with refused("a.csv: the billing period of its first row begins '1/1/202', which is not a date"):
        find_reports(tmp_path)
