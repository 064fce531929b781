"""The landing: whole or not there, the newest first, nothing outside."""

import errno
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from octo_pipeline.vendors import landing
from octo_pipeline.vendors.downloads import SourceFile
from octo_pipeline.vendors.landing import deliveries, newest_deliveries, remove, verify
from tests.support.landed_files import FILE_DATA, land_files
from tests.support.reports import NOW, PAYER, refused, sha256, source_file


def everything_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_delivery_reads_back_as_it_was_landed(tmp_path):
    landed = land_files(tmp_path, source_file("a.csv", FILE_DATA), source_file("b.csv", b"more"))
    assert landed.is_new
    folder = tmp_path / "landing" / "aws" / PAYER / "month=2024-01" / "v1"
    assert landed.delivery.path == folder
    assert [path.read_bytes() for path in landed.delivery.file_paths] == [FILE_DATA, b"more"]
    assert [(file.name, file.size, file.sha256) for file in landed.delivery.files] == [
        ("a.csv", 9, sha256(FILE_DATA)),
        ("b.csv", 4, sha256(b"more")),
    ]
    assert deliveries(tmp_path) == [landed.delivery]
    assert everything_below(folder) == ["_delivery.json", "a.csv", "b.csv"]
    assert not list((tmp_path / ".staging").iterdir())


def test_what_is_there_already_is_not_fetched_again(tmp_path):
    first = land_files(tmp_path).delivery

    def never():
        raise AssertionError("was opened")

    again = land_files(tmp_path, SourceFile("a.csv", never), fetched_at=NOW + timedelta(days=1))
    assert (again.delivery, again.is_new) == (first, False)


def test_a_folder_without_description_is_no_delivery_and_makes_room(tmp_path):
    folder = tmp_path / "landing" / "aws" / PAYER / "month=2024-01" / "v1"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_bytes(b"half")
    assert deliveries(tmp_path) == []
    assert land_files(tmp_path).is_new
    assert (folder / "a.csv").read_bytes() == FILE_DATA


def test_a_delivery_that_lost_a_file_is_landed_again(tmp_path):
    path = land_files(tmp_path).delivery.file_paths[0]
    path.write_bytes(b"short")
    assert land_files(tmp_path).is_new
    assert path.read_bytes() == FILE_DATA


def test_the_newest_of_each_account_wins(tmp_path):
    later = NOW + timedelta(hours=1)
    land_files(tmp_path, version="z-old")
    land_files(tmp_path, version="a-new", fetched_at=later)
    land_files(tmp_path, version="other-month", month="2024-02", fetched_at=later)
    land_files(tmp_path, account="999999999999", version="other-account")
    land_files(tmp_path, vendor="gcp", version="other-vendor")
    newest = newest_deliveries(tmp_path, "2024-01")
    assert [(one.vendor, one.account, one.version) for one in newest] == [
        ("aws", PAYER, "a-new"),
        ("aws", "999999999999", "other-account"),
        ("gcp", PAYER, "other-vendor"),
    ]
    assert [one.version for one in newest_deliveries(tmp_path, "2024-01", "aws")] == [
        "a-new",
        "other-account",
    ]
    assert [one.version for one in deliveries(tmp_path, account=PAYER, vendor="aws", month="2024-01")] == [
        "z-old",
        "a-new",
    ]
    assert deliveries(tmp_path, account="*") == []


def test_reports_fetched_at_once_do_not_take_turns(tmp_path):
    land_files(tmp_path, report="daily", version="9")
    land_files(tmp_path, report="hourly", version="1")
    assert newest_deliveries(tmp_path, "2024-01")[0].report == "hourly"
    later = NOW + timedelta(days=1)
    land_files(tmp_path, report="hourly", version="0", fetched_at=later)
    land_files(tmp_path, report="daily", version="8", fetched_at=later)
    assert newest_deliveries(tmp_path, "2024-01")[0].report == "hourly"


