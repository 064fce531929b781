"""The users of the registry, their roles and tokens, and who may act in which role."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.wording import quoted
from octo_pipeline.registry import lazy_sqlalchemy as sql
from octo_pipeline.registry.database import Database
from octo_pipeline.registry.records import (
    NAME_LENGTH,
    ROLES,
    Actor,
    Caller,
    Role,
    Token,
    User,
    check_limit,
    check_role,
    check_user_name,
    text_problem,
)
from octo_pipeline.registry.statements import append_event, fetch_rows, select_columns

if TYPE_CHECKING:
    from sqlalchemy import Connection

_TOKEN_BYTES = 32
USER_COLUMNS = ("name", "role", "added_at", "cost_groups")
_ROLE_TITLES = {"viewer": "a viewer", "editor": "an editor", "admin": "an administrator"}
_MAY = {"viewer": "users", "editor": "editors and administrators", "admin": "administrators"}
_TOKEN = ("id", "user_name", "label", "made_at", "revoked_at")


class Users:
    """The users and their tokens: who may read and who may change.

    A person is known by their user name in the operating system, or by a token. A token is
    ``octo_<id>_<random>``. Its row is looked up by the id; only a SHA-256 of the whole text is stored. For 256 random
    bits a hash without salt is enough.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def init(self, name: str, caller: Caller, *, with_token: bool) -> str | None:
        """Make the first administrator, and the registry if there is none.

        Args:
            name: the administrator.
            caller: who asks for it; the audit trail names them.
            with_token: make a token for them too, where the users of the operating system do not count. Then an
                administrator of an earlier edition gets one as well, as long as no administrator has a token.

        Returns:
            The token's text, which cannot be read again later; None without `with_token`.

        Raises:
            OctoError: the name is not valid, or the registry has users already.
        """
        check_user_name(name)
        actor = Actor(caller.os_user or name)
        with self._database.writing() as connection:
            if not has_users(connection):
                _add_user(connection, name, "admin", actor)
            elif not with_token or not _lacks_tokens(connection, name):
                raise OctoError(
                    "The registry has users already; nothing was changed. Ask one of its administrators to add you.",
                    code="registry-has-users",
                    remedy=Remedy("users list", to="see them"),
                )
            return _make_token(connection, name, "first token", actor) if with_token else None

    def require(self, caller: Caller, role: Role) -> Actor:
        """The caller, if they have this role or one that may do more.

        Raises:
            OctoError: the registry has no users yet, a token is required, unknown or revoked, or the caller is not a
                user or lacks the role.
        """
        with self._database.reading() as connection:
            return identify(require_users(connection), caller, role)

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

    def add(self, name: str, role: str, actor: Actor, cost_groups: Sequence[str] | None = None) -> None:
        """Add a user.

        Args:
            name: of the user.
            role: what they may do.
            actor: who adds them.
            cost_groups: the ids of the only cost groups that a viewer may see; None for everything.

        Raises:
            OctoError: the name is not valid or is taken, the role is unknown, or it is not that of a viewer who is limited.
        """
        check_user_name(name)
        check_role(role)
        check_limit(name, role, cost_groups)
        with self._database.writing() as connection:
            _add_user(connection, name, role, actor, cost_groups)

    def set_role(self, name: str, role: str, actor: Actor) -> None:
        """Give a user another role.

        Raises:
            OctoError: there is no such user or role, or the user is the last administrator, or a viewer who is limited to
                cost groups would see everything.
        """
        check_role(role)
        with self._database.writing() as connection:
            user = _user(connection, name)
            check_limit(name, role, user.cost_groups)
            if role != "admin":
                _refuse_last_admin(connection, user)
            connection.execute(sql.USERS.update().where(sql.USERS.c.name == name), {"role": role})
            append_event(connection, actor, "set_role", name, {"role": role, "before": user.role})

    def admit(self, subject: str, name: str, role: Role) -> str:
        """Let somebody in whom a provider of sign-ins vouches for: a new user, or one who signed in before.

        Args:
            subject: the provider and its id of the person.
            name: what the provider calls them; a user keeps the first one.
            role: the role that they have from now on.

        Returns:
            The user's name.

        Raises:
            OctoError: the name is not valid or is another user's, or the role cannot be changed (`set_role`).
        """
        check_user_name(name)
        with self._database.writing() as connection:
            query = select_columns(sql.USERS, USER_COLUMNS).where(sql.USERS.c.subject == subject)
            rows = fetch_rows(connection, query)
            if not rows:
                if _find_user(connection, name) is not None:
                    raise OctoError(
                        f"{quoted(name)} is already a user who does not sign in this way. Ask an administrator to remove that "
                        "user first.",
                        code="user-of-another-sign-in",
                    )
                row = {"name": name, "role": role, "added_at": datetime.now(UTC), "subject": subject}
                connection.execute(sql.USERS.insert(), row)
                append_event(connection, Actor(name), "add_user", name, {"role": role, "by": "openid"})
                return name
            user = user_of(rows[0])
            if user.role != role:
                check_limit(user.name, role, user.cost_groups)
                if role != "admin":
                    _refuse_last_admin(connection, user)
                connection.execute(sql.USERS.update().where(sql.USERS.c.name == user.name), {"role": role})
                details = {"role": role, "before": user.role, "by": "openid"}
                append_event(connection, Actor(user.name), "set_role", user.name, details)
            return user.name

    def limit(self, name: str, cost_groups: Sequence[str] | None, actor: Actor) -> None:
        """Limit a viewer to some cost groups, or to none of them any more.

        Args:
            name: the viewer.
            cost_groups: the ids of the only cost groups that they may see; None for everything.
            actor: who decides it.

        Raises:
            OctoError: there is no such user, they are not a viewer, or no group is named.
        """
        with self._database.writing() as connection:
            user = _user(connection, name)
            check_limit(name, user.role, cost_groups)
            groups = None if cost_groups is None else sorted(set(cost_groups))
            connection.execute(sql.USERS.update().where(sql.USERS.c.name == name), {"cost_groups": groups})
            before = None if user.cost_groups is None else list(user.cost_groups)
            append_event(connection, actor, "limit_user", name, {"cost_groups": groups, "before": before})

    def groups_of(self, name: str) -> tuple[str, ...] | None:
        """The ids of the only cost groups that a user may see; None for everything.

        Raises:
            OctoError: there is no such user.
        """
        with self._database.reading() as connection:
            # Somebody without a registry has not been identified by one.
            user = None if connection is None else _find_user(connection, name)
        if user is None:
            raise _unknown(name)
        return user.cost_groups

    def remove(self, name: str, actor: Actor) -> None:
        """Remove a user, revoke their tokens and end their sessions.

        Raises:
            OctoError: there is no such user, or the user is the last administrator.
        """
        tokens = sql.TOKENS
        with self._database.writing() as connection:
            user = _user(connection, name)
            _refuse_last_admin(connection, user)
            is_live = (tokens.c.user_name == name) & tokens.c.revoked_at.is_(None)
            revoked = connection.execute(tokens.update().where(is_live), {"revoked_at": datetime.now(UTC)}).rowcount
            connection.execute(sql.SESSIONS.delete().where(sql.SESSIONS.c.user_name == name))
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
        with self._database.writing() as connection:
            return _make_token(connection, name, label, actor)

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


