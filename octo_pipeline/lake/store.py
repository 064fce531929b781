"""What the lake and the landing ask of a store, and which store a location is in."""

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from octo_pipeline.lake.folder_store import LocalStore
from octo_pipeline.lake.s3_store import S3Path

Location = Path | S3Path
"""A file or folder of a lake: `str` of it is what DuckDB reads, `open` reads it in Python."""

_Place = TypeVar("_Place", bound=Location, contravariant=True)


class Store(Protocol[_Place]):
    """A place for files in which none is ever seen half written."""

    @property
    def scratch(self) -> Path:
        """The local folder below which half-made files live."""
        ...

    @property
    def scratch_name(self) -> str:
        """What sentences call the scratch folder."""
        ...

    def duckdb_setup(self) -> list[str]:
        """Statements after which a DuckDB connection can read the store; they hold secrets and age with them."""
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
        """What tells this file from one that replaces it at the same place; None if there is none."""
        ...

    def footer(self, path: _Place) -> AbstractContextManager[Path]:
        """A local file that ends as this one does, for as long as the context lasts: enough for a Parquet footer.

        Raises:
            FileNotFoundError: there is no such file.
        """
        ...

    def replace(self, made: Path, path: _Place, may_replace: Callable[[], bool]) -> bool:
        """Put a finished local file at its place in one step, unless `may_replace` refuses.

        No other writer comes between the question and the replacement; `may_replace` may be asked again after a
        lost race, and what it raises is passed on.

        Returns:
            Whether the file was put there.
        """
        ...

    def remove(self, path: _Place) -> None:
        """Remove a file, if it is there."""
        ...

    def publish_folder(self, made: Path, folder: _Place, last: str) -> bool:
        """Put the files of a local folder at their place; the file called `last` appears when all others are there.

        Returns:
            False if there is a folder with such a file, or what is left of one, already.

        Raises:
            FileNotFoundError: another process removed the place meanwhile; try again.
        """
        ...

    def remove_folder(self, folder: _Place, first: str) -> None:
        """Remove a folder and the empty ones above it, its file called `first` no later than any other."""
        ...


def store_of(location: Location) -> Store[Any]:
    """The store of a lake's root or of a folder in it; only the root's own can replace, publish and remove."""
    return LocalStore(location) if isinstance(location, Path) else location.store
