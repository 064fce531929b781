"""What a source needs from a bucket in an object store: folders, small objects, streams of a fixed version."""

from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol


@dataclass(frozen=True)
class StoredObject:
    """An object of a bucket: `size` in bytes, `etag` without quotes."""

    key: str
    size: int
    etag: str
    modified: datetime


class Bucket(Protocol):
    """A bucket; every method raises OctoError if the store refuses."""

    def url(self, key: str) -> str:
        """The key with its bucket, for messages."""
        ...

    def folder(self, prefix: str) -> tuple[list[str], list[StoredObject]]:
        """What is directly below a prefix that is empty or ends in a slash: folders (with it) and objects."""
        ...

    def read(self, key: str) -> bytes:
        """The bytes of a small object."""
        ...

    def open(self, stored: StoredObject, start: int = 0) -> BinaryIO:
        """A stream of exactly this version from a byte offset; it raises OSError when the connection breaks."""
        ...

    def digest_parts(self, stored: StoredObject) -> int | None:
        """The size in bytes of the parts that the ETag is the digest of; None if it is not a digest."""
        ...
