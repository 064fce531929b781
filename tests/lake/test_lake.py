"""The lake's one promise: a reader sees the old partition or the new one, whole, whatever happened to its writer."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from octo_pipeline.lake import lake as lake_module
from octo_pipeline.lake import staging
from octo_pipeline.lake.folder_store import LocalStore
from octo_pipeline.lake.lake import Lake, PartitionMetadata, fingerprint
from octo_pipeline.model.errors import InputChangedError, OctoError
from octo_pipeline.settings import Settings, load_settings

COLUMNS = {"value": "BIGINT"}

# A writer of its own process: writes `rows` rows of one value in small row groups, so that a kill meets it half way.
WRITER = """
import sys
from pathlib import Path
from octo_pipeline.lake.lake import Lake, PartitionMetadata
root, month, value, rows, publish = sys.argv[1:]
lake = Lake(Path(root))
metadata = PartitionMetadata({"value": value}, "test")
with lake.connect() as connection, lake.stage("t", month) as staged:
    print("writing", flush=True)
    lake.copy(connection, f"SELECT {value}::BIGINT AS value FROM range({rows})", staged, metadata)
    print("written", flush=True)
    if publish == "wait":
        import time; time.sleep(60)
    lake.publish(staged, still_current=lambda: metadata.inputs)
print("published", flush=True)
"""


def writer(lake: Lake, month: str, value: int, rows: int, publish: str = "now") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(lake.root), month, str(value), str(rows), publish],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
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


def glob(lake: Lake) -> list[str]:
    """What any reader of the lake finds, hidden folders included."""
    return sorted(str(p.relative_to(lake.root)) for p in lake.root.rglob("*.parquet"))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def test_publishes_a_partition_that_any_reader_finds(lake):
    assert write(lake, "2024-01", "SELECT 7::BIGINT AS value", {"a": "1"})
    assert glob(lake) == ["t/month=2024-01/data.parquet"]
    rows = duckdb.sql(f"SELECT * FROM read_parquet('{lake.root}/t/*/*.parquet', hive_partitioning = true)").fetchall()
    assert [value for value, _ in rows] == [7]
    assert lake.metadata("t", "2024-01").inputs == {"a": "1"}
    assert lake.fingerprint("t", "2024-01") == fingerprint({"a": "1"})
    assert lake.rows("t", "2024-01") == 1


def test_same_fingerprint_writes_nothing(lake):
    write(lake, "2024-01", "SELECT 7::BIGINT AS value", {"a": "1"})
    before = lake.path("t", "2024-01").stat()
    assert not write(lake, "2024-01", "SELECT 8::BIGINT AS value", {"a": "1"})
    after = lake.path("t", "2024-01").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert read(lake) == [("2024-01", 1, 7, 7)]


def test_a_slow_run_cannot_publish_old_results_last(lake):
    write(lake, "2024-01", "SELECT 7::BIGINT AS value", {"a": "2"})
    with pytest.raises(InputChangedError, match=r"t 2024-01 was not published: a changed"):
        write(lake, "2024-01", "SELECT 6::BIGINT AS value", {"a": "1"}, now={"a": "2"})
    assert read(lake) == [("2024-01", 1, 7, 7)]


def test_an_empty_month_is_a_file_of_no_rows(lake):
    write(lake, "2024-01", "SELECT 7::BIGINT AS value WHERE false", {"a": "1"})
    assert lake.months("t") == ["2024-01"]
    assert lake.rows("t", "2024-01") == 0
    assert read(lake) == []
    assert duckdb.sql(f"DESCRIBE FROM '{lake.path('t', '2024-01')}'").fetchall()[0][:2] == ("value", "BIGINT")


def test_an_absent_table_is_a_relation_without_rows(lake):
    assert read(lake) == []


def test_a_failure_while_writing_leaves_nothing(lake):
    with pytest.raises(duckdb.Error), lake.connect() as connection, lake.stage("t", "2024-01") as staged:
        lake.copy(connection, "SELECT error('no') AS value", staged, PartitionMetadata({}, "test"))
    assert glob(lake) == []
    assert list((lake.root / ".staging").iterdir()) == []


def test_metadata_keeps_any_text(lake):
    text = "é \\ \n \"x' {};--"
    write(lake, "2024-01", "SELECT 1::BIGINT AS value", {"a": text})
    assert lake.metadata("t", "2024-01").inputs == {"a": text}


def test_a_foreign_or_damaged_file_is_a_sentence(lake):
    path = lake.path("t", "2024-01")
    path.parent.mkdir(parents=True)
    duckdb.sql(f"COPY (SELECT 1 AS value) TO '{path}'")
    with pytest.raises(OctoError, match="was not written by octo-pipeline"):
        lake.metadata("t", "2024-01")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(OctoError, match="is damaged"):
        lake.metadata("t", "2024-01")


@pytest.mark.parametrize("had_partition", [False, True], ids=["first write", "replacement"])
def test_kill_while_writing_leaves_the_last_good_partition(lake, had_partition):
    if had_partition:
        write(lake, "2024-01", "SELECT 7::BIGINT AS value", {"a": "1"})
    process = writer(lake, "2024-01", 8, 2_000_000_000)
    assert process.stdout.readline() == "writing\n"
    deadline = time.monotonic() + 20
    while not list(lake.root.glob(".staging/*/data.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    visible = [p for p in glob(lake) if not p.startswith(".staging")]
    assert visible == (["t/month=2024-01/data.parquet"] if had_partition else [])
    assert read(lake) == ([("2024-01", 1, 7, 7)] if had_partition else [])
    assert staging.sweep(lake.root) == 1
    assert glob(lake) == visible


def test_kill_between_writing_and_publishing_leaves_the_last_good_partition(lake):
    write(lake, "2024-01", "SELECT 7::BIGINT AS value", {"a": "1"})
    process = writer(lake, "2024-01", 8, 10, publish="wait")
    assert [process.stdout.readline() for _ in range(2)] == ["writing\n", "written\n"]
    assert staging.sweep(lake.root) == 0, "a living writer's folder is its own"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert read(lake) == [("2024-01", 1, 7, 7)]
    assert staging.sweep(lake.root) == 1


def test_a_lock_whose_folder_was_never_made_is_swept(lake):
    """Regression: a process killed between the two left the lock for ever."""
    (lake.root / ".staging").mkdir(parents=True)
    (lake.root / ".staging" / "0123.lock").touch()
    with staging.staging_folder(lake.root) as folder:
        assert list(folder.parent.glob("*.lock")) == [folder.with_name(f"{folder.name}.lock")]
    assert list((lake.root / ".staging").iterdir()) == []


def test_many_processes_on_the_same_and_on_other_months(lake):
    processes = [writer(lake, month, value, 300_000) for value in range(4) for month in ("2024-01", "2024-02")]
    seen = set()
    while any(p.poll() is None for p in processes):
        try:
            found = read(lake)
        except InputChangedError:
            continue  # Regression: DuckDB opens a file twice, so that a reader could see half of each
        for _, count, low, high in found:
            assert (count, low) == (300_000, high), "a reader saw a mixture"
            seen.add(low)
    assert [(p.returncode, p.stderr.read()) for p in processes] == [(0, "")] * len(processes)
    final = read(lake)
    assert [(month, count) for month, count, _, _ in final] == [("2024-01", 300_000), ("2024-02", 300_000)]
    assert all(low == high for _, _, low, high in final)
    assert len(glob(lake)) == 2


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a small file system")
def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "lake").write_text("a file where the lake should be")
    with pytest.raises(OctoError, match="Cannot write to the lake"):
        write(Lake(tmp_path / "lake"), "2024-01", "SELECT 7::BIGINT AS value", {"a": "1"})


def test_too_little_memory_is_one_sentence_about_the_settings(tmp_path):
    """Regression: it was DuckDB's advice of six lines, about statements that nobody writes."""
    lake = Lake(tmp_path / "lake", memory_limit="20MB", temp=tmp_path / "temp")
    with pytest.raises(OctoError, match=r"^DuckDB has too little memory, or .+ \(.+\)\.$") as refusal:
        write(lake, "2024-01", "SELECT string_agg(i::VARCHAR, ' ') FROM range(9000000) AS r(i)", {"a": "1"})
    assert (refusal.value.code, "\n" in str(refusal.value)) == ("memory-exhausted", False)


