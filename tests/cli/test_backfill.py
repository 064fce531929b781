"""`octo backfill` in real processes: many months, one of them bad, killed in the middle."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from octo_pipeline.model.months import month_range
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.vendors.aws.sample import write_cur

pytestmark = pytest.mark.slow
MONTHS = month_range("2024-01", "2024-05")
BAD = "2024-02"
RULE = """{"startMonth": "2024-01", "criteria": [{"and": {"productCode": "re:^AWSSupport"}}],
"allocator": [{"type": "payer", "value": "999988887777", "months": 3, "formula": "cost*usage"}]}"""


@pytest.fixture(scope="module")
def exports(tmp_path_factory) -> Path:
    """The exports of the months; copied, because a test damages one."""
    folder = tmp_path_factory.mktemp("exports")
    write_cur(folder, months=MONTHS, accounts=3, lines=100)
    return folder


@pytest.fixture
def command(tmp_path, exports):
    for name in ("allocators", "cost_groups"):
        (tmp_path / "config" / name).mkdir(parents=True)
    (tmp_path / "config" / "allocators" / "support.json").write_text(RULE)
    shutil.copytree(exports, tmp_path / "exports")
    environment = os.environ | {
        "OCTO_LAKE": str(tmp_path / "lake"),
        "OCTO_CONFIG": str(tmp_path / "config"),
        "OCTO_AWS_EXPORTS": str(tmp_path / "exports" / "aws"),
        "OCTO_START_MONTH": "2024-01",
    }
    environment.pop("DAGSTER_HOME", None)

    def start(*arguments: str, **changes: str) -> subprocess.Popen[str]:
        # A shell that starts the tests in the background lets them ignore Ctrl-C, and children inherit that.
        program = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from octo_pipeline.cli.main import main; main()"
        )
        return subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            env=environment | changes,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


def published(lake: Path, table: str = "allocations") -> list[str]:
    return sorted(path.parent.name.removeprefix("month=") for path in lake.glob(f"{table}/*/data.parquet"))


def rows(lake: Path, table: str) -> list[tuple]:
    with duckdb.connect() as connection:
        return connection.execute(f"SELECT * FROM '{lake}/{table}/*/data.parquet' ORDER BY ALL").fetchall()


def test_of_five_months_with_a_bad_one_four_are_published_and_the_bad_one_is_named(command, tmp_path):
    data = next(p for p in (tmp_path / "exports").rglob("*.parquet") if p.parent.name.startswith("20240201-"))
    whole = data.read_bytes()
    data.write_bytes(whole[:-100])
    child = command("backfill", "--from", MONTHS[0], "--to", MONTHS[-1], "--workers", "2")
    out, err = child.communicate(timeout=300)
    assert child.returncode == 1
    assert published(tmp_path / "lake") == [month for month in MONTHS if month != BAD]
    assert published(tmp_path / "lake", "account_costs") == [month for month in MONTHS if month != BAD]
    assert err.count("not published") == 1
    assert f"{BAD} was not published" in err
    assert data.name in err
    assert "Traceback" not in err

    # Mended, the backfill makes the month and what the later months take from it, and nothing else.
    data.write_bytes(whole)
    child = command("backfill", "--from", MONTHS[0], "--to", MONTHS[-1])
    out, err = child.communicate(timeout=300)
    assert child.returncode == 0, err
    made = [line.split() for line in out.splitlines() if line.strip().startswith("2024-")]
    assert [month for month, count, _ in made if count != "0"] == [BAD, "2024-03", "2024-04"]
    side_by_side = {table: rows(tmp_path / "lake", table) for table in ("allocations", "account_costs")}
    child = command("backfill", "--from", MONTHS[0], "--to", MONTHS[-1], OCTO_LAKE=str(tmp_path / "other"))
    out, err = child.communicate(timeout=300)
    assert child.returncode == 0, err
    assert {table: rows(tmp_path / "other", table) for table in side_by_side} == side_by_side


def test_a_killed_backfill_goes_on_where_it_stopped(command, tmp_path):
    child = command("backfill", "--from", MONTHS[0], "--to", MONTHS[2], "--workers", "2")
    deadline = time.monotonic() + 120
    while len(published(tmp_path / "lake", "cost_line_items")) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    before = {p: p.stat().st_ino for p in (tmp_path / "lake").glob("cost_line_items/*/data.parquet")}
    child = command("backfill", "--from", MONTHS[0], "--to", MONTHS[2])
    _, err = child.communicate(timeout=300)
    assert child.returncode == 0, err
    assert published(tmp_path / "lake") == MONTHS[:3]
    assert all(path.stat().st_ino == inode for path, inode in before.items())
    assert list((tmp_path / "lake" / ".staging").iterdir()) == []


def test_a_dead_worker_is_a_sentence(command, tmp_path):
    child = command("backfill", "--from", MONTHS[0], "--to", MONTHS[2], "--workers", "2")
    deadline = time.monotonic() + 120
    while not published(tmp_path / "lake", "cost_line_items"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    listed = subprocess.run(["pgrep", "-g", str(child.pid), "-f", "spawn_main"], capture_output=True, text=True)
    os.kill(int(listed.stdout.split()[0]), signal.SIGKILL)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 1
    assert "A worker process was killed" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_interrupted_backfill_says_so_and_begins_no_further_month(command, tmp_path, workers):
    child = command("backfill", "--from", MONTHS[0], "--to", MONTHS[-1], "--workers", workers)
    deadline = time.monotonic() + 120
    while not published(tmp_path / "lake", "cost_line_items"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 130
    assert re.search(
        r"Interrupted\. (No month was finished|Finished: 2024-[-\d, ]+)\. \d+ partitions? published, ", err
    )
    assert "Traceback" not in err
    assert "not published" not in err
    assert len(published(tmp_path / "lake", "cost_line_items")) < len(MONTHS)


def test_two_backfills_side_by_side_do_no_work_twice(command, tmp_path):
    """The second waits for each month that the first makes, and finds it up to date then."""
    children = [command("backfill", "--from", MONTHS[0], "--to", MONTHS[2]) for _ in range(2)]
    published_by = []
    for child in children:
        out, err = child.communicate(timeout=300)
        assert child.returncode == 0, err
        rows = [line.split() for line in out.splitlines() if line.strip().startswith("2024-")]
        published_by.append({month: int(count) for month, count, _ in rows})
    first, second = published_by
    once = {month: first[month] + second[month] for month in MONTHS[:3]}
    assert set(once.values()) == {len(TABLES)}
    assert all(0 in (first[month], second[month]) for month in once)
