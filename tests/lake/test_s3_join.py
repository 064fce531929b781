"""Parts in a bucket become one object there: whole or not at all, and most of it without passing through this machine."""

import os
import signal
import subprocess
import sys
from itertools import accumulate, pairwise
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octo_pipeline.lake import lake as lake_module
from octo_pipeline.lake import s3_blocks
from octo_pipeline.lake.lake import Lake, PartitionMetadata, part_ranges
from octo_pipeline.lake.root import lake_root
from octo_pipeline.lake.s3_blocks import Span, blocks
from octo_pipeline.lake.s3_store import S3Path
from octo_pipeline.model.errors import InputChangedError, OctoError

COLUMNS = {"value": "BIGINT", "name": "VARCHAR"}
METADATA = PartitionMetadata({"a": "1"}, "test")
SMALLEST = 30_000
# Sizes of parts in rows, and which of them are small enough to be written together; 8 bytes a row do not compress.
SIZES = {"large": 20_000, "empty": 0, "tiny": 5, "small": 700, "larger": 30_000, "alone": 900, "last": 9000}

# A process of its own that is killed when all blocks are there and only the last request is missing.
JOINER = """
import sys, time
from pathlib import Path
from octo_pipeline.lake import lake as lake_module, s3_blocks
from octo_pipeline.lake.lake import Lake, PartitionMetadata
from octo_pipeline.lake.root import lake_root
lake_module._ROWS_OF_A_GROUP, s3_blocks._SMALLEST = 1000, 30_000
root = lake_root(sys.argv[1], Path(sys.argv[2]))
lake = Lake(root)
def wait(**_):
    print("all but the last request", flush=True)
    time.sleep(60)
root.store._client.complete_multipart_upload = wait
with lake.stage("t", "2024-01") as staged:
    lake.join(list(lake.parts("t", "2024-01").values()), staged, PartitionMetadata({"a": "2"}, "killed"))
    lake.publish(staged, still_current=lambda: {"a": "2"})
"""


@given(
    sizes=st.lists(st.tuples(st.booleans(), st.integers(0, 40) | st.integers(40, 300)), max_size=12),
    sent=st.sampled_from([10, 16, 33]),
)
def test_blocks_are_all_bytes_in_their_order_and_as_large_as_they_must_be(sizes, sent):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3_blocks, "_SMALLEST", 10)
        patch.setattr(s3_blocks, "_COPIED", 100)
        spans = [
            Span(Path(f"{number}") if is_local else S3Path("b", f"{number}", None), 4, 4 + size, "version")
            for number, (is_local, size) in enumerate(sizes)
        ]
        cut = blocks(spans, sent)
    assert [(span.path, position, span.version) for span in spans for position in range(span.start, span.stop)] == [
        (span.path, position, span.version)
        for block in cut
        for span in block
        for position in range(span.start, span.stop)
    ]
    block_sizes = [sum(span.size for span in block) for block in cut]
    assert all(size >= 10 for size in block_sizes[:-1])
    assert all(span.size for block in cut for span in block)
    # What is sent is held in memory.
    assert all(
        size < (110 if len(block) == 1 and isinstance(block[0].path, S3Path) else max(20, sent + 10))
        for size, block in zip(block_sizes, cut, strict=True)
    )


@pytest.fixture
def lake(s3_server, tmp_path, monkeypatch) -> Lake:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(lake_module, "_ROWS_OF_A_GROUP", 1000)
    monkeypatch.setattr(s3_blocks, "_SMALLEST", SMALLEST)
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", SMALLEST)
    return Lake(lake_root(f"s3://{s3_server.bucket()}/lake", tmp_path / "temp"))


def keep(lake: Lake, name: str, rows: int, columns: str = "") -> S3Path:
    with lake.staging_folder() as folder:
        duckdb.sql(
            f"COPY (SELECT (hash('{name}', i) // 2)::BIGINT AS value, '{name}' AS name {columns} FROM range({rows}) AS r(i)) "
            f"TO '{folder}/part' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 10240)"
        )
        return lake.keep_part(folder / "part", "t", "2024-01", name)


def publish(lake: Lake, parts: list, inputs: dict[str, str] | None = None) -> bool:
    metadata = PartitionMetadata(inputs or {"a": "1"}, "test")
    with lake.stage("t", "2024-01") as staged:
        lake.join(parts, staged, metadata)
        return lake.publish(staged, still_current=lambda: metadata.inputs)


def read(lake: Lake) -> list[tuple]:
    with lake.connect() as connection:
        return rows_in(connection, lake.scan("t", ["2024-01"], COLUMNS, row_number_as="row"))


