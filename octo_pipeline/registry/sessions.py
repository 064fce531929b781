"""Sign-ins to the console: who a browser belongs to, and until when."""

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from octo_pipeline.registry import lazy_sqlalchemy as sql
from octo_pipeline.registry.database import Database
from octo_pipeline.registry.records import Actor, Caller, User
from octo_pipeline.registry.statements import append_event, fetch_rows, select_columns
from octo_pipeline.registry.users import USER_COLUMNS, identify, require_users, user_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

LASTS = timedelta(hours=12)


class Sessions:
    """The sessions of the console. A session is 256 random bits, of which only a SHA-256 is stored."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, caller: Caller, how: str) -> str:
        """Sign somebody in.

        Args:
            caller: a user of the registry.
            how: by what they signed in, for the audit trail.

        Returns:
            The session's text, which their browser keeps.

        Raises:
            OctoError: there is no registry or it has no users, they are not one, or their token is not valid.
        """
        with self._database.reading() as reading:
            # Writing would make a registry where there is none, and anybody may try to sign in.
            require_users(reading)
        text = secrets.token_urlsafe(32)
        now = datetime.now(UTC)
        with self._database.writing() as connection:
            actor = identify(connection, caller, "viewer")
            connection.execute(sql.SESSIONS.delete().where(sql.SESSIONS.c.expires_at < now))
            row = {"sha256": _digest(text), "user_name": actor, "made_at": now, "expires_at": now + LASTS}
            connection.execute(sql.SESSIONS.insert(), row)
            append_event(connection, actor, "sign_in", actor, {"by": how})
        return text

    def user(self, text: str) -> User | None:
        """Whose session it is, with the role that they have now; None if it is over or none.

        Raises:
            OctoError: there is no registry, as when its disk is away, so nothing can be said of sessions.
        """
        with self._database.reading() as reading:
            connection = require_users(reading)
            is_live = (sql.SESSIONS.c.sha256 == _digest(text)) & (sql.SESSIONS.c.expires_at > datetime.now(UTC))
            return _user(connection, is_live)

    def end(self, text: str) -> None:
        """Sign somebody out."""
        with self._database.writing() as connection:
            row = connection.execute(
                select_columns(sql.SESSIONS, ("user_name",)).where(sql.SESSIONS.c.sha256 == _digest(text))
            ).one_or_none()
            if row is not None:
                connection.execute(sql.SESSIONS.delete().where(sql.SESSIONS.c.sha256 == _digest(text)))
                append_event(connection, Actor(row.user_name), "sign_out", row.user_name, {})


def _user(connection: "Connection", is_session: "sql.ColumnElement[bool]") -> User | None:
    query = select_columns(sql.USERS, USER_COLUMNS).where(sql.USERS.c.name == sql.SESSIONS.c.user_name, is_session)
    rows = fetch_rows(connection, query)
    return user_of(rows[0]) if rows else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
