"""The table of a run as JSON, and what changed between two: ``python -m benchmarks.table OLD NEW``.

What is measured belongs in the modules beside this one.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Row

# Two runs of one commit on a quiet machine differ by less.
_NOISE = 0.1


def written(rows: Sequence[Row], sizes: Mapping[str, int], file: Path) -> None:
    """Write the table of a run with what it was measured on."""
    file.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "commit": _commit(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "sizes": dict(sizes),
        "rows": [asdict(row) | {"meets": row.meets_target} for row in rows],
    }
    file.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _commit() -> str:
    """The commit that is measured, with a plus sign if files differ from it."""
    root = Path(__file__).parent.parent
    described = ["git", "describe", "--always", "--exclude", "*", "--abbrev=10", "--dirty=+"]
    return subprocess.run(described, cwd=root, capture_output=True, text=True).stdout.strip()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """What changed, row by row: (what, the old ratio, the new one, their quotient, in a word).

    Processor time decides where both runs have it, because other work on the machine disturbs it less.
    """
    before = {row["what"]: row for row in old["rows"]}
    after = {row["what"]: row for row in new["rows"]}
    compared = []
    for what in [*before, *(what for what in after if what not in before)]:
        if what not in before or what not in after:
            compared.append((what, _ratio(before.get(what)), _ratio(after.get(what)), "", "only in one"))
            continue
        pair = before[what], after[what]
        name = "cpu_ratio" if all(row["cpu_ratio"] is not None for row in pair) else "ratio"
        first, second = (row[name] for row in pair)
        change = second / first if first else (1.0 if second == first else float("inf"))
        worse = 1 / change if pair[1]["target"].startswith("≥") and change else change
        word = "SLOWER" if worse > 1 + _NOISE else "faster" if worse < 1 / (1 + _NOISE) else ""
        compared.append((what, _ratio(pair[0]), _ratio(pair[1]), f"{change:.2f}", word))
    return compared


def _ratio(row: Mapping[str, Any] | None) -> str:
    """The ratio by the clock, and that of processor time in parentheses."""
    if row is None:
        return ""
    cpu = "" if row["cpu_ratio"] is None else f" ({row['cpu_ratio']:,.2f})"
    return f"{row['ratio']:,.2f}{cpu}"


def main(old_file: Path, new_file: Path) -> None:
    old, new = (json.loads(file.read_text()) for file in (old_file, new_file))
    console = Console(width=140)
    if (old["sizes"], old["cores"]) != (new["sizes"], new["cores"]):
        console.print(
            f"The runs differ in sizes or cores: {old['sizes']} on {old['cores']}, {new['sizes']} on {new['cores']}."
        )
    table = Table(title=f"{old['commit']} to {new['commit']}: ratio by the clock (of processor time)")
    for name in ("what", "old", "new", "new to old", ""):
        table.add_column(name, justify="left" if name == "what" else "right")
    compared = differences(old, new)
    for cells in compared:
        table.add_row(*cells, style="bold red" if cells[-1] == "SLOWER" else None)
    console.print(table)
    slower = [cells[0] for cells in compared if cells[-1] == "SLOWER"]
    console.print(f"Slower by more than {_NOISE:.0%}: {', '.join(slower) or 'nothing'}.")


if __name__ == "__main__":
    if len(sys.argv) != 3 or not all(Path(name).is_file() for name in sys.argv[1:]):
        raise SystemExit("Name two files that `make bench` wrote: make bench-compare OLD=… NEW=…")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
