"""How long something that did not work is left alone before it is tried again: longer and longer."""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

_FIRST_WAIT = timedelta(minutes=10)
# More doublings would not matter: the longest wait is reached long before.
_MOST_DOUBLINGS = 10


@dataclass(frozen=True)
class Wait:
    """How many times in a row something failed, and when it is tried again (ISO 8601, with a time zone)."""

    failures: int
    until: str

    def is_over(self, now: datetime) -> bool:
        """Whether it may be tried again."""
        return datetime.fromisoformat(self.until) <= now


def next_wait(before: Wait | None, now: datetime, longest: timedelta) -> Wait:
    """Twice as long each time, with jitter, so that what failed together is not tried together again."""
    failures = before.failures + 1 if before else 1
    pause = min(_FIRST_WAIT * 2 ** min(failures - 1, _MOST_DOUBLINGS), longest) * random.uniform(0.75, 1)  # noqa: S311
    return Wait(failures, (now + pause).isoformat())
