"""Ctrl-C wherever a run may be: in a dbt model, in a COPY, in a download. Real processes, interrupted when they are seen to be there."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from octo_pipeline.vendors.aws.sample import write_cur
from tests.emulators.aws import stalling_aws, upload
from tests.support.reports import write_json

pytestmark = pytest.mark.slow
MONTHS = ["2024-01", "2024-02", "2024-03"]
# Keeps DuckDB busy for hours.
FOR_EVER = "(select sum(hash(range)) from range(1000000000000)) is null"
# The program, in which the second month's work of one kind never ends; a file says when it is there.
PROGRAM = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
{changes}
from octo_pipeline.cli.main import main
main()
"""
IN_MODEL = """
from octo_pipeline.tables import cost_line_items
run_model = cost_line_items.run_model
def endless(connection, staged, metadata, relations, columns):
    if staged.month == "2024-02":
        name = next(iter(relations))
        relations = {{**relations, name: f"select * from ({{relations[name]}}) where {for_ever}"}}
        Path({here!r}).touch()
    run_model(connection, staged, metadata, relations, columns)
cost_line_items.run_model = endless
"""
IN_COPY = """
from octo_pipeline.lake.lake import Lake
copy = Lake.copy
def endless(lake, connection, query, staged, metadata, **more):
    if staged.month == "2024-02":
        query = f"select * from ({{query}}) where {for_ever}"
        Path({here!r}).touch()
    copy(lake, connection, query, staged, metadata, **more)
Lake.copy = endless
"""


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    for name in ("allocators", "cost_groups", "sources"):
        (tmp_path / "config" / name).mkdir(parents=True)
    write_cur(tmp_path / "exports", months=MONTHS, accounts=3, lines=100)
    settings = {"OCTO_LAKE": str(tmp_path / "lake"), "OCTO_CONFIG": str(tmp_path / "config")}
    return {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"} | settings


def wait_until(is_there: Callable[[], bool], child: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not is_there():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def processor_seconds(pid: int) -> float:
    """What the process has used of the processors."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def run(environment: dict[str, str], changes: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(changes=changes), "run", "--from", MONTHS[0], "--to", MONTHS[-1]],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stopped_in_the_second_month(child: subprocess.Popen[str], lake: Path) -> None:
    """The run ended at once, said what is finished, and left nothing of the month in which it was, nor of a later one."""
    try:
        _, err = child.communicate(timeout=30)
    finally:
        child.kill()
    assert child.returncode == 130
    assert re.search(r"Interrupted\. Finished: 2024-01\. \d+ partitions published, 0 unchanged\. Run it again", err)
    assert "Traceback" not in err
    assert "not published" not in err
    made = {path.parent.name for path in lake.glob("*/month=*/data.parquet")}
    assert "month=2024-03" not in made
    assert not (lake / "account_costs" / "month=2024-02").exists()
    assert (lake / "account_costs" / "month=2024-01").exists()
    assert [path for path in (lake / ".staging").glob("*") if path.is_dir()] == []


@pytest.mark.parametrize("changes", [IN_MODEL, IN_COPY], ids=["in-a-model", "in-a-copy"])
def test_ctrl_c_stops_while_the_engine_works(environment, tmp_path, changes):
    """Regression: dbt turned it into a failed model, and the next month was begun."""
    environment["OCTO_AWS_EXPORTS"] = str(tmp_path / "exports" / "aws")
    here = tmp_path / "here"
    child = run(environment, changes.format(here=str(here), for_ever=FOR_EVER))
    wait_until(here.exists, child)
    before = processor_seconds(child.pid)
    # The work that never ends is the only one that takes so long.
    wait_until(lambda: processor_seconds(child.pid) > before + 2, child)
    child.send_signal(signal.SIGINT)
    stopped_in_the_second_month(child, tmp_path / "lake")


def test_ctrl_c_stops_while_a_server_says_nothing(environment, tmp_path, aws, aws_server):
    """Regression: the process waited for the connection's timeout, a minute and longer."""
    upload(aws, tmp_path / "exports" / "aws")
    document = {"vendor": "aws", "account": "999988887777", "bucket": "company-cur", "prefix": "cur"}
    write_json(tmp_path / "config" / "sources" / "payer.json", document)
    credentials = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    with stalling_aws(aws_server) as stalling:
        stalling.parts = ("20240201-", ".parquet")
        child = run({**environment, **credentials, "AWS_ENDPOINT_URL": stalling.address})
        wait_until(stalling.is_there.is_set, child)
        child.send_signal(signal.SIGINT)
        stopped_in_the_second_month(child, tmp_path / "lake")


def children_of(pid: int) -> list[int]:
    """The processes below a process."""
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    return [int(child) for child in listed] + [below for child in listed for below in children_of(int(child))]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_dagster_dev_ends_with_all_of_its_processes(environment, tmp_path):
    """Regression: it went on after SIGTERM, which is what service managers send."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    dagster = [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p"]
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as free:
        port = free.server_port
    child = subprocess.Popen(
        [*dagster, str(port)],
        cwd=Path(__file__).parents[2],
        env=environment | {"DAGSTER_HOME": str(tmp_path / "home")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )

    def is_serving() -> bool:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            body = json.dumps({"query": "{ repositoriesOrError { __typename } }"})
            connection.request("POST", "/graphql", body, {"Content-Type": "application/json"})
            return b"RepositoryConnection" in connection.getresponse().read()
        except OSError:
            return False

    below: list[int] = []
    try:
        wait_until(is_serving, child)
        below = children_of(child.pid)
        assert below
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=60)
        wait_until_gone(below)
    finally:
        for pid in (child.pid, *filter(is_running, below)):
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)


def wait_until_gone(processes: list[int]) -> None:
    deadline = time.monotonic() + 30
    while left := [pid for pid in processes if is_running(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
