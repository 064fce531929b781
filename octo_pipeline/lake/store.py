"""What the lake and the landing need from a store, and which store a location is in."""

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from octo_pipeline.lake.folder_store import LocalStore
from octo_pipeline.lake.joined_file import Part
from octo_pipeline.lake.s3_store import S3Path

Location = Path | S3Path
"""A file or folder of a lake: DuckDB reads its `str`, Python reads it with `open`."""

_Place = TypeVar("_Place", bound=Location, contravariant=True)


class Store(Protocol[_Place]):
    """Keeps files so that none is ever seen half written."""

    @property
    def scratch(self) -> Path:
        """The local folder below which half-made files live."""
        ...

    @property
    def scratch_name(self) -> str:
        """The scratch folder's name in messages."""
        ...

    def duckdb_setup(self) -> list[str]:
        """Statements after which a DuckDB connection can read the store; they hold secrets and expire with them."""
        ...

    def subfolders(self, folder: _Place) -> list[str]:
        """The names of the folders in a folder; none if it does not exist."""
        ...

    def files(self, folder: _Place, prefix: str, name: str) -> dict[str, Hashable]:
        """The subfolders that begin with the prefix and hold a file of that name -> the file's `identity`."""
        ...

    def sizes(self, folder: _Place) -> dict[str, int]:
        """Name -> bytes of the files in a folder; none if it does not exist."""
        ...

    def read_text(self, path: _Place) -> str | None:
        """The text of a small file, None if it does not exist."""
        ...

    def identity(self, path: _Place) -> Hashable | None:
        """What distinguishes this file from one that replaces it; None if there is no file."""
        ...

    def footer(self, path: _Place) -> AbstractContextManager[Path]:
        """A local file with the same end, enough for a Parquet footer, while the context lasts.

        Raises:
            FileNotFoundError: there is no such file.
        """
        ...

    def part(self, path: _Place) -> Part:
        """A Parquet file that is to be joined.

        Raises:
            InputChangedError: it is gone.
            OctoError: it is damaged, or cannot be joined.
        """
        ...

    def replace(
        self, made: Path, path: _Place, may_replace: Callable[[], bool], *, before: Sequence[Part] = ()
    ) -> bool:
        """Publish a finished local file at the path in one step, unless `may_replace` returns False.

        In a bucket, the data of parts can come before it; the local file then has nothing but the footer over them. No other writer comes between the call of `may_replace` and the replacement. After a lost race `may_replace`
        is called again. What it raises is passed on.

        Returns:
            Whether the file was published.
        """
        ...

    def put(self, made: Path, path: _Place) -> None:
        """Publish a finished local file at the path in one step, whatever is there; the local file may be gone then."""
        ...

    def discard(self, paths: Sequence[_Place]) -> None:
        """Remove files that nobody replaces; those that are gone already do not matter."""
        ...

    def remove(self, path: _Place) -> None:
        """Remove a file, if it is there."""
        ...

    def publish_folder(self, made: Path, folder: _Place, last: str) -> bool:
        """Publish the files of a local folder; the file called `last` appears when all others are there.

        Returns:
            False if there is already a folder with such a file, or what is left of one.

        Raises:
            FileNotFoundError: another process removed the folder in the meantime; try again.
        """
        ...

    def lease(self, name: str, patience: float | None = None) -> AbstractContextManager[bool]:
        """Keep other processes from the same work while the context lasts, as long as this one is seen to be at work.

        Args:
            name: the work.
            patience: seconds to wait for another process; None for as long as it may be at work.

        Returns:
            A context of False if another process is still at work.
        """
        ...

    def hold(self, paths: Sequence[_Place]) -> AbstractContextManager[None]:
        """Keep other writers from replacing files while the context lasts, if the store has locks."""
        ...

    def check_conditions(self) -> None:
        """Try that the store refuses to replace a file that another writer has replaced in the meantime.

        Raises:
            OctoError: it does not refuse, so that two runs could publish over each other.
        """
        ...

    def remove_folder(self, folder: _Place, first: str) -> None:
        """Remove a folder and the empty ones above it. Its file called `first` goes before the others."""
        ...


def store_of(location: Location) -> Store[Any]:
    """The store of a lake's root or of a folder in it; only the store of the root can replace, publish and remove."""
    return LocalStore(location) if isinstance(location, Path) else location.store
