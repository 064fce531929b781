"""Opens, locks, migrates and refuses the registry's database; the modules above know what its tables mean.

A connection lives for one operation, so a forked process inherits none, and none is held while idle. SQLite uses its
rollback journal instead of a write-ahead log: the registry remains one file, which can be copied while nobody writes
and works on a network file system. The price is that readers wait for a bulk write.

SQLAlchemy is imported when a database is opened, Alembic only to migrate or to name a version.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.permissions import share_file, writable_by_others
from octo_pipeline.model.wording import reason
from octo_pipeline.registry import lazy_sqlalchemy as sql
from octo_pipeline.registry.location import is_there, sqlite_path

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection, Engine

# The migration that this code works with. Reading it from the migrations would import Alembic for every read.
HEAD = "0009"
# Not Alembic's usual name, to distinguish our databases from those of other programs that use Alembic.
VERSION_TABLE = "octo_registry_version"
# Writing a million decisions takes about 20 s; a writer that takes longer than this hangs.
BUSY_SECONDS = 120
CONNECT_SECONDS = 10
_MOST_ENGINES = 8
SCRIPTS = "octo_pipeline.registry:migrations"

# The registry has its own database, so any number will do for its writers' advisory lock.
_POSTGRESQL_LOCK = 0x6F63746F
_IS_WRITER = "octo_registry_writer"


class Database:
    """The database at a URL: SQLite (``sqlite:////folder/file``) or PostgreSQL (``postgresql://…``).

    Args:
        url: the database.
        group: group of this machine that may read the file of SQLite.

    Attributes:
        path: the file of SQLite; None for PostgreSQL.
    """

    def __init__(self, url: str, *, group: str | None = None) -> None:
        self._url = url
        self._group = group
        self.path = sqlite_path(url)

    def exists(self) -> bool:
        """Whether there is a registry to read; for SQLite this does not open it."""
        if self.path is not None:
            return is_there(self.path)
        with self.reading() as connection:
            return connection is not None

    @contextmanager
    def reading(self) -> Iterator["Connection | None"]:
        """A connection that sees one consistent state of the registry; None if there is no registry yet.

        Raises:
            OctoError: the database cannot be reached, is not a registry, or has another version than the code.
        """
        if self.path is not None:
            if not is_there(self.path):
                yield None
                return
            _refuse_open_to_others(self.path)
        with _translate_database_errors(self._title), self._engine.connect() as connection, connection.begin():
            yield connection if _is_current(connection, self._title) else None

    def server_time(self) -> datetime | None:
        """The time of the database's server; None for SQLite, which has this machine's."""
        if self.path is not None:
            return None
        with _translate_database_errors(self._title), self._engine.connect() as connection:
            time: datetime = connection.execute(sql.select(sql.func.clock_timestamp())).scalar_one()
            return time

    @contextmanager
    def snapshot(self) -> Iterator["Connection | None"]:
        """As `reading`, and all statements see the state of one moment, in PostgreSQL too."""
        if self.path is not None:
            with self.reading() as connection:
                yield connection
            return
        with (
            _translate_database_errors(self._title),
            self._engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection,
            connection.begin(),
        ):
            yield connection if _is_current(connection, self._title) else None

    @contextmanager
    def writing(self) -> Iterator["Connection"]:
        """A connection in the only writing transaction, which migrates an empty database first.

        Raises:
            OctoError: as in `reading`, or the SQLite file cannot be created.
        """
        with self._only_writer() as connection:
            if not _is_current(connection, self._title):
                _migrate(connection)
            yield connection

    def migrate(self, permit: "Callable[[Connection], None]") -> bool:
        """Bring the database to the code's version; returns whether there was anything to do.

        Args:
            permit: raises OctoError if this is not allowed; called before anything changes, unless the database is
                empty.

        Raises:
            OctoError: as in `writing`, except that the database may be behind; or `permit` refuses.
        """
        with self._only_writer() as connection:
            version = _version(connection, self._title)
            if version is not None:
                permit(connection)
            if version == HEAD:
                return False
            if version is not None and not _is_behind(version):
                raise _unknown_version(self._title, version)
            _migrate(connection)
            return True

    @contextmanager
    def creating(self, version: str) -> Iterator["Connection"]:
        """A connection to an empty database that was just brought to a version of the past; `finish` goes on from there.

        Raises:
            OctoError: as in `writing`, or there is a registry already.
        """
        with self._only_writer() as connection:
            if _version(connection, self._title) is not None:
                raise OctoError(
                    f"The registry {self._title} is there already, and only an empty place is restored to.",
                    code="registry-not-empty",
                    place=self._title,
                    remedy=Remedy("set", setting="database_url", to="a database that is empty or not there yet"),
                )
            _migrate(connection, version)
            yield connection

    def finish(self, connection: "Connection") -> None:
        """Bring a database that `creating` began to the version of the code."""
        _migrate(connection)

    @contextmanager
    def _only_writer(self) -> Iterator["Connection"]:
        if self.path is not None:
            _make_file(self.path)
            if self._group is not None:
                share_file(self.path, self._group)
            _refuse_open_to_others(self.path)
        with (
            _translate_database_errors(self._title),
            self._engine.connect().execution_options(**{_IS_WRITER: True}) as connection,
            connection.begin(),
        ):
            if self.path is None:
                _lock_postgresql(connection)
            yield connection

    @cached_property
    def _engine(self) -> "Engine":
        return _postgresql_engine(self._url) if self.path is None else _sqlite_engine(self.path)

    @cached_property
    def _title(self) -> str:
        """The database's name in messages: without user, password and options."""
        if self.path is not None:
            return str(self.path)
        url = self._engine.url
        port = "" if url.port is None else f":{url.port}"
        return f"postgresql://{url.host or ''}{port}/{url.database or ''}"


# Registries of one database share an engine, which keeps the text of statements that it has made; connections it keeps none.
@lru_cache(maxsize=_MOST_ENGINES)
def _sqlite_engine(path: Path) -> "Engine":
    # mode=rw: SQLite must not create the file; `_make_file` does, with the right permissions.
    uri = f"file:{quote(str(path))}?mode=rw"
    engine = sql.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None),
        poolclass=sql.NullPool,
        hide_parameters=True,
    )

    @sql.event.listens_for(engine, "begin")
    def _begin(connection: "Connection") -> None:
        # SQLite does not let a transaction that read before it writes wait for its turn: it fails at once.
        is_writer = connection.get_execution_options().get(_IS_WRITER, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")

    return engine


@lru_cache(maxsize=_MOST_ENGINES)
def _postgresql_engine(url: str) -> "Engine":
    try:
        parsed = sql.make_url(f"postgresql+psycopg://{url.partition('://')[2]}")
        if "connect_timeout" not in parsed.query:
            parsed = parsed.update_query_dict({"connect_timeout": str(CONNECT_SECONDS)})
        # A writer must see what was committed while it waited for the lock, whatever isolation the server defaults to.
        return sql.create_engine(parsed, poolclass=sql.NullPool, hide_parameters=True, isolation_level="READ COMMITTED")
    except ImportError as error:
        raise OctoError(
            "The registry's URL names PostgreSQL, and its driver is not installed; install it with pip install "
            '"psycopg[binary]".',
            code="database-driver-missing",
        ) from error
    except (sql.ArgumentError, ValueError):
        # The cause repeats parts of the URL, which may be the password.
        raise OctoError(
            "The registry's URL cannot be read.",
            code="database-url-wrong",
            remedy=Remedy(
                "set",
                setting="database_url",
                to="postgresql://user:password@host:port/database, with special characters of the password as %XX",
            ),
        ) from None


def _lock_postgresql(connection: "Connection") -> None:
    # One writer at a time, as in SQLite: so the order of ids is the order in which writes come to be seen.
    connection.execute(sql.select(sql.func.set_config("lock_timeout", f"{BUSY_SECONDS}s", True)))
    connection.execute(sql.select(sql.func.pg_advisory_xact_lock(_POSTGRESQL_LOCK)))


@contextmanager
def _translate_database_errors(where: str) -> Iterator[None]:
    try:
        yield
    except sql.DBAPIError as error:
        cause = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
        raise OctoError(
            f"The registry {where} cannot be used: {cause[0].rstrip('.')}. Check that its server or disk is available "
            "and that its URL is right, then try again.",
            code="registry-unusable",
            place=where,
        ) from error


def _make_file(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise OctoError(
            f"The registry {path} cannot be written: {reason(error)}.",
            code="registry-not-writable",
            place=str(path),
            remedy=Remedy("set", setting="database_url", to="a place where this user may write"),
        ) from error


def _refuse_open_to_others(path: Path) -> None:
    """Refuse a file that says who may change what, and that others may change.

    Raises:
        OctoError: somebody besides its owner may write it or put another into its place.
    """
    if writable_by_others(path):
        raise OctoError(
            f"The registry {path} can be changed by others than its owner, or its folder can. Check what is in it, then run "
            f"`chmod go-w {path} {path.parent}`.",
            code="registry-open-to-others",
            place=str(path),
        )


def _is_current(connection: "Connection", where: str) -> bool:
    """True if the database has the code's version, False if it is empty."""
    version = _version(connection, where)
    if version is None or version == HEAD:
        return version == HEAD
    if _is_behind(version):
        raise OctoError(
            f"The registry {where} is at version {version} and this octo-pipeline needs {HEAD}. Back it up first.",
            code="registry-behind",
            place=where,
            remedy=Remedy("registry upgrade"),
        )
    raise _unknown_version(where, version)


def _version(connection: "Connection", where: str) -> str | None:
    """The database's migration; None for an empty database."""
    tables = sql.inspect(connection).get_table_names()
    if VERSION_TABLE in tables:
        return connection.execute(sql.select(sql.table(VERSION_TABLE, sql.column("version_num")))).scalar_one_or_none()
    if tables:
        raise OctoError(
            f"The database {where} is not a registry of octo-pipeline: it holds other tables.",
            code="database-of-something-else",
            place=where,
            remedy=Remedy("set", setting="database_url", to="a database that is empty or not there yet"),
        )
    return None


def _unknown_version(where: str, version: str) -> OctoError:
    return OctoError(
        f"The registry {where} is at version {version}, and this octo-pipeline knows versions up to {HEAD}: "
        "a newer one wrote it. Install that one or a newer one.",
        code="registry-ahead",
        place=where,
    )


def knows(version: str) -> bool:
    """Whether a version of the registry is this program's, or an earlier one."""
    return version == HEAD or _is_behind(version)


def _is_behind(version: str) -> bool:
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_alembic_config())
    return version in {script.revision for script in scripts.walk_revisions()}


def _migrate(connection: "Connection", version: str = "head") -> None:
    from alembic import command

    config = _alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, version)


def _alembic_config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", SCRIPTS)
    return config