def test_the_last_three_are_kept(tmp_path):
    for number in range(5):
        land_files(tmp_path, version=f"v{number}", fetched_at=NOW + timedelta(hours=number))
    land_files(tmp_path, version="untouched", month="2024-02", fetched_at=NOW - timedelta(days=9))
    assert [one.version for one in deliveries(tmp_path, month="2024-01")] == ["v2", "v3", "v4"]
    assert [one.version for one in deliveries(tmp_path, month="2024-02")] == ["untouched"]


def test_an_old_delivery_that_is_landed_late_pushes_out_neither_itself_nor_the_newest(tmp_path):
    for number in range(1, 4):
        land_files(tmp_path, version=f"v{number}", fetched_at=NOW + timedelta(hours=number))
    landed = land_files(tmp_path, version="v0")
    assert landed.delivery.path.is_dir()
    assert [one.version for one in deliveries(tmp_path)] == ["v0", "v2", "v3"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc/x", "a\\b", "a\0b", "a\nb", "_x", ".x", "x" * 201]
)
@pytest.mark.parametrize("what", ["vendor", "account", "version", "file"])
def test_unsafe_names_are_refused(tmp_path, name, what):
    root = tmp_path / "lake"
    with refused(f"cannot be the {what} of a delivery"):
        if what == "file":
            land_files(root, source_file(name, FILE_DATA))
        else:
            land_files(root, **{what: name})
    assert everything_below(tmp_path) == []


def test_a_month_is_a_month(tmp_path):
    with refused("'2024-13' is not a month"):
        land_files(tmp_path, month="2024-13")


@pytest.mark.parametrize(
    ("announced", "sentence"),
    [
        (
            {"size": 10},
            "a.csv of a bucket was cut off or changed while it was read: its size is 9, but 10 was announced",
        ),
        ({"sha256": sha256(b"x")}, "its sha256 is "),
        ({"md5": "0" * 32}, "its md5 is 1e50210a0202497fb79bc38b6ade6c34, but 0000"),
    ],
)
def test_what_was_announced_must_arrive(tmp_path, announced, sentence):
    with refused(sentence):
        land_files(tmp_path, source_file("a.csv", FILE_DATA, **announced))
    assert everything_below(tmp_path) == []


def test_what_was_announced_and_arrived_is_landed(tmp_path):
    md5 = hashlib.md5(FILE_DATA).hexdigest()
    assert land_files(tmp_path, source_file("a.csv", FILE_DATA, size=9, sha256=sha256(FILE_DATA), md5=md5)).is_new


def test_an_empty_file_is_refused(tmp_path):
    with refused("a.csv of a bucket is empty (0 bytes)"):
        land_files(tmp_path, source_file("a.csv", b""))


def test_two_files_of_one_name_are_refused(tmp_path):
    with refused("a bucket has two files named a.csv"):
        land_files(tmp_path, source_file("a.csv", FILE_DATA), source_file("a.csv", b"other"))


def test_a_source_that_cannot_be_read_leaves_nothing(tmp_path):
    class Broken(io.BytesIO):
        def read(self, size=-1):
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    with refused("a.csv of a bucket cannot be read (Connection reset by peer"):
        land_files(tmp_path, SourceFile("a.csv", Broken))
    assert everything_below(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "cannot be written: the disk is full; free some space"),
        (errno.EROFS, "cannot be written: the file system is read-only"),
        (errno.EIO, "cannot be written: Input/output error"),
    ],
)
def test_a_lake_that_cannot_be_written_is_left_as_it_was(tmp_path, monkeypatch, number, sentence):
    def refuse(path):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(landing, "sync", refuse)
    with refused(sentence):
        land_files(tmp_path)
    assert everything_below(tmp_path) == []


def test_a_lake_below_a_file_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    with refused("file/lake cannot be written: Not a directory"):
        land_files(tmp_path / "file" / "lake")


