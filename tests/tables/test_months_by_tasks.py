"""Every table of a month made by processes, in many tasks each, is the one that a single process makes."""

import threading
from pathlib import Path

import pytest

from octo_pipeline.engine.local import ProcessEngine
from octo_pipeline.engine.spark import SparkEngine
from octo_pipeline.settings import Settings
from tests.emulators.spark import Cluster, options
from tests.support.months_by_tasks import PARTS, Month, landed_month, month_by, parts_of


@pytest.fixture(scope="module")
def landed(tmp_path_factory) -> Settings:
    return landed_month(tmp_path_factory.mktemp("landed"))


@pytest.fixture(scope="module")
def whole(landed, tmp_path_factory) -> Month:
    return month_by(None, landed, tmp_path_factory.mktemp("whole") / "lake")


def test_two_processes_make_the_month_of_one(landed, whole, tmp_path: Path, monkeypatch):
    with ProcessEngine(2) as processes:
        by_tasks = month_by(processes, landed, tmp_path / "lake", monkeypatch)
        assert processes.seconds > 0
    # Those of the large payer, and one with all others.
    assert parts_of(tmp_path / "lake", "cost_line_items") == PARTS + 1
    assert parts_of(tmp_path / "lake", "matched_items") == PARTS + 1
    assert parts_of(tmp_path / "lake", "allocations") == PARTS
    for table, rows in whole.rows.items():
        assert by_tasks.rows[table] == rows, table
    assert by_tasks == whole


@pytest.mark.spark
def test_a_spark_cluster_that_loses_workers_makes_the_month_of_one_process(
    landed, whole, spark_cluster: Cluster, tmp_path: Path, monkeypatch
):
    lake = tmp_path / "lake"
    # What is there while files are mapped, and while items are split.
    steps = [".parts/mapped_charges/*/*.parquet", ".parts/allocations/*/*.parquet"]
    killed = []

    def lose_workers() -> None:
        for number, step in enumerate(steps):
            while not list(lake.glob(step)):
                if ended.wait(0.02):
                    return
            spark_cluster.kill_worker(number)
            killed.append(step)
            spark_cluster.start_worker(number)

    ended = threading.Event()
    losing = threading.Thread(target=lose_workers)
    losing.start()
    engine = SparkEngine(spark_cluster.url, options())
    try:
        by_tasks = month_by(engine, landed, lake, monkeypatch)
    finally:
        ended.set()
        losing.join()
        engine.close()
    assert killed == steps
    assert parts_of(lake, "cost_line_items") == PARTS + 1
    assert by_tasks == whole
