"""Both ends of a task that another process runs: what is sent, what the worker does, and what its answer means.

An answer is JSON in any case. An exception would make a cluster run a task again that fails each time, and would arrive as a
page of the cluster's own words.
"""

import base64
import hashlib
import importlib
import json
import os
import pickle  # nosec B403
import socket
import time
import traceback
from functools import cache
from pathlib import Path
from typing import Any, cast

import octo_pipeline
from octo_pipeline.engine.engine import Payload, Task
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.shipped import shipped_folder
from octo_pipeline.settings import Settings, load_settings

_CODE = {".py", ".j2", ".sql", ".yml"}

# How many threads DuckDB has in this process; None for one per processor, as in a process that has the machine to itself.
threads: int | None = None
# The settings for which a worker's own environment counts first: it knows its machine and has its own rights.
_OWN = ("lake_endpoint", "memory_limit", "temp")


@cache
def versions() -> dict[str, str]:
    """What the rows that this process makes depend on: a digest of the program's code, and the version of DuckDB.

    DuckDB's ``hash`` and its decimals may differ between versions.
    """
    import duckdb

    digest = hashlib.sha256()
    package = Path(octo_pipeline.__file__).parent
    for folder in (package, shipped_folder("dbt_project")):
        for file in sorted(path for path in folder.rglob("*") if path.suffix in _CODE):
            name = file.relative_to(folder)
            # A wheel has the dbt project within the package, a checkout beside it.
            if not {"target", "dbt_project"} & set(name.parts):
                digest.update(f"{name}\0".encode())
                digest.update(file.read_bytes())
    return {"octo-pipeline": digest.hexdigest()[:12], "DuckDB": duckdb.__version__}


def name_of(task: Task) -> str:
    """The name by which another process finds a task: ``module:function``.

    Raises:
        ValueError: it is not a function at the top level of a module.
    """
    name = f"{task.__module__}:{task.__qualname__}"
    if _task(name) is not task:
        raise ValueError(f"{name} is not at the top level of a module, so no other process finds it")
    return name


def title(name: str) -> str:
    """What people call a task."""
    return name.rpartition(":")[2].replace("_", " ")


def _task(name: str) -> Task:
    module, _, function = name.partition(":")
    return cast(Task, getattr(importlib.import_module(module), function, None))


def greet(payload: Payload) -> Payload:
    """A task that only says where it runs: ``{"host": name}``."""
    return {"host": socket.gethostname()}


def as_json(value: Payload) -> Payload:
    """What arrives of a payload or a result.

    Raises:
        TypeError: it has values that JSON does not have.
    """
    return cast(Payload, json.loads(json.dumps(value)))


def task_settings(values: Payload) -> Settings:
    """The settings of a task.

    In a cluster, the memory limit, the folder for temporary files and the address of the store that a worker's own
    environment names count first. So do its keys for the lake, which are never sent.

    Args:
        values: what `Settings.for_tasks` gave the task.
    """
    own = load_settings() if threads is not None else None
    return load_settings(
        **{
            name: value
            for name, value in values.items()
            if own is None or name not in _OWN or getattr(own, name) is None
        }
    )


def answer(task: str, payload: str, expected: dict[str, str], cores: int | None = None) -> str:
    """Run a task in this process for another one.

    Args:
        task: its name; see `name_of`.
        payload: as JSON.
        expected: the versions of who sent it.
        cores: how many threads DuckDB may have; None for one per processor.

    Returns:
        What `result` reads.
    """
    global threads
    threads = cores
    where = f"{socket.gethostname()}, process {os.getpid()}"
    if versions() != expected:
        return json.dumps({"worker": where, "versions": versions()})
    began = time.process_time()
    try:
        made = _task(task)(json.loads(payload))
        return json.dumps({"worker": where, "result": made, "seconds": time.process_time() - began})
    except OctoError as error:
        return json.dumps({"worker": where, "error": base64.b64encode(pickle.dumps(error)).decode()})
    except Exception as error:
        failure = f"{type(error).__name__}: {error}".partition("\n")[0]
        return json.dumps({"worker": where, "failure": failure, "traceback": traceback.format_exc()})


def result(task: str, answer: str, expected: dict[str, str]) -> tuple[Payload, float]:
    """What a task returned, and the seconds of processor time that it took.

    Raises:
        OctoError: what the task raised; or it failed otherwise, or the worker has another version.
    """
    document: dict[str, Any] = json.loads(answer)
    if "result" in document:
        return document["result"], document["seconds"]
    if "versions" in document:
        raise _of_another_version(document["worker"], document["versions"], expected)
    if "error" in document:
        # The workers run this program with rights to this lake; who controls one can write what they like anyway.
        error: OctoError = pickle.loads(base64.b64decode(document["error"]))  # noqa: S301  # nosec B301
        raise error
    failed = OctoError(
        f"The task {title(task)!r} failed ({document['worker']}): {document['failure'].rstrip('.')}.",
        code="task-failed",
    )
    failed.add_note(document["traceback"])
    raise failed


def _of_another_version(worker: str, versions: dict[str, str], expected: dict[str, str]) -> OctoError:
    differences = [
        f"{package} {versions[package]} and this process {version}"
        for package, version in expected.items()
        if versions and versions[package] != version
    ]
    has = f"has {' and '.join(differences)}, so its rows could differ" if versions else "cannot import octo-pipeline"
    return OctoError(
        f"A worker ({worker}) {has}. Give all workers the same image as this process.",
        code="worker-of-another-version",
        place=worker,
    )
