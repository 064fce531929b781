"""The landing in a bucket: whole or not there, the newest first, and read as from a folder."""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal

import duckdb
import pytest

from octo_pipeline.lake.lake import Lake
from octo_pipeline.lake.root import lake_root
from octo_pipeline.lake.s3_store import S3Path
from octo_pipeline.model.errors import OctoError
from octo_pipeline.vendors.aws.cur import land_cur
from octo_pipeline.vendors.aws.cur_relations import explain_failure, relation_sql
from octo_pipeline.vendors.data_files import path_literals
from octo_pipeline.vendors.downloads import SourceFile
from octo_pipeline.vendors.landing import damage, deliveries, newest_deliveries, remove, verify
from tests.support.landed_files import FILE_DATA, land_files
from tests.support.reports import NOW, PAYER, legacy_report, refused, source_file


@pytest.fixture
def root(s3_server, tmp_path, monkeypatch) -> S3Path:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return lake_root(f"s3://{s3_server.bucket()}/lake", tmp_path / "temp")


def keys(root: S3Path) -> list[str]:
    found = root.store._client.list_objects_v2(Bucket=root.bucket, Prefix=root.key).get("Contents", [])
    return [one["Key"].removeprefix(f"{root.key}/landing/aws/{PAYER}/") for one in found]


def put(root: S3Path, path: S3Path, body: bytes) -> None:
    root.store._client.put_object(Bucket=root.bucket, Key=path.key, Body=body)


def test_a_delivery_reads_back_as_it_was_landed(root, tmp_path):
    landed = land_files(root, source_file("a.csv", FILE_DATA), source_file("b c+%é#&=.csv", b"more"))
    assert landed.is_new
    assert str(landed.delivery.path) == f"s3://{root.bucket}/lake/landing/aws/{PAYER}/month=2024-01/v1"
    assert [path.open().read() for path in landed.delivery.file_paths] == [FILE_DATA, b"more"]
    assert deliveries(root) == [landed.delivery]
    verify(landed.delivery)
    assert keys(root) == [f"month=2024-01/v1/{name}" for name in ("_delivery.json", "a.csv", "b c+%é#&=.csv")]
    assert not list((tmp_path / "temp" / ".staging").iterdir())


def test_what_is_there_already_is_neither_fetched_nor_uploaded_again(root):
    first = land_files(root).delivery

    def never():
        raise AssertionError("was opened")

    again = land_files(root, SourceFile("a.csv", never), fetched_at=NOW + timedelta(days=1))
    assert (again.delivery, again.is_new) == (first, False)


def test_the_description_is_uploaded_last_and_removed_first(root):
    requests = []
    root.store._client.meta.events.register(
        "before-send.s3", lambda request, **_: requests.append((request.method, request.url.rpartition("/")[2]))
    )
    delivery = land_files(root, source_file("z.csv", FILE_DATA), source_file("a.csv", FILE_DATA)).delivery
    assert [name for method, name in requests if method == "PUT"] == ["a.csv", "z.csv", "_delivery.json"]
    requests.clear()
    remove(root, delivery)
    assert requests[0] == ("DELETE", "_delivery.json")
    assert keys(root) == []
    remove(root, delivery)


def test_files_without_description_are_no_delivery_and_are_taken_up(root):
    folder = land_files(root, source_file("a.csv", FILE_DATA), source_file("b.csv", b"more")).delivery.path
    root.store.remove(folder / "_delivery.json")
    put(root, folder / "b.csv", b"half")
    assert deliveries(root) == []
    uploaded = []
    root.store._client.meta.events.register(
        "before-send.s3.PutObject", lambda request, **_: uploaded.append(request.url.rpartition("/")[2])
    )
    landed = land_files(root, source_file("a.csv", FILE_DATA), source_file("b.csv", b"more"))
    assert landed.is_new
    assert uploaded == ["b.csv", "_delivery.json"]
    verify(landed.delivery)


@pytest.mark.parametrize("body", [b"short", None])
def test_a_delivery_that_lost_a_file_is_landed_again(root, body):
    path = land_files(root).delivery.file_paths[0]
    root.store.remove(path) if body is None else put(root, path, body)
    (damaged,) = deliveries(root)
    assert str(path) in damage(damaged)
    assert land_files(root).is_new
    assert path.open().read() == FILE_DATA


def test_verify_reads_all_again(root):
    delivery = land_files(root).delivery
    put(root, delivery.file_paths[0], b"same size"[:9])
    with refused(f"{delivery.file_paths[0]} is not what was landed: its SHA-256 differs"):
        verify(delivery)


def test_the_newest_of_each_account_wins_and_the_last_three_are_kept(root):
    for number in range(5):
        land_files(root, version=f"v{number}", fetched_at=NOW + timedelta(hours=number))
    land_files(root, account="999999999999", version="other-account")
    land_files(root, version="other-month", month="2024-02")
    assert [(one.account, one.version) for one in newest_deliveries(root, "2024-01")] == [
        (PAYER, "v4"),
        ("999999999999", "other-account"),
    ]
    assert [one.version for one in deliveries(root, account=PAYER, month="2024-01")] == ["v2", "v3", "v4"]


def test_a_file_that_appears_meanwhile_is_not_taken_for_ones_own(root, monkeypatch):
    """Who writes the description second finds the first one's delivery, whole."""
    upload, landed = root.store._upload_once, []

    def other_first(made, path):
        upload(made, path)
        if not landed:
            landed.append(True)
            assert land_files(lake_root(f"s3://{root.bucket}/lake", root.store.scratch), report="first").is_new

    monkeypatch.setattr(root.store, "_upload_once", other_first)
    second = land_files(root, report="second")
    assert (second.is_new, second.delivery.report) == (False, "first")
    verify(second.delivery)


