"""Wording for people: values, amounts, and the reasons of the file system."""

import errno
import json
from decimal import Decimal

# Why an item stays where it was billed: the reason in the table -> its wording.
LEFT_REASONS = {
    "no_allocator": "no rule takes it",
    "restored": "restored by a person",
    "formula_failed": "its formula failed",
    "formula_failed (effective)": "its formula failed for the amortised cost",
    "family_too_large": "a family of cost groups has too many values",
    "metric_missing": "its metric has no row in the month",
    "moved_as_cost": "its cost was distributed already",
}

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the quota of the disk is used up; free some space",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
}


def amount(value: Decimal, currency: str | None = None) -> str:
    """An amount for people: two decimals and thousands separators; more decimals only where two would show zero."""
    digits = 2 if abs(value) >= Decimal("0.005") or value == 0 else 10
    text = f"{value:,.{digits}f}"
    return f"{text} {currency}" if currency else text


def counted(count: int, noun: str) -> str:
    """A number of things: ``1 item``, ``2 items``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def quoted(text: str, length: int = 80) -> str:
    """A value in quotes, cut when it is long."""
    return repr(cut(text, length))


def quoted_json(value: object) -> str:
    """A value of a document as JSON: short, on one line, and printable whatever it contains."""
    text = cut(json.dumps(value, ensure_ascii=False, default=str), 80)
    return text.encode("utf-8", "backslashreplace").decode()


def cut(text: str, length: int) -> str:
    """The text, cut to this many characters; a text that was cut ends in an ellipsis."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def reason(error: OSError) -> str:
    """Why the file system refused, in a few words."""
    return _REASONS.get(error.errno or 0, error.strerror or str(error))


def plain(text: str) -> str:
    """A text from outside as a terminal or a page may show it: a bill can hold anything, and control characters act.

    Control characters become their pictures (U+2400 …), and characters that change the direction of the text are left out.
    """
    return text.translate(_PICTURES)


# The control characters (C0, DEL and C1), and those of bidirectional text.
_PICTURES: dict[int, int | None] = {
    **{code: 0x2400 + code for code in range(0x20)},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
    **dict.fromkeys([0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]),
}
