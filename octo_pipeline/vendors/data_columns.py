"""How a canonical column is made of a data file's own columns, whichever vendor's file it is.

This module holds the types that the vendors' column modules fill. Which columns a vendor has, how they are spelled
and what their values must be belongs in the vendor's folder.
"""

import re
from dataclasses import dataclass

from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.sql import Sql

# What DuckDB computes in one machine word, with as many decimal places as money has.
_SHORT_MONEY = "DECIMAL(18,10)"


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


def amount_of_text(column: str, text: str) -> Sql:
    """SQL of the amount that a text says, as money; a text that is not an amount is an error.

    DuckDB converts a text to money digit by digit in 128 bits, which takes a microsecond: thirty times as long as an amount
    below 10⁸ takes in 64 bits. The two agree in every digit, unless a long fraction has an exponent.

    Args:
        column: SQL of the text as the file has it; white space around it does not matter to a conversion.
        text: SQL of the text without white space, null where it stands for nothing.
    """
    has_exponent = f"contains({column}, 'e') OR contains({column}, 'E')"
    short = f"CASE WHEN NOT ({has_exponent}) THEN TRY_CAST({column} AS {_SHORT_MONEY}) END"
    return Sql(f"coalesce({short}, CAST({text} AS {MONEY}))")
