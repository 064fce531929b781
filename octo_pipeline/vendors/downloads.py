"""Fetching a delivery's files: in parallel, resumed after a break, compared with what the source announced.

This module copies bytes from a source into a folder. What the files are, and what becomes of them, belongs in the
vendors' modules.

A file that its source can read from the middle (`SourceFile.open_at`) survives a break. Within a run the rest is
requested again. What a killed run had fetched stays in ``.partial`` of the folder passed to `fetch`, named after the
file's source, name and version, and the next run continues there; it still hashes the file from its first byte. The
process that holds the lock on a partial file owns it. A second process does not wait: it fetches the whole file itself.
"""

import fcntl
import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import BinaryIO

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import quoted, reason

_CHUNK = 1 << 20
_QUOTED = 300
# Eight connections fill a gigabit line from S3; more would only share it.
_SIDE_BY_SIDE = 8
# Breaks in a row without a byte between them. A connection that makes progress may break any number of times.
_BREAKS = 5
_LONGEST_PAUSE_SECONDS = 8.0
# A report is refreshed daily, so a download that was not resumed within three days never will be.
_PARTIAL_SECONDS = 3 * 24 * 3600


@dataclass(frozen=True)
class SourceFile:
    """A file at its source, with what the source announces about it.

    Attributes:
        open: opens a stream of the whole file, which raises OSError when the connection breaks.
        size: in bytes.
        sha256: in hexadecimal.
        md5: in hexadecimal.
        open_at: opens a stream from a byte offset of the version that `etag` names; None if the source cannot.
        etag: the version; in S3 it may also be a digest.
        digest_parts: asks the source for the size in bytes of the parts that the ETag is a digest of; it returns None
            if the ETag is not a digest.
    """

    name: str
    open: Callable[[], BinaryIO]
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    open_at: Callable[[int], BinaryIO] | None = None
    etag: str | None = None
    digest_parts: Callable[[], int | None] | None = None


@dataclass(frozen=True)
class DeliveredFile:
    """A file of a delivery; `size` in bytes, `sha256` in hexadecimal."""

    name: str
    size: int
    sha256: str


def safe_name(name: str, role: str) -> str:
    """Return the name if it is safe as the name of a file or folder in the landing.

    Args:
        name: from a vendor.
        role: what it names, such as ``version``; for the message.

    Raises:
        OctoError: it is empty, hidden, too long, or has a path separator, ``..``, a control character or half of a
            surrogate pair.
    """
    is_odd = any(character in "/\\\x7f" or character < " " or "\ud800" <= character <= "\udfff" for character in name)
    if not name or is_odd or ".." in name or name[0] in "._" or len(os.fsencode(name)) > 200:
        raise OctoError(
            f"{quoted(name, _QUOTED)} cannot be the {role} of a delivery, because that becomes a name on the disk. "
            "It must not be empty, begin with a dot or an underscore, be longer than 200 bytes, or "
            "contain a slash, a backslash, '..', a control character or text that is not UTF-8.",
            code="name-unsafe",
        )
    return name


def inside(path: Path, root: Path, origin: str) -> Path:
    """Return the path if it is below the folder after links are followed.

    Args:
        path: a file or folder of a source, which need not exist.
        root: the source's folder.
        origin: what to call the path in messages.

    Raises:
        OctoError: a link leads out of the folder. Whoever may write there must not choose which other files are read.
    """
    if not path.resolve().is_relative_to(root.resolve()):
        raise OctoError(
            f"{origin} is a link that leads out of {root}. Copy the file itself there.", code="link-leads-outside"
        )
    return path


def file_place(name: str, source: str) -> str:
    """What to call a file of a source in messages."""
    return source if Path(source).name == name else f"{name} of {source}"


def fetch(
    files: Sequence[SourceFile], folder: Path, source: str, *, resume: Path | None = None
) -> tuple[DeliveredFile, ...]:
    """Copy the files into the folder and compare them with what the source announced.

    Args:
        files: of one delivery.
        folder: where they go; throw its content away when this raises.
        source: what to call the source in messages.
        resume: a folder on the same file system whose ``.partial`` keeps interrupted downloads; None keeps nothing.

    Raises:
        OctoError: a name is not safe or occurs twice; a file cannot be read, is empty, or differs in size or
            checksum. Files that were not started are not fetched.
    """
    names = [safe_name(file.name, "file") for file in files]
    for name in names:
        if names.count(name) > 1:
            raise OctoError(
                f"{source} has two files named {name}; a delivery can hold one. Nothing was landed.",
                code="file-names-repeated",
            )
    partial = resume and resume / ".partial"
    if partial:
        _sweep(partial)
    is_stopped = threading.Event()
    # Unlike those of concurrent.futures, its threads do not keep the process from ending: one that waits for a server can
    # do nothing else for minutes.
    pool = ThreadPool(_SIDE_BY_SIDE)
    try:
        results = [
            pool.apply_async(_fetch_file, (file, folder / file.name, source, partial, is_stopped)) for file in files
        ]
        delivered = tuple(result.get() for result in results)
    except BaseException as error:
        is_stopped.set()
        # The folder is about to be removed. After an interruption that is not waited for.
        if isinstance(error, Exception):
            pool.close()
            pool.join()
        else:
            pool.terminate()
        raise
    pool.close()
    pool.join()
    return delivered


