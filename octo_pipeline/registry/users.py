"""The users of the registry, their roles and tokens, and who counts as an administrator."""

import hashlib
import hmac
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.wording import quoted
from octo_pipeline.registry import lazy_sqlalchemy as sql
from octo_pipeline.registry.database import Database
from octo_pipeline.registry.records import (
    NAME_LENGTH,
    Actor,
    Admin,
    Caller,
    Token,
    User,
    check_role,
    text_problem,
)
from octo_pipeline.registry.statements import append_event, fetch_rows, select_columns

if TYPE_CHECKING:
    from sqlalchemy import Connection

_TOKEN_BYTES = 32
_USER = ("name", "role", "added_at")
_TOKEN = ("id", "user_name", "label", "made_at", "revoked_at")


class Users:
    """The users and their tokens: who may read and who may change.

    A person is known by their user name in the operating system, or by a token. A token is
    ``octo_<id>_<random>``. Its row is looked up by the id; only a SHA-256 of the whole text is stored. For 256 random
    bits a hash without salt is enough.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def require_admin(self, caller: Caller) -> Admin:
        """The caller as an administrator. If the registry has no users, the first caller becomes one.

        Raises:
            OctoError: the token is unknown or revoked, or the caller is not a user or not an administrator.
        """
        with self._database.reading() as connection:
            if connection is not None and (caller.token is not None or has_users(connection)):
                return Admin(identify_admin(connection, caller), is_new=False)
        if caller.token is not None:
            raise OctoError(
                "There is a token, but this registry has no users yet. Leave the token out: the first user to change "
                "something becomes the administrator, who can then make tokens.",
                code="token-before-users",
                remedy=Remedy("unset", setting="token"),
            )
        with self._database.writing() as connection:
            # Another caller may have become the first user in the meantime.
            if has_users(connection):
                return Admin(identify_admin(connection, caller), is_new=False)
            actor = Actor(caller.os_user)
            _add_user(connection, actor, "admin", actor)
            return Admin(actor, is_new=True)

    def all(self) -> list[User]:
        """The users by name."""
        with self._database.reading() as connection:
            return [] if connection is None else _users(connection)

    def tokens(self) -> list[Token]:
        """The tokens, oldest first, including revoked ones."""
        with self._database.reading() as connection:
            if connection is None:
                return []
            rows = fetch_rows(connection, select_columns(sql.TOKENS, _TOKEN).order_by(sql.TOKENS.c.made_at))
            return [Token(*row) for row in rows]

    def add(self, name: str, role: str, actor: Actor) -> None:
        """Add a user.

        Raises:
            OctoError: the name is not valid or is taken, or the role is unknown.
        """
        problem = text_problem("name", name, NAME_LENGTH)
        if problem is not None:
            raise OctoError(f"The user {quoted(name)} cannot be added: {problem}.", code="user-name-wrong")
        check_role(role)
        with self._database.writing() as connection:
            _add_user(connection, name, role, actor)

    def set_role(self, name: str, role: str, actor: Actor) -> None:
        """Give a user another role.

        Raises:
            OctoError: there is no such user or role, or the user is the last administrator.
        """
        check_role(role)
        with self._database.writing() as connection:
            user = _user(connection, name)
            if role != "admin":
                _refuse_last_admin(connection, user)
            connection.execute(sql.USERS.update().where(sql.USERS.c.name == name), {"role": role})
            append_event(connection, actor, "set_role", name, {"role": role, "before": user.role})

    def remove(self, name: str, actor: Actor) -> None:
        """Remove a user and revoke their tokens.

        Raises:
            OctoError: there is no such user, or the user is the last administrator.
        """
        tokens = sql.TOKENS
        with self._database.writing() as connection:
            user = _user(connection, name)
            _refuse_last_admin(connection, user)
            is_live = (tokens.c.user_name == name) & tokens.c.revoked_at.is_(None)
            revoked = connection.execute(tokens.update().where(is_live), {"revoked_at": datetime.now(UTC)}).rowcount
            connection.execute(sql.USERS.delete().where(sql.USERS.c.name == name))
            append_event(connection, actor, "remove_user", name, {"role": user.role, "revoked_tokens": revoked})

    def make_token(self, name: str, label: str, actor: Actor) -> str:
        """Make a token for a user.

        Returns:
            The token's text, which cannot be read again later.

        Raises:
            OctoError: there is no such user, or the label is not valid.
        """
        problem = text_problem("label", label, NAME_LENGTH)
        if problem is not None:
            raise OctoError(f"The token cannot be made: {problem}.", code="token-label-wrong")
        token_id = secrets.token_hex(4)
        text = f"octo_{token_id}_{secrets.token_urlsafe(_TOKEN_BYTES)}"
        with self._database.writing() as connection:
            user = _user(connection, name)
            row = {
                "id": token_id,
                "user_name": name,
                "label": label,
                "sha256": _digest(text),
                "made_at": datetime.now(UTC),
                "revoked_at": None,
            }
            connection.execute(sql.TOKENS.insert(), row)
            append_event(connection, actor, "make_token", token_id, {"user": name, "role": user.role, "label": label})
        return text

    def revoke(self, token_id: str, actor: Actor) -> None:
        """Revoke a token by its id.

        Raises:
            OctoError: there is no such token, or it is already revoked.
        """
        with self._database.writing() as connection:
            is_token = sql.TOKENS.c.id == token_id
            token = connection.execute(select_columns(sql.TOKENS, _TOKEN).where(is_token)).one_or_none()
            if token is None:
                raise OctoError(
                    f"There is no token {quoted(token_id)}.",
                    code="token-id-unknown",
                    remedy=Remedy("users tokens", to="list them"),
                )
            if token.revoked_at is not None:
                raise OctoError(
                    f"The token {token_id} was already revoked at {token.revoked_at:%Y-%m-%d %H:%M} UTC.",
                    code="token-already-revoked",
                )
            connection.execute(sql.TOKENS.update().where(is_token), {"revoked_at": datetime.now(UTC)})
            append_event(connection, actor, "revoke_token", token_id, {"user": token.user_name, "label": token.label})


def has_users(connection: "Connection") -> bool:
    """Whether the registry has users; an old version without a users table has none."""
    if not sql.inspect(connection).has_table(sql.USERS.name):
        return False
    count: int = connection.execute(sql.select(sql.func.count()).select_from(sql.USERS)).scalar_one()
    return count > 0


def _users(connection: "Connection") -> list[User]:
    rows = fetch_rows(connection, select_columns(sql.USERS, _USER))
    return sorted((User(*row) for row in rows), key=lambda user: user.name)


def _find_user(connection: "Connection", name: str) -> User | None:
    rows = fetch_rows(connection, select_columns(sql.USERS, _USER).where(sql.USERS.c.name == name))
    return User(*rows[0]) if rows else None


def _user(connection: "Connection", name: str) -> User:
    user = _find_user(connection, name)
    if user is None:
        raise OctoError(
            f"There is no user {quoted(name)}.",
            code="user-unknown",
            remedy=Remedy("users list", to="see all users"),
        )
    return user


def _add_user(connection: "Connection", name: str, role: str, actor: Actor) -> None:
    user = _find_user(connection, name)
    if user is not None:
        raise OctoError(
            f"{quoted(name)} is already a user, with the role {user.role}; nothing was changed.",
            code="user-already-known",
        )
    connection.execute(sql.USERS.insert(), {"name": name, "role": role, "added_at": datetime.now(UTC)})
    append_event(connection, actor, "add_user", name, {"role": role})


def _refuse_last_admin(connection: "Connection", user: User) -> None:
    admins = [other.name for other in _users(connection) if other.role == "admin"]
    if admins == [user.name]:
        raise OctoError(
            f"{quoted(user.name)} is the last administrator; nothing was changed. Make somebody else an administrator "
            "first: otherwise nobody could change the registry.",
            code="last-administrator",
        )


def identify_admin(connection: "Connection", caller: Caller) -> Actor:
    """The caller as an administrator.

    Raises:
        OctoError: the token is unknown or revoked, or the caller is not a user or not an administrator.
    """
    name = caller.os_user if caller.token is None else _token_user(connection, caller.token)
    user = _find_user(connection, name)
    if user is None:
        raise OctoError(
            f"{quoted(name)} is not a user of this registry, and only its administrators may change anything. Ask one "
            "of them to add you or to make you a token.",
            code="caller-not-a-user",
            remedy=Remedy("users add", name, role="admin", to="add them, as an administrator"),
        )
    if user.role != "admin":
        raise OctoError(
            f"{quoted(name)} is a {user.role}, and only administrators may change anything; nothing was changed. "
            "Ask an administrator to do it or to give you the role.",
            code="caller-not-an-administrator",
            remedy=Remedy("users role", name, "admin", to="give them the role, as an administrator"),
        )
    return Actor(name)


def _token_user(connection: "Connection", text: str) -> str:
    parts = text.split("_", 2)
    token_id = parts[1] if len(parts) == 3 and parts[0] == "octo" and parts[1].isalnum() else ""
    is_live = (sql.TOKENS.c.id == token_id) & sql.TOKENS.c.revoked_at.is_(None)
    row = connection.execute(select_columns(sql.TOKENS, ("user_name", "sha256")).where(is_live)).one_or_none()
    # Compare even if the token does not exist, so that response time leaks nothing.
    is_same = hmac.compare_digest(_digest(text), row.sha256 if row is not None else _digest(""))
    if row is None or not is_same:
        raise OctoError(
            "The token does not belong to this registry or was revoked. Ask an administrator for another.",
            code="token-refused",
            remedy=Remedy("set", setting="token", to="a valid one"),
        )
    return str(row.user_name)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
