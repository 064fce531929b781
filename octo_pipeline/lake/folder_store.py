"""A folder as a store: one rename publishes a file or folder, and a lock makes writers take turns.

`octo_pipeline.lake.staging` describes what a crash may leave behind.
"""

import errno
import os
import shutil
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from octo_pipeline.lake import staging
from octo_pipeline.lake.joined_file import Part, read_part
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.permissions import make_folders, protect
from octo_pipeline.model.wording import reason


@dataclass(frozen=True)
class LocalStore:
    """The files below a local folder, or below a mounted one that supports locks and renames."""

    root: Path

    @property
    def scratch(self) -> Path:
        """The root: a rename works within one file system only."""
        return self.root

    @property
    def scratch_name(self) -> str:
        """The lake: half-made files are in it."""
        return f"lake {self.root}"

    def duckdb_setup(self) -> list[str]:
        """Nothing: DuckDB reads local files without any setup."""
        return []

    def subfolders(self, folder: Path) -> list[str]:
        """The names of the folders in a folder; none if it does not exist."""
        try:
            with os.scandir(folder) as entries:
                return [entry.name for entry in entries if entry.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise OctoError(f"{folder} cannot be read ({reason(error)}).", code="folder-unreadable") from error

    def files(self, folder: Path, prefix: str, name: str) -> dict[str, Hashable]:
        """The subfolders that begin with the prefix and hold a file of that name -> the file's identity."""
        identities: dict[str, Hashable] = {}
        for parent in self.subfolders(folder):
            if parent.startswith(prefix):
                # Many paths as objects would take longer than looking at the files.
                with suppress(FileNotFoundError):
                    identities[parent] = _identity(os.stat(os.path.join(folder, parent, name)))  # noqa: PTH116, PTH118
        return identities

    def sizes(self, folder: Path) -> dict[str, int]:
        """Name -> bytes of the files in a folder; none if it does not exist."""
        try:
            with os.scandir(folder) as entries:
                return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        except FileNotFoundError:
            return {}

    def read_text(self, path: Path) -> str | None:
        """The text of a small file, None if it does not exist."""
        try:
            return path.read_text("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def identity(self, path: Path) -> Hashable | None:
        """Inode, time and size: publishing always makes a new file."""
        try:
            return _identity(path.stat())
        except FileNotFoundError:
            return None

    @contextmanager
    def footer(self, path: Path) -> Iterator[Path]:
        """The file itself."""
        yield path

    def part(self, path: Path) -> Part:
        """The file's footer, and what `identity` is."""
        return read_part(path)

    def replace(self, made: Path, path: Path, may_replace: Callable[[], bool], *, before: Sequence[Part] = ()) -> bool:
        """Make the file durable, then ask and rename under the lock of the path.

        Nothing comes before the file: parts in a folder are joined into it when it is made.
        """
        if before:
            raise ValueError("parts in a folder are joined before they are published")
        staging.sync(made)
        with self._exclusive(path):
            if not may_replace():
                return False
            self._move(made, path)
        return True

    def put(self, made: Path, path: Path) -> None:
        """Make the file durable and rename it."""
        staging.sync(made)
        self._move(made, path)

    def _move(self, made: Path, path: Path) -> None:
        make_folders(path.parent, self.root)
        protect(made, self.root)
        os.replace(made, path)
        staging.sync(path.parent)

    def discard(self, paths: Sequence[Path]) -> None:
        """Remove them one by one."""
        for path in paths:
            path.unlink(missing_ok=True)

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there."""
        with self._exclusive(path):
            path.unlink(missing_ok=True)

    def publish_folder(self, made: Path, folder: Path, last: str) -> bool:
        """Move the complete and durable folder in one rename."""
        make_folders(folder.parent, self.root)
        protect(made, self.root)
        try:
            made.rename(folder)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        staging.sync(folder.parent)
        return True

    def lease(self, name: str, patience: float | None = None) -> AbstractContextManager[bool]:
        """A lease that ends with its process."""
        return staging.lease(self.root, name, patience)

    @contextmanager
    def hold(self, paths: Sequence[Path]) -> Iterator[None]:
        """The locks under which these files are replaced."""
        with ExitStack() as locks:
            # Always in the same order, so that two holders do not wait for each other.
            for path in sorted(paths):
                locks.enter_context(self._exclusive(path))
            yield

    def check_conditions(self) -> None:
        """Nothing: writers of a folder take turns by a lock."""

    def remove_folder(self, folder: Path, first: str) -> None:
        """Move the folder away in one rename, then delete it; another process may have been first."""
        with staging.staging_folder(self.root) as taken, suppress(FileNotFoundError):
            shutil.rmtree(folder.rename(taken / folder.name))
        for above in (folder.parent, folder.parent.parent):
            # Not empty, or removed by another process: either way there is nothing to do.
            with suppress(OSError):
                above.rmdir()

    @contextmanager
    def _exclusive(self, path: Path) -> Iterator[None]:
        with staging.exclusive(self.root, "-".join(path.relative_to(self.root).parent.parts)):
            yield


def _identity(status: os.stat_result) -> Hashable:
    return status.st_ino, status.st_mtime_ns, status.st_size
