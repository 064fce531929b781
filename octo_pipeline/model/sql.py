"""SQL text: its types, and DuckDB's spelling of literals, names, patterns and map look-ups.

What a query means belongs in the module that writes it, or in its template (`templates`).
"""

import re
from collections.abc import Mapping, Sequence
from typing import NewType

from octo_pipeline.model.errors import OctoError

# A query, a statement or an expression.
Sql = NewType("Sql", str)
# What may stand after FROM: a table's name, a table function, or a query in parentheses.
Relation = NewType("Relation", str)

_PLAIN_PATTERN = re.compile(r"\^?([^\W_]|[ ,:/-])*\$?")

# The characters with Unicode's property White_Space, and those without width that web pages and spreadsheets leave at the
# ends of what is copied from them. Joiners are not among these, since they change what is beside them.
_SPACES = (*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
_WITHOUT_WIDTH = (0x180E, 0x200B, 0x2060, 0xFEFF)
WHITE_SPACE = "".join(map(chr, (*_SPACES, *_WITHOUT_WIDTH)))
# In hexadecimal: line breaks and invisible characters do not belong in the text of a query.
_WHITE_SPACE_SQL = f"decode(unhex('{WHITE_SPACE.encode().hex()}'))"


def literal(text: str) -> Sql:
    """The text as a SQL string literal.

    Raises:
        OctoError: the text has a NUL character, which ends the query for DuckDB.
    """
    return Sql("'" + _without_nul(text).replace("'", "''") + "'")


def identifier(name: str) -> Sql:
    """The name as a quoted SQL identifier.

    Raises:
        OctoError: the name has a NUL character.
    """
    return Sql('"' + _without_nul(name).replace('"', '""') + '"')


def rows_sql(columns: Mapping[str, str], rows: Sequence[Sequence[str | int | None]]) -> Sql:
    """A query that returns these few rows, written out as literals.

    Binding a parameter makes DuckDB's client import pandas, which adds a third of a second to a command.

    Args:
        columns: name -> type.
        rows: values in the order of the columns.
    """
    if not rows:
        typed = ", ".join(f"NULL::{kind} AS {identifier(name)}" for name, kind in columns.items())
        return Sql(f"SELECT {typed} WHERE false")
    selected = ", ".join(f"c{i}::{kind} AS {identifier(name)}" for i, (name, kind) in enumerate(columns.items()))
    values = ", ".join(f"({', '.join(map(_value, row))})" for row in rows)
    names = ", ".join(f"c{i}" for i in range(len(columns)))
    return Sql(f"SELECT {selected} FROM (VALUES {values}) AS written({names})")


def _value(value: str | int | None) -> Sql:
    return Sql("NULL") if value is None else literal(value) if isinstance(value, str) else Sql(str(value))


def regexp_matches(column_sql: Sql, pattern: str) -> Sql:
    """A truth value: the RE2 pattern is found anywhere in the text; null where the text is null."""
    # A literal, not a parameter or column: DuckDB compiles a literal pattern once, any other one row by row.
    return Sql(f"regexp_matches({column_sql}, {literal(_kept_from_like(pattern))})")


def is_one_of(column_sql: Sql, texts: Sequence[str]) -> Sql:
    """A truth value: the text is one of these; null where the text is null."""
    if len(texts) == 1:
        return Sql(f"{column_sql} = {literal(texts[0])}")
    # DuckDB always looks up a subquery's values in a hash table. In aggregates and scans it compares a plain list value
    # by value: 5,000 texts and a million rows took 8 to 19 s with a list and 0.1 s with a subquery.
    return Sql(f"{column_sql} IN (SELECT unnest([{', '.join(map(literal, texts))}]))")


def map_value(column_sql: Sql, key: str) -> Sql:
    """The value of a key in a MAP(VARCHAR, VARCHAR); null where the map has no such key or is null."""
    return Sql(f"map_extract_value({column_sql}, {literal(key)})")


def _kept_from_like(pattern: str) -> str:
    """The pattern with an empty group, unless it is plain text with or without anchors.

    DuckDB 1.5.5 rewrites patterns without groups to LIKE, which is several times as fast but wrong for some of them: it
    finds ``K^`` in "aK", and finds neither ``^^`` nor ``(?:)K`` there. An empty group prevents the rewrite.
    """
    if _PLAIN_PATTERN.fullmatch(pattern):
        return pattern
    # After \Q a group at the end would be text. In front it disables RE2's search for the first letter.
    return f"(){pattern}" if "\\Q" in pattern else f"{pattern}()"


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise OctoError(f"{text!r} has a NUL character, which SQL text cannot hold; remove it.", code="nul-character")
    return text


def trimmed(text: str) -> Sql:
    """The text without white space at its ends, null if nothing is left.

    trim() takes spaces alone, and with a list of characters it takes three times as long. Most texts begin and end
    with a visible ASCII character, and checking this is faster than a trim() of spaces.

    Args:
        text: SQL of the text; a column, or cheap enough to be written several times.
    """
    is_clean = f"unicode({text}) BETWEEN 33 AND 126 AND unicode({text}[-1]) BETWEEN 33 AND 126"
    return Sql(f"CASE WHEN {is_clean} THEN {text} ELSE nullif(trim({text}, {_WHITE_SPACE_SQL}), '') END")
