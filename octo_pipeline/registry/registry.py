"""The registry: restore decisions, the audit trail and registered accounts; the one door to its database.

Every change is one transaction that also appends its audit event. Nothing here knows Dagster or the command
line, and who acts is the caller's to say. SQLAlchemy (0.3 s) is imported when a database is opened, never
with this module: most commands meet no registry.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from octo_pipeline.allocation.months import parse_month
from octo_pipeline.errors import OctoError
from octo_pipeline.registry.location import is_there, sqlite_path
from octo_pipeline.registry.records import (
    AuditEvent,
    Decision,
    RestoredItem,
    check_account,
    check_decisions,
    check_item_id,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


class Registry:
    """The registry at a URL: SQLite (``sqlite:////folder/file``) or PostgreSQL (``postgresql://…``).

    Nothing is opened before it is needed. Reading a registry that is not there finds nothing and makes
    nothing; the first write makes it. Every method raises `OctoError` if the database cannot be reached, is
    not a registry, or is of another version than the code.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._path = sqlite_path(url)

    def exists(self) -> bool:
        """Tell whether there is a registry to read; for SQLite that is known without opening it."""
        if self._path is not None:
            return is_there(self._path)
        with self._reading() as connection:
            return connection is not None

    def upgrade(self) -> bool:
        """Migrate the database to the version of the code; tells whether there was something to do."""
        from octo_pipeline.registry import database

        return database.upgrade(self._engine, self._path)

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
            with self._writing() as connection:
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
        with self._reading() as connection:
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
        with self._reading() as connection:
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
        with self._reading() as connection:
            if connection is None:
                return []
            from octo_pipeline.registry import queries

            return queries.audit(connection, limit)

    def register_account(
        self, vendor: str, account_id: str, payer_id: str | None, name: str | None, actor: str
    ) -> None:
        """Register an account, with its audit event.

        Args:
            vendor: ``aws``, ``azure`` or ``gcp``.
            account_id: the vendor's id of the account (AWS account, Azure subscription, GCP project).
            payer_id: the payer it is billed under; None makes it no payer's member.
            name: what people call it.
            actor: who registers it.

        Raises:
            OctoError: a value breaks a rule, or the account is registered.
        """
        check_account(vendor, account_id, payer_id, name, actor)
        with self._writing() as connection:
            from octo_pipeline.registry import queries

            queries.register_account(connection, vendor, account_id, payer_id, name, actor)

    def payer_members(self, payers: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """The accounts registered to these payers, as (payer, account), sorted and distinct."""
        with self._reading() as connection:
            if connection is None:
                return ()
            from octo_pipeline.registry import queries

            return queries.payer_members(connection, payers)

    @cached_property
    def _engine(self) -> "Engine":
        from octo_pipeline.registry import database

        return database.open_engine(self._url, self._path)

    @contextmanager
    def _reading(self) -> Iterator["Connection | None"]:
        if self._path is not None and not is_there(self._path):
            yield None
            return
        from octo_pipeline.registry import database

        with database.reading(self._engine, self._path) as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator["Connection"]:
        from octo_pipeline.registry import database

        with database.writing(self._engine, self._path) as connection:
            yield connection
