"""A month of account-usage items restored at once: so many decisions in one call that each must cost next to nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event

from octo_pipeline.registry.records import Decision
from octo_pipeline.registry.store import Registry

ITEMS = 30_000


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """Every statement that reaches a database meanwhile, with its parameters; many rows at once are one statement."""
    recorded: list[tuple[str, Any]] = []

    def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        recorded.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", record)
    try:
        yield recorded
    finally:
        event.remove(Engine, "before_cursor_execute", record)


@pytest.mark.slow
def test_thirty_thousand_items_of_one_month(registry: Registry, decide: Callable[..., Decision]) -> None:
    # Spread ids, as hashes are.
    ids = [f"{i * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}" for i in range(ITEMS)]
    registry.record_decisions([decide("f" * 32)])

    with statements() as to_record:
        assert registry.record_decisions([decide(item_id, category="account") for item_id in ids]) == ITEMS
    with statements() as to_read:
        restored = registry.restored_items(["2024-01"])
    assert registry.restored_items(["2024-02"]) == ()
    registry.record_decisions([decide(ids[0], "reapply", category="account")])

    assert [item.item_id for item in restored] == sorted([*ids, "f" * 32])
    assert registry.audit()[1].details["count"] == ITEMS
    # Rows travel ten thousand at a time, and what is checked or read takes a fixed number of statements.
    assert len(to_record) < ITEMS / 10_000 + 20
    assert len(to_read) < 10


def test_what_is_looked_up_for_each_decision_is_found_by_an_index(
    sqlite_url: str, decide: Callable[..., Decision]
) -> None:
    registry = Registry(sqlite_url)
    registry.record_decisions([decide()])
    with statements() as executed:
        registry.record_decisions([decide("b" * 32)])
        registry.restored_items(["2024-01"])
    with create_engine(sqlite_url).connect() as connection:
        plans = [
            str(row[3])
            for statement, parameters in executed
            if statement.startswith("SELECT") and " decisions " in statement
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]

    # A look-up that scans the table makes a million decisions cost a million times a million rows.
    assert {plan.split()[1] for plan in plans if plan.startswith("SEARCH")} >= {"earlier", "old", "later"}
    assert {plan.split()[1] for plan in plans if plan.startswith("SCAN")} <= {"decisions"}
