"""How a canonical column is made of a data file's own columns, whichever vendor's file it is.

This module holds the types that the vendors' column modules fill. Which columns a vendor has, how they are spelled
and what their values must be belongs in the vendor's folder.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class SourceColumn:
    """A column of a file: its name there, its DuckDB type, and how SQL refers to it."""

    name: str
    type: str
    sql: str


@dataclass(frozen=True)
class Check:
    """What can be wrong with the values of a column.

    Attributes:
        column: the column's name in the file.
        value: SQL of the value as it stands there.
        is_bad: SQL that is true where a canonical column cannot be made of it.
        reason: what such a value is not, to follow the value in a sentence.
        remedy: what to do about it, as a sentence.
    """

    column: str
    value: str
    is_bad: str
    reason: str
    remedy: str = "Correct it or fetch the file again."


@dataclass(frozen=True)
class Expression:
    """How a canonical column is made of a file's columns; it fails only where one of the checks says so.

    Attributes:
        name: the canonical column.
        value: SQL of its value.
        checks: what can be wrong with the values.
        sources: SQL of the file's columns in the value, if rows are grouped by them before it is computed.
    """

    name: str
    value: str
    checks: tuple[Check, ...] = ()
    sources: tuple[str, ...] = ()


def folded(name: str) -> str:
    """What column names are compared by: no case, separators or underscores."""
    return re.sub(r"[\W_]", "", name).lower()