def test_a_bucket_that_refuses_the_upload_leaves_no_delivery(root, monkeypatch):
    from botocore.exceptions import ClientError

    put_object = root.store._client.put_object

    def refuse(**given):
        if given["Key"].endswith("b.csv"):
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "PutObject")
        return put_object(**given)

    monkeypatch.setattr(root.store._client, "put_object", refuse)
    with refused(f"Cannot write s3://{root.bucket}/lake/landing/aws/", "b.csv: S3 denies it", "s3:PutObject"):
        land_files(root, source_file("a.csv", FILE_DATA), source_file("b.csv", b"more"))
    assert deliveries(root) == []
    assert keys(root) == ["month=2024-01/v1/a.csv"]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "csv.gz", "csv.zip"])
def test_a_report_is_read_and_explained_as_from_a_folder(root, tmp_path, suffix):
    legacy_report(tmp_path / "reports", ["1.5", "0.0000000001", "-0.25"], suffix=suffix)
    (landed,) = land_cur(root, tmp_path / "reports", fetched_at=NOW)
    with Lake(root).connect() as con:
        sql = relation_sql(con, [landed.delivery])
        query = f"SELECT sum(line_item_unblended_cost), count(*) FROM ({sql})"
        assert con.execute(query).fetchone() == (Decimal("1.2500000001"), 3)
        assert explain_failure(con, [landed.delivery]) is None
        path = landed.delivery.file_paths[0]
        with path.open() as stream:
            body = bytearray(stream.read())
        body[len(body) // 2] ^= 0xFF
        put(root, path, bytes(body))
        assert str(path) in str(explain_failure(con, [landed.delivery]))


def test_a_file_with_the_signs_of_a_pattern_in_its_name(root):
    delivery = land_files(root, source_file("a[1]*.csv", b"a,b\n1,2\n"), source_file("a1x.csv", b"a,b\n3,4\n")).delivery
    with Lake(root).connect() as con:
        found = con.execute(
            f"FROM read_csv({path_literals(delivery.file_paths[:1])}, hive_partitioning = false)"
        ).fetchall()
    assert found == [(1, 2)]


def test_a_file_with_a_question_mark_in_its_name_is_not_landed_since_it_could_not_be_read(root):
    with refused("a?b.csv could not be read again"):
        land_files(root, source_file("a.csv", FILE_DATA), source_file("a?b.csv", FILE_DATA))
    assert keys(root) == []


LANDING_PROCESS = """
import io, sys, time
from datetime import UTC, datetime
from pathlib import Path
from octo_pipeline.lake.root import lake_root
from octo_pipeline.vendors.landing import SourceFile, land

root, stop = lake_root(sys.argv[1], Path(sys.argv[2])), sys.argv[3] == "stop"
if stop:
    upload = root.store._upload_once
    def one(made, path):
        upload(made, path)
        print("one file there", flush=True)
        time.sleep(60)
    root.store._upload_once = one
landed = land(
    root, vendor="aws", account="111111111111", month="2024-01", version="v1", format="csv", report="octo",
    source="a bucket", files=[SourceFile(f"{n}.csv", lambda: io.BytesIO(b"x" * 100000)) for n in "ab"],
    fetched_at=datetime.now(UTC),
)
print(landed.is_new, flush=True)
"""


def start_landing(root: S3Path, tmp_path, how: str) -> subprocess.Popen:
    command = [sys.executable, "-c", LANDING_PROCESS, str(root), str(tmp_path / "temp"), how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_that_land_one_version_at_once_all_succeed_with_one_result(root, tmp_path):
    processes = [start_landing(root, tmp_path, "go") for _ in range(3)]
    results = [process.communicate(timeout=60) for process in processes]
    assert sorted(results) == [("False\n", ""), ("False\n", ""), ("True\n", "")]
    (delivery,) = deliveries(root)
    verify(delivery)
    assert keys(root) == [f"month=2024-01/v1/{name}" for name in ("_delivery.json", "a.csv", "b.csv")]


def test_a_killed_landing_leaves_nothing_readable_and_the_next_takes_it_up(root, tmp_path):
    process = start_landing(root, tmp_path, "stop")
    assert process.stdout.readline() == "one file there\n", process.stderr.read()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    assert deliveries(root) == []
    assert keys(root) == ["month=2024-01/v1/a.csv"]
    assert start_landing(root, tmp_path, "go").communicate(timeout=60) == ("True\n", "")
    verify(deliveries(root)[0])
    assert not list((tmp_path / "temp" / ".staging").iterdir())


def test_a_landed_file_that_is_gone_when_duckdb_reads_it_is_a_sentence(root, tmp_path):
    legacy_report(tmp_path / "reports", ["1.5"], suffix="parquet")
    (landed,) = land_cur(root, tmp_path / "reports", fetched_at=NOW)
    with (
        pytest.raises(OctoError, match=f"A file of the lake {root} cannot be read .*Run this again"),
        Lake(root).connect() as con,
    ):
        sql = relation_sql(con, [landed.delivery])
        remove(root, landed.delivery)
        with pytest.raises(duckdb.Error):
            con.execute("SELECT error('not this one')")
        con.execute(sql).fetchall()
