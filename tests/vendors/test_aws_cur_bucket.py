"""Reports in S3, against moto's server: layouts, versions, what AWS refuses."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from octo_pipeline.vendors.aws import cur_bucket as aws_cur_bucket
from octo_pipeline.vendors.aws.client import cur_source
from octo_pipeline.vendors.aws.cur_bucket import CurBucketSource, CurDocument
from octo_pipeline.vendors.aws.cur_reports import find_reports
from tests.emulators.aws import upload
from tests.support.reports import (
    PAYER,
    legacy_manifest,
    legacy_report,
    period,
    refused,
    write_json,
    write_rows,
)

NOW = datetime(2024, 2, 3, tzinfo=UTC)
MONTH = "2024-01"


def source(**given: str) -> CurBucketSource:
    document = {"vendor": "aws", "account": PAYER, "bucket": "company-cur"} | given
    return cur_source(CurDocument.model_validate(document))


def landed_files(landed) -> list[tuple[str, bytes]]:
    return [(path.name, path.read_bytes()) for one in landed for path in one.delivery.file_paths]


def data_export(root: Path, month: str = MONTH, execution: str = "e-1", cost: str = "2.5") -> None:
    folder = root / "exports/cur2"
    write_rows(folder / f"data/BILLING_PERIOD={month}/{execution}/cur2-00001.snappy.parquet", [cost])
    key = f"exports/cur2/data/BILLING_PERIOD={month}/{execution}/cur2-00001.snappy.parquet"
    manifest = {
        "executionId": execution,
        "exportArn": f"arn:aws:bcm-data-exports:us-east-1:{PAYER}:export/cur2",
        "dataFiles": [f"s3://company-cur/{key}"],
    }
    write_json(folder / f"metadata/BILLING_PERIOD={month}/cur2-Manifest.json", manifest)


@pytest.mark.parametrize("prefix", ["", "cur", "cur/", "cur/octo"])
def test_a_legacy_report_is_landed_as_from_a_folder(aws, tmp_path, prefix):
    legacy_report(tmp_path / "reports", ["1.5", "2"])
    upload(aws, tmp_path / "reports")
    (available,) = source(prefix=prefix).available(MONTH)
    (local,) = find_reports(tmp_path / "reports")
    assert (available.account, available.report, available.version) == (PAYER, "octo", local.version)
    landed = source(prefix=prefix).land(tmp_path / "lake", MONTH, NOW)
    assert [(one.is_new, one.delivery.version, one.delivery.account) for one in landed] == [
        (True, local.version, PAYER)
    ]
    assert landed[0].delivery.source == "s3://company-cur/cur/octo/20240101-20240201/octo-Manifest.json"
    assert landed_files(landed) == [(f.name, f.open().read()) for f in local.files]
    (again,) = source(prefix=prefix).land(tmp_path / "lake", MONTH, NOW)
    assert not again.is_new


def test_of_old_refreshes_beside_the_current_one_only_that_is_landed(aws, tmp_path):
    root = tmp_path / "reports/cur/octo" / period(MONTH)
    for assembly, cost in (("old", "1"), ("new", "7")):
        key = f"cur/octo/{period(MONTH)}/{assembly}/octo-1.csv.gz"
        write_rows(tmp_path / "reports" / key, [cost])
        write_json(root / assembly / "octo-Manifest.json", legacy_manifest([key], assemblyId=assembly))
    write_json(root / "octo-Manifest.json", legacy_manifest([key], assemblyId="new"))
    upload(aws, tmp_path / "reports")
    (landed,) = source().land(tmp_path / "lake", MONTH, NOW)
    assert landed.delivery.version.startswith("new-")
    aws.delete_object(Bucket="company-cur", Key=f"cur/octo/{period(MONTH)}/octo-Manifest.json")
    # S3 tells times to the second.
    time.sleep(1.1)
    upload(aws, root / "old", prefix=f"cur/octo/{period(MONTH)}/old/")
    assert [one.version.split("-")[0] for one in source().available(MONTH)] == ["old"]


def test_a_data_export_is_landed(aws, tmp_path):
    data_export(tmp_path / "reports")
    upload(aws, tmp_path / "reports")
    (landed,) = source(prefix="exports").land(tmp_path / "lake", MONTH, NOW)
    assert (landed.delivery.report, landed.delivery.format) == ("cur2", "parquet")
    assert landed.delivery.version.startswith("e-1-")


def test_a_new_execution_is_a_new_version(aws, tmp_path):
    data_export(tmp_path / "one")
    upload(aws, tmp_path / "one")
    source().land(tmp_path / "lake", MONTH, NOW)
    data_export(tmp_path / "two", execution="e-2", cost="9")
    upload(aws, tmp_path / "two")
    (landed,) = source().land(tmp_path / "lake", MONTH, NOW + timedelta(hours=6))
    assert landed.is_new
    assert landed.delivery.version.startswith("e-2-")


def test_a_bucket_that_was_copied_below_another_prefix_is_read(aws, tmp_path):
    data_export(tmp_path / "reports")
    legacy_report(tmp_path / "reports", ["2.5"])
    upload(aws, tmp_path / "reports", prefix="archive/2024/")
    assert len(source(prefix="archive").land(tmp_path / "lake", MONTH, NOW)) == 2
    assert len(source(prefix="archive", report="octo").available(MONTH)) == 1


def test_a_report_without_a_prefix_is_below_a_folder_without_a_name(aws, tmp_path):
    key = f"/octo/{period(MONTH)}/octo-1.csv.gz"
    write_rows(tmp_path / "octo-1.csv.gz", ["3"])
    aws.upload_file(str(tmp_path / "octo-1.csv.gz"), "company-cur", key)
    manifest = json.dumps(legacy_manifest([key])).encode()
    aws.put_object(Bucket="company-cur", Key=f"/octo/{period(MONTH)}/octo-Manifest.json", Body=manifest)
    (landed,) = source().land(tmp_path / "lake", MONTH, NOW)
    assert landed.is_new


def test_a_month_without_a_report_is_nothing_and_a_place_without_any_is_an_error(aws, tmp_path):
    legacy_report(tmp_path / "reports")
    upload(aws, tmp_path / "reports")
    assert source().available("2024-02") == []
    assert source().land(tmp_path / "lake", "2024-02", NOW) == []
    with refused(f"AWS account {PAYER}", "no Cost and Usage Report below s3://company-cur/elsewhere/"):
        source(prefix="elsewhere").available(MONTH)


def test_a_look_does_not_grow_with_the_bucket(aws, tmp_path):
    data_export(tmp_path / "reports")
    for number in range(30):
        month = f"20{10 + number // 12}-{number % 12 + 1:02}"
        key = f"exports/cur2/data/BILLING_PERIOD={month}/x/f.parquet"
        aws.put_object(Bucket="company-cur", Key=key, Body=b"x")
        aws.put_object(Bucket="company-cur", Key=key.replace("data/", "metadata/"), Body=b"x")
    upload(aws, tmp_path / "reports")
    found = source()
    calls = []
    s3 = found.bucket._s3
    s3.meta.events.register("before-call.s3", lambda **given: calls.append(given["model"].name))
    assert len(found.available(MONTH)) == 1
    assert sorted(set(calls)) == ["GetObject", "ListObjectsV2"]
    assert len(calls) <= 6


def test_a_missing_data_file_is_named_and_nothing_is_landed(aws, tmp_path):
    legacy_report(tmp_path / "reports", ["1", "2"])
    keys = upload(aws, tmp_path / "reports")
    aws.delete_object(Bucket="company-cur", Key=keys[1])
    with refused(f"AWS account {PAYER}", "octo-2.csv.gz is listed in s3://company-cur/", "next refresh"):
        source().land(tmp_path / "lake", MONTH, NOW)
    assert not (tmp_path / "lake" / "landing").exists()


def test_a_report_in_the_middle_of_a_refresh_is_left_to_the_next_run(aws, tmp_path, monkeypatch):
    legacy_report(tmp_path / "reports", ["1"])
    manifest, data = reversed(upload(aws, tmp_path / "reports"))
    found = source()
    listed = found.bucket.folder

    def data_is_newer(prefix):
        folders, objects = listed(prefix)
        age = {data: timedelta(seconds=10), manifest: timedelta(hours=8)}
        return folders, [type(one)(one.key, one.size, one.etag, datetime.now(UTC) - age[one.key]) for one in objects]

    monkeypatch.setattr(found.bucket, "folder", data_is_newer)
    with refused("is being refreshed: its data is newer", "The next run will land it"):
        found.land(tmp_path / "lake", MONTH, NOW)
    monkeypatch.setattr(aws_cur_bucket, "_REFRESH_TAKES", timedelta(seconds=5))
    assert len(found.land(tmp_path / "lake", MONTH, NOW)) == 1


def test_a_file_that_changes_between_listing_and_reading_is_not_mixed_in(aws, tmp_path, monkeypatch):
    legacy_report(tmp_path / "reports", ["1", "2"])
    keys = upload(aws, tmp_path / "reports")
    found = source()
    parts = found.bucket.digest_parts

    def rewritten(one):
        aws.put_object(Bucket="company-cur", Key=keys[0], Body=b"something else")
        return parts(one)

    monkeypatch.setattr(found.bucket, "digest_parts", rewritten)
    with refused("changed while it was read", "the next run takes the new version"):
        found.land(tmp_path / "lake", MONTH, NOW)
    assert not (tmp_path / "lake" / "landing").exists()


def test_one_bad_report_stops_no_other(aws, tmp_path):
    legacy_report(tmp_path / "reports", ["1"])
    data_export(tmp_path / "reports")
    keys = upload(aws, tmp_path / "reports")
    aws.delete_object(Bucket="company-cur", Key=next(key for key in keys if key.endswith(".csv.gz")))
    with refused("octo-1.csv.gz is listed in"):
        source().land(tmp_path / "lake", MONTH, NOW)
    assert [p.name.split("-")[0] for p in (tmp_path / "lake").glob("landing/aws/*/*/*")] == ["e"]


def test_another_payers_report_is_refused(aws, tmp_path):
    legacy_report(tmp_path / "reports", ["1"])
    upload(aws, tmp_path / "reports")
    with refused("999988887777"):
        source(account="999988887777").land(tmp_path / "lake", MONTH, NOW)


def test_a_multipart_upload_is_verified(aws, tmp_path):
    legacy_report(tmp_path / "reports", ["1"])
    keys = upload(aws, tmp_path / "reports")
    body = aws.get_object(Bucket="company-cur", Key=keys[0])["Body"].read()
    made = aws.create_multipart_upload(Bucket="company-cur", Key=keys[0])
    part = aws.upload_part(Bucket="company-cur", Key=keys[0], UploadId=made["UploadId"], PartNumber=1, Body=body)
    aws.complete_multipart_upload(
        Bucket="company-cur",
        Key=keys[0],
        UploadId=made["UploadId"],
        MultipartUpload={"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]},
    )
    manifest = aws.get_object(Bucket="company-cur", Key=keys[1])["Body"].read()
    aws.put_object(Bucket="company-cur", Key=keys[1], Body=manifest)
    (landed,) = source().land(tmp_path / "lake", MONTH, NOW)
    assert landed.delivery.file_paths[0].read_bytes() == body


def test_an_assumed_role_reads_the_bucket(aws, tmp_path):
    legacy_report(tmp_path / "reports", ["1"])
    upload(aws, tmp_path / "reports")
    found = source(role_arn=f"arn:aws:iam::{PAYER}:role/octo", external_id="octo-7f3a")
    asked = []
    s3 = found.bucket._s3
    credentials = s3._request_signer._credentials
    s3.meta.events.register("before-call.s3", lambda **given: asked.append(given["params"]["headers"]))
    (landed,) = found.land(tmp_path / "lake", MONTH, NOW)
    assert landed.is_new
    assert credentials.method == "sts-assume-role"
    assert credentials.get_frozen_credentials().access_key != "testing"
    assert credentials.get_frozen_credentials().token


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"bucket": "no-such-bucket"}, ["could not list the objects at s3://no-such-bucket/", "no such bucket"]),
        ({"bucket": "No_Bucket_Name!"}, ["could not list the objects"]),
    ],
)
def test_a_wrong_bucket_is_a_sentence(aws, given, parts):
    with refused(f"AWS account {PAYER}", *parts):
        source(**given).available(MONTH)
