"""A lease keeps two runs from the same month, without ever keeping one for good."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from octo_pipeline.lake import s3_lease, staging
from octo_pipeline.lake.lake import Lake
from octo_pipeline.lake.root import lake_root

HOLDER = """
import sys
from pathlib import Path
from octo_pipeline.lake import s3_lease
from octo_pipeline.lake.lake import Lake
from octo_pipeline.lake.root import lake_root
s3_lease._RENEW_SECONDS = 0.1
with Lake(lake_root(sys.argv[1], Path(sys.argv[2]))).lease("2024-01"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holding(root: str, scratch: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease of a month."""
    command = [sys.executable, "-c", HOLDER, root, str(scratch)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    yield child
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()


@pytest.fixture
def holder(tmp_path):
    with holding(str(tmp_path), tmp_path) as child:
        yield child


@pytest.fixture
def bucket(s3_server, monkeypatch, tmp_path) -> str:
    """The URL of an empty lake in a bucket, whose leases are watched closely."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3_lease, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(s3_lease, "_DEAD_SECONDS", 0.6)
    return f"s3://{s3_server.bucket()}/lake"


def lease_in(lake: Lake) -> str | None:
    """What the object of the lease says."""
    return lake._store.read_text(lake.root / ".locks" / "making-2024-01")


def taking(lake: Lake) -> tuple[threading.Thread, threading.Event]:
    """A thread that takes the lease, and whether it has had it."""
    is_ours = threading.Event()

    def make() -> None:
        with lake.lease("2024-01"):
            is_ours.set()

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    return thread, is_ours


def test_a_month_that_another_process_makes_is_waited_for_until_it_ends_however_it_ends(tmp_path, holder):
    lake = Lake(tmp_path)
    waiting, is_ours = taking(lake)
    # Another month is not waited for.
    with lake.lease("2024-02"):
        assert not is_ours.wait(0.5)
    holder.kill()
    assert is_ours.wait(30)
    waiting.join(30)


def test_a_process_that_hangs_keeps_others_for_a_while_only(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(staging, "_LEASE_SECONDS", 0.1)
    with Lake(tmp_path).lease("2024-01"):
        assert holder.poll() is None


def test_a_process_does_not_wait_for_itself(tmp_path):
    lake = Lake(tmp_path)
    with lake.lease("2024-01"), lake.lease("2024-01"):
        pass
    assert set() == staging._LEASED


def test_in_a_bucket_a_month_is_waited_for_while_its_process_is_at_work(bucket, tmp_path):
    """Regression: a bucket had no leases, so two runs did all work twice."""
    lake = Lake(lake_root(bucket, tmp_path))
    with holding(bucket, tmp_path) as holder:
        waiting, is_ours = taking(lake)
        with lake.lease("2024-02"):
            # Much longer than a holder that is dead is waited for.
            assert not is_ours.wait(1.5)
        holder.kill()
        assert is_ours.wait(30)
    waiting.join(30)
    assert lease_in(lake) is None


def test_in_a_bucket_a_month_is_free_as_soon_as_it_is_made(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(s3_lease, "_DEAD_SECONDS", 900)
    lake = Lake(lake_root(bucket, tmp_path))
    with holding(bucket, tmp_path) as holder:
        waiting, is_ours = taking(lake)
        holder.stdin.close()
        assert is_ours.wait(30)
    waiting.join(30)


def test_in_a_bucket_a_process_whose_lease_was_taken_over_leaves_it_to_the_other(bucket, tmp_path):
    lake = Lake(lake_root(bucket, tmp_path))
    with lake.lease("2024-01"):
        target = {"Bucket": lake.root.bucket, "Key": f"{lake.root.key}/.locks/making-2024-01"}
        lake._store._client.put_object(**target, Body=b"another's")
    assert lease_in(lake) == "another's"


def test_a_bucket_that_refuses_leases_keeps_nobody(s3_server, bucket, tmp_path):
    lake = Lake(lake_root(bucket, tmp_path))
    s3_server.client().delete_bucket(Bucket=lake.root.bucket)
    with lake.lease("2024-01"):
        pass
