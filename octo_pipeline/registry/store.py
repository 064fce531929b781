"""The registry: its decisions and audit trail, and the way to its accounts, months and users.

Every method here and in the modules of the aggregates (`accounts.py`, `periods.py`, `users.py`, `stored_secrets.py`) is one
transaction, and every change appends its audit event in the same transaction. Nothing here knows Dagster or the command
line; the caller passes who acts. How the database is opened, locked and migrated belongs in `database.py`.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import parse_month
from octo_pipeline.registry import lazy_sqlalchemy as sql
from octo_pipeline.registry.accounts import Accounts
from octo_pipeline.registry.answers import Answers
from octo_pipeline.registry.database import Database
from octo_pipeline.registry.decisions import append_decisions
from octo_pipeline.registry.document_versions import DocumentVersions
from octo_pipeline.registry.periods import Periods
from octo_pipeline.registry.records import (
    Actor,
    AuditEvent,
    Caller,
    Decision,
    RestoredItem,
    check_decisions,
    check_item_id,
)
from octo_pipeline.registry.sessions import Sessions
from octo_pipeline.registry.statements import append_event, fetch_rows, select_columns
from octo_pipeline.registry.users import Users, has_users, identify

if TYPE_CHECKING:
    from sqlalchemy import Connection


class _TakenBack(Exception):
    """Takes a transaction back."""


class Registry(Database):
    """The registry at a URL: decisions and the audit trail, and in its attributes accounts, months and users.

    Nothing is opened before it is needed. Reading a registry that does not exist returns nothing and creates nothing;
    the first write creates it. Every method raises `OctoError` if the database cannot be reached, is not a registry, or
    has another version than the code.

    Attributes:
        accounts: the registered accounts.
        answers: what was answered to changes under a key.
        documents: the versions of allocators and cost groups.
        periods: the months that were closed.
        sessions: the sign-ins to the console.
        users: the users, their roles and tokens.
    """

    def __init__(self, url: str, *, group: str | None = None) -> None:
        super().__init__(url, group=group)
        self.accounts = Accounts(self)
        self.documents = DocumentVersions(self)
        self.periods = Periods(self)
        self.sessions = Sessions(self)
        self.answers = Answers(self)
        self.users = Users(self)

    def upgrade(self, caller: Caller) -> bool:
        """Migrate the database to the version of the code; returns whether there was anything to do.

        Args:
            caller: who asks for it. `Users.require`, which identifies callers of other changes, needs the
                current version.

        Raises:
            OctoError: the registry has users, and this is not one of its administrators.
        """

        def permit(connection: "Connection") -> None:
            if has_users(connection):
                identify(connection, caller, "admin")

        return self.migrate(permit)

    def check_writable(self, actor: Actor) -> None:
        """Append an audit event in a transaction that is taken back, so that nothing stays.

        Raises:
            OctoError: the database cannot be written.
        """
        with suppress(_TakenBack), self.writing() as connection:
            append_event(connection, actor, "check", "the registry", {})
            raise _TakenBack

    def record_decisions(self, decisions: Sequence[Decision]) -> int:
        """Append one person's decisions, all or none, with one audit event.

        Args:
            decisions: in the order in which they apply; if there are none, no event is appended.

        Returns:
            How many were recorded.

        Raises:
            OctoError: a decision breaks a rule, restores an item that is already restored, re-applies one that is
                not, or gives an item another origin month than an earlier decision did.
        """
        check_decisions(decisions)
        if decisions:
            with self.writing() as connection:
                append_decisions(connection, decisions)
        return len(decisions)

    def restored_items(self, origin_months: Sequence[str] | None = None) -> tuple[RestoredItem, ...]:
        """The items whose latest decision is to restore them.

        Args:
            origin_months: the origin months of the items; None for all.

        Returns:
            The items, sorted by id.
        """
        months = None if origin_months is None else sorted({parse_month(month) for month in origin_months})
        with self.reading() as connection:
            if connection is None:
                return ()
            decisions, later = sql.DECISIONS, sql.DECISIONS.alias("later")
            is_overruled = sql.exists().where(later.c.item_id == decisions.c.item_id, later.c.id > decisions.c.id)
            query = select_columns(decisions, RestoredItem._fields).where(
                decisions.c.action == "restore", ~is_overruled
            )
            if months is not None:
                query = query.where(decisions.c.origin_month.in_(months))
            # Sorted here, because the order of text in PostgreSQL depends on the server's collation.
            return tuple(sorted(map(RestoredItem._make, connection.execute(query).all())))

    def decisions(self, item_id: str | None = None, origin_month: str | None = None) -> list[Decision]:
        """The history of decisions, oldest first.

        Args:
            item_id: only the decisions on this item.
            origin_month: only the decisions on items of this month.
        """
        if item_id is not None:
            check_item_id(item_id)
        month = None if origin_month is None else parse_month(origin_month)
        with self.reading() as connection:
            if connection is None:
                return []
            query = select_columns(sql.DECISIONS, Decision.__slots__).order_by(sql.DECISIONS.c.id)
            if item_id is not None:
                query = query.where(sql.DECISIONS.c.item_id == item_id)
            if month is not None:
                query = query.where(sql.DECISIONS.c.origin_month == month)
            return [Decision(*row) for row in fetch_rows(connection, query)]

    def audit(
        self,
        limit: int = 100,
        *,
        actor: str | None = None,
        action: str | None = None,
        subject: str | None = None,
        before: int | None = None,
    ) -> list[AuditEvent]:
        """The newest events of the audit trail, newest first.

        Args:
            limit: the maximum number of events.
            actor: only of this person.
            action: only this one.
            subject: only of subjects that contain this text, in capitals or not.
            before: only what was recorded before the event with this id.
        """
        if limit < 1:
            raise OctoError(
                f"The audit trail cannot be cut to {limit:,} events; ask for 1 or more.", code="audit-limit-wrong"
            )
        with self.reading() as connection:
            if connection is None:
                return []
            events = sql.AUDIT_EVENTS
            query = select_columns(events, AuditEvent.__slots__).order_by(events.c.id.desc()).limit(limit)
            if actor is not None:
                query = query.where(events.c.actor == actor)
            if action is not None:
                query = query.where(events.c.action == action)
            if subject is not None:
                query = query.where(events.c.subject.icontains(subject, autoescape=True))
            if before is not None:
                query = query.where(events.c.id < before)
            return [AuditEvent(*row) for row in fetch_rows(connection, query)]

    def audit_names(self) -> tuple[list[str], list[str]]:
        """Who is in the audit trail, and what they did: the actors and the actions, each sorted."""
        with self.reading() as connection:
            if connection is None:
                return [], []
            events = sql.AUDIT_EVENTS
            actors, actions = (
                sorted(row[0] for row in fetch_rows(connection, select_columns(events, (name,)).distinct()))
                for name in ("actor", "action")
            )
            return actors, actions

    def note(self, actor: Actor, action: str, subject: str, details: dict[str, Any]) -> None:
        """Append an event of a change that is kept elsewhere, such as an allocator's file.

        Args:
            actor: who did it.
            action: what was done.
            subject: what it was done to.
            details: the rest, as JSON values; never a secret.
        """
        with self.writing() as connection:
            append_event(connection, actor, action, subject, details)
