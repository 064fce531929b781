"""Appending decisions, and the rules between a decision and the earlier ones on the same item."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry import lazy_sqlalchemy as sql
from octo_pipeline.registry.records import Decision
from octo_pipeline.registry.statements import append_event, append_rows, fetch_rows

if TYPE_CHECKING:
    from sqlalchemy import Connection


def append_decisions(connection: "Connection", decisions: Sequence[Decision]) -> None:
    """Append one person's decisions and their audit event.

    Raises:
        OctoError: a decision contradicts the previous one on the same item.
    """
    rows = ({name: getattr(decision, name) for name in Decision.__slots__} for decision in decisions)
    first_id = append_rows(connection, sql.DECISIONS, rows)
    _refuse_contradictions(connection, first_id)
    reasons = {decision.reason for decision in decisions}
    # The event refers to the decisions by their ids, so that a million of them are still one short event.
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
    append_event(connection, decisions[0].actor, action, subject, details)


def _refuse_contradictions(connection: "Connection", first_id: int) -> None:
    """Compare the decisions from `first_id` on with the previous ones on the same items.

    It is one statement over the rows that were just appended, because a million ids do not fit into
    parameters. It also finds a call that contradicts itself.
    """
    decisions = sql.DECISIONS
    new, old, earlier = decisions.alias("new"), decisions.alias("old"), decisions.alias("earlier")
    previous = (
        sql.select(sql.func.max(earlier.c.id))
        .where(earlier.c.item_id == new.c.item_id, earlier.c.id < new.c.id)
        .scalar_subquery()
    )
    # An item without a decision counts as re-applied.
    action_before = sql.func.coalesce(old.c.action, "reapply")
    contradiction = sql.or_(action_before == new.c.action, old.c.origin_month != new.c.origin_month)
    query = (
        sql.select(new.c.action, new.c.item_id, new.c.origin_month, old.c.origin_month, old.c.actor, old.c.decided_at)
        .select_from(new.outerjoin(old, old.c.id == previous))
        .where(new.c.id >= first_id, contradiction)
        .order_by(new.c.id)
        .limit(1)
    )
    rows = fetch_rows(connection, query)
    if not rows:
        return
    action, item_id, month, month_before, actor, decided_at = rows[0]
    if month_before is not None and month_before != month:
        problem = f"an earlier decision says its origin month is {month_before}; give that one"
    elif action == "restore":
        problem = f"{actor} restored it at {decided_at:%Y-%m-%d %H:%M} UTC; leave it out"
    else:
        problem = "it is not restored; leave it out"
    raise OctoError(
        f"Cannot {action} item {item_id} of {month}: {problem}. Nothing was recorded.", code="decision-contradicts"
    )
