"""A month of account-usage items restored at once: a million decisions in one call."""

import time
from collections.abc import Callable

import pytest

from octo_pipeline.registry.records import Decision
from octo_pipeline.registry.store import Registry

ITEMS = 1_000_000


@pytest.mark.slow
def test_a_million_items_of_one_month(registry: Registry, decide: Callable[..., Decision]) -> None:
    # Spread ids, as hashes are.
    ids = [f"{i * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}" for i in range(ITEMS)]

    begin = time.monotonic()
    assert registry.record_decisions([decide(item_id, category="account") for item_id in ids]) == ITEMS
    recorded = time.monotonic()
    restored = registry.restored_items(["2024-01"])
    read = time.monotonic()
    assert registry.restored_items(["2024-02"]) == ()
    registry.record_decisions([decide(ids[0], "reapply")])
    end = time.monotonic()

    assert [item.item_id for item in restored] == sorted(ids)
    assert registry.audit()[1].details["count"] == ITEMS
    # Many times what was measured: it fails for a cost that grows with the square, not on a slow machine.
    assert recorded - begin < 240
    assert read - recorded < 60
    assert end - read < 20
