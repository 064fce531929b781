"""`make bench`: how long the pipeline takes, as ratios to the least work that could give the same result.

All ratios of a table come from one run: both sides are timed in turn, so a machine that slows down slows both.
Nothing here asserts; docs/performance.md says how to read it.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.exporting import exporting
from benchmarks.growing import growing, memory
from benchmarks.joining import joining
from benchmarks.matching import matching
from benchmarks.measure import Row
from benchmarks.normalisation import normalisation
from benchmarks.processes import processes
from benchmarks.serving import simulating
from benchmarks.splitting import splitting
from benchmarks.staleness import staleness
from benchmarks.table import written

COLUMNS = ("what", "ours", "the other side", "ratio", "of processor time", "target")


@dataclass(frozen=True)
class Sizes:
    """How much of everything there is.

    Attributes:
        lines: of a month that is normalised, matched or exported; of packed CSV a twentieth.
        items: that are split over fifty accounts each.
        memory_lines: of the month whose memory is measured.
        months: of the lake in which stale partitions are looked for.
        backfill_months: that are made one after the other.
        runs: how often both sides are timed.
    """

    lines: int = 20_000_000
    items: int = 1_000_000
    memory_lines: int = 100_000_000
    months: int = 120
    backfill_months: int = 24
    runs: int = 3


# Shows that everything runs; the ratios are those of fixed costs.
SHORT = Sizes(lines=50_000, items=2_000, memory_lines=50_000, months=6, backfill_months=2, runs=1)


def parts(folder: Path, sizes: Sizes) -> dict[str, Callable[[], Iterator[Row]]]:
    lines, items, runs = sizes.lines, sizes.items, sizes.runs

    def normalising() -> Iterator[Row]:
        yield normalisation(folder, lines, runs, "parquet")
        yield normalisation(folder, max(lines // 20, 1), runs, "csv.gz")

    def matching_lines() -> Iterator[Row]:
        yield matching(folder, lines, runs)

    def exporting_lines() -> Iterator[Row]:
        yield exporting(folder, lines, runs)

    return {
        "normalisation": normalising,
        "matching": matching_lines,
        "splitting": lambda: splitting(folder, items, 50, runs),
        "exporting": exporting_lines,
        "processes": lambda: processes(folder, sizes.backfill_months, runs),
        "serving": lambda: simulating(folder, runs),
        "staleness": lambda: staleness(folder, sizes.months, runs),
        "joining": lambda: joining(folder, lines, runs),
        "growth": lambda: growing(folder, max(lines // 2, 1), max(items // 4, 1), runs),
        "memory": lambda: memory(folder, sizes.memory_lines, items),
    }


def main() -> None:
    arguments = _arguments()
    sizes = (
        SHORT
        if arguments.short
        else Sizes(arguments.lines, arguments.items, arguments.memory_lines, runs=arguments.runs)
    )
    console = Console(width=140)
    table = Table(title="ratios of one run (medians)")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "what" else "right")
    rows: list[Row] = []
    for name in arguments.only or parts(Path(), sizes):
        with tempfile.TemporaryDirectory(prefix="octo-bench-") as folder:
            for row in parts(Path(folder), sizes)[name]():
                rows.append(row)
                cpu = "" if row.cpu_ratio is None else f"{row.cpu_ratio:.2f}"
                ratio = f"{row.ratio:.2f}"
                cells = (row.what, row.ours, row.other, ratio, cpu, row.target)
                # Each row as soon as it is there: the whole table takes long.
                console.print(" | ".join(cells), highlight=False, soft_wrap=True)
                missed = row.meets_target is False and not arguments.short
                table.add_row(*cells, style="bold" if missed else None)
        if arguments.json:
            # After each part: what fails in the end loses nothing.
            written(rows, asdict(sizes), arguments.json)
    console.print(table)
    if arguments.json:
        console.print(f"Written to {arguments.json}.", highlight=False, soft_wrap=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=Sizes.lines)
    parser.add_argument("--items", type=int, default=Sizes.items)
    parser.add_argument("--memory-lines", type=int, default=Sizes.memory_lines)
    parser.add_argument("--runs", type=int, default=Sizes.runs)
    parser.add_argument(
        "--only", action="append", choices=list(parts(Path(), SHORT)), help="a part; several times for several"
    )
    parser.add_argument("--short", action="store_true", help="small sizes, a minute in all: shows that everything runs")
    parser.add_argument("--json", type=Path, help="the file to write the table to")
    return parser.parse_args()


if __name__ == "__main__":
    main()
