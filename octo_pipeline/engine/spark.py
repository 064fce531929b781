"""The engine that runs tasks on a Spark cluster. It gives Spark tasks, never SQL: rows and money come from DuckDB alone.

Spark schedules the tasks, and runs those of a lost worker again. It needs no shuffle for that: tasks read and write files of the
lake. Only what Spark Connect has, too, is used, so the same tasks run on services that have no RDDs.
"""

import json
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from octo_pipeline.engine.engine import Payload, Task
from octo_pipeline.engine.worker import name_of, result, title, versions
from octo_pipeline.model.errors import OctoError, Remedy

if TYPE_CHECKING:
    import pyarrow
    from pyspark.sql import SparkSession

# Java only hands out tasks, so compiling it thoroughly and collecting its garbage in parallel take more than they save: two fifths
# of its processor time in the first minutes.
_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
# Executors that have nothing to do are given back to the cluster, because a process that shows pages may go on for days.
_OPTIONS = {
    "spark.driver.extraJavaOptions": _JAVA,
    "spark.executor.extraJavaOptions": _JAVA,
    "spark.dynamicAllocation.enabled": "true",
    "spark.ui.showConsoleProgress": "false",
}
_SECONDS = 5
# How many characters of Spark's own words a message has.
_REASON = 300


class SparkEngine:
    """Runs tasks on a Spark cluster.

    Attributes:
        url: ``spark://host:port``, ``k8s://https://host:port`` or ``sc://host:port``; ``spark`` for the cluster that the
            command which submitted this program has chosen.
        options: Spark's own settings.
        seconds: the processor time of all tasks so far, without that of lost workers and of Spark itself.
    """

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        if find_spec("pyspark") is None:
            raise OctoError(
                "Tasks are to run on Spark, and the package pyspark is not installed. Install octo-pipeline[spark].",
                code="pyspark-missing",
                place="engine",
                remedy=Remedy("set", setting="engine", to="local to use this machine alone"),
            )
        self.url = url
        # What follows may have a token.
        self._name = "Spark" if url == "spark" else f"Spark at {url.partition(';')[0].rstrip('/')}"
        self.options = {**_OPTIONS, **options}
        self.seconds = 0.0
        self._session: SparkSession | None = None

    def map(self, task: Task, payloads: Sequence[Payload]) -> list[Payload]:
        """See `Engine.map`."""
        if not payloads:
            return []
        name = name_of(task)
        work = _worker(name, [json.dumps(payload) for payload in payloads], versions())
        session = self._session = self._session or self._started()
        # One row per partition, and one partition per task.
        numbers = session.range(0, len(payloads), 1, len(payloads))
        answers: dict[int, str] = {}
        # What Spark's pages call it. Spark Connect has no such thing.
        with suppress(Exception):
            session.sparkContext.setJobDescription(title(name))
        try:
            for row in numbers.mapInArrow(work, "number long, answer string").collect():
                answers[row["number"]] = row["answer"]
        except BaseException as error:
            # The cluster has no reason to go on after Ctrl-C or the end of a Dagster run, and a session that lost its master is
            # of no more use. The next task starts another one.
            self.close()
            if isinstance(error, Exception):
                raise self._failure(name, error) from error
            raise
        if missing := len(payloads) - len(answers):
            raise OctoError(
                f"{self._name} gave no answer of {missing} of {len(payloads)} tasks.", code="spark-lost-tasks"
            )
        results = [result(name, answers[i], versions()) for i in range(len(payloads))]
        self.seconds += sum(seconds for _, seconds in results)
        return [value for value, _ in results]

    def close(self) -> None:
        """Give the cluster's workers back."""
        if self._session is not None:
            # What is broken cannot be stopped in order.
            with suppress(Exception):
                self._session.stop()
            self._session = None

    def _started(self) -> "SparkSession":
        """This process's session with the cluster, which is started if there is none."""
        import signal
        import threading

        from pyspark.sql import SparkSession

        self._require_reachable()
        # All workers have the same image, where Python is in the same place.
        os.environ.setdefault("PYSPARK_PYTHON", self.options.get("spark.pyspark.python", sys.executable))
        builder = SparkSession.builder.appName("octo-pipeline")
        if self.url.startswith("sc://"):
            builder = builder.remote(self.url)
        elif self.url != "spark":
            builder = builder.master(self.url)
        for key, value in (self._place() | self.options).items():
            builder = builder.config(key, value)
        is_main = threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGINT)
        try:
            return builder.getOrCreate()
        except Exception as error:
            raise OctoError(
                f"No session with {self._name} can be started: {_reason(error)}",
                code="spark-session-failed",
                place="engine",
            ) from error
        finally:
            if is_main:
                # Spark takes the handler, and whoever runs this process has one of their own, such as Dagster.
                signal.signal(signal.SIGINT, handler)

    def _place(self) -> dict[str, str]:
        """Where executors find this process. A pod's name leads nowhere, and executors end with the pod that owns them."""
        if not self.url.startswith("k8s://"):
            return {}
        pod = socket.gethostname()
        try:
            address = socket.gethostbyname(pod)
        except OSError as error:
            raise OctoError(
                f"The address of this pod, {pod}, cannot be found ({error.strerror or error}), and executors must reach it.",
                code="spark-driver-without-address",
                place="engine",
            ) from error
        return {"spark.driver.host": address, "spark.kubernetes.driver.pod.name": pod}

    def _require_reachable(self) -> None:
        """Refuse a cluster whose address nobody answers at. Spark would try for minutes.

        Raises:
            OctoError: nobody answers.
        """
        addresses = _addresses(self.url)
        errors = []
        for host, port in addresses:
            try:
                socket.create_connection((host, port), _SECONDS).close()
                return
            except OSError as error:
                errors.append(f"{host}:{port}: {error.strerror or error}")
        if errors:
            raise OctoError(
                f"{self._name} cannot be reached ({'; '.join(errors)}).",
                code="spark-unreachable",
                place="engine",
                remedy=Remedy("set", setting="engine", to="the address of a cluster that runs, or to local"),
            )

    def _failure(self, task: str, error: Exception) -> OctoError:
        return OctoError(
            f"{self._name} could not run the task {title(task)!r}: {_reason(error)}", code="spark-task-failed"
        )


