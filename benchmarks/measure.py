"""What every benchmark needs: timing two sides in turn, and the row that comes of it.

What is timed belongs to the modules beside this one.
"""

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Seconds:
    """What some work took: by the clock, and of all processors together (children that ended included)."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        ours: seconds, or what `ratio` is of if there is no other side.
        ratio: ours to the other side by the clock; for rates, how many times as fast.
        cpu_ratio: the same of processor time, which other work on the machine disturbs less.
    """

    what: str
    ours: str
    other: str
    ratio: float
    cpu_ratio: float | None
    target: str

    @property
    def meets_target(self) -> bool | None:
        """Whether the ratio is on the right side of the target; None without a target."""
        number = re.search(r"[\d.]+", self.target)
        if number is None:
            return None
        limit = float(number.group())
        return self.ratio >= limit if self.target.startswith("≥") else self.ratio <= limit


def measured(work: Callable[[], object]) -> Seconds:
    before, started = os.times(), time.perf_counter()
    work()
    wall, after = time.perf_counter() - started, os.times()
    return Seconds(wall, sum(after[:4]) - sum(before[:4]))


def compared(what: str, work: Callable[[], object], other: Callable[[], object], runs: int, target: str) -> Row:
    """Run both in turn; the row has the medians of their seconds and of their ratios."""
    pairs = [(measured(work), measured(other)) for _ in range(runs)]
    return Row(
        what,
        f"{statistics.median(a.wall for a, _ in pairs):.2f} s",
        f"{statistics.median(b.wall for _, b in pairs):.2f} s",
        statistics.median(a.wall / b.wall for a, b in pairs),
        statistics.median(a.cpu / b.cpu for a, b in pairs),
        target,
    )


def timed(what: str, works: Sequence[Callable[[], object]], target: str) -> Row:
    """The median of pieces of work that are alike, which have no other side."""
    took = [measured(work) for work in works]
    wall, cpu = (statistics.median(getattr(seconds, name) for seconds in took) for name in ("wall", "cpu"))
    return Row(what, f"{wall:.3f} s", "", wall, cpu, target)


def growth(what: str, small: Callable[[], object], large: Callable[[], object], runs: int) -> Row:
    """How much longer twice as much takes."""
    return compared(f"{what}: 2N to N", large, small, runs, "≤ 2.1")


def python(*arguments: str, environment: Mapping[str, str] | None = None, folder: Path | None = None) -> str:
    """Run this Python in a process of its own and return what it prints."""
    return command([sys.executable, *arguments], environment, folder)


def octo(*arguments: str, environment: Mapping[str, str]) -> str:
    """Run the command line as a user does."""
    return python("-c", "from octo_pipeline.cli.main import main; main()", *arguments, environment=environment)


def _as_users_have_it(environment: Mapping[str, str] | None) -> dict[str, str]:
    """The environment of a process: where Python is told to keep no compiled modules, each start would compile ours again."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | dict(environment or {})


def command(arguments: Sequence[str], environment: Mapping[str, str] | None = None, folder: Path | None = None) -> str:
    done = subprocess.run(
        arguments,
        env=_as_users_have_it(environment),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout
