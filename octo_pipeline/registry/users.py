"""Users and their tokens: who may look, who may change.

A person is a user of the operating system whose name is registered, or whoever holds a token. A token is
``octo_<id>_<random>``: the id finds its row, of the whole only a SHA-256 is stored. An unsalted hash is enough
for 256 random bits.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.connections import Connections
from octo_pipeline.registry.records import NAME_LENGTH, shown, text_problem

ROLES = ("admin", "viewer")
Role = Literal["admin", "viewer"]


@dataclass(frozen=True)
class User:
    """A user; `added_at` in UTC."""

    name: str
    role: Role
    added_at: datetime


@dataclass(frozen=True)
class Token:
    """A token as it is listed; its text was shown once, to who made it.

    Attributes:
        id: the part of the text that names it.
        user_name: as whom its holder acts.
        label: what it is for.
        made_at: when, in UTC.
        revoked_at: since when it opens nothing any more.
    """

    id: str
    user_name: str
    label: str
    made_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True)
class Admin:
    """An administrator who acts; `is_new` if this first use of the registry made them one."""

    name: str
    is_new: bool


class Users:
    """The users; every change appends its audit event in the same transaction."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def require_admin(self, token: str | None, os_user: str) -> Admin:
        """Who acts, if that is an administrator. Of a registry without users, the first to ask becomes one.

        Args:
            token: the text of a token; who holds it acts as its user.
            os_user: the user of the operating system, who counts if there is no token.

        Raises:
            OctoError: the token is unknown or revoked, or this is no user or no administrator.
        """
        with self._connections.reading() as connection:
            if connection is not None:
                from octo_pipeline.registry import user_queries

                if token is not None or user_queries.are_known(connection):
                    return Admin(user_queries.require_admin(connection, token, os_user), is_new=False)
        if token is not None:
            raise OctoError(
                "OCTO_TOKEN is set, and this registry has no users yet. Unset it: the first user to change "
                "something becomes the administrator, who can then make tokens."
            )
        with self._connections.writing() as connection:
            from octo_pipeline.registry import user_queries

            # Somebody else may have been first since it was read.
            if user_queries.are_known(connection):
                return Admin(user_queries.require_admin(connection, token, os_user), is_new=False)
            user_queries.add(connection, os_user, "admin", os_user)
            return Admin(os_user, is_new=True)

    def all(self) -> list[User]:
        """The users by name."""
        with self._connections.reading() as connection:
            if connection is None:
                return []
            from octo_pipeline.registry import user_queries

            return user_queries.all_users(connection)

    def tokens(self) -> list[Token]:
        """The tokens, oldest first, also those that are revoked."""
        with self._connections.reading() as connection:
            if connection is None:
                return []
            from octo_pipeline.registry import user_queries

            return user_queries.all_tokens(connection)

    def add(self, name: str, role: str, actor: str) -> None:
        """Add a user.

        Raises:
            OctoError: the name is no name or taken, or the role is unknown.
        """
        problem = text_problem("name", name, NAME_LENGTH)
        if problem is not None:
            raise OctoError(f"The user {shown(name)} cannot be added: {problem}.")
        _check_role(role)
        with self._connections.writing() as connection:
            from octo_pipeline.registry import user_queries

            user_queries.add(connection, name, role, actor)

    def set_role(self, name: str, role: str, actor: str) -> None:
        """Give a user another role.

        Raises:
            OctoError: there is no such user or role, or it is the last administrator's.
        """
        _check_role(role)
        with self._connections.writing() as connection:
            from octo_pipeline.registry import user_queries

            user_queries.set_role(connection, name, role, actor)

    def remove(self, name: str, actor: str) -> None:
        """Remove a user and revoke their tokens.

        Raises:
            OctoError: there is no such user, or it is the last administrator.
        """
        with self._connections.writing() as connection:
            from octo_pipeline.registry import user_queries

            user_queries.remove(connection, name, actor)

    def make_token(self, name: str, label: str, actor: str) -> str:
        """Make a token for a user.

        Returns:
            Its text, which can never be had again.

        Raises:
            OctoError: there is no such user, or the label is no text.
        """
        problem = text_problem("label", label, NAME_LENGTH)
        if problem is not None:
            raise OctoError(f"The token cannot be made: {problem}.")
        with self._connections.writing() as connection:
            from octo_pipeline.registry import user_queries

            return user_queries.make_token(connection, name, label, actor)

    def revoke(self, token_id: str, actor: str) -> None:
        """Revoke a token by its id.

        Raises:
            OctoError: there is no such token, or it is revoked.
        """
        with self._connections.writing() as connection:
            from octo_pipeline.registry import user_queries

            user_queries.revoke(connection, token_id, actor)


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise OctoError(f"The role {shown(role)} is unknown; it is one of {', '.join(ROLES)}.")
