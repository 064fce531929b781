"""The lake in a bucket: a reader sees the old partition or the new one, whole, whatever happened to its writer."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from octo_pipeline.lake import s3_store as s3
from octo_pipeline.lake.lake import Lake, PartitionMetadata
from octo_pipeline.lake.root import lake_root
from octo_pipeline.model.errors import InputChangedError, OctoError

COLUMNS = {"value": "BIGINT"}

# A writer of its own process. "stop" ends its upload half way, for a kill: after one part of several, or in the
# middle of the only request.
WRITER = """
import io, sys, time
from pathlib import Path
from octo_pipeline.lake.lake import Lake, PartitionMetadata
from octo_pipeline.lake.root import lake_root
from octo_pipeline.lake import s3_store as s3
url, temp, month, value, rows, how = sys.argv[1:]
s3._PART = 5 << 20
root = lake_root(url, Path(temp))
lake = Lake(root)
metadata = PartitionMetadata({"value": value}, "test")
client = root.store._client
if how == "stop in parts":
    upload, stopped = client.upload_part, []
    def one_part(**given):
        if given["PartNumber"] > 1:
            while not stopped: time.sleep(0.01)
            time.sleep(60)
        answer = upload(**given)
        stopped.append(True)
        print("half way", flush=True)
        return answer
    client.upload_part = one_part
if how == "stop in a request":
    class Half(io.BytesIO):
        def read(self, count=-1):
            if self.tell() and self.sending:
                print("half way", flush=True)
                time.sleep(60)
            return super().read(min(count, 1000) if count > 0 else count)
    put = client.put_object
    def half(**given):
        body = Half(given.pop("Body").read())
        body.sending = False
        client.meta.events.register("before-send.s3.PutObject", lambda **_: setattr(body, "sending", True))
        return put(Body=body, **given)
    client.put_object = half
with lake.connect() as connection, lake.stage("t", month) as staged:
    lake.copy(connection, f"SELECT {value}::BIGINT AS value, hash(i) AS noise FROM range({rows}) AS r(i)", staged, metadata)
    print("published" if lake.publish(staged, still_current=lambda: metadata.inputs) else "unchanged", flush=True)
