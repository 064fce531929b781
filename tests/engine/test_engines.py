"""What engines promise, whatever runs the tasks; Spark's own are in test_spark.py."""

import json
import socket
from collections.abc import Iterator

import pytest

from octo_pipeline.engine import worker
from octo_pipeline.engine.engine import Engine, engine_of
from octo_pipeline.engine.local import LocalEngine, ProcessEngine
from octo_pipeline.engine.spark import SparkEngine
from octo_pipeline.model.errors import InputChangedError, OctoError, Remedy
from octo_pipeline.settings import Settings, load_settings
from octo_pipeline.workspace import Workspace
from tests.support import tasks
from tests.support.chaos import ChaosEngine

NUMBERS = [{"number": number} for number in range(7)]


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessEngine]:
    with ProcessEngine(2) as engine:
        yield engine


@pytest.fixture(params=["local", "processes", "chaos"])
def engine(request, processes) -> Engine:
    return {"local": LocalEngine(), "processes": processes, "chaos": ChaosEngine(processes)}[request.param]


def copying(settings: Settings, folder) -> list[dict]:
    return [
        {"settings": settings.for_tasks(), "source": str(path), "target": str(folder / f"even-{path.name}")}
        for path in tasks.number_files(folder, 5)
    ]


def test_tasks_write_files_and_results_are_in_the_order_of_the_payloads(engine, tmp_path):
    settings = Settings(lake=tmp_path / "lake", memory_limit="300MB")
    results = engine.map(count_even_numbers, copying(settings, tmp_path))
    assert [(result["rows"], result["total"]) for result in results] == [
        (500, str(sum(n for n in range(i, i + 1000) if n % 2 == 0))) for i in range(5)
    ]
    assert {(result["memory"], result["bar"]) for result in results} == {("286.1 MiB", False)}
    # What a killed task left is not one of the results.
    written = sorted(path.name for path in tmp_path.glob("*.parquet") if path.name[0] != ".")
    assert written == sorted([f"{i}.parquet" for i in range(5)] + [f"even-{i}.parquet" for i in range(5)])
    assert getattr(engine, "killed", 1) == 1


def count_even_numbers(payload: dict) -> dict:
    result = tasks.count_rows(payload)
    del result["process"]
    return result


def test_several_processes_make_tasks(processes):
    results = processes.map(tasks.square, NUMBERS)
    assert [result["square"] for result in results] == [0, 1, 4, 9, 16, 25, 36]
    assert processes.seconds > 0


def test_the_sentence_of_a_task_arrives_as_it_is(processes):
    for engine in (LocalEngine(), processes):
        with pytest.raises(OctoError, match=r"^Three is not even\.$") as error:
            engine.map(tasks.refuse, NUMBERS)
        assert (error.value.code, error.value.place) == ("no-good", "three")
        assert error.value.remedies == (Remedy("run", month="2024-01"),)
        with pytest.raises(InputChangedError):
            engine.map(tasks.change, NUMBERS[:1])


def test_an_unexpected_error_is_one_sentence_with_the_name_of_the_task(processes):
    with pytest.raises(OctoError, match=r"^The task 'break down' failed \(.*, process \d+\): KeyError: .*\.") as error:
        processes.map(tasks.break_down, NUMBERS[:1])
    assert error.value.code == "task-failed"
    assert "in break_down" in error.value.__notes__[0]


def test_a_task_whose_process_was_killed_is_run_again(processes, tmp_path):
    payloads = [number | {"folder": str(tmp_path)} for number in NUMBERS]
    assert processes.map(tasks.die_once, payloads) == NUMBERS
    assert (tmp_path / "died").exists()


def test_a_task_that_kills_each_process_is_not_run_forever(processes, monkeypatch):
    monkeypatch.setattr("octo_pipeline.engine.local._ATTEMPTS", 2)
    with pytest.raises(OctoError, match=r"^The process of 1 task died 2 times\.") as error:
        processes.map(tasks.die, NUMBERS[:1])
    assert error.value.code == "task-processes-died"


def test_a_worker_of_another_version_is_refused_by_name():
    expected = {"octo-pipeline": "0123456789ab", "DuckDB": worker.versions()["DuckDB"]}
    answer = worker.answer("tests.support.tasks:square", json.dumps({"number": 2}), expected)
    with pytest.raises(OctoError) as error:
        worker.result("tests.support.tasks:square", answer, expected)
    own = worker.versions()["octo-pipeline"]
    assert f"has octo-pipeline {own} and this process 0123456789ab, so its rows could differ." in str(error.value)
    assert "DuckDB" not in str(error.value)
    assert error.value.code == "worker-of-another-version"


