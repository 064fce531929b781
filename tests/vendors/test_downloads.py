"""Fetching files: breaks, resumption, what is verified. Real processes where one is killed."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from octo_pipeline.vendors import downloads
from octo_pipeline.vendors.downloads import SourceFile, fetch
from tests.support.reports import refused, sha256

DATA = bytes(range(256)) * 8192  # 2 MiB


class Breaking(io.BytesIO):
    """A stream whose connection breaks after some bytes."""

    def __init__(self, data: bytes, after: int) -> None:
        super().__init__(data)
        self._after = after

    def read(self, size: int | None = -1) -> bytes:
        left = self._after - self.tell()
        if left <= 0:
            raise ConnectionResetError("the connection broke")
        return super().read(left if size is None or size < 0 else min(size, left))


def breaking(name: str, lengths: list[int], asked: list[int], **announced: object) -> SourceFile:
    """A file whose connections break after these lengths, the last one never."""

    def open_at(start: int) -> io.BytesIO:
        asked.append(start)
        rest = DATA[start:]
        return Breaking(rest, lengths.pop(0)) if lengths else io.BytesIO(rest)

    given = {"size": len(DATA), "etag": hashlib.md5(DATA).hexdigest(), "digest_parts": lambda: len(DATA)} | announced
    return SourceFile(name, lambda: open_at(0), open_at=open_at, **given)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(downloads.time, "sleep", lambda seconds: None)


def test_a_break_is_gone_on_from_where_it_happened(tmp_path):
    asked: list[int] = []
    (tmp_path / "to").mkdir()
    (found,) = fetch([breaking("a", [1000, 70_000], asked)], tmp_path / "to", "s3://b/x", resume=tmp_path)
    assert asked == [0, 1000, 71_000]
    assert (tmp_path / "to" / "a").read_bytes() == DATA
    assert (found.size, found.sha256) == (len(DATA), sha256(DATA))
    assert list((tmp_path / ".partial").iterdir()) == []


def test_a_line_that_stays_dead_is_given_up_and_gone_on_with_by_the_next_run(tmp_path):
    asked: list[int] = []
    (tmp_path / "to").mkdir()
    with refused("a of s3://b/x cannot be read after 5 tries", "nothing was landed"):
        fetch([breaking("a", [1000, 0, 0, 0, 0, 0], asked)], tmp_path / "to", "s3://b/x", resume=tmp_path)
    assert asked == [0, 1000, 1000, 1000, 1000]
    assert not (tmp_path / "to" / "a").exists()
    asked.clear()
    fetch([breaking("a", [], asked)], tmp_path / "to", "s3://b/x", resume=tmp_path)
    assert asked == [1000]
    assert (tmp_path / "to" / "a").read_bytes() == DATA


def test_another_version_is_fetched_from_its_first_byte(tmp_path):
    (tmp_path / "to").mkdir()
    with refused("cannot be read"):
        fetch([breaking("a", [1000, 0, 0, 0, 0, 0], [])], tmp_path / "to", "s3://b/x", resume=tmp_path)
    asked: list[int] = []
    other = breaking("a", [], asked, etag="another", digest_parts=lambda: None)
    fetch([other], tmp_path / "to", "s3://b/x", resume=tmp_path)
    assert asked == [0]


@pytest.mark.parametrize("part", [len(DATA), 5 * 2**18, 2**20, 1000])
def test_the_etag_of_parts_is_checked(tmp_path, part):
    pieces = [hashlib.md5(DATA[i : i + part]).digest() for i in range(0, len(DATA), part)]
    etag = f"{hashlib.md5(b''.join(pieces)).hexdigest()}-{len(pieces)}"
    (tmp_path / "to").mkdir()
    fetch([breaking("a", [], [], etag=etag, digest_parts=lambda: part)], tmp_path / "to", "s3://b/x")
    wrong = f"{'0' * 32}-{len(pieces)}"
    with refused("b of s3://b/x was cut off or changed", f"its ETag is {etag}", f"but {wrong} was announced"):
        fetch([breaking("b", [], [], etag=wrong, digest_parts=lambda: part)], tmp_path / "to", "s3://b/x")


def test_bytes_that_are_wrong_are_not_gone_on_with(tmp_path):
    (tmp_path / "to").mkdir()
    with refused("its ETag is"):
        fetch([breaking("a", [], [], etag="0" * 32)], tmp_path / "to", "s3://b/x", resume=tmp_path)
    assert list((tmp_path / ".partial").iterdir()) == []
    assert not (tmp_path / "to" / "a").exists()


def test_what_nobody_went_on_with_is_swept(tmp_path):
    (tmp_path / ".partial").mkdir()
    old, new = tmp_path / ".partial" / "old", tmp_path / ".partial" / "new"
    for path, days in ((old, 4), (new, 1)):
        path.write_bytes(b"x")
        at = time.time() - days * 24 * 3600
        os.utime(path, (at, at))
    (tmp_path / "to").mkdir()
    fetch([breaking("a", [], [])], tmp_path / "to", "s3://b/x", resume=tmp_path)
    assert [p.name for p in (tmp_path / ".partial").iterdir()] == ["new"]


def test_files_are_fetched_side_by_side(tmp_path):
    together = threading.Barrier(4, timeout=20)

    def open_together() -> io.BytesIO:
        together.wait()
        return io.BytesIO(b"x")

    (tmp_path / "to").mkdir()
    found = fetch([SourceFile(f"f{i}", open_together) for i in range(4)], tmp_path / "to", "s3://b/x")
    assert [one.name for one in found] == ["f0", "f1", "f2", "f3"]


def test_a_killed_run_is_gone_on_with(tmp_path):
    program = f"""
import io, sys, time
from pathlib import Path
from octo_pipeline.vendors.downloads import SourceFile, fetch

class Stuck(io.BytesIO):
    def read(self, size=-1):
        chunk = super().read(min(size, 1 << 20))
        if not chunk:
            print("stuck", flush=True)
            time.sleep(60)
        return chunk

data = bytes(range(256)) * 4096
file = SourceFile("a", lambda: None, size={len(DATA)}, open_at=lambda start: Stuck(data), etag="e")
to = Path({str(tmp_path)!r}) / "killed"
to.mkdir()
fetch([file], to, "s3://b/x", resume=Path({str(tmp_path)!r}))
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "stuck\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    asked: list[int] = []
    (tmp_path / "to").mkdir()
    file = breaking("a", [], asked, etag="e", digest_parts=lambda: None)
    (found,) = fetch([file], tmp_path / "to", "s3://b/x", resume=tmp_path)
    assert 0 < asked[0] <= 2**20
    assert found.sha256 == sha256(DATA)


def test_a_partial_file_that_another_process_has_is_left_to_it(tmp_path):
    first, second = threading.Event(), threading.Event()
    asked: list[int] = []

    def open_slowly(start: int) -> io.BytesIO:
        first.set()
        assert second.wait(20)
        return io.BytesIO(DATA[start:])

    slow = breaking("a", [], [])
    slow = SourceFile("a", slow.open, size=slow.size, open_at=open_slowly, etag=slow.etag)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    thread = threading.Thread(target=lambda: fetch([slow], tmp_path / "one", "s3://b/x", resume=tmp_path))
    thread.start()
    assert first.wait(20)
    fetch([breaking("a", [], asked)], tmp_path / "two", "s3://b/x", resume=tmp_path)
    second.set()
    thread.join(20)
    assert asked == [0]
    assert (tmp_path / "one" / "a").read_bytes() == (tmp_path / "two" / "a").read_bytes() == DATA