def require_users(connection: "Connection | None") -> "Connection":
    """The connection, if there is a registry and it has users.

    Raises:
        OctoError: there is none, or it has none.
    """
    if connection is None or not has_users(connection):
        raise OctoError(
            "The registry has no users yet, so nobody may change anything.",
            code="registry-without-users",
            remedy=Remedy("registry init", admin="NAME", to="make the first administrator"),
        )
    return connection


def has_users(connection: "Connection") -> bool:
    """Whether the registry has users; an old version without a users table has none."""
    if not sql.inspect(connection).has_table(sql.USERS.name):
        return False
    count: int = connection.execute(sql.select(sql.func.count()).select_from(sql.USERS)).scalar_one()
    return count > 0


def _users(connection: "Connection") -> list[User]:
    rows = fetch_rows(connection, select_columns(sql.USERS, USER_COLUMNS))
    return sorted((user_of(row) for row in rows), key=lambda user: user.name)


def user_of(row: Sequence[Any]) -> User:
    """The user of a row of `USER_COLUMNS`."""
    name, role, added_at, groups = row
    return User(name, role, added_at, None if groups is None else tuple(groups))


def _find_user(connection: "Connection", name: str) -> User | None:
    rows = fetch_rows(connection, select_columns(sql.USERS, USER_COLUMNS).where(sql.USERS.c.name == name))
    return user_of(rows[0]) if rows else None


