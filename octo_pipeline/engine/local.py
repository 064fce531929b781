"""Engines on this machine: tasks one after the other in this process, or in several processes."""

import json
import os
import signal
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from octo_pipeline.engine.engine import Payload, Task
from octo_pipeline.engine.worker import answer, as_json, name_of, result, versions
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import counted

if TYPE_CHECKING:
    from concurrent.futures import Future, ProcessPoolExecutor

# As often as Spark by default. A task that kills its process each time does not fit the machine.
_ATTEMPTS = 4


class LocalEngine:
    """Runs tasks in this process, one after the other: DuckDB uses all processors in each."""

    def map(self, task: Task, payloads: Sequence[Payload]) -> list[Payload]:
        """Run a task for each payload; what it raises is raised as it is. See `Engine.map`."""
        return [as_json(task(as_json(payload))) for payload in payloads]


class ProcessEngine:
    """Runs tasks in processes of this machine; a task whose process died is run again.

    The processes are kept for the next tasks until the engine is closed.

    Attributes:
        processes: how many.
        seconds: the processor time of all tasks so far that ended.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self.seconds = 0.0
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "ProcessEngine":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def map(self, task: Task, payloads: Sequence[Payload]) -> list[Payload]:
        """See `Engine.map`."""
        name = name_of(task)
        texts = [json.dumps(payload) for payload in payloads]
        answers: dict[int, str] = {}
        for _ in range(_ATTEMPTS):
            answers |= self._answers(name, {i: text for i, text in enumerate(texts) if i not in answers})
            if len(answers) == len(texts):
                break
        else:
            raise OctoError(
                f"The process of {counted(len(texts) - len(answers), 'task')} died {_ATTEMPTS} times. It ran out of memory, or "
                "something kills it.",
                code="task-processes-died",
            )
        results = [result(name, answers[i], versions()) for i in range(len(texts))]
        self.seconds += sum(seconds for _, seconds in results)
        return [value for value, _ in results]

    def _answers(self, name: str, payloads: dict[int, str]) -> dict[int, str]:
        """The answers by number, without those of tasks whose process died."""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        from concurrent.futures.process import BrokenProcessPool

        if self._pool is None:
            # Threads and locks of this process must not be copied into the workers; a server that has neither forks them,
            # and has imported the task before.
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload([name.partition(":")[0]])
            self._pool = ProcessPoolExecutor(
                self.processes, mp_context=context, initializer=_leave_interrupts_to_parent
            )
        answers: dict[int, str] = {}
        futures: dict[int, Future[str]] = {}
        try:
            for number, payload in payloads.items():
                futures[number] = self._pool.submit(answer, name, payload, versions())
            for number, future in futures.items():
                answers[number] = future.result()
        except BrokenProcessPool:
            # One dead process ends the others, too. What some of them had finished is not made again.
            answers |= {n: f.result() for n, f in futures.items() if f.done() and f.exception() is None}
            self._pool = None
        except BaseException:
            # Tasks that run end by themselves, or by the signal that ends this process.
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
            raise
        return answers


def _leave_interrupts_to_parent() -> None:
    # Ctrl-C reaches every process of the terminal; a task can end at any moment, and only one process prints something.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
