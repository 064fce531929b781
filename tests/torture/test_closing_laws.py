"""The laws of closed months, asked of the oracle: it is no judge if it breaks them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.oracle.closed_months import Lake, RefusedError
from tests.support.oracle.documents import Documents, read_rule
from tests.support.oracle.laws import differences, violations
from tests.support.oracle.months import Result
from tests.support.oracle.results import account_costs, allocations, cost_group_costs, prepayments
from tests.support.small_month import fee_allocator, line_item
from tests.torture.chance import Dice, rounds
from tests.torture.random_closings import MONTHS, draw_sequence, replayed, without_closings, without_reopened
from tests.torture.random_worlds import FEATURES

# The oracle has them, whether or not the tables do.
EVERYTHING = FEATURES | {"balances"}


@rounds(3, 300)
def test_what_is_booked_and_corrected_adds_up(dice: Dice, tmp_path: Path) -> None:
    for drawing in draw_sequence(dice, EVERYTHING, tmp_path, edits=True):
        assert violations(drawing.lake) == {}


@rounds(2, 150)
def test_corrections_make_up_for_having_closed(dice: Dice, tmp_path: Path) -> None:
    never_closed, count = None, 0
    for drawing in draw_sequence(dice, EVERYTHING, tmp_path, edits=False):
        never_closed = replayed(drawing, without_closings(drawing.steps[count:]), never_closed)
        count = len(drawing.steps)
        assert violations(drawing.lake) == {}
        assert differences(drawing.lake, never_closed) == {}


@rounds(2, 150)
def test_a_month_that_is_reopened_is_as_if_it_had_not_been_closed(dice: Dice, tmp_path: Path) -> None:
    *_, drawing = draw_sequence(dice, EVERYTHING, tmp_path, edits=True)
    assert tables(drawing.lake.last_run.result) == tables(
        replayed(drawing, without_reopened(drawing.steps)).last_run.result
    )


def test_months_close_in_order_and_open_in_reverse() -> None:
    lake = Lake()
    lake.deliver(line_item("1", "10", billing_month=month) for month in MONTHS[:3])
    lake.run(MONTHS[:3])
    first, second, third, fourth = MONTHS[:4]
    refuses(lake.close, second, f"a month before {second} is open")
    refuses(lake.close, fourth, f"{fourth} has no partitions")
    refuses(lake.reopen, first, f"{first} is not the newest closed month")
    refuses(lake.finalise, first, f"{first} is not closed")
    lake.close(first)
    lake.close(second)
    refuses(lake.close, first, f"{first} is closed")
    refuses(lake.reopen, first, f"{first} is not the newest closed month")
    lake.reopen(second)
    refuses(lake.close, second, f"{second} is not made of what there is now")
    lake.finalise(first)
    refuses(lake.reopen, first, f"{first} is final")
    assert [lake.state(month) for month in (first, second, third)] == ["final", "reopened", "open"]
    assert [through for through, _ in lake.plan] == [first]


def test_a_month_that_comes_late_keeps_the_rules_that_were_frozen_for_it() -> None:
    """January is delivered when February is closed already: by February's closing its rules are frozen."""
    first, second, third = MONTHS[:3]
    fees = {month: line_item("9", "100", "Fee", "Purchase", billing_month=month) for month in MONTHS[:3]}
    rule = read_rule(fee_allocator("cost*0.5"), "a")
    lake = Lake(Documents([rule]))
    lake.deliver([fees[second], fees[third]])
    lake.run([second, third])
    lake.close(second)
    lake.edit(Documents())
    lake.deliver([fees[first]])
    run = lake.run([first])
    assert [run.result.items[month][0].taker for month in (first, second, third)] == [rule, rule, None]
    refuses(lake.close, third, f"a month before {third} is open")
    lake.close(first)
    lake.reopen(second)
    run = lake.run([])
    assert [run.result.items[month][0].taker for month in (first, second, third)] == [rule, None, None]
    assert violations(lake) == {}


def refuses(action: Callable[[str], None], month: str, sentence: str) -> None:
    with pytest.raises(RefusedError, match=f"^{sentence}$"):
        action(month)


def tables(result: Result) -> list[dict[tuple[str, ...], tuple[int, ...]]]:
    return [table(result) for table in (allocations, account_costs, cost_group_costs, prepayments)]