def rows_of(lake: Lake, *parts: S3Path) -> list[tuple]:
    with lake.connect() as connection:
        return [row for part in parts for row in rows_in(connection, part_relation(part))]


def part_relation(part: S3Path) -> str:
    return f"(SELECT *, file_row_number AS row FROM read_parquet('{part}', file_row_number = true))"


def rows_in(connection: duckdb.DuckDBPyConnection, relation: str) -> list[tuple]:
    return connection.execute(f"SELECT value, name FROM {relation} ORDER BY row").fetchall()


def uploads(lake: Lake) -> int:
    return len(lake.root.store._client.list_multipart_uploads(Bucket=lake.root.bucket).get("Uploads", []))


def test_parts_in_the_bucket_are_one_object_with_their_rows_in_order(lake):
    parts = [keep(lake, name, rows) for name, rows in SIZES.items()]
    sent, copied = [], []
    events = lake.root.store._client.meta.events
    events.register("before-parameter-build.s3.UploadPart", lambda params, **_: sent.append(len(params["Body"])))
    events.register("before-parameter-build.s3.UploadPartCopy", lambda params, **_: copied.append(params))

    with lake.stage("t", "2024-01") as staged:
        lake.join(parts, staged, METADATA, facts={"more": 2})
        # What is proved are the rows of the parts; nothing is published yet.
        with lake.connect() as connection:
            names = connection.execute(f"SELECT name, count(*) FROM {staged.relation} GROUP BY ALL").fetchall()
        assert dict(names) == {name: rows for name, rows in SIZES.items() if rows}
        assert lake.months("t") == []
        assert lake.publish(staged, still_current=lambda: METADATA.inputs)

    ends = list(accumulate(SIZES.values(), initial=0))
    with lake.connect() as connection:
        for part, rows in zip(parts, pairwise(ends), strict=True):
            relation = lake.scan("t", ["2024-01"], COLUMNS, row_number_as="row", rows=rows)
            assert rows_in(connection, relation) == rows_in(connection, part_relation(part))
    metadata = lake.metadata("t", "2024-01")
    assert metadata.facts == {"more": 2, "parts": [[name, rows] for name, rows in SIZES.items()]}
    assert metadata.rows == ends[-1]
    # The beginning of a large part fills up the small ones before it.
    assert len(copied) == 3
    assert sum(sent) < 4 * SMALLEST
    assert uploads(lake) == 0
    assert not publish(lake, parts)


def test_parts_in_the_bucket_and_local_ones_are_joined(lake, tmp_path):
    large, local = keep(lake, "large", 20_000), tmp_path / "local.parquet"
    duckdb.sql(f"COPY (SELECT i AS value, 'local' AS name FROM range(8000) AS r(i)) TO '{local}' (COMPRESSION zstd)")
    publish(lake, [local, large, local])
    assert read(lake) == [(i, "local") for i in range(8000)] + rows_of(lake, large) + [
        (i, "local") for i in range(8000)
    ]


def test_small_parts_alone_are_written_together_and_uploaded(lake):
    parts = [keep(lake, str(number), 10) for number in range(5)]
    publish(lake, parts)
    assert read(lake) == rows_of(lake, *parts)


def test_who_is_overtaken_before_the_last_request_asks_again(lake):
    parts = [keep(lake, "a", 20_000), keep(lake, "b", 20_000)]
    publish(lake, parts[:1], {"a": "0"})
    asked = []

    def still_current() -> dict[str, str]:
        asked.append(True)
        if len(asked) == 1:
            publish(Lake(lake.root), parts[1:], {"a": "2"})
            return {"a": "1"}
        return {"a": "2"}

    with lake.stage("t", "2024-01") as staged:
        lake.join(parts, staged, METADATA)
        with pytest.raises(InputChangedError, match="a changed while it was computed"):
            lake.publish(staged, still_current=still_current)
    assert len(asked) == 2
    assert read(lake) == rows_of(lake, parts[1])
    assert uploads(lake) == 0


def test_an_answer_that_was_lost_is_known_as_ones_own(lake, monkeypatch):
    client = lake.root.store._client
    complete = client.complete_multipart_upload

    def twice(**given):
        complete(**given)
        return complete(**given)

    monkeypatch.setattr(client, "complete_multipart_upload", twice)
    part = keep(lake, "a", 20_000)
    assert publish(lake, [part, part])
    assert read(lake) == rows_of(lake, part, part)


