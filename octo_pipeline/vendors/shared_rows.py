"""Which data files of one month repeat one another: copies and refreshes told apart from parts.

Exports pile up in a folder in three shapes that no name tells apart: copies of one file, month-to-date files of which
each repeats the one before, and parts that must be added up. What tells them apart is the rows they share:

1. Files that share no rows, and together have all rows of the others, are the month: the others are copies, older
   refreshes or the same rows in other parts, and do not count.
2. Where there are no such files, a file all of whose rows are also in another one still does not count.
3. Files that share most of the smaller one's rows, while each has rows of its own, are refreshes of which one was
   restated. Which of them is right cannot be seen, so they are refused by name.
4. Files that share few rows or none are parts. Two charges can be alike to the last column, so a few shared rows prove
   nothing.

This module compares rows that the vendor has made comparable (the same columns in the same order, whatever the file's
packing). Reading files belongs in the vendor's folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import Relation
from octo_pipeline.model.templates import render

# Below this share of the smaller file, rows that are alike are taken for different charges.
_REFRESH_SHARE = 0.5
# Of more files that repeat one another, not every choice is tried.
_MAX_FILES = 100
_MAX_CHOICES = 10_000


@dataclass(frozen=True)
class FileRows:
    """A file's rows of the month.

    Attributes:
        name: what sentences call the file.
        rows: its rows, or the columns that identify a row where the vendor has such. All files that are compared
            have the same columns.
    """

    name: str
    rows: Relation


def files_that_count(
    con: duckdb.DuckDBPyConnection, files: Sequence[FileRows], place: str, *, is_identity: bool = False
) -> list[int]:
    """The indexes of the files that hold every row of the month once, in their order.

    Args:
        con: where the rows can be read.
        files: in any order; of two files with the same rows the first counts.
        place: the folder, bucket or container, for sentences.
        is_identity: the rows identify charges, so that a single row in two files proves that one repeats the other.

    Raises:
        OctoError: two files share most of their rows, or any that identifies a charge, and neither holds all of the other's.
    """
    if len(files) < 2:
        return list(range(len(files)))
    row_counts = [0] * len(files)
    shared: dict[tuple[int, int], int] = {}
    for first, second, count in con.execute(
        render("vendors/shared_rows", files_rows=[file.rows for file in files])
    ).fetchall():
        if second is None:
            row_counts[first] = count
        else:
            shared[first, second] = count
    repeated = _repeated_files(row_counts, shared)
    if repeated is not None:
        return [index for index in range(len(files)) if index not in repeated]
    least_share = 0.0 if is_identity else _REFRESH_SHARE
    dropped: set[int] = set()
    for (first, second), count in sorted(shared.items()):
        if count == row_counts[second]:
            dropped.add(second)
        elif count == row_counts[first]:
            dropped.add(first)
    for (first, second), count in sorted(shared.items()):
        if {first, second} & dropped or count < least_share * min(row_counts[first], row_counts[second]):
            continue
        raise OctoError(
            f"{files[first].name} and {files[second].name} in {place} share {count:,} rows, and each has rows that the "
            "other lacks, so they are refreshes of one export that differ and would count twice. Keep the newer one.",
            code="current-refresh-unknown",
        )
    return [index for index in range(len(files)) if index not in dropped]


def _repeated_files(row_counts: Sequence[int], shared: Mapping[tuple[int, int], int]) -> set[int] | None:
    """The files whose rows are all in the rest, where no two of the rest share a row; None if there is no such choice.

    Files of the rest share no row, so what they have of another file's rows adds up.
    """
    neighbours: dict[int, dict[int, int]] = {}
    for (first, second), count in shared.items():
        neighbours.setdefault(first, {})[second] = count
        neighbours.setdefault(second, {})[first] = count
    if len(neighbours) > _MAX_FILES:
        return None
    # The largest first, so that the newest of month-to-date files counts; of copies the first.
    order = sorted(neighbours, key=lambda file: (-row_counts[file], file))
    choices = 0

    def choose(position: int, repeated: frozenset[int]) -> frozenset[int] | None:
        nonlocal choices
        choices += 1
        if choices > _MAX_CHOICES:
            return None
        if position == len(order):
            return repeated
        file = order[position]
        counts = set(order[:position]) - repeated
        if not counts & neighbours[file].keys():
            found = choose(position + 1, repeated)
            if found is not None:
                return found
        repeated |= {file}
        for other in repeated:
            in_rest = sum(count for at, count in neighbours[other].items() if at not in repeated)
            if in_rest < row_counts[other]:
                return None
        return choose(position + 1, repeated)

    found = choose(0, frozenset())
    return None if found is None else set(found)
