"""Joining a month from the files of its parts, compared with writing all its rows again."""

from collections.abc import Iterator
from pathlib import Path

import duckdb

from benchmarks.matching import MONTH, synthetic_line_items
from benchmarks.measure import Row, compared
from octo_pipeline.lake.lake import Lake, PartitionMetadata, copy_options
from octo_pipeline.model.sql import literal


def joining(folder: Path, lines: int, runs: int) -> Iterator[Row]:
    """A few large parts, which are copied, and many small ones, whose rows are written into one file together."""
    yield _joining(folder, 8, max(lines // 20, 1), runs)
    yield _joining(folder, 300, min(1_400, lines), runs)


def _joining(folder: Path, count: int, rows: int, runs: int) -> Row:
    parts = [folder / f"{number}.parquet" for number in range(count)]
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({synthetic_line_items(rows)}) TO '{parts[0]}' ({copy_options('{}')})")
    for part in parts[1:]:
        part.write_bytes(parts[0].read_bytes())
    lake, metadata = Lake(folder / "lake"), PartitionMetadata({}, "bench")

    def ours() -> None:
        with lake.stage("cost_line_items", MONTH) as staged:
            lake.join(parts, staged, metadata)

    def theirs() -> None:
        files = ", ".join(literal(str(part)) for part in parts)
        with lake.connect() as connection, lake.stage("cost_line_items", MONTH) as staged:
            lake.copy(connection, f"FROM read_parquet([{files}])", staged, metadata)

    ours()
    row = compared(f"joining {count} parts of {rows:,} line items, against writing them again", ours, theirs, runs, "")
    for part in parts:
        part.unlink()
    return row
