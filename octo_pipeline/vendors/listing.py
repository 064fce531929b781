"""The files of a folder, bucket or container, by name: what a source needs that reads the same files from anywhere.

This module holds the shape of a listing and the one of a local folder. Buckets and containers belong to the clouds that
keep them (`Vendor.storage`). What the files are belongs in the source that reads them.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from octo_pipeline.model.errors import OctoError
from octo_pipeline.vendors.downloads import SourceFile, inside

_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
_ROLE = r"^arn:aws[a-z-]*:iam::\d{12}:role/.+$"


class Place(BaseModel):
    """Where files are, as a document of the configuration says it; secrets are named, never written.

    Attributes:
        folder: a folder of this machine; or
        bucket: a bucket's name or ``s3://bucket/prefix``, with
        role_arn: the role to assume, and its external_id and region; or
        container: the address of an Azure container, without SAS, with
        sas_variable: the environment variable with the SAS (permissions read and list).
        prefix: the folder in the bucket or container.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path | None = None
    bucket: str | None = Field(default=None, pattern=r"^(s3://)?[A-Za-z0-9][A-Za-z0-9.-]{2,62}(/[^?#]*)?$")
    container: str | None = Field(default=None, pattern=r"^https?://[^?\s]+$")
    prefix: str = ""
    role_arn: str | None = Field(default=None, pattern=_ROLE)
    external_id: str | None = Field(default=None, min_length=2)
    region: str = "us-east-1"
    sas_variable: str | None = Field(default=None, pattern=_VARIABLE)

    @model_validator(mode="after")
    def _one_place(self) -> "Place":
        if [self.folder, self.bucket, self.container].count(None) != 2:
            raise ValueError("give one of folder, bucket and container")
        if (self.container is None) != (self.sas_variable is None):
            raise ValueError("sas_variable goes with container")
        if self.bucket is None and self.role_arn is not None:
            raise ValueError("role_arn goes with bucket")
        if self.bucket is not None and "/" in self.bucket.removeprefix("s3://").rstrip("/") and self.prefix:
            raise ValueError("give the prefix in bucket or in prefix, not in both")
        return self

    @property
    def bucket_and_prefix(self) -> tuple[str, str]:
        """The bucket's name, and the prefix that is empty or ends in a slash."""
        name, _, prefix = (self.bucket or "").removeprefix("s3://").partition("/")
        prefix = (prefix or self.prefix).strip("/")
        return name, f"{prefix}/" if prefix else ""


@dataclass(frozen=True)
class ListedFile:
    """A file of a listing.

    Attributes:
        name: its path below the listed place, with slashes.
        version: changes with the content; the same content may have several.
        modified: when it was written, as text that sorts by time; '' if unknown.
        file: how it is fetched.
        path: where it is on this machine; None if it is elsewhere.
    """

    name: str
    version: str
    modified: str
    file: SourceFile
    path: Path | None = None

    def read(self) -> bytes:
        """All of it; for small files."""
        with self.file.open() as stream:
            return stream.read()


class Listing(Protocol):
    """A place whose files can be listed."""

    @property
    def place(self) -> str:
        """What sentences call it."""
        ...

    def files(self) -> list[ListedFile]:
        """Its files by name, without hidden ones.

        Raises:
            OctoError: it cannot be reached or listed.
        """
        ...


@dataclass(frozen=True)
class FolderFiles:
    """The files below a folder of this machine, or one file."""

    path: Path

    @property
    def place(self) -> str:
        """The folder or file."""
        return str(self.path)

    def files(self) -> list[ListedFile]:
        """Its files by name.

        Raises:
            OctoError: there is no such folder, it cannot be read, or a link leads out of it.
        """
        if not self.path.exists():
            raise OctoError(
                f"{self.path} does not exist. Point to the folder of the exports.",
                code="exports-missing",
                place=str(self.path),
            )
        if self.path.is_file():
            return [_listed(self.path, self.path.parent)]
        walked = os.walk(self.path, onerror=_refuse)
        paths = sorted(Path(folder) / name for folder, _, names in walked for name in names)
        return [_listed(path, self.path) for path in paths if not is_hidden(path.relative_to(self.path).parts)]


def is_hidden(parts: Sequence[str]) -> bool:
    """Whether a name below a listed place is not data: it is litter, or it or a folder begins with an underscore."""
    return is_litter(parts) or any(part.startswith("_") for part in parts)


def is_litter(parts: Sequence[str]) -> bool:
    """Whether a name is what systems leave beside data: hidden files, macOS's copies of attributes, Office's locks."""
    return any(part.startswith((".", "~$")) or part == "__MACOSX" for part in parts)


def _listed(path: Path, root: Path) -> ListedFile:
    try:
        state = inside(path, root, str(path)).stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    name = path.relative_to(root).as_posix()
    # Opened as a stream, which mypy knows by the mode only of the built-in function.
    file = SourceFile(path.name, cast(Any, partial(path.open, "rb")), state.st_size)
    return ListedFile(name, f"{state.st_size}-{state.st_mtime_ns}", f"{state.st_mtime_ns:020}", file, path)


def _refuse(error: OSError) -> None:
    raise _unreadable(error.filename, error) from error


def _unreadable(path: object, error: OSError) -> OctoError:
    return OctoError(f"{path} cannot be read ({error.strerror}).", code="file-unreadable", place=str(path))
