"""The exchange rates of the configuration: one line per month and currency (allocation.md §6).

This module reads ``exchange_rates.csv``. How usage is compared in the base currency belongs in `shares`.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from octo_pipeline.model.currency import is_currency
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.months import is_month, month_spelling
from octo_pipeline.model.wording import quoted_json
from octo_pipeline.rules.documents import DocumentError, Problem, read_table

HEADER = ["month", "currency", "rate"]

# DECIMAL(38,10) times a wider number overflows for amounts that occur in practice.
_RATE = re.compile(r"\d{1,9}(\.\d{1,40})?([eE][+-]?\d{1,2})?", re.ASCII)
_HIGHEST = Decimal(10**9)
RATE_DECIMALS = 16
_PLACES = Decimal(1).scaleb(-RATE_DECIMALS)


@dataclass(frozen=True)
class Rate:
    """The value of one unit of a currency in a month, in units of the base currency."""

    month: str
    currency: str
    rate: Decimal


def newest_rates(rates: Sequence[Rate], month: str) -> dict[str, Rate]:
    """The rate of each currency that counts in a month: its own, or the newest earlier one; by currency."""
    return {rate.currency: rate for rate in sorted(rates, key=lambda rate: rate.month) if rate.month <= month}


def units_of_base(rates: Sequence[Rate], month: str, base_currency: str) -> dict[str, int]:
    """The rates that count in a month as integers of `RATE_DECIMALS` places, by currency; the base currency's is 1."""
    unit = 10**RATE_DECIMALS
    current = newest_rates(rates, month)
    return {currency: int(rate.rate * unit) for currency, rate in current.items()} | {base_currency: unit}


def load_rates(path: Path, base_currency: str) -> tuple[Rate, ...]:
    """Read the exchange rates; without the file there are none.

    Args:
        path: the file.
        base_currency: the currency that rates are units of. A rate of its own that is not 1 is refused, because the file
            was then written for another base currency, or the wrong way round.

    Returns:
        The rates, sorted by month and currency.

    Raises:
        DocumentError: with every wrong line.
    """
    text = read_table(path)
    return () if text is None else _parse(text, path.name, base_currency)


def _parse(text: str, file: str, base_currency: str) -> tuple[Rate, ...]:
    rates: dict[tuple[str, str], Rate] = {}
    problems: list[Problem] = []
    lines = text.splitlines() or [""]
    for number, line in enumerate(lines, start=1):
        try:
            cells = [cell.strip() for cell in next(csv.reader([line]), [])]
            if number == 1:
                _check_header(cells)
            elif any(cells):
                rate = _rate(cells, base_currency)
                if rates.setdefault((rate.month, rate.currency), rate) is not rate:
                    raise OctoError(
                        f"{rate.currency} has a rate for {rate.month} in an earlier line; keep one",
                        code="rate-repeated",
                    )
        except (OctoError, csv.Error) as error:
            problems.append(Problem(file, f"line {number}", str(error)))
    if problems:
        raise DocumentError(problems)
    return tuple(rates[key] for key in sorted(rates))


def _check_header(cells: list[str]) -> None:
    if cells != HEADER:
        raise OctoError(
            f"must be the header {','.join(HEADER)}, not {quoted_json(','.join(cells))}", code="rates-header-wrong"
        )


def _rate(cells: list[str], base_currency: str) -> Rate:
    if len(cells) != len(HEADER):
        raise OctoError(
            f"has {len(cells)} values; it must have {len(HEADER)}: {','.join(HEADER)}", code="rate-malformed"
        )
    month, currency, rate = cells
    if not is_month(month):
        raise OctoError(f"{quoted_json(month)} is not a month; {month_spelling(month)}", code="rate-malformed")
    if not is_currency(currency):
        raise OctoError(
            f"{quoted_json(currency)} is not a currency; write its three capital letters, for example EUR",
            code="rate-malformed",
        )
    # Rounded once, when it is read. Ten decimals are not enough: 1/150 for a yen would change a share by 10⁻⁹.
    value = Decimal(rate).quantize(_PLACES) if _RATE.fullmatch(rate) else Decimal(0)
    if not 0 < value < _HIGHEST:
        raise OctoError(
            f"{quoted_json(rate)} is not a rate; write a positive number below 1,000,000,000 with up to 16 decimals, "
            "for example 1.0842",
            code="rate-malformed",
        )
    if currency == base_currency and value != 1:
        raise OctoError(
            f"{currency} is the base currency, so its rate is 1, not {rate}; a rate is how many {base_currency} one unit of "
            "the currency is worth. Remove the line, or set the base currency that the rates are for",
            code="rate-of-base-currency",
            remedy=Remedy("set", setting="base_currency", to="the currency that the rates are for"),
        )
    return Rate(month, currency, value)
