"""Transactions on the registry at a URL; what is read and written in them is the other modules' matter.

SQLAlchemy (0.3 s) is imported when a database is opened, never with this module: most commands meet no
registry.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from octo_pipeline.registry.location import is_there, sqlite_path

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


class Connections:
    """The database at a URL: SQLite (``sqlite:////folder/file``) or PostgreSQL (``postgresql://…``).

    Attributes:
        path: the file if it is SQLite, else None.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.path = sqlite_path(url)

    def exists(self) -> bool:
        """Tell whether there is a registry to read; for SQLite that is known without opening it."""
        if self.path is not None:
            return is_there(self.path)
        with self.reading() as connection:
            return connection is not None

    def upgrade(self, permit: "Callable[[Connection], None]") -> bool:
        """Migrate the database to the version of the code; tells whether there was something to do.

        Args:
            permit: raises OctoError if this may not be done; called before anything is changed.
        """
        from octo_pipeline.registry import database

        return database.upgrade(self._engine, self.path, permit)

    @contextmanager
    def reading(self) -> Iterator["Connection | None"]:
        """A connection that sees one state of the registry; None if there is no registry yet."""
        if self.path is not None and not is_there(self.path):
            yield None
            return
        from octo_pipeline.registry import database

        with database.reading(self._engine, self.path) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator["Connection"]:
        """A connection in the only writing transaction; the registry is made if there is none."""
        from octo_pipeline.registry import database

        with database.writing(self._engine, self.path) as connection:
            yield connection

    @cached_property
    def _engine(self) -> "Engine":
        from octo_pipeline.registry import database

        return database.open_engine(self._url, self.path)
