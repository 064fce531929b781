"""Tasks that tests give to engines: functions that another process finds by their names."""

import os
import signal
import socket
import time
import uuid
from pathlib import Path
from typing import Any

import duckdb

from octo_pipeline.engine import worker
from octo_pipeline.model.errors import InputChangedError, OctoError, Remedy
from octo_pipeline.workspace import Workspace


def square(payload: dict[str, Any]) -> dict[str, Any]:
    """The square of a number, and which process made it."""
    return {"square": payload["number"] ** 2, "process": os.getpid(), "host": socket.gethostname()}


def refuse(payload: dict[str, Any]) -> dict[str, Any]:
    """Raise a sentence if the number is three."""
    if payload["number"] == 3:
        raise OctoError("Three is not even.", code="no-good", place="three", remedy=Remedy("run", month="2024-01"))
    return {}


def change(payload: dict[str, Any]) -> dict[str, Any]:
    """Raise an error that callers tell by its class."""
    raise InputChangedError("An input changed.")


def break_down(payload: dict[str, Any]) -> dict[str, Any]:
    """Raise what nobody expects."""
    raise KeyError("no such thing\nand more")


def die_once(payload: dict[str, Any]) -> dict[str, Any]:
    """Be killed the first time that the number is two."""
    marker = Path(payload["folder"]) / "died"
    if payload["number"] == 2 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"number": payload["number"]}


def die(payload: dict[str, Any]) -> dict[str, Any]:
    """Be killed each time."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def count_rows(payload: dict[str, Any]) -> dict[str, Any]:
    """Write the even numbers of a Parquet file to another one, as tasks do; and what the worker is like."""
    workspace = Workspace(worker.task_settings(payload["settings"]))
    time.sleep(payload.get("seconds", 0))
    target = Path(payload["target"])
    written = target.with_name(f".{uuid.uuid4().hex}-{target.name}")
    with workspace.lake.connect() as connection:
        connection.execute(f"COPY (FROM '{payload['source']}' WHERE number % 2 = 0) TO '{written}' (FORMAT parquet)")
        (rows, total) = connection.execute(f"SELECT count(*), sum(number)::VARCHAR FROM '{written}'").fetchone()
        (threads, memory, bar) = connection.execute(
            "SELECT current_setting('threads'), current_setting('memory_limit'), current_setting('enable_progress_bar')"
        ).fetchone()
    os.replace(written, target)
    return {"rows": rows, "total": total, "threads": threads, "memory": memory, "bar": bar, "process": os.getpid()}


def number_files(folder: Path, count: int) -> list[Path]:
    """Parquet files of numbers."""
    paths = [folder / f"{i}.parquet" for i in range(count)]
    with duckdb.connect() as connection:
        for i, path in enumerate(paths):
            connection.execute(f"COPY (SELECT range + {i} AS number FROM range(1000)) TO '{path}' (FORMAT parquet)")
    return paths
