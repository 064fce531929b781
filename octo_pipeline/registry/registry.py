"""The registry: restore decisions, the audit trail, accounts, users; the one door to its database.

Every change is one transaction that also appends its audit event. Nothing here knows Dagster or the command
line, and who acts is the caller's to say.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import parse_month
from octo_pipeline.registry.accounts import Accounts
from octo_pipeline.registry.connections import Connections
from octo_pipeline.registry.records import (
    AuditEvent,
    Decision,
    RestoredItem,
    check_decisions,
    check_item_id,
)
from octo_pipeline.registry.users import Users

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Registry:
    """The registry at a URL: SQLite (``sqlite:////folder/file``) or PostgreSQL (``postgresql://…``).

    Nothing is opened before it is needed. Reading a registry that is not there finds nothing and makes
    nothing; the first write makes it. Every method raises `OctoError` if the database cannot be reached, is
    not a registry, or is of another version than the code.

    Attributes:
        connections: the transactions on its database.
        accounts: the registered accounts.
        users: who may change what, and their tokens.
    """

    def __init__(self, url: str) -> None:
        self.connections = Connections(url)
        self.accounts = Accounts(self.connections)
        self.users = Users(self.connections)

    def exists(self) -> bool:
        """Tell whether there is a registry to read; for SQLite that is known without opening it."""
        return self.connections.exists()

    def upgrade(self, token: str | None, os_user: str) -> bool:
        """Migrate the database to the version of the code; tells whether there was something to do.

        Args:
            token: the token of who asks for it, if there is one.
            os_user: who asks for it, if there is no token.

        Raises:
            OctoError: the registry has users, and this is no administrator of them.
        """

        def permit(connection: "Connection") -> None:
            from octo_pipeline.registry import user_queries

            if user_queries.are_known(connection):
                user_queries.require_admin(connection, token, os_user)

        return self.connections.upgrade(permit)

    def record_decisions(self, decisions: Sequence[Decision]) -> int:
        """Append one person's decisions, all or none, with one audit event.

        Args:
            decisions: in the order in which they apply; none at all is no event.

        Returns:
            How many were recorded.

        Raises:
            OctoError: a decision breaks a rule, restores an item that is restored, re-applies one that is
                not, or gives an item another origin month than an earlier decision did.
        """
        check_decisions(decisions)
        if decisions:
            with self.connections.writing() as connection:
                from octo_pipeline.registry import queries

                queries.append_decisions(connection, decisions)
        return len(decisions)

    def restored_items(self, origin_months: Sequence[str] | None = None) -> tuple[RestoredItem, ...]:
        """The items whose latest decision is to restore them.

        Args:
            origin_months: the origin months to look at, all if None.

        Returns:
            The items, sorted by id.
        """
        months = None if origin_months is None else sorted({parse_month(month) for month in origin_months})
        with self.connections.reading() as connection:
            if connection is None:
                return ()
            from octo_pipeline.registry import queries

            return queries.restored_items(connection, months)

    def decisions(self, item_id: str | None = None, origin_month: str | None = None) -> list[Decision]:
        """The history of decisions, oldest first.

        Args:
            item_id: only this item's.
            origin_month: only those on items of this month.
        """
        if item_id is not None:
            check_item_id(item_id)
        month = None if origin_month is None else parse_month(origin_month)
        with self.connections.reading() as connection:
            if connection is None:
                return []
            from octo_pipeline.registry import queries

            return queries.decisions(connection, item_id, month)

    def audit(self, limit: int = 100) -> list[AuditEvent]:
        """The newest events of the audit trail, newest first.

        Args:
            limit: how many at most.
        """
        if limit < 1:
            raise OctoError(f"The audit trail cannot be cut to {limit:,} events; ask for 1 or more.")
        with self.connections.reading() as connection:
            if connection is None:
                return []
            from octo_pipeline.registry import queries

            return queries.audit(connection, limit)

    def note(self, actor: str, action: str, subject: str, details: dict[str, Any]) -> None:
        """Append an event of a change that is kept elsewhere, such as an allocator's file.

        Args:
            actor: who did it.
            action: what was done.
            subject: what it was done to.
            details: the rest, as JSON values; never a secret.
        """
        with self.connections.writing() as connection:
            from octo_pipeline.registry import queries

            queries.append_event(connection, actor, action, subject, details)

    def payer_members(self, payers: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """The accounts registered to these payers, as (payer, account), sorted and distinct."""
        with self.connections.reading() as connection:
            if connection is None:
                return ()
            from octo_pipeline.registry import account_queries

            return account_queries.payer_members(connection, payers)
