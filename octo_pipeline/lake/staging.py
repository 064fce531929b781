"""Where half-made files live: ``<root>/.staging/<uuid>/``, never where a reader looks.

A staging folder belongs to the process that holds the lock on the file beside it, ``<uuid>.lock``. The kernel
releases that lock when the process ends, however it ends, so a folder whose lock is free has no owner and is swept.
The lock is taken before the folder is made: a lock file inside the folder could be swept before it is locked.
"""

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from octo_pipeline.model.permissions import make_folders

# A month of a large company takes some minutes.
_LEASE_SECONDS = 900.0
_LEASE_POLL_SECONDS = 0.2


@contextmanager
def staging_folder(root: Path) -> Iterator[Path]:
    """A new folder on the lake's file system, removed at the end whatever happens.

    Args:
        root: the lake's root.

    Yields:
        The folder; move what is to stay out of it with ``os.replace``.
    """
    staging = root / ".staging"
    make_folders(staging, root)
    sweep(root)
    while True:
        folder = staging / uuid.uuid4().hex
        lock_path = _lock_of(folder)
        with lock_path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not lock_path.exists():
                continue  # swept before it was locked
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                lock_path.unlink(missing_ok=True)
            return


def check_writable(root: Path) -> None:
    """Write something below the root, or where the root would be made, and remove it.

    Raises:
        OSError: nothing can be written there.
    """
    folder = next(folder for folder in (root, *root.parents) if folder.is_dir())
    with TemporaryDirectory(dir=folder, prefix=".octo-check-"):
        pass


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def sweep(root: Path) -> int:
    """Remove the staging folders whose process has ended, and locks whose folder was never made; returns how many."""
    swept = 0
    for lock_path in (root / ".staging").glob("*.lock"):
        # Its owner or another sweeper may have removed the lock file in the meantime.
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
    """Hold the lock called `name`; one process that uses this root can hold it at a time."""
    locks = root / ".locks"
    make_folders(locks, root)
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


# The leases of this process, which are not waited for: its other months would never come to an end.
_LEASED: set[tuple[Path, str]] = set()


@contextmanager
def lease(root: Path, name: str, patience: float | None = None) -> Iterator[bool]:
    """Hold the lease called `name`, or go on without it if another process holds it for too long.

    A lease keeps work from being done twice. It protects nothing, so a process that hangs keeps the others only for a while,
    and one that ends, however it ends, keeps nobody.

    Args:
        root: the lake's root.
        name: the lease.
        patience: seconds to wait for another process; None for as long as it may be at work.

    Yields:
        False if another process still holds it.
    """
    if (root, name) in _LEASED:
        yield True
        return
    locks = root / ".locks"
    try:
        make_folders(locks, root)
        opened = (locks / name).open("w")
    except OSError:
        # Whoever writes the first table says what is wrong with a lake that takes no file.
        yield True
        return
    deadline = time.monotonic() + (_LEASE_SECONDS if patience is None else patience)
    with opened as lock:
        is_held = False
        while not is_held:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_held = True
            except BlockingIOError:
                if time.monotonic() > deadline:
                    break
                time.sleep(_LEASE_POLL_SECONDS)
        _LEASED.add((root, name))
        try:
            yield is_held
        finally:
            _LEASED.discard((root, name))
