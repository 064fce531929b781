"""Amounts in text are converted in 64 bits where that is enough, and are the same to the last digit."""

from decimal import ROUND_HALF_UP, Context, Decimal

import duckdb
import pytest

from octo_pipeline.model.sql import trimmed
from octo_pipeline.vendors.data_columns import amount_of_text

SHORT = ["0", "-0", "1.5", "-1.5", "+2", "1.", ".5", "007", "99999999.9999999999", "-99999999.9999999999"]
LONG = ["100000000", "99999999.99999999995", "1234567890123456789012345678.0123456789", "-1e27"]
ROUNDED = ["0.00000000005", "-0.00000000005", "0.000000000049999999999999999999", "1.23456789015", f"0.{'9' * 40}"]
# In 64 bits the digits after the eighteenth would be lost before the exponent moves them forward.
WITH_EXPONENT = [
    "1e3",
    "2.5E-3",
    "21.299217127033412811E7",
    ".0000000000000000000000192794E20",
    "4.4444444444444444444e8",
]
IN_WHITE_SPACE = [" 1.5", "1.5\t", "\u00a01.5\u00a0"]


def amount(text: str | None) -> Decimal | None:
    with duckdb.connect() as con:
        value = amount_of_text("column0", f"nullif({trimmed('column0')}, 'None')")
        row = con.execute(f"SELECT {value} FROM (SELECT CAST(? AS VARCHAR) AS column0)", [text]).fetchone()
    return row[0] if row else None


@pytest.mark.parametrize("text", SHORT + LONG + ROUNDED + WITH_EXPONENT + IN_WHITE_SPACE)
def test_an_amount_is_what_the_text_says_rounded_to_ten_places(text):
    exact = Decimal(text.strip())
    assert amount(text) == exact.quantize(Decimal("1e-10"), ROUND_HALF_UP, Context(prec=60))


@pytest.mark.parametrize("text", [None, "", "  ", "None"])
def test_a_missing_amount_is_null(text):
    assert amount(text) is None


@pytest.mark.parametrize("text", ["x", "1,5", "1.5 USD", "1e28", "nan"])
def test_a_text_that_is_not_an_amount_is_an_error(text):
    with pytest.raises(duckdb.ConversionException):
        amount(text)
