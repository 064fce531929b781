"""The exception for errors that users see: a message, and what is wrong and what helps as data.

Every module may raise it. The message says what is wrong; `code` names the kind of problem and never changes, `place`
says where it is, and the remedies name what the product can do about it. The command line (`cli/output.py`) and Dagster
(`assets/failures.py`) each make sentences of them. No message names a command or an environment variable, because
people who do not use the command line could not use it.
"""

import copyreg
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, init=False)
class Remedy:
    """An action of the product that helps.

    ``Remedy("accounts confirm", "123", to="verify it")`` is an action with an argument, ``Remedy("run",
    month="2024-01")`` one with an option, and ``Remedy("set", setting="temp", to="a folder")`` a change of a setting.

    Attributes:
        action: its name, as a command has it without the program's name; or ``set``.
        arguments: what the action applies to.
        options: the options by name; a flag is True.
        purpose: what it achieves, as the words after "to"; for ``set``, the value.
    """

    action: str
    arguments: tuple[str, ...]
    options: tuple[tuple[str, str | Literal[True]], ...]
    purpose: str

    def __init__(self, action: str, *arguments: str, to: str = "", **options: str | Literal[True]) -> None:
        object.__setattr__(self, "action", action)
        object.__setattr__(self, "arguments", arguments)
        object.__setattr__(self, "options", tuple(options.items()))
        object.__setattr__(self, "purpose", to)

    def __str__(self) -> str:
        """The action with its arguments and options, spelled as in a command."""
        options = (f"--{name.replace('_', '-')}{'' if value is True else f' {value}'}" for name, value in self.options)
        return " ".join((self.action, *self.arguments, *options))


class OctoError(Exception):
    """A sentence that says what is wrong and where.

    Attributes:
        code: the kind of problem in kebab-case, such as ``month-not-made``; one code has one meaning.
        place: the file, setting, account or partition that is wrong, if there is one.
        remedies: what the product can do about it.
    """

    def __init__(
        self, message: str, *, code: str, place: str | None = None, remedy: Remedy | Sequence[Remedy] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.place = place
        self.remedies = (remedy,) if isinstance(remedy, Remedy) else tuple(remedy)

    def __reduce__(self) -> tuple[Any, ...]:
        # Unpickling rebuilds an exception from its arguments alone; worker processes send theirs to the parent.
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


class NotAskedError(OctoError):
    """A vendor could not be asked (network, our own credentials, throttling), so nothing is known about the account."""


class InputChangedError(OctoError):
    """Something changed while it was read or computed from. Running again helps."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="input-changed")


def combined(errors: Iterable[OctoError]) -> OctoError:
    """One error for several that happened in parallel; a single error is returned unchanged."""
    several = list(errors)
    if len(several) == 1:
        return several[0]
    remedies = dict.fromkeys(remedy for error in several for remedy in error.remedies)
    return OctoError("\n".join(map(str, several)), code="several-problems", remedy=tuple(remedies))
