"""`make bench`: how long the pipeline takes, as ratios to the least work that could give the same result.

All ratios of a table come from one run: both sides are timed in turn, so a machine that slows down slows both.
Nothing here asserts; docs/performance.md says how to read it.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.exporting import exporting
from benchmarks.growing import growing, memory
from benchmarks.matching import matching
from benchmarks.measure import Row
from benchmarks.normalisation import normalisation
from benchmarks.processes import processes
from benchmarks.splitting import splitting

COLUMNS = ("what", "ours", "the other side", "ratio", "of processor time", "target")


def parts(folder: Path, lines: int, items: int, memory_lines: int, runs: int) -> dict[str, Callable[[], Iterator[Row]]]:
    def normalising() -> Iterator[Row]:
        yield normalisation(folder, lines, runs, "parquet")
        yield normalisation(folder, max(lines // 20, 1), runs, "csv.gz")

    def matching_lines() -> Iterator[Row]:
        yield matching(folder, lines, runs)

    def exporting_lines() -> Iterator[Row]:
        yield exporting(folder, lines, runs)

    def remembering() -> Iterator[Row]:
        yield memory(folder, memory_lines, "4GB")

    return {
        "normalisation": normalising,
        "matching": matching_lines,
        "splitting": lambda: splitting(folder, items, 50, runs),
        "exporting": exporting_lines,
        "processes": lambda: processes(folder, runs),
        "growth": lambda: growing(folder, max(lines // 2, 1), max(items // 4, 1), runs),
        "memory": remembering,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=20_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--memory-lines", type=int, default=20_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", action="append", help="a part of the table; several times for several")
    arguments = parser.parse_args()
    console = Console(width=140)
    table = Table(title="ratios of one run (medians)")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "what" else "right")
    for name in arguments.only or parts(Path(), 1, 1, 1, 1):
        with tempfile.TemporaryDirectory(prefix="octo-bench-") as folder:
            sizes = (arguments.lines, arguments.items, arguments.memory_lines, arguments.runs)
            for row in parts(Path(folder), *sizes)[name]():
                cpu = "" if row.cpu_ratio is None else f"{row.cpu_ratio:.2f}"
                cells = (row.what, row.ours, row.other, f"{row.ratio:.2f}", cpu, row.target)
                # Each row as soon as it is there: the whole table takes long.
                console.print(" | ".join(cells))
                table.add_row(*cells)
    console.print(table)


if __name__ == "__main__":
    main()
