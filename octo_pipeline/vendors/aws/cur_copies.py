"""Which files of a folder without a manifest make the report: copies and refreshes of it told apart from its parts.

Daily dumps, downloads with ``(1)`` in the name and files that were packed again pile up in one folder. Within a report
a line item id with its time interval is unique, so the same pair in two files says that one of them repeats the other.

1. A file whose lines are all in another one is a copy or an older refresh, and does not count.
2. If lines were restated in between, the file that reaches further in time is the later refresh. Where neither does,
   nobody can see which of them is right, and both are named.
3. Ids are made anew by some refreshes, and some exports leave them out. Then the charges themselves are compared.
"""

from collections.abc import Sequence

import duckdb

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import Relation
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.aws.cur_rows import CurFile, charges, has_line_ids
from octo_pipeline.vendors.shared_rows import FileRows, files_that_count

_IDENTITY = ("line_id", "time_interval")
# Of fewer charges, which are alike by chance, nothing can be said.
_LEAST_CHARGES = 3


def files_of_the_report(con: duckdb.DuckDBPyConnection, files: Sequence[CurFile], place: str) -> list[int]:
    """The indexes of the files that hold every line once.

    Args:
        con: any connection.
        files: of one payer and month, all of them readable.
        place: the folder, for sentences.

    Raises:
        OctoError: files repeat each other and differ, so that nobody can see which of them is right.
    """
    if len(files) < 2:
        return list(range(len(files)))
    names = [file.path.name for file in files]
    if not all(map(has_line_ids, files)):
        rows = [FileRows(name, charges(file)) for name, file in zip(names, files, strict=True)]
        return files_that_count(con, rows, place)
    lines = [charges(file, with_line_ids=True) for file in files]
    identities = [FileRows(name, _columns(rows, _IDENTITY)) for name, rows in zip(names, lines, strict=True)]
    counted = files_that_count(con, identities, place, is_identity=True)
    for index in set(range(len(files))) - set(counted):
        _refuse_restated(con, names[index], lines[index], [(names[at], lines[at]) for at in counted], place)
    _refuse_other_ids(con, [(names[at], charges(files[at])) for at in counted], place)
    return counted


def _columns(rows: Relation, names: Sequence[str]) -> Relation:
    return Relation(f"(SELECT {', '.join(names)} FROM {rows})")


def _refuse_restated(
    con: duckdb.DuckDBPyConnection, name: str, rows: Relation, counted: Sequence[tuple[str, Relation]], place: str
) -> None:
    query = render("vendors/aws/restated", file_rows=rows, files_rows=[other for _, other in counted])
    restated, last, last_of_others = con.execute(query).fetchall()[0]
    if restated and not last_of_others > last:
        raise _differ([name, *(other for other, _ in counted)], place, f"in {restated:,} lines")


def _refuse_other_ids(con: duckdb.DuckDBPyConnection, counted: Sequence[tuple[str, Relation]], place: str) -> None:
    """Refuse files that hold the same charges under other ids: they could be parts, but hardly are."""
    rows = [
        FileRows(name, charges)
        for name, charges in counted
        if con.execute(render("vendors/aws/row_count", file_rows=charges)).fetchall()[0][0] >= _LEAST_CHARGES
    ]
    kept = files_that_count(con, rows, place)
    if len(kept) < len(rows):
        repeated = [one.name for at, one in enumerate(rows) if at not in kept]
        raise _differ([*repeated, *(rows[at].name for at in kept)], place, "in the ids of their lines")


def _differ(names: Sequence[str], place: str, where: str) -> OctoError:
    shown = ", ".join(names[:4])
    return OctoError(
        f"{shown} in {place} hold the same lines and differ {where}, so they are refreshes of one report that would count "
        "twice. Keep the newest one.",
        code="files-differ",
        place=place,
    )
