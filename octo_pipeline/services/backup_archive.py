"""A backup's file: a ZIP archive whose manifest lists every file with its size and SHA-256.

The manifest is the last file to be written, and a ZIP archive has its directory at its end, so an archive that was cut off
cannot be opened. Names from an archive become paths only after they were checked here. What is in a backup, and where that is
restored to, belongs in `backups`.
"""

import hashlib
import json
import os
import re
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import quoted, reason

# Raised when an older program would restore something wrong or not at all.
FORMAT = 1
MANIFEST = "manifest.json"
_MOST_MANIFEST_BYTES = 256 * 1024 * 1024
_CHUNK = 1024 * 1024
# A file that is compressed already only costs time to compress again.
_COMPRESSED = {".parquet", ".gz", ".zip", ".zst"}
_PART = re.compile(r"(?!\.{1,2}$)[^\x00-\x1f\x7f/\\:]{1,255}")


@dataclass(frozen=True)
class Manifest:
    """What is in a backup.

    Attributes:
        program: the version of the program that made it.
        registry_version: the migration of its registry; None if there was no registry.
        made_at: when, in ISO 8601.
        lake: the lake that it is of.
        base_currency: the installation's.
        closed_months: the months that were closed.
        rows: table of the registry -> how many rows it had.
        has_landing: whether the landed deliveries are in it.
        has_keys: whether the keys of the stored secrets are in it.
        files: name in the archive -> bytes and SHA-256.
    """

    program: str
    registry_version: str | None
    made_at: str
    lake: str
    base_currency: str
    closed_months: tuple[str, ...]
    rows: Mapping[str, int]
    has_landing: bool
    has_keys: bool
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    def to_json(self) -> str:
        """The manifest as its file has it."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True, indent=1)

    @property
    def digest(self) -> str:
        """Tells this backup from all others."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:32]

    def below(self, folder: str) -> dict[str, tuple[str, ...]]:
        """The files of a folder: name in the archive -> the parts of its path below the folder."""
        prefix = f"{folder}/"
        return {name: tuple(name.split("/")[1:]) for name in sorted(self.files) if name.startswith(prefix)}


class ArchiveWriter:
    """An archive that is being written."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._files: dict[str, tuple[int, str]] = {}

    def add(self, stream: IO[bytes], *names: str) -> tuple[int, str]:
        """Add a file; returns its bytes and SHA-256."""
        name = "/".join(names)
        if not _is_safe(name):
            raise OctoError(f"{quoted(name)} cannot be the name of a file in a backup.", code="backup-name-wrong")
        kind = zipfile.ZIP_STORED if Path(name).suffix in _COMPRESSED else zipfile.ZIP_DEFLATED
        info = zipfile.ZipInfo(name)
        info.compress_type = kind
        info.external_attr = 0o600 << 16
        digest, size = hashlib.sha256(), 0
        with self._archive.open(info, "w", force_zip64=True) as target:
            while chunk := stream.read(_CHUNK):
                target.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        self._files[name] = size, digest.hexdigest()
        return self._files[name]

    def finish(self, manifest: Manifest) -> Manifest:
        """Write the manifest, with the files that were added; returns it."""
        complete = Manifest(**(vars(manifest) | {"files": dict(self._files)}))
        self._archive.writestr(MANIFEST, complete.to_json())
        return complete


@contextmanager
def new_archive(path: Path) -> Iterator[ArchiveWriter]:
    """Write an archive that appears at its path when it is complete, for its owner only.

    Raises:
        OctoError: there is a file at the path already, or it cannot be written.
    """
    if path.exists():
        raise OctoError(f"{path} is there already; name a new file.", code="backup-exists", place=str(path))
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w+b") as file:
            with zipfile.ZipFile(file, "w", compresslevel=6) as archive:
                yield ArchiveWriter(archive)
            file.flush()
            os.fsync(descriptor)
        unfinished.replace(path)
    except OSError as error:
        raise OctoError(
            f"The backup {path} cannot be written: {reason(error)}. Nothing was kept of it.",
            code="backup-not-writable",
            place=str(path),
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


class Archive:
    """An archive that is read.

    Attributes:
        manifest: what is in it.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile, manifest: Manifest) -> None:
        self._path = path
        self._archive = archive
        self.manifest = manifest

    def verify(self) -> None:
        """Read every file and compare it with the manifest.

        Raises:
            OctoError: a file is damaged.
        """
        for name in self.manifest.files:
            self._copy(name, None)

    def extract(self, name: str, target: Path) -> None:
        """Write a file of the archive to a path.

        Raises:
            OctoError: it is damaged.
        """
        with target.open("wb") as stream:
            self._copy(name, stream)

    def text(self, name: str) -> str:
        """The text of a small file."""
        with self._archive.open(name) as stream:
            return stream.read().decode()

    def _copy(self, name: str, target: IO[bytes] | None) -> None:
        size, expected = self.manifest.files[name]
        digest, read = hashlib.sha256(), 0
        try:
            with self._archive.open(name) as stream:
                # Not more than is announced: a small archive can unpack to a full disk.
                while read <= size and (chunk := stream.read(_CHUNK)):
                    digest.update(chunk)
                    read += len(chunk)
                    if target is not None:
                        target.write(chunk)
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
            raise _damaged(self._path, f"{name} cannot be read ({error})") from error
        if (read, digest.hexdigest()) != (size, expected):
            raise _damaged(self._path, f"{name} is not what the manifest says")


