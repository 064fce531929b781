"""Words as people read them: values, amounts, and refusals of the file system."""

import errno
from decimal import Decimal

# Why an item stays where it was billed: the table's reason, and the words for it.
LEFT_REASONS = {
    "no_allocator": "no rule takes it",
    "restored": "restored by a person",
    "formula_failed": "its formula failed",
}

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of the disk is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
}


def amount(value: Decimal, currency: str | None = None) -> str:
    """An amount for people: two decimals and thousands, more decimals only where two would show nothing."""
    digits = 2 if abs(value) >= Decimal("0.005") or value == 0 else 10
    text = f"{value:,.{digits}f}"
    return f"{text} {currency}" if currency else text


def counted(count: int, noun: str) -> str:
    """A number of things: ``1 item``, ``2 items``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def quoted(text: str, length: int = 80) -> str:
    """A value in quotes, cut when it is long."""
    return repr(cut(text, length))


def cut(text: str, length: int) -> str:
    """A text of at most so many characters, and an ellipsis if there were more."""
    return text if len(text) <= length else f"{text[:length]}…"


def reason(error: OSError) -> str:
    """Why the file system refuses, in a few words."""
    return _REASONS.get(error.errno or 0, error.strerror or str(error))
