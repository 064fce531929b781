"""The SQL of users and tokens: each function is a step in a transaction that `database.py` opened."""

import hashlib
import hmac
import secrets
from datetime import UTC, datetime

from sqlalchemy import Connection, func, inspect, select

from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.queries import append_event, columns
from octo_pipeline.registry.records import shown
from octo_pipeline.registry.schema import TOKENS, USERS
from octo_pipeline.registry.users import Token, User

_RANDOM_BYTES = 32
_UNKNOWN_TOKEN = (
    "OCTO_TOKEN holds no token of this registry, or one that was revoked. Ask an administrator for another."  # noqa: S105
)


def are_known(connection: Connection) -> bool:
    """Whether the registry has users; one of a version before users has none."""
    if not inspect(connection).has_table(USERS.name):
        return False
    count: int = connection.execute(select(func.count()).select_from(USERS)).scalar_one()
    return count > 0


def require_admin(connection: Connection, token: str | None, os_user: str) -> str:
    """The name of who acts.

    Raises:
        OctoError: the token is unknown or revoked, or this is no user or no administrator.
    """
    name = os_user if token is None else _holder(connection, token)
    user = _find(connection, name)
    if user is None:
        raise OctoError(
            f"{shown(name)} is no user of this registry, and only its administrators may change something. One of "
            f"them can run `octo users add {name} --role admin`, or make a token for OCTO_TOKEN."
        )
    if user.role != "admin":
        raise OctoError(
            f"{shown(name)} is a {user.role}, and only administrators may change something; nothing was changed. "
            f"Ask an administrator to do it or to run `octo users role {name} admin`."
        )
    return name


def all_users(connection: Connection) -> list[User]:
    """The users by name."""
    rows = connection.execute(columns(USERS, ("name", "role", "added_at")))
    return sorted((User(*row._tuple()) for row in rows), key=lambda user: user.name)


def all_tokens(connection: Connection) -> list[Token]:
    """The tokens, oldest first."""
    query = columns(TOKENS, ("id", "user_name", "label", "made_at", "revoked_at")).order_by(TOKENS.c.made_at)
    return [Token(*row._tuple()) for row in connection.execute(query)]


def add(connection: Connection, name: str, role: str, actor: str) -> None:
    """Add a user.

    Raises:
        OctoError: the name is taken.
    """
    known = _find(connection, name)
    if known is not None:
        raise OctoError(f"{shown(name)} is a user already, with the role {known.role}; nothing was changed.")
    connection.execute(USERS.insert(), {"name": name, "role": role, "added_at": datetime.now(UTC)})
    append_event(connection, actor, "add_user", name, {"role": role})


def set_role(connection: Connection, name: str, role: str, actor: str) -> None:
    """Give a user another role.

    Raises:
        OctoError: there is no such user, or it is the last administrator.
    """
    user = _get(connection, name)
    if role != "admin":
        _refuse_last_admin(connection, user)
    connection.execute(USERS.update().where(USERS.c.name == name), {"role": role})
    append_event(connection, actor, "set_role", name, {"role": role, "before": user.role})


def remove(connection: Connection, name: str, actor: str) -> None:
    """Remove a user and revoke their tokens.

    Raises:
        OctoError: there is no such user, or it is the last administrator.
    """
    user = _get(connection, name)
    _refuse_last_admin(connection, user)
    is_live = (TOKENS.c.user_name == name) & TOKENS.c.revoked_at.is_(None)
    revoked = connection.execute(TOKENS.update().where(is_live), {"revoked_at": datetime.now(UTC)}).rowcount
    connection.execute(USERS.delete().where(USERS.c.name == name))
    append_event(connection, actor, "remove_user", name, {"role": user.role, "revoked_tokens": revoked})


def make_token(connection: Connection, name: str, label: str, actor: str) -> str:
    """Make a token and return its text.

    Raises:
        OctoError: there is no such user.
    """
    user = _get(connection, name)
    token_id = secrets.token_hex(4)
    text = f"octo_{token_id}_{secrets.token_urlsafe(_RANDOM_BYTES)}"
    row = {
        "id": token_id,
        "user_name": name,
        "label": label,
        "sha256": _digest(text),
        "made_at": datetime.now(UTC),
        "revoked_at": None,
    }
    connection.execute(TOKENS.insert(), row)
    append_event(connection, actor, "make_token", token_id, {"user": name, "role": user.role, "label": label})
    return text


def revoke(connection: Connection, token_id: str, actor: str) -> None:
    """Revoke a token.

    Raises:
        OctoError: there is no such token, or it is revoked.
    """
    row = connection.execute(
        columns(TOKENS, ("user_name", "label", "revoked_at")).where(TOKENS.c.id == token_id)
    ).one_or_none()
    if row is None:
        raise OctoError(f"There is no token {shown(token_id)}. `octo users tokens` lists them.")
    if row.revoked_at is not None:
        raise OctoError(f"The token {token_id} is revoked since {row.revoked_at:%Y-%m-%d %H:%M} UTC.")
    connection.execute(TOKENS.update().where(TOKENS.c.id == token_id), {"revoked_at": datetime.now(UTC)})
    append_event(connection, actor, "revoke_token", token_id, {"user": row.user_name, "label": row.label})


def _holder(connection: Connection, text: str) -> str:
    """The user of a token."""
    parts = text.split("_", 2)
    token_id = parts[1] if len(parts) == 3 and parts[0] == "octo" and parts[1].isalnum() else ""
    query = columns(TOKENS, ("user_name", "sha256")).where(TOKENS.c.id == token_id, TOKENS.c.revoked_at.is_(None))
    row = connection.execute(query).one_or_none()
    # A token that is not there is compared too, so that how long a refusal takes tells nothing.
    is_same = hmac.compare_digest(_digest(text), row.sha256 if row is not None else _digest(""))
    if row is None or not is_same:
        raise OctoError(_UNKNOWN_TOKEN)
    return str(row.user_name)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _find(connection: Connection, name: str) -> User | None:
    row = connection.execute(columns(USERS, ("name", "role", "added_at")).where(USERS.c.name == name)).one_or_none()
    return None if row is None else User(*row._tuple())


def _get(connection: Connection, name: str) -> User:
    user = _find(connection, name)
    if user is None:
        raise OctoError(f"There is no user {shown(name)}. `octo users list` shows those there are.")
    return user


def _refuse_last_admin(connection: Connection, user: User) -> None:
    admins = [one.name for one in all_users(connection) if one.role == "admin"]
    if admins == [user.name]:
        raise OctoError(
            f"{shown(user.name)} is the last administrator; nothing was changed. Make somebody else one first: "
            "without one nobody could change the registry."
        )
