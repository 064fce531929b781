"""Which data files of one month repeat one another: tells copies and refreshes from parts.

A folder can hold copies of one file, month-to-date files that each repeat the one before, and parts that must be added
up. File names do not tell these apart, but the rows that the files share do:

1. Files that share no rows, and together have all rows of the others, are the month: the others are copies, older
   refreshes or the same rows in other parts, and do not count.
2. If there are no such files, a file still does not count if another file has all of its rows.
3. Files that share most of the smaller one's rows, while each has rows of its own, are refreshes of a restated export.
   Nothing shows which of them is right, so they are refused by name.
4. Files that share few rows or none are parts. Two charges can be equal in every column, so a few shared rows prove
   nothing.

This module compares rows that the vendor has made comparable: the same columns in the same order, whatever the packing.
Reading files belongs in the vendor's folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import Relation
from octo_pipeline.model.templates import render

# If files share less than this part of the smaller one, their equal rows are taken for different charges.
_REFRESH_SHARE = 0.5
# Above these limits, not every choice of files is tried.
_MAX_FILES = 100
_MAX_CHOICES = 10_000


@dataclass(frozen=True)
class FileRows:
    """A file's rows of the month.

    Attributes:
        name: what messages call the file.
        rows: its rows, or only the columns that identify a row if the vendor has such. All files that are compared
            have the same columns.
    """

    name: str
    rows: Relation


def files_that_count(
    con: duckdb.DuckDBPyConnection, files: Sequence[FileRows], origin: str, *, is_identity: bool = False
) -> list[int]:
    """The indexes of the files that together hold every row of the month once, in order.

    Args:
        con: where the rows can be read.
        files: in any order; of two files with the same rows the first counts.
        origin: the folder, bucket or container, for messages.
        is_identity: whether the rows identify charges, so that a single shared row proves that files repeat each other.

    Raises:
        OctoError: two files share most of their rows, or one that identifies a charge, and each has rows that the other
            lacks.
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
            f"{files[first].name} and {files[second].name} in {origin} share {count:,} rows, and each has rows that the "
            "other lacks. They are different refreshes of one export and would count twice. Keep the newer one.",
            code="current-refresh-unknown",
        )
    return [index for index in range(len(files)) if index not in dropped]


def _repeated_files(row_counts: Sequence[int], shared: Mapping[tuple[int, int], int]) -> set[int] | None:
    """The files to leave out so that no two of the rest share a row and the rest has all rows; None if impossible.

    Files of the rest share no rows, so their counts of another file's rows can be added up.
    """
    neighbours: dict[int, dict[int, int]] = {}
    for (first, second), count in shared.items():
        neighbours.setdefault(first, {})[second] = count
        neighbours.setdefault(second, {})[first] = count
    if len(neighbours) > _MAX_FILES:
        return None
    # The largest first, so that the newest of month-to-date files counts, and the first of equal copies.
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
            choice = choose(position + 1, repeated)
            if choice is not None:
                return choice
        repeated |= {file}
        for other in repeated:
            in_rest = sum(count for at, count in neighbours[other].items() if at not in repeated)
            if in_rest < row_counts[other]:
                return None
        return choose(position + 1, repeated)

    choice = choose(0, frozenset())
    return None if choice is None else set(choice)
