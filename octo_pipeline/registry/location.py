"""Which database a registry's URL names, and whether its file exists, without importing SQLAlchemy.

`database.py` finds out whether a PostgreSQL server answers.
"""

from pathlib import Path

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.wording import reason

_FORMS = "sqlite:////folder/registry.sqlite or postgresql://user:password@host/database"
_POSTGRESQL = ("postgresql", "postgres", "postgresql+psycopg")


def sqlite_path(url: str) -> Path | None:
    """The file of a SQLite URL, or None for PostgreSQL.

    No error repeats the text of the URL: it may contain a password.

    Raises:
        OctoError: the URL names another kind of database, or a SQLite database that is not a plain file.
    """
    scheme, _, rest = url.partition("://")
    if scheme in _POSTGRESQL:
        return None
    if scheme != "sqlite":
        raise OctoError(
            "The registry's URL is not one it can use.",
            code="database-url-unsupported",
            remedy=Remedy("set", setting="database_url", to=_FORMS),
        )
    path = rest.removeprefix("/")
    is_file = path != rest and path not in ("", ":memory:") and not path.startswith("file:")
    if not is_file or "?" in path or "\0" in path:
        raise OctoError(
            "The registry's URL does not name a SQLite file, and decisions must be kept.",
            code="database-url-not-a-file",
            remedy=Remedy("set", setting="database_url", to=f"{_FORMS}, without options"),
        )
    return Path(path).absolute()


def is_there(path: Path) -> bool:
    """Whether there is a SQLite database at the path; an empty file does not count.

    Raises:
        OctoError: the path cannot be read.
    """
    try:
        return path.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise OctoError(
            f"The registry {path} cannot be read: {reason(error)}.",
            code="registry-not-readable",
            place=str(path),
            remedy=Remedy("set", setting="database_url", to="a place where this user may read"),
        ) from error
