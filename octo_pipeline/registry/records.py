"""Decisions and audit events as plain values, and the rules a decision must meet.

Nothing here knows a database; rules that need the history (restored twice) are in `queries.py`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from octo_pipeline.model.columns import ITEM_GRAINS
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import is_month

REASON_LENGTH = 2_000
# Long enough for an ARN or an e-mail address.
NAME_LENGTH = 256
ACTIONS = ("restore", "reapply")

# Lower case only: the same id in capitals is another text, and would match no item.
_ITEM_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
# PostgreSQL cannot store NUL, and nothing stores half of a surrogate pair.
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Decision:
    """One person's decision on one item.

    Attributes:
        action: ``restore`` takes the item's distribution back, ``reapply`` lets it happen again.
        item_id: 32 hex digits in lower case.
        origin_month: the month the item was billed in.
        category: ``fee``, ``account`` or ``savings``.
        actor: who decided.
        reason: why, in 1 to 2,000 characters.
        decided_at: when, with a time zone.
    """

    action: Literal["restore", "reapply"]
    item_id: str
    origin_month: str
    category: str
    actor: str
    reason: str
    decided_at: datetime


class RestoredItem(NamedTuple):
    """An item whose latest decision is to restore it."""

    item_id: str
    origin_month: str


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One change of the registry.

    Attributes:
        at: when it was recorded, in UTC.
        actor: who did it.
        action: what was done, such as ``restore``.
        subject: what it was done to: an item or an account, or how many items.
        details: the rest, as JSON values.
    """

    at: datetime
    actor: str
    action: str
    subject: str
    details: dict[str, Any]


def check_decisions(decisions: Sequence[Decision]) -> None:
    """Check what can be checked of decisions without their items' history.

    Raises:
        OctoError: one of them breaks a rule, or they are of several people; the sentence says which and why.
    """
    for number, decision in enumerate(decisions, start=1):
        problem = _problem(decision)
        if problem is None and decision.actor != decisions[0].actor:
            problem = "it is another person's than the first; record each person's decisions in a call of their own"
        if problem is not None:
            place = f"Decision {number} of {len(decisions)} (item {shown(decision.item_id)})"
            raise OctoError(f"{place} is refused: {problem}. Nothing was recorded.")


def check_item_id(item_id: str) -> None:
    """Check the form of an item's id.

    Raises:
        OctoError: it is not 32 hex digits in lower case.
    """
    if _ITEM_ID.fullmatch(item_id) is None:
        raise OctoError(f"{shown(item_id)} is not an item id; it has 32 hex digits in lower case.")


def _problem(decision: Decision) -> str | None:
    if decision.action not in ACTIONS:
        return f"the action {shown(decision.action)} is unknown; it is one of {', '.join(ACTIONS)}"
    if _ITEM_ID.fullmatch(decision.item_id) is None:
        return "the item id is not 32 hex digits in lower case"
    if not is_month(decision.origin_month):
        return f"the origin month {shown(decision.origin_month)} is not written as YYYY-MM"
    if decision.category not in ITEM_GRAINS:
        return f"the category {shown(decision.category)} is unknown; it is one of {', '.join(ITEM_GRAINS)}"
    if decision.decided_at.utcoffset() is None:
        return "its time has no time zone; give it in UTC"
    return text_problem("actor", decision.actor, NAME_LENGTH) or text_problem("reason", decision.reason, REASON_LENGTH)


def text_problem(what: str, text: str, length: int) -> str | None:
    """What is wrong with a text that is to be stored, or None.

    Args:
        what: what the text is, for the sentence.
        text: the text.
        length: how many characters it may have.
    """
    if not text.strip():
        return f"the {what} is empty"
    if len(text) > length:
        return f"the {what} has {len(text):,} characters; {length:,} is the most"
    if _NO_TEXT.search(text) is not None:
        return f"the {what} holds a character that is no text (NUL or half of a surrogate pair)"
    return None


def shown(text: str) -> str:
    """A value as it is put in a sentence: quoted, and cut where it is long."""
    return repr(text if len(text) <= 80 else text[:80] + "…")