@pytest.mark.parametrize(
    ("rows", "change", "message"),
    [
        (20_000, "removed", "The part {} is not there any more. Run this again."),
        (20_000, "replaced", "The part {} was replaced while it was joined. Run this again."),
        # Too small to be copied in the bucket.
        (900, "removed", "The part {} is not there any more. Run this again."),
        (900, "replaced", "{} was replaced while it was read. Run this again."),
    ],
)
def test_a_part_that_changes_before_it_is_copied_is_refused(lake, rows, change, message):
    first, second = keep(lake, "a", 20_000), keep(lake, "b", rows)
    publish(lake, [first], {"a": "0"})
    with lake.stage("t", "2024-01") as staged:
        lake.join([first, second], staged, METADATA)
        if change == "removed":
            lake.drop_parts("t", "2024-01", but=["a"])
        else:
            keep(lake, "b", rows + 1)
        with pytest.raises(InputChangedError) as refused:
            lake.publish(staged, still_current=lambda: METADATA.inputs)
    assert str(refused.value) == message.format(second)
    assert read(lake) == rows_of(lake, first)
    assert uploads(lake) == 0


def test_a_lost_part_a_damaged_one_and_one_of_another_table_are_refused(lake):
    parts = [keep(lake, "a", 20_000), keep(lake, "b", 20_000, ", 1 AS more")]
    with pytest.raises(
        OctoError, match=r"b\.parquet cannot be joined with .*a\.parquet: they differ in the column more"
    ):
        publish(lake, parts)
    client = lake.root.store._client
    client.put_object(Bucket=lake.root.bucket, Key=parts[1].key, Body=b"PAR1")
    with pytest.raises(OctoError, match=f"The part {parts[1]} is damaged: it does not end as a Parquet file"):
        publish(lake, parts)
    lake.drop_parts("t", "2024-01", but=["a"])
    with pytest.raises(InputChangedError, match=f"The part {parts[1]} is not there any more"):
        publish(lake, parts)
    assert lake.months("t") == []


def test_a_small_part_that_is_gone_when_it_is_written_with_others_is_a_sentence(lake, monkeypatch):
    parts = [keep(lake, name, 10) for name in "ab"]
    together = Lake._write_together

    def late(self, *arguments):
        lake.drop_parts("t", "2024-01", but=["a"])
        together(self, *arguments)

    monkeypatch.setattr(Lake, "_write_together", late)
    with pytest.raises(InputChangedError, match=f"The part {parts[1]} is not there any more"):
        publish(lake, parts)


def test_kill_before_the_last_request_leaves_the_old_object(lake, tmp_path):
    parts = [keep(lake, "a", 20_000), keep(lake, "b", 20_000)]
    publish(lake, parts[:1])
    process = subprocess.Popen(
        [sys.executable, "-c", JOINER, str(lake.root), str(tmp_path / "temp")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "all but the last request\n"
    assert uploads(lake) == 1
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert read(lake) == rows_of(lake, parts[0])
    assert publish(lake, parts, {"a": "3"})
    assert read(lake) == rows_of(lake, *parts)


def test_real_limits_of_s3(s3_server, monkeypatch, tmp_path):
    """Without smaller limits: the server refuses blocks under 5 MiB."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    lake = Lake(lake_root(f"s3://{s3_server.bucket()}", tmp_path / "temp"))
    parts = [keep(lake, name, rows) for name, rows in {"a": 700_000, "b": 50_000, "c": 700_000}.items()]
    publish(lake, parts)
    with lake.connect() as connection:
        files = ", ".join(f"'{part}'" for part in parts)
        joined, apart = (
            connection.execute(f"SELECT bit_xor(hash(value, name)), count(*) FROM {relation}").fetchall()
            for relation in (lake.scan("t", None, COLUMNS), f"read_parquet([{files}])")
        )
    assert joined == apart


def test_a_second_attempt_has_its_own_parts_alone(lake):
    """Regression: the parts of an attempt that failed were published with those that took their place."""
    first = [keep(lake, name, 20_000) for name in ("a", "b")]
    with lake.stage("t", "2024-01") as staged:
        lake.join(first, staged, METADATA)
        second = [keep(lake, name, 20_000) for name in ("c", "d")]
        lake.join(second, staged, METADATA)
        assert [part.path for part in staged.parts] == second
        assert lake.publish(staged, still_current=lambda: METADATA.inputs)
    assert {name for _, name in read(lake)} == {"c", "d"}
    assert [name for name, *_ in part_ranges(lake.metadata("t", "2024-01"))] == ["c", "d"]
    assert lake.rows("t", "2024-01") == 40_000
    # A third attempt whose parts are small and local is a file of this machine.
    with lake.stage("t", "2024-01") as staged:
        lake.join(first, staged, METADATA)
        lake.join([keep(lake, name, 10) for name in ("e", "f")], staged, METADATA)
        assert (staged.parts, staged.rows) == ([], 20)