@pytest.mark.parametrize("wrong", ["lots", "8", "80%", "-1", "GB8"])
def test_a_limit_of_memory_without_a_unit_is_refused(wrong, monkeypatch):
    """Regression: it was a traceback of DuckDB's as soon as a file was read."""
    monkeypatch.setenv("OCTO_MEMORY_LIMIT", wrong)
    with pytest.raises(
        OctoError, match=r"^The environment variable OCTO_MEMORY_LIMIT is not valid: must be a number with a unit"
    ):
        load_settings()


@pytest.mark.parametrize(
    ("limit", "shown_as"), [("8GB", "7.4 GiB"), ("500 mb", "476.8 MiB"), ("1.5GiB", "1.5 GiB"), ("2g", "1.8 GiB")]
)
def test_a_limit_of_memory_is_one_that_duckdb_reads(limit, shown_as, tmp_path):
    with Lake(tmp_path, memory_limit=Settings(memory_limit=limit).memory_limit).connect() as connection:
        assert connection.sql("SELECT current_setting('memory_limit')").fetchone() == (shown_as,)


def test_a_file_that_cannot_be_read_is_not_called_one_that_cannot_be_written(lake, tmp_path):
    write(lake, "2024-01", "SELECT 7::BIGINT AS value", {"a": "1"})
    with pytest.raises(duckdb.IOException, match=r"delivered\.csv"):
        write(lake, "2024-01", f"FROM read_csv('{tmp_path}/delivered.csv')", {"a": "2"})
    with pytest.raises(OctoError, match=r"^A file of the lake .* cannot be read \("):
        write(lake, "2024-01", f"FROM read_csv('{lake.root}/landing/delivered.csv')", {"a": "2"})
    assert read(lake) == [("2024-01", 1, 7, 7)]