def test_a_worker_without_the_program_is_refused_by_name():
    answer = json.dumps({"worker": "node-7", "versions": {}})
    with pytest.raises(
        OctoError, match=r"^A worker \(node-7\) cannot import octo-pipeline\. Give all workers the same"
    ):
        worker.result("tests.support.tasks:square", answer, worker.versions())


def test_a_task_is_found_again_by_its_name():
    assert worker.name_of(tasks.square) == "tests.support.tasks:square"
    with pytest.raises(ValueError, match="not at the top level of a module"):
        worker.name_of(lambda payload: payload)


def test_values_that_json_does_not_have_are_refused_on_one_machine_too(tmp_path):
    with pytest.raises(TypeError):
        LocalEngine().map(tasks.square, [{"number": tmp_path}])


def test_a_worker_of_a_cluster_has_its_own_memory_and_keys(tmp_path, monkeypatch):
    sent = Settings(lake="s3://bucket/lake", memory_limit="12GB", lake_access_key="a", lake_secret_key="of the driver")
    values = sent.for_tasks()
    assert "driver" not in json.dumps(values)
    monkeypatch.setenv("OCTO_MEMORY_LIMIT", "2GB")
    monkeypatch.setenv("OCTO_LAKE_ACCESS_KEY", "b")
    monkeypatch.setenv("OCTO_LAKE_SECRET_KEY", "of the worker")
    # Not a worker: what was sent counts.
    assert worker.task_settings(values).memory_limit == "12GB"
    monkeypatch.setattr(worker, "threads", 1)
    settings = worker.task_settings(values)
    assert (settings.lake, settings.memory_limit, settings.lake_keys) == (
        "s3://bucket/lake",
        "2GB",
        ("b", "of the worker"),
    )
    assert Workspace(worker.task_settings(Settings(lake=tmp_path).for_tasks())).lake.duckdb_config()["threads"] == 1


def test_small_months_are_made_in_this_process(tmp_path, processes):
    settings = Settings(lake=tmp_path, distribute_from=1000)
    workspace = Workspace(settings, own_engine=processes)
    assert workspace.engine_for(1) is workspace.engine is processes
    workspace = Workspace(settings.model_copy(update={"engine": "spark://127.0.0.1:7077"}))
    assert isinstance(workspace.engine_for(999), LocalEngine)


def test_spark_is_refused_with_a_sentence_if_it_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr("octo_pipeline.engine.spark.find_spec", lambda _: None)
    with pytest.raises(OctoError, match=r"pyspark is not installed\. Install octo-pipeline\[spark\]\.") as error:
        engine_of(Settings(lake=tmp_path, engine="spark://127.0.0.1:7077"))
    assert error.value.remedies == (Remedy("set", setting="engine", to="local to use this machine alone"),)


def test_the_settings_of_the_engine_are_checked_when_they_are_read(monkeypatch):
    for value in ("yarn", "spark://", "http://127.0.0.1"):
        monkeypatch.setenv("OCTO_ENGINE", value)
        with pytest.raises(OctoError, match="OCTO_ENGINE is not valid: must be local, spark, or an address such as"):
            load_settings()
    monkeypatch.delenv("OCTO_ENGINE")
    for value in ("{", "[]", '{"spark.x": {}}'):
        monkeypatch.setenv("OCTO_ENGINE_OPTIONS", value)
        with pytest.raises(
            OctoError, match="OCTO_ENGINE_OPTIONS is not valid: must be a JSON object of texts and numbers"
        ):
            load_settings()
    monkeypatch.setenv("OCTO_ENGINE_OPTIONS", '{"master": "x"}')
    with pytest.raises(OctoError, match="master does not begin with"):
        load_settings()
    monkeypatch.setenv("OCTO_ENGINE_OPTIONS", '{"spark.executor.cores": 1, "spark.speculation": true}')
    assert load_settings().spark_options == {"spark.executor.cores": "1", "spark.speculation": "true"}


def test_a_pod_without_an_address_is_one_sentence(monkeypatch):
    def unknown(name: str) -> str:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("octo_pipeline.engine.spark.find_spec", lambda name: name)
    monkeypatch.setattr(socket, "gethostname", lambda: "octo-0")
    monkeypatch.setattr(socket, "gethostbyname", {"octo-0": "10.1.2.3"}.get)
    engine = SparkEngine("k8s://https://127.0.0.1:6443", {})
    assert engine._place() == {"spark.driver.host": "10.1.2.3", "spark.kubernetes.driver.pod.name": "octo-0"}
    monkeypatch.setattr(socket, "gethostbyname", unknown)
    with pytest.raises(
        OctoError, match=r"^The address of this pod, octo-0, cannot be found \(Name or service"
    ) as error:
        engine._place()
    assert (error.value.code, error.value.place) == ("spark-driver-without-address", "engine")
