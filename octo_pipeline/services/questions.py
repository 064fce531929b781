"""Questions in SQL that people ask the lake.

A question is a statement that only reads. Whoever may ask one must not be able to change anything with it, nor read
anything else that this process can read: the registry, its key, the landing, other files, other hosts. Two things
ensure that: `answers` lets only statements pass that DuckDB parses as questions, and `asking` connects to a DuckDB that
can open the partitions' files and nothing else. The views belong in `views`.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import identifier
from octo_pipeline.services.views import views_of
from octo_pipeline.tables.closings import closed_item_files
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.workspace import Workspace

if TYPE_CHECKING:
    import duckdb

# Words between EXPLAIN and what it explains.
_EXPLAIN_WORDS = ("analyze", "analyse", "verbose")
_WORD = re.compile(r"\w+|.", re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """The rows that a statement returned, with the names of its columns."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


@contextmanager
def asking(workspace: Workspace) -> "Iterator[duckdb.DuckDBPyConnection]":
    """A connection that has the views and reads nothing but the partitions that there are now.

    Raises:
        OctoError: as `Lake.connect`, or a partition's file is not of this project.
    """
    import duckdb

    lake = workspace.lake
    paths = {table.name: [lake.path(table.name, month) for month in lake.months(table.name)] for table in TABLES}
    kept = closed_item_files(workspace, workspace.closed_months)
    with lake.connect(only=[*kept, *(path for files in paths.values() for path in files)]) as connection:
        for name, query in views_of(workspace, paths).items():
            try:
                connection.execute(f"create view {identifier(name)} as {query}")
            except duckdb.HTTPException:
                raise
            except duckdb.Error as error:
                raise OctoError(
                    f"A file of the table {name} cannot be read: {_first_line(error)}. Make its months again.",
                    code="view-unreadable",
                    place=str(lake.root / name),
                ) from error
        yield connection


def answers(connection: "duckdb.DuckDBPyConnection", text: str) -> Iterator[Answer]:
    """The answers to one or more statements, each when it is asked for.

    Args:
        connection: of `asking`.
        text: the statements; all of them are checked before the first is run.

    Raises:
        OctoError: a statement does more than read, or cannot be run; the sentence is the engine's.
    """
    import duckdb

    try:
        statements = connection.extract_statements(text)
        _require_questions(connection, text, statements)
        for statement in statements:
            cursor = connection.execute(statement)
            if cursor.description:
                yield Answer(tuple(column[0] for column in cursor.description), cursor.fetchall())
    except duckdb.PermissionException as error:
        raise OctoError(
            f"Only the views can be asked, no file and no address ({_first_line(error)}).", code="sql-file-refused"
        ) from error
    except duckdb.HTTPException:
        raise
    except duckdb.Error as error:
        raise OctoError(str(error), code="sql-refused") from error


def _require_questions(
    connection: "duckdb.DuckDBPyConnection", text: str, statements: "Sequence[duckdb.Statement]"
) -> None:
    """Refuse a text whose statements do more than read.

    Raises:
        OctoError: one is neither a SELECT (as DuckDB parses FROM, VALUES, DESCRIBE, SHOW and SUMMARIZE, too) nor an
            EXPLAIN of one.
    """
    words = [word for _, word in _words(text)]
    # DuckDB turns some of these into a SELECT before it says what they are.
    kinds = ["PRAGMA" for before, word in pairwise([";", *words]) if (before, word) == (";", "pragma")]
    for statement in statements:
        kind = statement.type.name
        if kind == "EXPLAIN":
            explained = {inner.type.name for inner in _explained(connection, statement.query)}
            kind = "SELECT" if explained == {"SELECT"} else " ".join((kind, *sorted(explained)))
        kinds.append(kind)
    refused = [kind.replace("_", " ") for kind in kinds if kind != "SELECT"]
    if refused:
        hint = " Give PIVOT its values: ON column IN (…)." if "pivot" in words and refused[0] == "CREATE" else ""
        raise OctoError(
            f"{refused[0]} is refused: only statements that read pass here, which are SELECT, DESCRIBE, SHOW, SUMMARIZE "
            f"and EXPLAIN of these.{hint} Nothing was run.",
            code="sql-not-a-question",
        )


def _explained(connection: "duckdb.DuckDBPyConnection", query: str) -> "Sequence[duckdb.Statement]":
    """What an EXPLAIN explains, parsed; no statement if that cannot be told."""
    import duckdb

    words = _words(query)[1:]
    while words and words[0][1] in _EXPLAIN_WORDS:
        words = words[1:]
    while words:
        try:
            return connection.extract_statements(query.encode()[words[0][0] :].decode())
        except duckdb.Error:
            # Options in parentheses come first: EXPLAIN (FORMAT json) SELECT …
            words = _after_parenthesis(words)
    return []


def _after_parenthesis(words: list[tuple[int, str]]) -> list[tuple[int, str]]:
    depth = 0
    for number, (_, word) in enumerate(words):
        depth += (word == "(") - (word == ")")
        if depth == 0:
            return words[number + 1 :] if number else []
    return []


def _words(query: str) -> list[tuple[int, str]]:
    """The engine's own tokens, which know quotes and comments: where each begins, in bytes, and its lower-case text."""
    import duckdb

    encoded = query.encode()
    starts = [start for start, _ in duckdb.tokenize(query)]
    texts = (encoded[start:end].decode(errors="replace") for start, end in pairwise([*starts, len(encoded)]))
    # What is between a token and the next one, such as a comment, is left out.
    return [(start, _WORD.findall(text)[0].lower()) for start, text in zip(starts, texts, strict=True)]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")
