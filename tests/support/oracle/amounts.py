"""Amounts as whole numbers of 10⁻¹⁰, and the casts between them and doubles."""

from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache

import duckdb

_PER_ONE = 10**10
# More digits than any amount has, so that nothing is rounded on the way.
_PRECISION = 100

_engine = duckdb.connect()


def units(amount: Decimal) -> int:
    """The amount in units; it must not have more than ten places."""
    with localcontext(prec=_PRECISION):
        scaled = amount.scaleb(10)
        assert scaled == int(scaled), f"{amount} has more than ten places"
        return int(scaled)


def money(amount: int) -> Decimal:
    """Units as the decimal that a table has."""
    with localcontext(prec=_PRECISION):
        return Decimal(amount).scaleb(-10)


@cache
def double_of(amount: int) -> float:
    """DECIMAL(38,10) → DOUBLE."""
    return _engine.execute("SELECT CAST(? AS DECIMAL(38,10))::DOUBLE", [str(money(amount))]).fetchone()[0]


@cache
def units_of(value: float) -> int:
    """DOUBLE → DECIMAL(38,10)."""
    return units(_engine.execute("SELECT CAST(? AS DOUBLE)::DECIMAL(38,10)", [value]).fetchone()[0])


def truncated(numerator: int, denominator: int) -> int:
    """The quotient without its fraction, towards zero."""
    return abs(numerator) // denominator * (1 if numerator >= 0 else -1)


def converted(amount: int, rate: Decimal) -> int:
    """The amount in the base currency, rounded half away from zero."""
    product = Fraction(amount) * Fraction(rate)
    rounded = int(abs(product) + Fraction(1, 2))
    return rounded if product >= 0 else -rounded
