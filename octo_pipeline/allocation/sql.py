"""How the SQL engine spells things that engines spell differently; another engine is added here.

Quoting, regular expressions and maps belong here. What a query means belongs to the module that writes it.
"""

from octo_pipeline.errors import OctoError


def literal(text: str) -> str:
    """The text as a SQL string literal.

    Raises:
        OctoError: the text has a NUL character, at which DuckDB ends the query.
    """
    return "'" + _without_nul(text).replace("'", "''") + "'"


def identifier(name: str) -> str:
    """The name as a quoted SQL identifier.

    Raises:
        OctoError: the name has a NUL character.
    """
    return '"' + _without_nul(name).replace('"', '""') + '"'


def regexp_matches(column_sql: str, pattern: str) -> str:
    """A truth value: the RE2 pattern is found anywhere in the text; null where the text is null."""
    # A literal, not a parameter or column: DuckDB compiles a literal pattern once, others row by row.
    return f"regexp_matches({column_sql}, {literal(pattern)})"


def map_value(column_sql: str, key: str) -> str:
    """The text a MAP(VARCHAR, VARCHAR) holds under the key; null where it holds none or is null."""
    return f"map_extract_value({column_sql}, {literal(key)})"


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise OctoError(f"{text!r} has a NUL character, which SQL text cannot hold; remove it.")
    return text
