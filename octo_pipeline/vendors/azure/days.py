"""The days that an export covers."""

from collections.abc import Iterable, Iterator
from datetime import date, timedelta

_DAY = timedelta(days=1)


def days_between(first: date, last: date) -> Iterator[date]:
    """The days from the first to the last, both included."""
    while first <= last:
        yield first
        first += _DAY


def spans_of(days: Iterable[date]) -> list[list[str]]:
    """The first and last day of each sequence of consecutive days, in ISO 8601."""
    spans: list[list[date]] = []
    for day in sorted(days):
        if spans and day - spans[-1][1] == _DAY:
            spans[-1][1] = day
        else:
            spans.append([day, day])
    return [[first.isoformat(), last.isoformat()] for first, last in spans]
