"""How an object is put together from bytes that are elsewhere: the blocks of a multipart upload.

S3 takes blocks of 5 MiB and more; only the last may be smaller. A block of one span of another object is copied in the
bucket; every other one passes through this machine. So what is too small for a block of its own goes with what follows it.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from octo_pipeline.lake.store import Location

_SMALLEST = 5 << 20
# S3 copies 5 GiB in a request; several smaller ones are copied side by side.
_COPIED = 256 << 20


@dataclass(frozen=True)
class Span:
    """Bytes of a local file, or of an object in one version."""

    path: "Location"
    start: int
    stop: int
    version: Hashable = None

    @property
    def size(self) -> int:
        """How many bytes it is."""
        return self.stop - self.start

    def cut(self, size: int) -> tuple["Span", "Span"]:
        """The first bytes, and the rest."""
        middle = self.start + size
        return replace(self, stop=middle), replace(self, start=middle)


def blocks(spans: Iterable[Span], sent: int) -> list[list[Span]]:
    """The blocks of an upload, in order; a block of several spans is their bytes one behind the other.

    Args:
        spans: what the object is to be, in order.
        sent: how many bytes of local files to send in one block.
    """
    made: list[list[Span]] = []
    pending: list[Span] = []
    for span in spans:
        rest = span
        while rest.size:
            lacking = _SMALLEST - sum(waiting.size for waiting in pending)
            largest = sent if isinstance(rest.path, Path) else _COPIED
            size = lacking if pending else largest
            # What would stay is too small for a block, so it goes along.
            taken, rest = rest.cut(size if rest.size >= size + _SMALLEST else rest.size)
            pending.append(taken)
            if taken.size >= lacking:
                made.append(pending)
                pending = []
    return [*made, pending] if pending else made
