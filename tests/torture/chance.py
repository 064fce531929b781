"""How hard and by which dice the torture is: short with the normal suite, long if OCTO_TORTURE_SEED is set.

`make torture` sets it to a number of its own and prints it; the same number draws the same.
"""

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, seed, settings

IS_LONG = "OCTO_TORTURE_SEED" in os.environ
SEED = int(os.environ.get("OCTO_TORTURE_SEED", "0"))


def pick(short: int, long: int) -> int:
    """The one of the two that is meant."""
    return long if IS_LONG else short


def rounds(short: int, long: int) -> pytest.MarkDecorator:
    """The test as often as that, its argument `dice` another each time."""
    return pytest.mark.parametrize("dice", [Dice(number) for number in range(pick(short, long))], ids=str)


def fuzz(short: int, long: int) -> Callable[[Any], Any]:
    """The property for as many drawn examples."""

    def decorate(test: Any) -> Any:
        # A database of failures would make one run depend on another; a slow draw is the machine's matter.
        limits = settings(
            max_examples=pick(short, long), deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        return seed(SEED)(limits(test))

    return decorate


class Dice(random.Random):
    """The dice of a round."""

    def __init__(self, number: int) -> None:
        super().__init__(f"{SEED}/{number}")
        self.number = number

    def __str__(self) -> str:
        return f"seed{SEED}-{self.number}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Dice, (self.number,))