def _user(connection: "Connection", name: str) -> User:
    user = _find_user(connection, name)
    if user is None:
        raise _unknown(name)
    return user


def _unknown(name: str) -> OctoError:
    return OctoError(
        f"There is no user {quoted(name)}.",
        code="user-unknown",
        remedy=Remedy("users list", to="see all users"),
    )


def _add_user(
    connection: "Connection", name: str, role: str, actor: Actor, cost_groups: Sequence[str] | None = None
) -> None:
    user = _find_user(connection, name)
    if user is not None:
        raise OctoError(
            f"{quoted(name)} is already a user, with the role {user.role}; nothing was changed.",
            code="user-already-known",
        )
    groups = None if cost_groups is None else sorted(set(cost_groups))
    row = {"name": name, "role": role, "added_at": datetime.now(UTC), "cost_groups": groups}
    connection.execute(sql.USERS.insert(), row)
    limit = {} if groups is None else {"cost_groups": groups}
    append_event(connection, actor, "add_user", name, {"role": role} | limit)


def _refuse_last_admin(connection: "Connection", user: User) -> None:
    admins = [other.name for other in _users(connection) if other.role == "admin"]
    if admins == [user.name]:
        raise OctoError(
            f"{quoted(user.name)} is the last administrator; nothing was changed. Make somebody else an administrator "
            "first: otherwise nobody could change the registry.",
            code="last-administrator",
        )


def _make_token(connection: "Connection", name: str, label: str, actor: Actor) -> str:
    """Make a token for a user; returns its text.

    Raises:
        OctoError: there is no such user.
    """
    token_id = secrets.token_hex(4)
    text = f"octo_{token_id}_{secrets.token_urlsafe(_TOKEN_BYTES)}"
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


def _lacks_tokens(connection: "Connection", name: str) -> bool:
    """Whether this is an administrator, and no administrator has a valid token."""
    admins = {user.name for user in _users(connection) if user.role == "admin"}
    live = select_columns(sql.TOKENS, ("user_name",)).where(sql.TOKENS.c.revoked_at.is_(None))
    return name in admins and not admins & {row.user_name for row in fetch_rows(connection, live)}


def identify(connection: "Connection", caller: Caller, role: Role) -> Actor:
    """The caller, if they have this role or one that may do more.

    Raises:
        OctoError: as `Users.require`.
    """
    if caller.token is None and caller.os_user is None:
        raise OctoError(
            "This registry takes tokens only: several machines or several people of one use it, so the user of a machine "
            "does not count.",
            code="token-required",
            remedy=Remedy("set", setting="token", to="a token that an administrator made for you"),
        )
    name = _token_user(connection, caller.token) if caller.token is not None else str(caller.os_user)
    # A registry that is about to be upgraded may lack the other columns.
    is_user = sql.USERS.c.name == name
    user = connection.execute(select_columns(sql.USERS, ("name", "role")).where(is_user)).one_or_none()
    if user is None:
        raise OctoError(
            f"{quoted(name)} is not a user of this registry, and only its users may change anything. Ask an administrator "
            "to add you or to make you a token.",
            code="caller-not-a-user",
            remedy=Remedy("users add", name, role=role, to="add them, as an administrator"),
        )
    if ROLES.index(user.role) < ROLES.index(role):
        raise OctoError(
            f"{quoted(name)} is {_ROLE_TITLES[user.role]}, and only {_MAY[role]} may do this; nothing was changed. Ask an "
            "administrator to do it or to give you the role.",
            code="caller-lacks-role",
            remedy=Remedy("users role", name, role, to="give them the role, as an administrator"),
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
