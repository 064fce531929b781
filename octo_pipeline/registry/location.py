"""Which database a registry's URL means, and whether its file is there, told without importing SQLAlchemy.

Whether a PostgreSQL server answers is known to `database.py`.
"""

from pathlib import Path

from octo_pipeline.model.errors import OctoError

_FORMS = "sqlite:////folder/registry.sqlite or postgresql://user:password@host/database"
_POSTGRESQL = ("postgresql", "postgres", "postgresql+psycopg")


def sqlite_path(url: str) -> Path | None:
    """The file of a SQLite URL, or None for PostgreSQL.

    The text of the URL is never repeated in an error: it may hold a password.

    Raises:
        OctoError: the URL names another kind of database, or a SQLite database that is not a plain file.
    """
    scheme, _, rest = url.partition("://")
    if scheme in _POSTGRESQL:
        return None
    if scheme != "sqlite":
        raise OctoError(f"The registry's URL (OCTO_DATABASE_URL) is not one it can use; write it as {_FORMS}.")
    path = rest.removeprefix("/")
    is_file = path != rest and path not in ("", ":memory:") and not path.startswith("file:")
    if not is_file or "?" in path or "\0" in path:
        raise OctoError(
            "The registry's URL (OCTO_DATABASE_URL) does not name a SQLite file, and decisions must be kept; "
            f"write it without options, as {_FORMS}."
        )
    return Path(path).absolute()


def is_there(path: Path) -> bool:
    """Tell whether a SQLite database is at the path; an empty file is none yet.

    Raises:
        OctoError: the path cannot be looked at.
    """
    try:
        return path.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise OctoError(
            f"The registry {path} cannot be read: {error.strerror}. "
            "Give this user the right to read there, or set OCTO_DATABASE_URL to another place."
        ) from error
