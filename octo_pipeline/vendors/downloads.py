"""Fetching a delivery's files: side by side, resumed after a break, held against what the source announced.

Here belongs the way of bytes from a source into a folder. What the files are, and what becomes of them, does
not.

A file that its source can read from the middle (`SourceFile.open_at`) survives a break: within a run the rest
is asked for again, and what a killed run had fetched lies in ``.partial`` of the folder given to `fetch`,
under a name made of place, name and version of the file, until the next run goes on there. It is hashed from
its first byte all the same. A partial file belongs to who holds the lock on it; nobody waits for it, a second
process fetches the file whole for itself.
"""

import fcntl
import hashlib
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import quoted, reason

_CHUNK = 1 << 20
_QUOTED = 300
# Eight connections fill a gigabit line from S3; more only share it.
_SIDE_BY_SIDE = 8
# Breaks in a row without a byte between them; a line that keeps moving may break as often as it likes.
_BREAKS = 5
_LONGEST_PAUSE_SECONDS = 8.0
# A report is refreshed daily: what nobody went on with for three days never will be.
_PARTIAL_SECONDS = 3 * 24 * 3600


@dataclass(frozen=True)
class SourceFile:
    """A file where it is before landing, with what the source announces about it.

    Attributes:
        open: a stream of the whole file; raises OSError where it breaks.
        size: in bytes.
        sha256: in hexadecimal; so is md5.
        open_at: a stream from a byte on, of the version that `etag` names; None if the source cannot.
        etag: the version; S3's is a digest if `digest_parts` says of what.
        digest_parts: asks the source for the size in bytes of the parts that the ETag is a digest of; None as
            an answer: it is no digest.
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


def safe_name(name: str, what: str) -> str:
    """Return the name if it can name a file or folder in the landing and nothing else.

    Raises:
        OctoError: it is empty, hidden, too long, or has a path separator, ``..``, a control character or half of a
            surrogate pair.
    """
    is_odd = any(character in "/\\\x7f" or character < " " or "\ud800" <= character <= "\udfff" for character in name)
    if not name or is_odd or ".." in name or name[0] in "._" or len(os.fsencode(name)) > 200:
        raise OctoError(
            f"{quoted(name, _QUOTED)} cannot be the {what} of a delivery, because that becomes a name on the disk. "
            "It must not be empty, begin with a dot or an underscore, be longer than 200 bytes, or "
            "contain a slash, a backslash, '..', a control character or what is no UTF-8.",
            code="name-unsafe",
        )
    return name


def inside(path: Path, root: Path, place: str) -> Path:
    """Return the path if it is below the folder when links are followed.

    Args:
        path: a file or folder of a source, which need not exist.
        root: the source's folder.
        place: what to call the path in sentences.

    Raises:
        OctoError: a link leads out of the folder; who may write there must not choose what else is read.
    """
    if not path.resolve().is_relative_to(root.resolve()):
        raise OctoError(
            f"{place} is a link that leads out of {root}. Copy the file itself there.", code="link-leads-outside"
        )
    return path


def file_place(name: str, source: str) -> str:
    """What to call a file of a source in sentences."""
    return source if Path(source).name == name else f"{name} of {source}"


def fetch(
    files: Sequence[SourceFile], folder: Path, source: str, *, resume: Path | None = None
) -> tuple[DeliveredFile, ...]:
    """Copy the files into the folder and hold them against what the source announced.

    Args:
        files: of one delivery.
        folder: where they go; what is in it when this raises is to be thrown away.
        source: what to call the source in sentences.
        resume: a folder on the same file system whose ``.partial`` keeps what breaks leave; None keeps nothing.

    Raises:
        OctoError: a name is not safe or comes twice; a file cannot be read, is empty, or differs in size or
            checksum. Files that were not begun are not fetched then.
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
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        futures = [pool.submit(_fetch_file, file, folder / file.name, source, partial) for file in files]
        try:
            return tuple(future.result() for future in futures)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


class _Digests:
    """What is announced of a file, computed on the way; `parts` is the size of the parts of its ETag."""

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

    def verified(self, place: str) -> DeliveredFile:
        """The file as delivered, if it is what was announced."""
        if self.size == 0:
            raise OctoError(f"{place} is empty (0 bytes). Fetch it again; nothing was landed.", code="file-empty")
        sha256 = self._sha256.hexdigest()
        checked: list[tuple[str, object, object]] = [
            ("size", self._file.size, self.size),
            ("sha256", self._file.sha256, sha256),
            ("md5", self._file.md5, self._md5 and self._md5.hexdigest()),
            ("ETag", self._file.etag if self._parts is not None else None, self._parts and self._etag()),
        ]
        for what, announced, found in checked:
            if announced not in (None, found):
                raise OctoError(
                    f"{place} was cut off or changed while it was read: its {what} is {found}, "
                    f"announced was {announced}. Land the report again; nothing was landed.",
                    code="file-changed-while-read",
                )
        return DeliveredFile(self._file.name, self.size, sha256)


def _fetch_file(file: SourceFile, target: Path, source: str, partial: Path | None) -> DeliveredFile:
    place = file_place(file.name, source)
    digests = _Digests(file, file.digest_parts() if file.digest_parts else None)
    with _begun(file, place, target, partial) as (stream, at):
        _hash_kept(stream, digests)
        for chunk in _chunks(file, place, lambda: digests.size):
            stream.write(chunk)
            digests.update(chunk)
        stream.flush()
        try:
            delivered = digests.verified(place)
        except OctoError:
            # Going on from bytes that are wrong would fail for ever.
            at.unlink()
            raise
        at.replace(target)
    return delivered


@contextmanager
def _begun(file: SourceFile, place: str, target: Path, partial: Path | None) -> Iterator[tuple[BinaryIO, Path]]:
    """The file to go on with and its path: the locked partial one, or the target if there is to be none."""
    if partial is not None and file.open_at is not None and file.etag is not None:
        partial.mkdir(parents=True, exist_ok=True)
        named = f"{place}\0{file.name}\0{file.etag}\0{file.size}"
        path = partial / hashlib.sha256(named.encode()).hexdigest()[:32]
        with path.open("a+b") as stream:
            if _is_ours(stream, path):
                yield stream, path
                return
    with target.open("x+b") as stream:
        yield stream, target


def _is_ours(stream: BinaryIO, path: Path) -> bool:
    """Lock the partial file; False if another process has it, or moved it away just now."""
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
    """Remove partial files that no later download continued."""
    for file in partial.glob("*"):
        with suppress(FileNotFoundError):
            if time.time() - file.stat().st_mtime > _PARTIAL_SECONDS:
                file.unlink()


def _chunks(file: SourceFile, place: str, position: Callable[[], int]) -> Iterator[bytes]:
    """The file's bytes from the position on; what the source refuses is told apart from what the disk refuses."""
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
                    f"{place} cannot be read{tried} ({reason(error)}); nothing was landed.",
                    code="file-unreadable",
                ) from error
            time.sleep(random.uniform(0.5, 1) * min(0.5 * 2**breaks, _LONGEST_PAUSE_SECONDS))  # noqa: S311
