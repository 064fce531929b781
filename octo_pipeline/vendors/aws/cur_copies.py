"""Which files of a folder without a manifest make the report: tells copies and refreshes of it from its parts.

A folder can hold daily dumps, downloads with ``(1)`` in the name and files that were packed again. Within a report, a
line item id with its time interval is unique, so the same pair in two files means that one of them repeats the other.

1. If another file has all lines of a file, the file is a copy or an older refresh and does not count.
2. If lines were restated, the file that reaches further in time is the later refresh. If neither does, nothing shows
   which of them is right, and the error names both.
3. Some refreshes make new ids, and some exports omit them. Then the charges themselves are compared.
"""

from collections.abc import Sequence

import duckdb

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import Relation
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.aws.cur_rows import CurFile, charges, has_line_ids
from octo_pipeline.vendors.shared_rows import FileRows, files_that_count

# Fewer charges could be equal by chance.
_LEAST_CHARGES = 3


def files_of_the_report(con: duckdb.DuckDBPyConnection, files: Sequence[CurFile], origin: str) -> list[int]:
    """The indexes of the files that together hold every line once.

    Args:
        con: any connection.
        files: of one payer and month, all of them readable.
        origin: the folder, for messages.

    Raises:
        OctoError: files repeat each other but differ, so nothing shows which of them is right.
    """
    if len(files) < 2:
        return list(range(len(files)))
    names = [file.path.name for file in files]
    if not all(map(has_line_ids, files)):
        rows = [FileRows(name, charges(file)) for name, file in zip(names, files, strict=True)]
        return files_that_count(con, rows, origin)
    lines = [charges(file, with_line_ids=True) for file in files]
    identities = [FileRows(name, _identities(rows)) for name, rows in zip(names, lines, strict=True)]
    counted = files_that_count(con, identities, origin, is_identity=True)
    for index in set(range(len(files))) - set(counted):
        _refuse_restated(con, names[index], lines[index], [(names[kept], lines[kept]) for kept in counted], origin)
    _refuse_other_ids(con, [(names[index], charges(files[index])) for index in counted], origin)
    return counted


def _identities(rows: Relation) -> Relation:
    return Relation(f"({render('vendors/aws/line_identities', rows=rows)})")


def _refuse_restated(
    con: duckdb.DuckDBPyConnection, name: str, rows: Relation, counted: Sequence[tuple[str, Relation]], origin: str
) -> None:
    query = render("vendors/aws/restated", file_rows=rows, files_rows=[other for _, other in counted])
    restated, last, last_of_others = con.execute(query).fetchall()[0]
    if restated and not last_of_others > last:
        raise _differ([name, *(other for other, _ in counted)], origin, f"in {restated:,} lines")


def _refuse_other_ids(con: duckdb.DuckDBPyConnection, counted: Sequence[tuple[str, Relation]], origin: str) -> None:
    """Refuse files that hold the same charges under different ids; they are very unlikely to be parts."""
    rows = [
        FileRows(name, charges)
        for name, charges in counted
        if con.execute(render("vendors/aws/row_count", file_rows=charges)).fetchall()[0][0] >= _LEAST_CHARGES
    ]
    kept = files_that_count(con, rows, origin)
    if len(kept) < len(rows):
        repeated = [file.name for index, file in enumerate(rows) if index not in kept]
        raise _differ([*repeated, *(rows[index].name for index in kept)], origin, "in the ids of their lines")


def _differ(names: Sequence[str], origin: str, difference: str) -> OctoError:
    listed = ", ".join(names[:4])
    return OctoError(
        f"{listed} in {origin} hold the same lines but differ {difference}. They are refreshes of one report and would count "
        "twice. Keep the newest one.",
        code="files-differ",
        place=origin,
    )