"""


@pytest.fixture
def lake(s3_server, tmp_path, monkeypatch) -> Lake:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return Lake(lake_root(f"s3://{s3_server.bucket()}/some/lake", tmp_path / "temp"))


def writer(lake: Lake, tmp_path: Path, month: str, value: int, rows: int, how: str = "at once") -> subprocess.Popen:
    arguments = [str(lake.root), str(tmp_path / "temp"), month, str(value), str(rows), how]
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def write(lake: Lake, month: str, query: str, inputs: dict[str, str], now: dict[str, str] | None = None) -> bool:
    with lake.connect() as connection, lake.stage("t", month) as staged:
        lake.copy(connection, query, staged, PartitionMetadata(inputs, "test"))
        return lake.publish(staged, still_current=lambda: now or inputs)


def read(lake: Lake) -> list[tuple]:
    with lake.connect() as connection:
        return connection.execute(
            f"SELECT month, count(value), min(value), max(value) FROM {lake.scan('t', None, COLUMNS, month_as='month')} "
            "GROUP BY ALL ORDER BY ALL"
        ).fetchall()


def keys(lake: Lake) -> list[str]:
    found = lake.root.store._client.list_objects_v2(Bucket=lake.root.bucket).get("Contents", [])
    return [one["Key"] for one in found]


def uploads(lake: Lake) -> int:
    return len(lake.root.store._client.list_multipart_uploads(Bucket=lake.root.bucket).get("Uploads", []))


def small_parts(monkeypatch) -> None:
    monkeypatch.setattr(s3, "_PART", 100)
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1)


def test_publishes_a_partition_that_any_reader_finds(lake):
    assert write(lake, "2024-01", "SELECT 7::BIGINT AS value", {"a": "1"})
    assert keys(lake) == ["some/lake/t/month=2024-01/data.parquet"]
    assert read(lake) == [("2024-01", 1, 7, 7)]
    assert lake.metadata("t", "2024-01").inputs == {"a": "1"}
    assert lake.rows("t", "2024-01") == 1
    assert (lake.tables(), lake.months("t")) == (["t"], ["2024-01"])
    assert list(lake.metadata_of("t", ["2023-12", "2024-01"])) == ["2024-01"]
    assert lake.metadata("t", "2023-12") is None


def test_a_lake_may_be_a_whole_bucket(s3_server, lake, tmp_path):
    whole = Lake(lake_root(f"s3://{s3_server.bucket()}", tmp_path / "temp"))
    write(whole, "2024-01", "SELECT 7::BIGINT AS value", {"a": "1"})
    assert keys(whole) == ["t/month=2024-01/data.parquet"]
    assert whole.tables() == ["t"]
    assert read(whole) == [("2024-01", 1, 7, 7)]


def test_same_fingerprint_writes_nothing(lake):
    write(lake, "2024-01", "SELECT 7::BIGINT AS value", {"a": "1"})
    assert not write(lake, "2024-01", "SELECT 8::BIGINT AS value", {"a": "1"})
    assert read(lake) == [("2024-01", 1, 7, 7)]
    assert write(lake, "2024-01", "SELECT 8::BIGINT AS value", {"a": "2"})
    assert read(lake) == [("2024-01", 1, 8, 8)]
    assert lake.metadata("t", "2024-01").inputs == {"a": "2"}


def test_a_slow_run_cannot_publish_old_results_last(lake):
    write(lake, "2024-01", "SELECT 7::BIGINT AS value", {"a": "2"})
    with pytest.raises(InputChangedError, match=r"t 2024-01 was not published: a changed"):
        write(lake, "2024-01", "SELECT 6::BIGINT AS value", {"a": "1"}, now={"a": "2"})
    assert read(lake) == [("2024-01", 1, 7, 7)]


@pytest.mark.parametrize("had_partition", [False, True], ids=["first write", "replacement"])
@pytest.mark.parametrize("in_parts", [True, False], ids=["in parts", "in one request"])
def test_who_is_overtaken_between_question_and_upload_asks_again(lake, monkeypatch, had_partition, in_parts):
    """The condition of the upload is what a lock is elsewhere: the question must be asked anew after a lost race."""
    if had_partition:
        write(lake, "2024-01", "SELECT 1::BIGINT AS value", {"a": "0"})
    if in_parts:
        small_parts(monkeypatch)
    asked = []

    def still_current() -> dict[str, str]:
        asked.append(True)
        if len(asked) == 1:
            write(Lake(lake.root), "2024-01", "SELECT 7::BIGINT AS value", {"a": "2"})
            return {"a": "1"}
        return {"a": "2"}

    with lake.connect() as connection, lake.stage("t", "2024-01") as staged:
        lake.copy(connection, "SELECT 6::BIGINT AS value", staged, PartitionMetadata({"a": "1"}, "slow"))
        with pytest.raises(InputChangedError, match="a changed while it was computed"):
            lake.publish(staged, still_current=still_current)
    assert len(asked) == 2
    assert read(lake) == [("2024-01", 1, 7, 7)]
    assert uploads(lake) == 0


@pytest.mark.parametrize("name", ["put_object", "complete_multipart_upload"])
def test_an_upload_whose_answer_was_lost_is_known_as_ones_own(lake, monkeypatch, name):
    """The client sends the request again, which its own success then refuses."""
    if name == "complete_multipart_upload":
        small_parts(monkeypatch)
    client = lake.root.store._client
    send = getattr(client, name)

    def twice(**given):
        send(**given)
        if hasattr(given.get("Body"), "seek"):
            given["Body"].seek(0)
        return send(**given)

    monkeypatch.setattr(client, name, twice)
    assert write(lake, "2024-01", "SELECT 7::BIGINT AS value", {"a": "1"})
    assert read(lake) == [("2024-01", 1, 7, 7)]


def test_a_reader_of_a_partition_that_is_replaced_computes_again_instead_of_mixing(lake):
    """Two months, so that the second is opened before and read after its replacement."""
    rows = "SELECT {}::BIGINT AS value, hash(i) AS noise FROM range(3000000) AS r(i)"
    write(lake, "2024-01", rows.format(7), {"a": "1"})
    with (
        pytest.raises(InputChangedError, match=r"t 2024-01 was replaced while it was read\. Run this again\."),
        lake.stage("u", "2024-01"),
        lake.connect() as connection,
    ):
        connection.execute("SET threads = 1")
        result = connection.execute(f"SELECT * FROM {lake.scan('t', None, {'value': 'BIGINT', 'noise': 'UBIGINT'})}")
        assert result.fetchmany(1)[0][0] == 7
        write(Lake(lake.root), "2024-01", rows.format(8), {"a": "2"})
        seen = {value for value, _ in result.fetchall()}
        raise AssertionError(f"read {seen}")


def test_an_empty_month_is_a_file_of_no_rows(lake):
    write(lake, "2024-01", "SELECT 7::BIGINT AS value WHERE false", {"a": "1"})
    assert (lake.months("t"), lake.rows("t", "2024-01"), read(lake)) == (["2024-01"], 0, [])


def test_a_footer_larger_than_the_first_read(lake, monkeypatch):
    monkeypatch.setattr(s3, "_FOOTER", 64)
    write(lake, "2024-01", "SELECT 7::BIGINT AS value", {"a": "x" * 100_000})
    assert lake.metadata("t", "2024-01").inputs == {"a": "x" * 100_000}


def test_a_foreign_or_damaged_file_is_a_sentence(lake, tmp_path):
    client = lake.root.store._client
    duckdb.sql(f"COPY (SELECT 1 AS value) TO '{tmp_path}/foreign.parquet'")
    body = (tmp_path / "foreign.parquet").read_bytes()
    place = {"Bucket": lake.root.bucket, "Key": lake.path("t", "2024-01").key}
    client.put_object(**place, Body=body)
    with pytest.raises(OctoError, match=rf"The file {lake.root}/t/month=2024-01/data.parquet was not written by octo"):
        lake.metadata("t", "2024-01")
    for damaged in (body[:-8], b"", b"PAR1"):
        client.put_object(**place, Body=damaged)
        with pytest.raises(OctoError, match=rf"The file {lake.root}/t/month=2024-01/data.parquet is damaged"):
            lake.metadata("t", "2024-01")


def test_remove(lake):
    write(lake, "2024-01", "SELECT 7::BIGINT AS value", {"a": "1"})
    lake.remove("t", "2024-01")
    lake.remove("t", "2024-01")
    assert lake.months("t") == []
    assert lake.fingerprint("t", "2024-01") is None


def test_what_is_read_once_is_not_read_again(lake):
    write(lake, "2024-01", "SELECT 7::BIGINT AS value", {"a": "1"})
    lake.metadata("t", "2024-01")
    requests = []
    lake.root.store._client.meta.events.register("before-send.s3", lambda request, **_: requests.append(request.method))
    lake.metadata("t", "2024-01")
    assert requests == ["HEAD"]
    requests.clear()
    lake.metadata_of("t", [f"2024-{n:02}" for n in range(1, 13)])
    assert requests == ["GET"], "one listing for all months"


@pytest.mark.parametrize(("how", "rows"), [("stop in parts", 2_000_000), ("stop in a request", 100_000)])
def test_kill_during_the_upload_leaves_the_last_good_partition(lake, tmp_path, how, rows):
    write(lake, "2024-01", "SELECT 7::BIGINT AS value", {"a": "1"})
    before = keys(lake)
    process = writer(lake, tmp_path, "2024-01", 8, rows, how)
    assert process.stdout.readline() == "half way\n", process.stderr.read()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert read(lake) == [("2024-01", 1, 7, 7)]
    assert keys(lake) == before
    assert write(lake, "2024-01", "SELECT 9::BIGINT AS value", {"a": "3"})
    assert read(lake) == [("2024-01", 1, 9, 9)]
    assert not list((tmp_path / "temp" / ".staging").iterdir()), "the next writer swept what the killed one left"


def test_many_processes_on_the_same_and_on_other_months(lake, tmp_path):
    processes = [writer(lake, tmp_path, month, n, 700_000) for n in range(2) for month in ("2024-01", "2024-02")]
    while any(p.poll() is None for p in processes):
        try:
            found = read(lake)
        except InputChangedError:
            continue  # a reader may be told to read again, not shown a mixture
        for _, count, low, high in found:
            assert (count, low) == (700_000, high)
    assert [(p.returncode, p.stdout.read(), p.stderr.read()) for p in processes] == [(0, "published\n", "")] * 4
    assert [(month, count, low == high) for month, count, low, high in read(lake)] == [
        ("2024-01", 700_000, True),
        ("2024-02", 700_000, True),
    ]
    assert len(keys(lake)) == 2
    assert uploads(lake) == 0


def test_processes_that_make_the_same_result_publish_it_once(lake, tmp_path):
    processes = [writer(lake, tmp_path, "2024-01", 5, 700_000) for _ in range(3)]
    said = [p.communicate(timeout=60) for p in processes]
    assert sorted(out for out, _ in said) == ["published\n", "unchanged\n", "unchanged\n"], said
    assert read(lake) == [("2024-01", 700_000, 5, 5)]
