"""Tasks on a real Spark cluster on loopback, and by Spark Connect: `make spark`."""

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from octo_pipeline.engine import worker
from octo_pipeline.engine.spark import SparkEngine
from octo_pipeline.model.errors import InputChangedError, OctoError, Remedy
from octo_pipeline.settings import Settings
from tests.emulators.postgresql import free_port
from tests.emulators.spark import Cluster, options
from tests.support import tasks

pytestmark = pytest.mark.spark

NUMBERS = [{"number": number} for number in range(7)]


@pytest.fixture(scope="module")
def engine(spark_cluster: Cluster) -> Iterator[SparkEngine]:
    engine = SparkEngine(spark_cluster.url, options())
    yield engine
    engine.close()


def test_every_task_is_run_once_and_results_are_in_the_order_of_the_payloads(engine):
    results = engine.map(tasks.square, NUMBERS)
    assert [result["square"] for result in results] == [0, 1, 4, 9, 16, 25, 36]
    assert engine.map(tasks.square, []) == []
    assert len({result["process"] for result in engine.map(tasks.square, [{"number": i} for i in range(40)])}) == 2


def copying(folder: Path, count: int, **more: object) -> list[dict]:
    settings = Settings(lake=folder / "lake", memory_limit="300MB")
    return [
        {"settings": settings.for_tasks(), "source": str(path), "target": str(folder / f"even-{path.name}"), **more}
        for path in tasks.number_files(folder, count)
    ]


def totals(count: int) -> list[str]:
    return [str(sum(n for n in range(i, i + 1000) if n % 2 == 0)) for i in range(count)]


def test_tasks_read_and_write_files_with_one_thread_and_without_a_progress_bar(engine, tmp_path):
    results = engine.map(tasks.count_rows, copying(tmp_path, 4))
    assert [result["total"] for result in results] == totals(4)
    assert {(r["threads"], r["memory"], r["bar"]) for r in results} == {(1, "286.1 MiB", False)}


def test_a_worker_is_killed_in_the_middle(engine, spark_cluster, tmp_path):
    payloads = copying(tmp_path, 12, seconds=1)

    def kill() -> None:
        # Once some are done and some at work.
        while len(list(tmp_path.glob("even-*"))) < 3:
            time.sleep(0.05)
        spark_cluster.kill_worker(1)

    killer = threading.Thread(target=kill)
    killer.start()
    results = engine.map(tasks.count_rows, payloads)
    killer.join()
    assert [result["total"] for result in results] == totals(12)
    assert len({result["process"] for result in results}) == 2
    spark_cluster.start_worker(1)
    spark_cluster.wait()


def test_errors_arrive_as_they_were_raised(engine):
    with pytest.raises(OctoError, match=r"^Three is not even\.$") as error:
        engine.map(tasks.refuse, NUMBERS)
    assert (error.value.code, error.value.remedies) == ("no-good", (Remedy("run", month="2024-01"),))
    with pytest.raises(InputChangedError):
        engine.map(tasks.change, NUMBERS[:1])
    with pytest.raises(OctoError, match=r"^The task 'break down' failed \(.*\): KeyError: ") as error:
        engine.map(tasks.break_down, NUMBERS[:1])
    assert "in break_down" in error.value.__notes__[0]


def test_a_task_that_kills_its_process_each_time_is_one_sentence(engine):
    with pytest.raises(OctoError, match=r"^Spark at spark://127\.0\.0\.1:\d+ could not run the task 'die': ") as error:
        engine.map(tasks.die, NUMBERS[:1])
    assert "\n" not in str(error.value)
    assert error.value.code == "spark-task-failed"


def test_workers_of_another_version_are_refused_by_name(engine, monkeypatch):
    monkeypatch.setattr(
        "octo_pipeline.engine.spark.versions", lambda: {"octo-pipeline": "0123456789ab", "DuckDB": "1.0"}
    )
    with pytest.raises(OctoError, match=r"^A worker \(.*, process \d+\) has octo-pipeline ") as error:
        engine.map(tasks.square, NUMBERS)
    assert f"and DuckDB {worker.versions()['DuckDB']} and this process 1.0" in str(error.value)


def test_a_cluster_that_cannot_be_reached_is_one_sentence():
    port = free_port()
    with pytest.raises(OctoError) as error:
        SparkEngine(f"spark://127.0.0.1:{port}", options()).map(tasks.square, NUMBERS)
    assert str(error.value) == (
        f"Spark at spark://127.0.0.1:{port} cannot be reached (127.0.0.1:{port}: Connection refused)."
    )


SLEEPING = """
import json, sys
from octo_pipeline.engine.spark import SparkEngine
from tests.support import tasks
SparkEngine(sys.argv[1], json.loads(sys.argv[2])).map(tasks.count_rows, json.loads(sys.argv[3]))
"""


def test_an_interrupt_ends_what_the_cluster_does(engine, spark_cluster, tmp_path):
    engine.close()
    payloads = copying(tmp_path, 2, seconds=1) + copying(tmp_path, 2, seconds=600)
    arguments = [SLEEPING, spark_cluster.url, json.dumps(options()), json.dumps(payloads)]
    with subprocess.Popen([sys.executable, "-c", *arguments], stderr=subprocess.PIPE, text=True) as driver:
        while not list(tmp_path.glob("even-*")):
            assert driver.poll() is None
            time.sleep(0.1)
        driver.send_signal(signal.SIGINT)
        _, printed = driver.communicate(timeout=120)
    assert "KeyboardInterrupt" in printed
    for _ in range(100):
        with urllib.request.urlopen(f"{spark_cluster.pages}/json/") as page:
            if not any(run["cores"] for run in json.load(page)["activeapps"]):
                return
        time.sleep(0.2)
    raise AssertionError("the cluster still works for a driver that is gone")


# A process can have one kind of session only.
PROGRAM = """
import json, sys
from octo_pipeline.engine.spark import SparkEngine
from octo_pipeline.model.errors import OctoError
from tests.support import tasks
engine = SparkEngine(sys.argv[1], {})
made = [result["total"] for result in engine.map(tasks.count_rows, json.loads(sys.argv[2]))]
try:
    engine.map(tasks.refuse, [{"number": number} for number in range(4)])
except OctoError as error:
    print(json.dumps([made, str(error), error.code]))
"""


def test_tasks_run_by_spark_connect(spark_connect, tmp_path):
    payloads = json.dumps(copying(tmp_path, 5))
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, spark_connect, payloads], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1]) == [totals(5), "Three is not even.", "no-good"]
