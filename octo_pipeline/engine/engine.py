"""The port through which a large month is made by tasks, and the engine that the settings choose.

A task is a function at the top level of a module of this program. It takes a JSON object and returns one. Another process finds
it again by its name, so it gets everything that it needs in its payload: where the lake is (`Settings.for_tasks`), documents,
names of files. It never gets secrets, because payloads are stored and logged by clusters; a worker has credentials of its own.

A task may run twice, also at the same time, and may be killed at any moment. So it writes its files under a temporary name and
renames them at its end, and a second run of it gives the same files.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from octo_pipeline.settings import Settings

# A task's payload and its result: values that JSON has. Tuples arrive as lists.
Payload = dict[str, Any]
Task = Callable[[Payload], Payload]


class Engine(Protocol):
    """Something that runs tasks."""

    def map(self, task: Task, payloads: Sequence[Payload]) -> list[Payload]:
        """Run a task once for each payload.

        Args:
            task: a function at the top level of a module.
            payloads: what each run of it gets.

        Returns:
            The results, in the order of the payloads, each once, however often its task was run.

        Raises:
            OctoError: what a task raised, with its class and its sentence; or a task failed otherwise, a worker has another
                version of the program, or the workers cannot be reached.
        """
        ...


def engine_of(settings: Settings) -> Engine:
    """The engine that the settings choose. Nothing is started or asked before its first task.

    Raises:
        OctoError: the engine is Spark, and pyspark is not installed.
    """
    if settings.engine == "local":
        from octo_pipeline.engine.local import LocalEngine

        return LocalEngine()
    from octo_pipeline.engine.spark import SparkEngine

    return SparkEngine(settings.engine, settings.spark_options)