@contextmanager
def opened_archive(path: Path) -> Iterator[Archive]:
    """An archive whose manifest fits its files.

    Raises:
        OctoError: it is not a backup, is damaged, or was made by a newer program.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield Archive(path, archive, _read_manifest(path, archive))
    except zipfile.BadZipFile as error:
        raise _damaged(path, f"it is not a complete ZIP archive ({error})") from error
    except OSError as error:
        raise OctoError(
            f"The backup {path} cannot be read: {reason(error)}.", code="backup-unreadable", place=str(path)
        ) from error


def _read_manifest(path: Path, archive: zipfile.ZipFile) -> Manifest:
    names = archive.namelist()
    if MANIFEST not in names or archive.getinfo(MANIFEST).file_size > _MOST_MANIFEST_BYTES:
        raise _damaged(path, "it has no manifest")
    try:
        document: dict[str, Any] = json.loads(archive.read(MANIFEST))
        if document.pop("format") != FORMAT:
            raise of_newer_version(path, str(document.get("program", "another version")))
        files = {str(name): (int(size), str(digest)) for name, (size, digest) in document.pop("files").items()}
        closed = tuple(document.pop("closed_months"))
        manifest = Manifest(**document, files=files, closed_months=closed)
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error, RecursionError) as error:
        raise _damaged(path, f"its manifest cannot be read ({error})") from error
    if unsafe := next((name for name in (*names, *files) if not _is_safe(name)), None):
        raise OctoError(
            f"The backup {path} has a file called {quoted(unsafe)}, which would be written to another folder. Nothing was "
            "restored.",
            code="backup-name-wrong",
            place=str(path),
        )
    if sorted(names) != sorted([*files, MANIFEST]):
        raise _damaged(path, "its files are not those of its manifest")
    return manifest


def of_newer_version(path: Path, program: str) -> OctoError:
    """The error for a backup of a version of the program that is newer than this one."""
    return OctoError(
        f"The backup {path} was made by octo-pipeline {program}, whose backups this version cannot read. Restore it with that "
        "version or a newer one.",
        code="backup-of-newer-version",
        place=str(path),
    )


def _is_safe(name: str) -> bool:
    return all(_PART.fullmatch(part) for part in name.split("/"))


def _damaged(path: Path, what: str) -> OctoError:
    return OctoError(
        f"The backup {path} is damaged: {what}. Nothing was restored; take another one.",
        code="backup-damaged",
        place=str(path),
    )
