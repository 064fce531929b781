"""The SQL of decisions and the audit trail: each function is a step in a transaction that `database.py` opened.

What a decision must be by itself is in `records.py`; what the rows that are there demand of it is checked
here, under the write lock. Accounts, users and secrets have modules of their own.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Select, Table, exists, func, or_, select

from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import AuditEvent, Decision, RestoredItem
from octo_pipeline.registry.schema import AUDIT_EVENTS, DECISIONS

# SQLAlchemy copies a statement's rows: a million at once took 860 MB, in batches 26 MB and the same time.
_BATCH_ROWS = 10_000


def append_decisions(connection: Connection, decisions: Sequence[Decision]) -> None:
    """Append one person's decisions and their audit event.

    Raises:
        OctoError: a decision contradicts the one before it on the same item.
    """
    rows = ({name: getattr(decision, name) for name in Decision.__slots__} for decision in decisions)
    first_id = _append(connection, DECISIONS, rows)
    _refuse_contradictions(connection, first_id)
    append_event(connection, *_decisions_event(decisions, first_id))


def restored_items(connection: Connection, origin_months: Sequence[str] | None) -> tuple[RestoredItem, ...]:
    """The items whose latest decision is to restore them, sorted by id."""
    later = DECISIONS.alias("later")
    is_overruled = exists().where(later.c.item_id == DECISIONS.c.item_id, later.c.id > DECISIONS.c.id)
    query = select(DECISIONS.c.item_id, DECISIONS.c.origin_month).where(DECISIONS.c.action == "restore", ~is_overruled)
    if origin_months is not None:
        query = query.where(DECISIONS.c.origin_month.in_(origin_months))
    # Sorted here, since the order of text in PostgreSQL depends on the server's collation.
    return tuple(sorted(map(RestoredItem._make, connection.execute(query).all())))


def decisions(connection: Connection, item_id: str | None, origin_month: str | None) -> list[Decision]:
    """The history of decisions, oldest first."""
    query = columns(DECISIONS, Decision.__slots__).order_by(DECISIONS.c.id)
    if item_id is not None:
        query = query.where(DECISIONS.c.item_id == item_id)
    if origin_month is not None:
        query = query.where(DECISIONS.c.origin_month == origin_month)
    return [Decision(*row._tuple()) for row in connection.execute(query).all()]


def audit(connection: Connection, limit: int) -> list[AuditEvent]:
    """The newest events, newest first."""
    query = columns(AUDIT_EVENTS, AuditEvent.__slots__).order_by(AUDIT_EVENTS.c.id.desc()).limit(limit)
    return [AuditEvent(*row._tuple()) for row in connection.execute(query).all()]


def columns(table: Table, names: Sequence[str]) -> Select[tuple[Any, ...]]:
    """The query for these columns of a table, in this order."""
    return select(*(table.c[name] for name in names))


def _append(connection: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> int:
    """Append rows with the ids that follow the table's last; returns the first of them."""
    first: int = connection.execute(select(func.coalesce(func.max(table.c.id), 0) + 1)).scalar_one()
    numbered = ({"id": number, **row} for number, row in enumerate(rows, start=first))
    while batch := list(islice(numbered, _BATCH_ROWS)):
        connection.execute(table.insert(), batch)
    return first


def append_event(connection: Connection, actor: str, action: str, subject: str, details: dict[str, Any]) -> None:
    """Append an audit event; every change does so in its own transaction."""
    event = {
        "at": datetime.now(UTC),
        "actor": actor,
        "action": action,
        "subject": subject,
        "details": details,
    }
    _append(connection, AUDIT_EVENTS, [event])


def _decisions_event(decisions: Sequence[Decision], first_id: int) -> tuple[str, str, str, dict[str, Any]]:
    """Actor, action, subject and details of the event for these decisions.

    The ids lead to the decisions with their items and reasons: a million of them are still one short event.
    """
    reasons = {decision.reason for decision in decisions}
    details = {
        "count": len(decisions),
        "first_decision": first_id,
        "last_decision": first_id + len(decisions) - 1,
        "origin_months": sorted({decision.origin_month for decision in decisions}),
        "categories": sorted({decision.category for decision in decisions}),
        "reason": reasons.pop() if len(reasons) == 1 else None,
    }
    action = " and ".join(sorted({decision.action for decision in decisions}, reverse=True))
    subject = decisions[0].item_id if len(decisions) == 1 else f"{len(decisions):,} items"
    return decisions[0].actor, action, subject, details


def _refuse_contradictions(connection: Connection, first_id: int) -> None:
    """Hold the decisions from `first_id` on against the ones before them.

    It is one statement over the rows that were just appended, because a million ids do not fit into
    parameters; so a call that contradicts itself is found too.
    """
    new, old, earlier = DECISIONS.alias("new"), DECISIONS.alias("old"), DECISIONS.alias("earlier")
    previous = (
        select(func.max(earlier.c.id))
        .where(earlier.c.item_id == new.c.item_id, earlier.c.id < new.c.id)
        .scalar_subquery()
    )
    # An item without a decision is as one that was re-applied.
    action_before = func.coalesce(old.c.action, "reapply")
    contradiction = or_(action_before == new.c.action, old.c.origin_month != new.c.origin_month)
    query = (
        select(new.c.action, new.c.item_id, new.c.origin_month, old.c.origin_month, old.c.actor, old.c.decided_at)
        .select_from(new.outerjoin(old, old.c.id == previous))
        .where(new.c.id >= first_id, contradiction)
        .order_by(new.c.id)
        .limit(1)
    )
    found = connection.execute(query).one_or_none()
    if found is not None:
        raise OctoError(_contradiction(*found._tuple()))


def _contradiction(
    action: str,
    item_id: str,
    month: str,
    month_before: str | None,
    actor: str | None,
    decided_at: datetime | None,
) -> str:
    if month_before is not None and month_before != month:
        problem = f"an earlier decision says its origin month is {month_before}; give that one"
    elif action == "restore":
        problem = f"{actor} restored it at {decided_at:%Y-%m-%d %H:%M} UTC; leave it out"
    else:
        problem = "it is not restored; leave it out"
    return f"Cannot {action} item {item_id} of {month}: {problem}. Nothing was recorded."
