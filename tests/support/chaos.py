"""An engine that does to tasks whatever a cluster may do to them."""

import importlib
import os
import random
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from octo_pipeline.engine.engine import Payload, Task
from octo_pipeline.engine.local import ProcessEngine
from octo_pipeline.engine.worker import name_of

# So that not each process that takes the place of a killed one imports them again.
from octo_pipeline.tables import buckets, graph  # noqa: F401


class ChaosEngine:
    """Runs each task twice, kills the process of one when it has written and before it renames, and all in any order.

    Attributes:
        killed: how many tasks were killed so far.
    """

    def __init__(self, processes: ProcessEngine, seed: int = 0) -> None:
        self.killed = 0
        self._processes = processes
        self._random = random.Random(seed)

    def map(self, task: Task, payloads: Sequence[Payload]) -> list[Payload]:
        numbers = [i for i in range(len(payloads)) for _ in range(2)]
        self._random.shuffle(numbers)
        with tempfile.TemporaryDirectory(prefix="octo-chaos-") as folder:
            marker = Path(folder) / "killed"
            victim = self._random.randrange(len(numbers)) if numbers else 0
            results = self._processes.map(
                run,
                [
                    {"task": name_of(task), "payload": payloads[i], "marker": str(marker) if k == victim else None}
                    for k, i in enumerate(numbers)
                ],
            )
            self.killed += marker.exists()
        by_number: dict[int, list[Payload]] = {}
        for i, result in zip(numbers, results, strict=True):
            by_number.setdefault(i, []).append(result)
        for twice in by_number.values():
            assert twice[0] == twice[1], "a task that ran twice gave two results"
        return [by_number[i][0] for i in range(len(payloads))]


def run(payload: dict[str, Any]) -> dict[str, Any]:
    """Run a task, or kill this process when it renames a file for the first time; at the latest at its end."""
    module, _, name = payload["task"].partition(":")
    task = getattr(importlib.import_module(module), name)
    marker = payload["marker"] and Path(payload["marker"])
    if not marker or marker.exists():
        return task(payload["payload"])

    def kill(*_: object, **__: object) -> None:
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)

    os.replace = os.rename = os.link = kill
    task(payload["payload"])
    kill()
    return {}