def test_remove_takes_the_delivery_and_its_empty_folders(tmp_path):
    first = land_files(tmp_path).delivery
    second = land_files(tmp_path, version="v2").delivery
    remove(tmp_path, first)
    assert deliveries(tmp_path) == [second]
    remove(tmp_path, second)
    remove(tmp_path, second)
    assert not (tmp_path / "landing" / "aws" / PAYER).exists()


def test_verify_reads_all_again(tmp_path):
    delivery = land_files(tmp_path).delivery
    verify(delivery)
    path = delivery.file_paths[0]
    path.write_bytes(b"same size"[:9])
    with refused(f"{path} is not what was landed: its SHA-256 differs"):
        verify(delivery)
    path.write_bytes(b"shorter")
    with refused("was cut off or changed: 7 bytes, not the 9 landed"):
        verify(delivery)
    path.unlink()
    with refused(f"{path} is gone since it was landed. Remove this delivery (v1) and land"):
        verify(delivery)


def test_a_description_that_is_damaged_or_elsewhere_is_a_sentence(tmp_path):
    delivery = land_files(tmp_path).delivery
    delivery.path.rename(delivery.path.with_name("v2"))
    with refused("describes aws 111111111111 2024-01 v1, which is not the delivery of its folder"):
        deliveries(tmp_path)
    description = delivery.path.with_name("v2") / "_delivery.json"
    document = json.loads(description.read_text())
    description.write_text(json.dumps(document | {"surprise": 1}))
    with refused("_delivery.json does not describe a delivery"):
        deliveries(tmp_path)
    description.write_text("{")
    with refused("_delivery.json does not describe a delivery"):
        deliveries(tmp_path)


# A process of its own that lands v1 from a pipe that never ends before it may: argv is root, size and a gate.
LANDING_PROCESS = """
import io, sys, time
from datetime import UTC, datetime
from pathlib import Path
from octo_pipeline.vendors.downloads import SourceFile
from octo_pipeline.vendors.landing import land

root, size, gate = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])

class Slow(io.BytesIO):
    def read(self, count=-1):
        while self.tell() and not gate.exists():
            time.sleep(0.005)
        return super().read(count)

print("ready", flush=True)
landed = land(
    root, vendor="aws", account="111111111111", month="2024-01", version="v1", format="csv", report="octo",
    source="a bucket", files=[SourceFile("a.csv", lambda: Slow(b"x" * size))], fetched_at=datetime.now(UTC),
)
print(landed.is_new, flush=True)
"""


def start_landing(root: Path, gate: Path, size: int = 3 << 20) -> subprocess.Popen:
    command = [sys.executable, "-c", LANDING_PROCESS, str(root), str(size), str(gate)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_that_land_one_version_at_once_all_succeed_with_one_result(tmp_path):
    gate = tmp_path / "gate"
    processes = [start_landing(tmp_path / "lake", gate) for _ in range(4)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 4
    gate.touch()
    results = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, results
    assert sorted(out.strip() for out, _ in results) == ["False", "False", "False", "True"]
    (delivery,) = deliveries(tmp_path / "lake")
    verify(delivery)
    assert everything_below(tmp_path / "lake" / "landing") == [
        f"aws/{PAYER}/month=2024-01/v1/_delivery.json",
        f"aws/{PAYER}/month=2024-01/v1/a.csv",
    ]


def test_a_killed_landing_leaves_nothing_readable_and_the_next_cleans_up(tmp_path):
    process = start_landing(tmp_path, tmp_path / "gate")
    staging = tmp_path / ".staging"
    deadline = time.monotonic() + 30
    while not any(path.stat().st_size for path in staging.rglob("a.csv")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    process.stdout.close()
    process.stderr.close()
    assert deliveries(tmp_path) == []
    assert not (tmp_path / "landing").exists()
    assert list(staging.iterdir())
    assert land_files(tmp_path, fetched_at=datetime.now(UTC)).is_new
    assert not list(staging.iterdir())
