"""Where half-made files live: ``<root>/.staging/<uuid>/``, never where a reader looks.

A staging folder belongs to the process that holds the lock on the file beside it, ``<uuid>.lock``. The kernel
drops that lock with the process, however it ends, so a folder whose lock can be taken has no owner and is swept.
The lock is held before the folder is made: a lock inside it could be taken between its making and its locking.
"""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def staging_folder(root: Path) -> Iterator[Path]:
    """A fresh folder on the lake's file system, removed at the end whatever happened.

    Args:
        root: the lake's root.

    Yields:
        The folder; what is to stay must have been moved out of it by ``os.replace``.
    """
    staging = root / ".staging"
    staging.mkdir(parents=True, exist_ok=True)
    sweep(root)
    while True:
        folder = staging / uuid.uuid4().hex
        lock_path = _lock_of(folder)
        with lock_path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not lock_path.exists():
                continue  # swept between its making and its locking
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                lock_path.unlink(missing_ok=True)
            return


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def sweep(root: Path) -> int:
    """Remove the staging folders whose process has ended, and locks whose folder was never made; returns how many."""
    swept = 0
    for lock_path in (root / ".staging").glob("*.lock"):
        # A lock file that is gone by now was removed by its owner or by another sweeper.
        with suppress(FileNotFoundError), lock_path.open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(lock_path.with_suffix(""), ignore_errors=True)
            lock_path.unlink(missing_ok=True)
            swept += 1
    return swept


@contextmanager
def exclusive(root: Path, name: str) -> Iterator[None]:
    """Hold the lock called `name` among all processes that use this root."""
    locks = root / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def sync(path: Path) -> None:
    """Make a file or folder durable before a name points to it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
