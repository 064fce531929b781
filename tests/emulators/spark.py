"""A Spark cluster of our own on loopback: a master and two workers of one core each, and a server of Spark Connect."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.emulators.postgresql import free_port

ROOT = Path(__file__).parents[2]
_SECONDS = 120
_MASTER, _WORKER = "org.apache.spark.deploy.master.Master", "org.apache.spark.deploy.worker.Worker"
_CONNECT = "org.apache.spark.sql.connect.service.SparkConnectServer"


class Cluster:
    """A master and its workers, as processes.

    Attributes:
        url: the master's address.
        pages: the address of the master's pages.
        workers: the workers' processes, by their numbers.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        port, pages = free_port(), free_port()
        self.url, self.pages = f"spark://127.0.0.1:{port}", f"http://127.0.0.1:{pages}"
        self.workers: dict[int, subprocess.Popen[bytes]] = {}
        self._master = self._start(
            "master", _MASTER, "--host", "127.0.0.1", "--port", str(port), "--webui-port", str(pages)
        )

    def start_worker(self, number: int) -> None:
        """Start a worker of one core."""
        self.workers[number] = self._start(
            f"worker-{number}", _WORKER, "--cores", "1", "--memory", "1g", "--host", "127.0.0.1", "--webui-port", "0",
            "--work-dir", str(self.folder / f"work-{number}"), self.url,
        )  # fmt: skip

    def kill_worker(self, number: int) -> None:
        """Kill a worker with its executor and its Python processes, as a lost machine."""
        kill(self.workers.pop(number))

    def wait(self) -> None:
        """Wait until the master knows all workers."""
        for _ in range(_SECONDS * 5):
            try:
                with urllib.request.urlopen(f"{self.pages}/json/", timeout=5) as page:
                    if page.read().count(b'"ALIVE"') == len(self.workers) + 1:
                        return
            except OSError:
                pass
            assert self._master.poll() is None, (self.folder / "master.log").read_text()
            time.sleep(0.2)
        raise AssertionError(f"the Spark cluster was not ready after {_SECONDS} s")

    def processes(self) -> list[int]:
        """The ids of all processes of the cluster."""
        own = [self._master.pid, *(worker.pid for worker in self.workers.values())]
        return own + [child for process in own for child in descendants(process)]

    def stop(self) -> None:
        for process in (*self.workers.values(), self._master):
            kill(process)

    def _start(self, name: str, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        return start(self.folder / f"{name}.log", "spark-class", program, *arguments)


def start(log: Path, program: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a program of Spark's."""
    home = spark_home()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_", "OCTO_"))},
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
        # Three of them fit beside the tests.
        "SPARK_DAEMON_MEMORY": "512m",
        "SPARK_LOCAL_DIRS": str(log.parent / "scratch"),
    }
    with log.open("wb") as file:
        return subprocess.Popen(
            [home / "bin" / program, *arguments], env=environment, stdout=file, stderr=file, start_new_session=True
        )


def spark_home() -> Path:
    """Where Spark is; skips the test if it or Java is not installed."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        pytest.skip("pyspark is not installed here; `make spark` has an environment with it")
    if shutil.which("java") is None:
        pytest.skip("no Java is installed (Debian: apt-get install default-jre-headless)")
    return Path(spec.origin).parent


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started."""
    for one in [*descendants(process.pid), process.pid]:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    process.wait()


def descendants(process: int) -> list[int]:
    """The processes that a process started, and theirs, the youngest first."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    children = [child for child, parent in parents.items() if parent == process]
    return [below for child in children for below in (*descendants(child), child)]


def options(**more: str) -> dict[str, str]:
    """Spark's settings for a cluster on a small and busy machine."""
    return {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.memory": "512m",
        "spark.executor.memory": "512m",
        "spark.executor.cores": "1",
        "spark.network.timeout": "300s",
        "spark.ui.enabled": "false",
        **{f"spark.{name.replace('_', '.')}": value for name, value in more.items()},
    }


@pytest.fixture(scope="session")
def spark_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A master and two workers of one core each."""
    spark_home()
    cluster = Cluster(tmp_path_factory.mktemp("spark"))
    try:
        for number in range(2):
            cluster.start_worker(number)
        cluster.wait()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def spark_connect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of Spark Connect that runs tasks itself."""
    spark_home()
    folder, port = tmp_path_factory.mktemp("spark-connect"), free_port()
    own = options(connect_grpc_binding_address="127.0.0.1", connect_grpc_binding_port=str(port))
    settings = [part for name, value in own.items() for part in ("--conf", f"{name}={value}")]
    log = folder / "connect.log"
    server = start(log, "spark-submit", "--class", _CONNECT, "--master", "local[2]", *settings, "spark-internal")
    try:
        for _ in range(_SECONDS * 5):
            if "Spark Connect server started" in log.read_text():
                break
            assert server.poll() is None, log.read_text()
            time.sleep(0.2)
        yield f"sc://127.0.0.1:{port}"
    finally:
        kill(server)
