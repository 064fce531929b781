"""The audit trail: one event a change, in its transaction, and no way to edit it or the decisions."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Decision, NewAccount
from octo_pipeline.registry.store import Registry

Decide = Callable[..., Decision]
Sql = Callable[[str], Sequence[Any]]
A, B, C = "a" * 32, "b" * 32, "c" * 32


def test_one_decision_is_one_event(registry: Registry, decide: Decide) -> None:
    before = datetime.now(UTC)
    registry.record_decisions([decide(A)])

    (event,) = registry.audit()
    assert before <= event.at <= datetime.now(UTC)
    assert event.at.tzinfo is UTC
    assert (event.actor, event.action, event.subject) == ("finance", "restore", A)
    assert event.details == {
        "count": 1,
        "first_decision": 1,
        "last_decision": 1,
        "origin_months": ["2024-01"],
        "categories": ["fee"],
        "reason": "billed twice",
    }


def test_many_decisions_are_one_event_that_counts_them(registry: Registry, decide: Decide) -> None:
    registry.record_decisions([decide(A)])
    registry.record_decisions(
        [
            decide(C, origin_month="2024-03", category="savings", reason="why not"),
            decide(B, origin_month="2024-02"),
            decide(A, "reapply"),
        ]
    )

    event = registry.audit()[0]
    assert (event.action, event.subject) == ("restore and reapply", "3 items")
    assert event.details == {
        "count": 3,
        "first_decision": 2,
        "last_decision": 4,
        "origin_months": ["2024-01", "2024-02", "2024-03"],
        "categories": ["fee", "savings"],
        "reason": None,
    }


def test_newest_first_and_cut_to_the_limit(registry: Registry, decide: Decide) -> None:
    for number in range(4):
        registry.record_decisions([decide(f"{number:032x}")])

    assert [event.details["first_decision"] for event in registry.audit()] == [4, 3, 2, 1]
    assert [event.details["first_decision"] for event in registry.audit(limit=2)] == [4, 3]


def test_limit_is_at_least_one(registry: Registry) -> None:
    with pytest.raises(OctoError, match="cannot be cut to 0 events; ask for 1 or more"):
        registry.audit(limit=0)


def test_the_trail_is_filtered_and_read_on_from_an_event(registry: Registry, decide: Decide) -> None:
    for number, actor in enumerate(("mia", "mia", "noor")):
        registry.note(actor, "save_allocator", f"Rule_{number}%", {})
    registry.record_decisions([decide(A)])

    newest, *_ = mias = registry.audit(actor="mia")
    assert [event.subject for event in mias] == ["Rule_1%", "Rule_0%"]
    assert [event.subject for event in registry.audit(actor="mia", before=newest.id)] == ["Rule_0%"]
    assert [event.action for event in registry.audit(action="restore")] == ["restore"]
    assert [event.subject for event in registry.audit(subject="rule_2%")] == ["Rule_2%"]
    # What it contains is a text, not a pattern.
    assert registry.audit(subject="Rule%2") == []
    assert registry.audit_names() == (["finance", "mia", "noor"], ["restore", "save_allocator"])


def test_decisions_without_their_event_are_not_kept(registry: Registry, decide: Decide, sql: Sql, url: str) -> None:
    registry.record_decisions([decide(A)])
    # Whatever stops the event must undo the decisions before it.
    if url.startswith("sqlite"):
        sql("CREATE TRIGGER full BEFORE INSERT ON audit_events BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    else:
        sql("ALTER TABLE audit_events ADD CONSTRAINT disk_full CHECK (id < 2)")

    with pytest.raises(OctoError, match=r"cannot be used: .*full"):
        registry.record_decisions([decide(B)])
    with pytest.raises(OctoError, match=r"cannot be used: .*full"):
        registry.accounts.add([NewAccount("aws", "111111111111")], "finance")

    assert [decision.item_id for decision in registry.decisions()] == [A]
    assert sql("SELECT count(*) FROM registered_accounts") == [(0,)]


_CHANGES = ["UPDATE {} SET actor = 'nobody'", "UPDATE {} SET id = id + 10", "DELETE FROM {}"]
_SQLITE_CHANGES = [
    "INSERT OR REPLACE INTO {} SELECT * FROM {} WHERE id = 1",
    "UPDATE OR REPLACE {} SET id = 2 WHERE id = 1",
]
_POSTGRESQL_CHANGES = [
    "TRUNCATE {}",
    "INSERT INTO {} SELECT * FROM {} ON CONFLICT (id) DO UPDATE SET actor = 'nobody'",
]


@pytest.mark.parametrize("table", ["decisions", "audit_events"])
def test_the_database_refuses_changes_of_history(
    registry: Registry, decide: Decide, sql: Sql, url: str, table: str
) -> None:
    registry.record_decisions([decide(A)])
    registry.record_decisions([decide(B)])
    rows = sql(f"SELECT * FROM {table} ORDER BY id")
    assert len(rows) == 2

    special = _SQLITE_CHANGES if url.startswith("sqlite") else _POSTGRESQL_CHANGES
    for change in _CHANGES + special:
        with pytest.raises(DBAPIError, match=f"{table} is append-only"):
            sql(change.replace("{}", table))

    assert sql(f"SELECT * FROM {table} ORDER BY id") == rows