def _addresses(url: str) -> list[tuple[str, int]]:
    """Where the cluster is asked: the masters, the server of Kubernetes or that of Spark Connect."""
    if url == "spark":
        return []
    kind, _, rest = url.partition("://")
    if kind == "k8s":
        parts = urlsplit(rest if "://" in rest else f"https://{rest}")
        return [(parts.hostname or "", parts.port or 443)]
    hosts = [urlsplit(f"//{host}") for host in rest.partition("/")[0].split(",")]
    return [(host.hostname or "", host.port or (15002 if kind == "sc" else 7077)) for host in hosts]


def _reason(error: Exception) -> str:
    """Spark's reason in one line. Its messages are pages, and the reason comes after "failure:" or first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if "Error" in line or "Exception" in line or "failure:" in line]
    text = (causes or lines or [type(error).__name__])[0]
    return f"{text[:_REASON].rstrip('.')}."


def _worker(
    task: str, payloads: Sequence[str], expected: dict[str, str]
) -> "Callable[[Iterable[pyarrow.RecordBatch]], Iterator[pyarrow.RecordBatch]]":
    """What each worker runs. It is sent as it is, so that a worker without this program can say so, too."""

    def work(batches: "Iterable[pyarrow.RecordBatch]") -> "Iterator[pyarrow.RecordBatch]":
        import json
        import platform

        import pyarrow
        from pyspark import TaskContext

        for batch in batches:
            for number in batch.column(0).to_pylist():
                try:
                    from octo_pipeline.engine.worker import answer
                except ImportError as error:
                    lack: dict[str, Any] = {"worker": platform.node(), "versions": {}, "reason": str(error)}
                    text = json.dumps(lack)
                else:
                    context = TaskContext.get()
                    text = answer(task, payloads[number], expected, context.cpus() if context else 1)
                yield pyarrow.RecordBatch.from_pydict({"number": [number], "answer": [text]})

    return work
