"""The ratios of FOCUS as integers of 15 places, held against Python's own integers."""

import random
from decimal import Decimal
from fractions import Fraction
from math import floor

import duckdb
import pytest

from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.sql import Relation, rows_sql
from octo_pipeline.model.templates import render

COLUMNS = {
    "booked_row": "BIGINT",
    "item_id": "VARCHAR",
    "tranche_index": "INTEGER",
    "tranche_count": "INTEGER",
    "item_cost": MONEY,
    "item_effective_cost": MONEY,
    "cost": MONEY,
    "effective_cost": MONEY,
}
PLACES = 10**15


def ratios(rows, is_effective=False) -> dict[int, int]:
    query = render("outputs/focus/ratios", booked=Relation(f"({rows_sql(COLUMNS, rows)})"), is_effective=is_effective)
    with duckdb.connect() as connection:
        return dict(connection.execute(f"SELECT booked_row, ratio FROM ({query})").fetchall())


def by_largest_remainder(parts: dict[int, Decimal], whole: Decimal) -> dict[int, int]:
    exact = {row: Fraction(part) / Fraction(whole) * PLACES for row, part in parts.items()}
    rounded = {row: floor(ratio) for row, ratio in exact.items()}
    left = PLACES - sum(rounded.values())
    for row in sorted(exact, key=lambda row: (rounded[row] - exact[row], row))[: max(left, 0)]:
        rounded[row] += 1
    return rounded


@pytest.mark.parametrize("whole_digits", [1, 4, 12, 19, 27])
@pytest.mark.parametrize("part_digits", [1, 12, 19, 22])
def test_each_ratio_is_the_exact_one_by_largest_remainder(whole_digits, part_digits):
    chance = random.Random(whole_digits * 100 + part_digits)
    rows, due, row = [], {}, 0
    for item in range(40):
        whole = Decimal(chance.randint(1, 10**whole_digits)).scaleb(-10) * chance.choice([1, -1])
        parts = [Decimal(chance.randint(-(10**part_digits), 10**part_digits)).scaleb(-10) for _ in range(3)]
        parts.append(whole - sum(parts))
        numbered = dict(enumerate(parts, start=row))
        rows += [(number, str(item), 0, 1, whole, whole, part, part) for number, part in numbered.items()]
        due |= by_largest_remainder(numbered, whole)
        row += len(parts)

    assert ratios(rows) == due
    # The effective costs have ratios of their own only where they are not the billed ones.
    assert ratios(rows, is_effective=True) == {}


def test_a_ratio_is_of_the_effective_cost_where_nothing_is_billed():
    rows = [(i, "a", 0, 1, Decimal(0), Decimal(3), Decimal(0), Decimal(1)) for i in range(3)]

    assert ratios(rows) == {0: 333333333333334, 1: 333333333333333, 2: 333333333333333}


def test_an_item_without_a_cost_has_no_ratios():
    assert ratios([(0, "a", 0, 1, Decimal(0), Decimal(0), Decimal(1), Decimal(1))]) == {0: None}