# A disk that refuses to take more, as a limit on the size of files: the kernel fails the write in the middle.
FULL = """
import resource, signal, sys
from pathlib import Path
from octo_pipeline.model.errors import OctoError
from octo_pipeline.lake.lake import Lake, PartitionMetadata
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
lake = Lake(Path(sys.argv[1]))
try:
    with lake.connect() as connection, lake.stage("t", "2024-01") as staged:
        lake.copy(connection, "SELECT (hash(i) // 2)::BIGINT AS value FROM range(1000000) AS r(i)", staged,
                  PartitionMetadata({"a": "2"}, "test"))
except OctoError as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_is_a_sentence_and_the_last_good_partition_stays(lake):
    write(lake, "2024-01", "SELECT 7::BIGINT AS value", {"a": "1"})
    done = subprocess.run([sys.executable, "-c", FULL, str(lake.root)], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.startswith(f"Cannot write {lake.root}/.staging/")
    assert read(lake) == [("2024-01", 1, 7, 7)]
    assert list((lake.root / ".staging").iterdir()) == []


def test_rows_are_numbered_in_their_partitions(lake):
    for month in ("2024-01", "2024-02"):
        write(lake, month, "SELECT range::BIGINT AS value FROM range(10, 13)", {"a": month})

    relation = lake.scan("t", None, COLUMNS, month_as="month", row_number_as="row")
    later = lake.scan("t", None, COLUMNS | {"later": "VARCHAR"}, row_number_as="row")
    absent = lake.scan("t", [], COLUMNS, row_number_as="row")

    with lake.connect() as connection:
        rows = connection.execute(f"SELECT month, value, row FROM {relation} ORDER BY ALL").fetchall()
        assert rows == [(month, 10 + i, i) for month in ("2024-01", "2024-02") for i in range(3)]
        laters = connection.execute(f"SELECT row, later FROM {later} ORDER BY ALL").fetchall()
        assert laters == [(i, None) for i in (0, 0, 1, 1, 2, 2)]
        assert connection.execute(f"DESCRIBE SELECT row FROM {absent}").fetchall()[0][:2] == ("row", "BIGINT")


def test_one_look_lists_a_folder_once_and_reads_its_footers_together(lake, monkeypatch):
    months = ["2024-01", "2024-02", "2024-03"]
    for number, month in enumerate(months):
        write(lake, month, f"SELECT {number}::BIGINT AS value FROM range({number})", {"month": month})
    listed, read_alone = [], []
    files, read_metadata = LocalStore.files, lake_module.read_metadata
    monkeypatch.setattr(LocalStore, "files", lambda *args: listed.append(args) or files(*args))
    monkeypatch.setattr(lake_module, "read_metadata", lambda *args: read_alone.append(args) or read_metadata(*args))
    lake_module._READ.clear()

    with lake.one_look():
        fingerprints = [lake.fingerprint("t", month) for month in months for _ in range(2)]
        assert lake.months("t") == months
        assert lake.metadata_of("t", months).keys() == set(months)
        assert (len(listed), read_alone) == (1, [])
        # What few ask for is read when they do.
        assert [lake.rows("t", month) for month in months] == [0, 1, 2]
        assert lake.metadata("t", months[0]).columns >= {"value"}
    assert fingerprints == [fingerprint({"month": month}) for month in months for _ in range(2)]


def test_one_look_sees_nothing_that_comes_later_and_ends(lake):
    write(lake, "2024-01", "SELECT 1::BIGINT AS value", {"a": "1"})
    with lake.one_look():
        assert lake.months("t") == ["2024-01"]
        write(Lake(lake.root), "2024-01", "SELECT 2::BIGINT AS value", {"a": "2"})
        write(Lake(lake.root), "2024-02", "SELECT 2::BIGINT AS value", {"a": "2"})
        assert (lake.months("t"), lake.fingerprint("t", "2024-01")) == (["2024-01"], fingerprint({"a": "1"}))
    assert (lake.months("t"), lake.fingerprint("t", "2024-01")) == (["2024-01", "2024-02"], fingerprint({"a": "2"}))


def test_one_look_names_the_damaged_file_among_others(lake):
    for month in ("2024-01", "2024-02", "2024-03"):
        write(lake, month, "SELECT 1::BIGINT AS value", {"month": month})
    path = lake.path("t", "2024-02")
    path.write_bytes(path.read_bytes()[:-20])
    with lake.one_look():
        assert lake.fingerprint("t", "2024-01") == fingerprint({"month": "2024-01"})
        with pytest.raises(OctoError, match=r"month=2024-02/data\.parquet is damaged"):
            lake.fingerprint("t", "2024-02")