class _Digests:
    """The announced digests of a file, computed while it is fetched; `parts` is the size of the parts of its ETag."""

    def __init__(self, file: SourceFile, parts: int | None) -> None:
        self._file = file
        self._parts = parts
        self.size = 0
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False) if file.md5 is not None else None
        self._part = hashlib.md5(usedforsecurity=False)
        self._of_parts: list[bytes] = []

    def update(self, chunk: bytes) -> None:
        """Take the file's next bytes."""
        if self._parts is not None:
            self._update_parts(memoryview(chunk), self._parts)
        self.size += len(chunk)
        self._sha256.update(chunk)
        if self._md5 is not None:
            self._md5.update(chunk)

    def _update_parts(self, chunk: memoryview, parts: int) -> None:
        position = self.size
        while chunk:
            room = parts - position % parts
            self._part.update(chunk[:room])
            position += len(chunk[:room])
            chunk = chunk[room:]
            if position % parts == 0:
                self._of_parts.append(self._part.digest())
                self._part = hashlib.md5(usedforsecurity=False)

    def _etag(self) -> str:
        digests = list(self._of_parts)
        if self._parts and (self.size % self._parts or not self.size):
            digests.append(self._part.digest())
        if "-" not in (self._file.etag or ""):
            return digests[0].hex()
        return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"

    def verified(self, origin: str) -> DeliveredFile:
        """The file as delivered, if it matches what was announced."""
        if self.size == 0:
            raise OctoError(f"{origin} is empty (0 bytes). Fetch it again; nothing was landed.", code="file-empty")
        sha256 = self._sha256.hexdigest()
        checked: list[tuple[str, object, object]] = [
            ("size", self._file.size, self.size),
            ("sha256", self._file.sha256, sha256),
            ("md5", self._file.md5, self._md5 and self._md5.hexdigest()),
            ("ETag", self._file.etag if self._parts is not None else None, self._parts and self._etag()),
        ]
        for name, announced, actual in checked:
            if announced not in (None, actual):
                raise OctoError(
                    f"{origin} was cut off or changed while it was read: its {name} is {actual}, "
                    f"but {announced} was announced. Land the report again; nothing was landed.",
                    code="file-changed-while-read",
                )
        return DeliveredFile(self._file.name, self.size, sha256)


class _Stopped(Exception):
    """Another file failed, or the run was interrupted."""


def _fetch_file(
    file: SourceFile, target: Path, source: str, partial: Path | None, is_stopped: threading.Event
) -> DeliveredFile:
    if is_stopped.is_set():
        raise _Stopped
    origin = file_place(file.name, source)
    digests = _Digests(file, file.digest_parts() if file.digest_parts else None)
    with _begun(file, origin, target, partial) as (stream, at):
        _hash_kept(stream, digests)
        for chunk in _chunks(file, origin, lambda: digests.size):
            if is_stopped.is_set():
                raise _Stopped
            stream.write(chunk)
            digests.update(chunk)
        stream.flush()
        try:
            delivered = digests.verified(origin)
        except OctoError:
            # The next run would resume from wrong bytes and fail again.
            at.unlink()
            raise
        at.replace(target)
    return delivered


@contextmanager
def _begun(file: SourceFile, origin: str, target: Path, partial: Path | None) -> Iterator[tuple[BinaryIO, Path]]:
    """The file to write to and its path: the locked partial file, or the target if nothing is to be kept."""
    if partial is not None and file.open_at is not None and file.etag is not None:
        partial.mkdir(mode=0o700, parents=True, exist_ok=True)
        named = f"{origin}\0{file.name}\0{file.etag}\0{file.size}"
        path = partial / hashlib.sha256(named.encode()).hexdigest()[:32]
        with path.open("a+b") as stream:
            if _is_ours(stream, path):
                yield stream, path
                return
    with target.open("x+b") as stream:
        yield stream, target


def _is_ours(stream: BinaryIO, path: Path) -> bool:
    """Lock the partial file; False if another process has it or has just moved it away."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return path.stat().st_ino == os.fstat(stream.fileno()).st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


def _hash_kept(stream: BinaryIO, digests: _Digests) -> None:
    stream.seek(0)
    while chunk := stream.read(_CHUNK):
        digests.update(chunk)


def _sweep(partial: Path) -> None:
    """Remove the partial files that were not resumed."""
    for file in partial.glob("*"):
        with suppress(FileNotFoundError):
            if time.time() - file.stat().st_mtime > _PARTIAL_SECONDS:
                file.unlink()


def _chunks(file: SourceFile, origin: str, position: Callable[[], int]) -> Iterator[bytes]:
    """The file's bytes from the position on. An OSError here comes from the source, never from the disk."""
    breaks = 0
    while True:
        begun = position()
        try:
            if begun and begun == file.size:
                return
            with file.open_at(begun) if file.open_at else file.open() as stream:
                while chunk := stream.read(_CHUNK):
                    yield chunk
            return
        except OSError as error:
            breaks = 1 if position() > begun else breaks + 1
            if file.open_at is None or breaks >= _BREAKS:
                tried = f" after {breaks} tries" if breaks > 1 else ""
                raise OctoError(
                    f"{origin} cannot be read{tried} ({reason(error)}); nothing was landed.",
                    code="file-unreadable",
                ) from error
            time.sleep(random.uniform(0.5, 1) * min(0.5 * 2**breaks, _LONGEST_PAUSE_SECONDS))  # noqa: S311
