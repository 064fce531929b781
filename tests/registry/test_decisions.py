"""Restore and re-apply: what is recorded, what is refused, and what is restored at the end."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Decision
from octo_pipeline.registry.store import Registry

Decide = Callable[..., Decision]
A, B, C = "a" * 32, "b" * 32, "c" * 32


def test_a_decision_is_read_back_as_it_was_made(registry: Registry, decide: Decide) -> None:
    made = decide(A, category="savings", actor="anna", reason="the invoice was corrected")

    assert registry.record_decisions([made]) == 1

    assert registry.decisions() == [made]
    assert registry.decisions()[0].decided_at.tzinfo is UTC


def test_the_latest_decision_counts(registry: Registry, decide: Decide) -> None:
    assert registry.record_decisions([decide(C), decide(A), decide(B)]) == 3
    assert registry.restored_items() == ((A, "2024-01"), (B, "2024-01"), (C, "2024-01"))

    registry.record_decisions([decide(B, "reapply")])
    assert registry.restored_items() == ((A, "2024-01"), (C, "2024-01"))

    registry.record_decisions([decide(B)])
    assert [item.item_id for item in registry.restored_items()] == [A, B, C]
    assert [d.action for d in registry.decisions(item_id=B)] == ["restore", "reapply", "restore"]


def test_latest_is_by_the_order_of_recording_not_by_the_time_given(registry: Registry, decide: Decide) -> None:
    registry.record_decisions([decide(A, decided_at=datetime(2024, 6, 1, tzinfo=UTC))])
    registry.record_decisions([decide(A, "reapply", decided_at=datetime(2024, 1, 1, tzinfo=UTC))])

    assert registry.restored_items() == ()


def test_origin_months_select(registry: Registry, decide: Decide) -> None:
    decisions = [
        decide(A, origin_month="2024-01"),
        decide(B, origin_month="2024-02"),
        decide(C, origin_month="2023-12"),
    ]
    registry.record_decisions(decisions)

    assert registry.restored_items(["2024-02"]) == ((B, "2024-02"),)
    assert registry.restored_items(["2023-12", "2024-02", "2024-02"]) == ((B, "2024-02"), (C, "2023-12"))
    assert registry.restored_items([]) == ()
    assert registry.restored_items(["2024-05"]) == ()
    assert registry.decisions(origin_month="2024-02") == [decisions[1]]
    assert registry.decisions(item_id=A, origin_month="2024-02") == []
    assert registry.decisions() == decisions


@pytest.mark.parametrize(
    ("before", "refused", "sentence"),
    [
        ([], [(A, "reapply")], f"Cannot reapply item {A} of 2024-01: it is not restored; leave it out."),
        ([(A, "restore")], [(B, "restore"), (A, "restore")], "finance restored it at 2024-05-01 10:30 UTC"),
        ([(A, "restore"), (A, "reapply")], [(A, "reapply")], "it is not restored"),
        ([], [(A, "restore"), (A, "restore")], "finance restored it"),
        ([], [(A, "restore"), (A, "reapply"), (A, "reapply")], "it is not restored"),
    ],
)
def test_a_contradiction_is_refused_whole(
    registry: Registry,
    decide: Decide,
    before: list[tuple[str, str]],
    refused: list[tuple[str, str]],
    sentence: str,
) -> None:
    registry.record_decisions([decide(*made) for made in before])
    history, events = registry.decisions(), registry.audit()

    with pytest.raises(OctoError, match=sentence):
        registry.record_decisions([decide(*made) for made in refused])

    assert registry.decisions() == history
    assert registry.audit() == events


def test_one_call_may_restore_and_reapply_in_turn(registry: Registry, decide: Decide) -> None:
    registry.record_decisions([decide(A), decide(A, "reapply"), decide(A), decide(B), decide(B, "reapply")])

    assert registry.restored_items() == ((A, "2024-01"),)


def test_an_item_keeps_its_origin_month(registry: Registry, decide: Decide) -> None:
    registry.record_decisions([decide(A)])

    with pytest.raises(OctoError, match="an earlier decision says its origin month is 2024-01; give that one"):
        registry.record_decisions([decide(A, "reapply", origin_month="2024-02")])


def test_times_are_kept_in_utc(registry: Registry, decide: Decide) -> None:
    local = datetime(2024, 5, 1, 23, 59, 59, 123456, tzinfo=timezone(timedelta(hours=-7)))

    registry.record_decisions([decide(decided_at=local)])

    (decision,) = registry.decisions()
    assert decision.decided_at == local
    assert decision.decided_at.isoformat() == "2024-05-02T06:59:59.123456+00:00"


@pytest.mark.parametrize(
    ("given_values", "sentence"),
    [
        ({"item_id": "A" * 32}, "the item id is not 32 hex digits in lower case"),
        ({"item_id": "a" * 31}, "the item id is not 32 hex digits"),
        ({"item_id": "a" * 32 + "\n"}, "the item id is not 32 hex digits"),
        ({"item_id": "٣" * 32}, "the item id is not 32 hex digits"),
        ({"item_id": "a" * 65_536}, "the item id is not 32 hex digits"),
        ({"action": "delete"}, "the action 'delete' is unknown; it is one of restore, reapply"),
        ({"category": "tax"}, "the category 'tax' is unknown; it is one of fee, account, savings"),
        ({"origin_month": "2024-13"}, "the origin month '2024-13' is not written as YYYY-MM"),
        ({"origin_month": "x" * 65_536}, "is not written as YYYY-MM"),
        ({"reason": ""}, "the reason is empty"),
        ({"reason": " \n\t"}, "the reason is empty"),
        ({"reason": "x" * 2_001}, "the reason has 2,001 characters; at most 2,000 are allowed"),
        ({"reason": "x" * 65_536}, "the reason has 65,536 characters; at most 2,000 are allowed"),
        ({"reason": "twice\0"}, "the reason contains a character that is not text"),
        ({"reason": "half \ud83d"}, "the reason contains a character that is not text"),
        ({"actor": ""}, "the actor is empty"),
        ({"actor": "x" * 65_536}, "the actor has 65,536 characters; at most 256 are allowed"),
        ({"actor": "a\0b"}, "the actor contains a character that is not text"),
        ({"decided_at": datetime(2024, 5, 1)}, "its time has no time zone; give it in UTC"),  # noqa: DTZ001
    ],
)
def test_a_bad_decision_is_refused_before_anything_is_made(
    sqlite_url: str, decide: Decide, given_values: dict[str, Any], sentence: str
) -> None:
    registry = Registry(sqlite_url)

    with pytest.raises(OctoError) as refused:
        registry.record_decisions([decide(B), decide(**given_values)])

    assert sentence in str(refused.value)
    assert str(refused.value).startswith("Decision 2 of 2 (item ")
    assert len(str(refused.value)) < 400
    assert not registry.exists()


def test_a_call_is_one_persons(registry: Registry, decide: Decide) -> None:
    with pytest.raises(OctoError, match=r"Decision 2 of 2 .* by another person than the first one"):
        registry.record_decisions([decide(A, actor="anna"), decide(B, actor="bela")])

    assert registry.decisions() == []


def test_no_decisions_make_nothing(sqlite_url: str) -> None:
    registry = Registry(sqlite_url)

    assert registry.record_decisions([]) == 0
    assert not registry.exists()


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE decisions; --",
        'say "no" to \\ and %s and :name and {x} and $1',
        "\u202eright to left\u202c שלום مرحبا",
        "combining e\u0301, 👩‍👩‍👧, \U0010ffff, line\nbreak\r\n\ttab",
        "x" * 2_000,
        " kept as written ",
    ],
)
def test_any_text_comes_back_unchanged(registry: Registry, decide: Decide, text: str) -> None:
    registry.record_decisions([decide(reason=text, actor=text[:256])])

    (decision,) = registry.decisions()
    assert (decision.reason, decision.actor) == (text, text[:256])
    (event,) = registry.audit()
    assert (event.details["reason"], event.actor) == (text, text[:256])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=4))
def test_every_text_is_kept_or_refused_with_a_sentence(sqlite_url: str, decide: Decide, texts: list[str]) -> None:
    registry = Registry(sqlite_url)
    already = registry.decisions()
    made = [decide(f"{len(already) + i:032x}", reason=text) for i, text in enumerate(texts)]

    try:
        registry.record_decisions(made)
    except OctoError as refused:
        assert "is refused: the reason" in str(refused)
        assert any(not t.strip() or "\0" in t or any("\ud800" <= c <= "\udfff" for c in t) for t in texts)
        made = []

    assert registry.decisions() == already + made


@pytest.mark.parametrize("item_id", ["x", "' OR 1=1 --", "a\0", "\ud800", "z" * 65_536])
def test_history_of_what_is_no_item_id_is_refused(registry: Registry, item_id: str) -> None:
    with pytest.raises(OctoError, match="is not an item id; it has 32 hex digits") as refused:
        registry.decisions(item_id=item_id)
    assert len(str(refused.value)) < 200


def test_months_asked_for_must_be_months(registry: Registry) -> None:
    for ask in (
        lambda: registry.restored_items(["2024-1"]),
        lambda: registry.decisions(origin_month="2024-1"),
    ):
        with pytest.raises(OctoError, match="'2024-1' is not a month"):
            ask()
