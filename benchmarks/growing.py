"""Twice as much of one thing: what twice the lines, items, allocators and targets take, and what memory lines take."""

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from benchmarks.matching import MONTH, match, rule, rules, synthetic_line_items
from benchmarks.measure import Row, growth, python
from benchmarks.splitting import prepared, split
from octo_pipeline.settings import Settings
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.aws.cur import land_cur
from octo_pipeline.workspace import Workspace


def growing(folder: Path, lines: int, items: int, runs: int) -> Iterator[Row]:
    sources = {n: folder / f"growing-{n}.parquet" for n in (lines, 2 * lines)}
    with duckdb.connect() as connection:
        for n, source in sources.items():
            connection.execute(f"COPY ({synthetic_line_items(n)}) TO '{source}' (FORMAT parquet)")
    few, many = sources[lines], sources[2 * lines]
    yield growth("matching, lines", lambda: match(few, rules(200)), lambda: match(many, rules(200)), runs)
    yield growth("matching, allocators", lambda: match(few, rules(200)), lambda: match(few, rules(400)), runs)
    yield growth("splitting, items", *_splitting(folder / "items", (items, 25), (2 * items, 25)), runs)
    yield growth("splitting, targets", *_splitting(folder / "targets", (items, 25), (items, 50)), runs)


def _splitting(folder: Path, small: tuple[int, int], large: tuple[int, int]) -> list[Callable[[], None]]:
    made = [prepared(folder / name, *size) for name, size in (("small", small), ("large", large))]
    return [lambda workspace=workspace: split(workspace) for workspace in made]


def memory(folder: Path, lines: int, limit: str) -> Row:
    peak = peak_memory(folder / "memory", lines, limit)
    return Row(
        f"{lines:,} lines from CUR to marts, with a DuckDB limit of {limit}: peak resident",
        f"{peak:.2f} GiB",
        "",
        peak,
        None,
        "≤ 8 GiB",
    )


def peak_memory(folder: Path, lines: int, limit: str) -> float:
    """GiB resident at most while a process of its own takes so many lines from the CUR to the marts."""
    root = Path(__file__).parent.parent
    return int(python("-m", "benchmarks.growing", str(folder), str(lines), limit, folder=root)) / 1024**2


def whole_month(folder: Path, lines: int, limit: str) -> None:
    """Land, normalise and allocate a month of lines, four of which fold into one."""
    config = folder / "config"
    (config / "cost_groups").mkdir(parents=True)
    (config / "allocators").mkdir()
    for i in range(20):
        (config / "allocators" / f"a{i}.json").write_text(json.dumps(rule(i)))
    workspace = Workspace(Settings(lake=folder / "lake", config=config, memory_limit=limit))
    export = folder / "cur.parquet"
    with workspace.lake.connect() as connection:
        connection.execute(f"COPY ({_synthetic_cur(lines)}) TO '{export}' (FORMAT parquet)")
    land_cur(workspace.lake.root, export, month=MONTH, fetched_at=datetime.now(UTC))
    export.unlink()
    for table in TABLES:
        materialise(workspace, table, MONTH)


def _synthetic_cur(lines: int) -> str:
    return f"""
    SELECT TIMESTAMP '{MONTH}-01' AS bill_billing_period_start_date, '999988887777' AS bill_payer_account_id,
      (100000000000 + hash(g) % 400)::VARCHAR AS line_item_usage_account_id, 'Usage' AS line_item_line_item_type,
      TIMESTAMP '{MONTH}-01' + to_days((g % 31)::INTEGER) + to_hours((i % 4)::INTEGER) AS line_item_usage_start_date,
      'Service' || lpad((hash(g + 1) % 30)::VARCHAR, 2, '0') AS line_item_product_code,
      'Type' || lpad((hash(g + 4) % 10000)::VARCHAR, 4, '0') AS line_item_usage_type,
      ['RunInstances', 'PutObject', 'GetObject', 'Invoke'][(hash(g + 3) % 4 + 1)::INTEGER] AS line_item_operation,
      'item ' || (hash(g + 2) % 11000)::VARCHAR || ' of the month' AS line_item_line_item_description,
      'USD' AS line_item_currency_code, 1.0::DOUBLE AS line_item_usage_amount,
      (i % 1000 / 7)::DOUBLE AS line_item_unblended_cost,
      'us-east-1' AS product_region, 'team' || (hash(g + 6) % 50)::VARCHAR AS resource_tags_user_team
    FROM (SELECT i, i // 4 AS g FROM range({lines}) AS lines(i))"""


def _peak_resident() -> int:
    """KiB resident at most in this process, on Linux.

    getrusage would do on its own, but what it says of a started program begins with the memory of the one that started it.
    """
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].removesuffix("kB"))


if __name__ == "__main__":
    whole_month(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    print(_peak_resident())
