"""Month arithmetic. A month is the text ``YYYY-MM`` everywhere: it sorts, joins and names folders without conversion."""

import re

from octo_pipeline.model.errors import OctoError

# All parts of an item are booked within this many months, counted from its origin month inclusive. An allocator that
# would wait and spread for longer is refused.
MOST_MONTHS = 36

_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)
# How people and spreadsheets write a month, with or without a day.
_OTHER_SPELLING = re.compile(r"(\d{4})[-/. ]?(\d{1,2})([-/. ]\d{1,2})?", re.ASCII)


def is_month(text: str) -> bool:
    """Whether the text is a month ``YYYY-MM`` of the years 0001 to 9999."""
    return _MONTH.fullmatch(text) is not None and not text.startswith("0000")


def month_spelling(value: object) -> str:
    """How to write a month, for messages; if the value can only mean one month, with that month as the example."""
    other = _OTHER_SPELLING.fullmatch(str(value))
    month = f"{other[1]}-{other[2]:0>2}" if other else ""
    return f"write it as YYYY-MM, for example {month if is_month(month) else '2024-01'}"


def parse_month(text: str) -> str:
    """Return the text if it is a month.

    Raises:
        OctoError: it is not ``YYYY-MM``.
    """
    if not is_month(text):
        raise OctoError(f"{text!r} is not a month; {month_spelling(text)}.", code="month-malformed")
    return text


def month_index(month: str) -> int:
    """Months since year 0, so that a difference is a subtraction."""
    return int(month[:4]) * 12 + int(month[5:7]) - 1


def month_of_index(index: int) -> str:
    """The inverse of `month_index`."""
    return f"{index // 12:04d}-{index % 12 + 1:02d}"


def add_months(month: str, count: int) -> str:
    """The month `count` months later (earlier if negative)."""
    return month_of_index(month_index(month) + count)


def months_between(start: str, end: str) -> int:
    """How many months `end` is after `start`; negative if before."""
    return month_index(end) - month_index(start)


def month_range(start: str, end: str) -> list[str]:
    """All months from `start` to `end`, both included; empty if `end` is before `start`."""
    return [month_of_index(i) for i in range(month_index(start), month_index(end) + 1)]


def origin_months(booking_month: str) -> list[str]:
    """The months whose items can have a part booked in the booking month; the last one is the booking month itself."""
    return month_range(add_months(booking_month, 1 - MOST_MONTHS), booking_month)


def booking_months(origin_month: str) -> list[str]:
    """The months in which a part of the origin month's items can be booked; the first one is the origin month itself."""
    return month_range(origin_month, add_months(origin_month, MOST_MONTHS - 1))
