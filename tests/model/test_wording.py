"""How values, amounts and refusals are written."""

import errno
import os
from decimal import Decimal

import pytest

from octo_pipeline.model.currency import is_currency
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import amount, counted, cut, quoted, reason
from octo_pipeline.settings import Settings, load_settings


def test_amounts() -> None:
    assert amount(Decimal("1234.5"), "USD") == "1,234.50 USD"
    assert amount(Decimal("0.000001")) == "0.0000010000"


def test_numbers_of_things() -> None:
    assert [counted(number, "item") for number in (0, 1, 1234)] == ["0 items", "1 item", "1,234 items"]


def test_long_values_are_cut_in_quotes() -> None:
    assert quoted("it's") == '"it\'s"'
    assert quoted("x" * 81) == f"'{'x' * 79}…'"
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "ab…"


def test_why_the_file_system_refuses() -> None:
    assert reason(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) == "the disk is full; free some space"
    assert reason(OSError(errno.EIO, os.strerror(errno.EIO))) == "Input/output error"
    assert reason(OSError("no number")) == "no number"


def test_the_code_of_a_currency_is_three_capital_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_currency("USD")
    for wrong in ("A1B", "usd", "US", "USDT", "ÄÖÜ", "USD\n", ""):
        assert not is_currency(wrong)
    # Regression: capital letters were all that was asked for, and A1B has no others.
    monkeypatch.setenv("OCTO_BASE_CURRENCY", "A1B")
    with pytest.raises(OctoError, match="OCTO_BASE_CURRENCY is not valid: must be a three-letter currency code"):
        load_settings()
    assert Settings(base_currency="EUR").base_currency == "EUR"
