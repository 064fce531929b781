"""A lease keeps two runs from the same month, without ever keeping one for good."""

import subprocess
import sys
import threading

import pytest

from octo_pipeline.lake import staging
from octo_pipeline.lake.lake import Lake

HOLDER = """
import sys
from pathlib import Path
from octo_pipeline.lake.lake import Lake
with Lake(Path(sys.argv[1])).lease("2024-01"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lease of a month."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "held\n"
    yield child
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()


def test_a_month_that_another_process_makes_is_waited_for_until_it_ends_however_it_ends(tmp_path, holder):
    lake, is_ours = Lake(tmp_path), threading.Event()

    def make() -> None:
        with lake.lease("2024-01"):
            is_ours.set()

    waiting = threading.Thread(target=make, daemon=True)
    waiting.start()
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
