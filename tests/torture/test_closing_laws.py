"""The laws of closed months, asked of the oracle: it is no judge if it breaks them."""

from pathlib import Path

from tests.support.oracle.laws import differences, violations
from tests.support.oracle.months import Result
from tests.support.oracle.results import account_costs, allocations, cost_group_costs, prepayments
from tests.torture.chance import Dice, rounds
from tests.torture.random_closings import draw_sequence, replayed, without_closings, without_reopened
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


def tables(result: Result) -> list[dict[tuple[str, ...], tuple[int, ...]]]:
    return [table(result) for table in (allocations, account_costs, cost_group_costs, prepayments)]
