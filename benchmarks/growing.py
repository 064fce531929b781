"""Twice as much of one thing: what twice the lines, items, rules, targets and so on take, and what memory a month takes."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from benchmarks.matching import MONTH, match, rule, rules, synthetic_line_items
from benchmarks.measure import Row, growth, python
from benchmarks.splitting import make_again, prepared, split
from octo_pipeline.lake.lake import PartitionMetadata
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.months import add_months, month_range
from octo_pipeline.settings import Settings
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.graph import TABLES, order
from octo_pipeline.tables.table import KEPT, materialise
from octo_pipeline.vendors.aws.cur import land_cur
from octo_pipeline.workspace import Workspace


def growing(folder: Path, lines: int, items: int, runs: int) -> Iterator[Row]:
    sources = {n: folder / f"growing-{n}.parquet" for n in (lines, 2 * lines)}
    with duckdb.connect() as connection:
        for n, source in sources.items():
            connection.execute(f"COPY ({synthetic_line_items(n)}) TO '{source}' (FORMAT parquet)")
    few, many = sources[lines], sources[2 * lines]
    yield growth("matching, lines", lambda: match(few, rules(200)), lambda: match(many, rules(200)), runs)
    yield growth("matching, rules", lambda: match(few, rules(200)), lambda: match(few, rules(400)), runs)
    yield growth("splitting, items", *_splitting(folder / "items", (items, 25), (2 * items, 25)), runs)
    yield growth("splitting, targets", *_splitting(folder / "targets", (items, 25), (items, 50)), runs)
    many_names = max(lines // 50_000, 5)
    yield _growing_month(folder / "groups", "cost groups as targets", _month_of_groups, many_names, items, runs)
    yield _growing_month(folder / "payers", "payers as targets", _month_of_payers, many_names, items, runs)
    yield _growing_month(
        folder / "months", "origin months with instalments due", _months_of_instalments, 12, items, runs
    )


def _splitting(folder: Path, small: tuple[int, int], large: tuple[int, int]) -> list[Callable[[], None]]:
    made = [prepared(folder / name, *size) for name, size in (("small", small), ("large", large))]
    return [lambda workspace=workspace: split(workspace) for workspace in made]


def _growing_month(
    folder: Path,
    what: str,
    prepare: Callable[[Path, int, int], tuple[Workspace, str]],
    count: int,
    items: int,
    runs: int,
) -> Row:
    """What sharing and adding up take in a month with `count` of something, and in one with twice as many."""
    months = [prepare(folder / name, n, items) for name, n in (("small", count), ("large", 2 * count))]
    for month in months:
        _share(*month)
    row = growth(f"a month, {what}", *(lambda month=month: _share(*month) for month in months), runs)
    shutil.rmtree(folder)
    return row


def _share(workspace: Workspace, month: str) -> None:
    """Make again what is made of matched items."""
    for table in order():
        if table.name in KEPT and table.name != "corrections":
            make_again(workspace, table, month)


def _month_of_groups(folder: Path, count: int, items: int) -> tuple[Workspace, str]:
    """Each cost group has one account's usage of one service."""
    groups = [
        {
            "id": f"group{i}",
            "combinations": {
                "awsOptions": {
                    "filters": [
                        {
                            "andFilters": {
                                "account": f"{100000000000 + i % 400}",
                                "productCode": f"Service{i // 400:02d}",
                            }
                        }
                    ]
                }
            },
        }
        for i in range(count)
    ]
    entries = [{"type": "costgroup", "value": group["id"], "formula": "cost*usage"} for group in groups]
    return _month_with(folder, items, {"entries": entries, "groups": groups}), MONTH


def _month_of_payers(folder: Path, count: int, items: int) -> tuple[Workspace, str]:
    """Each payer has as many accounts as any other."""
    entries = [{"type": "payer", "value": f"{900000000000 + i}", "formula": "cost*usage"} for i in range(count)]
    payer = f"(900000000000 + (sub_account_id::BIGINT - 100000000000) % {count})::VARCHAR"
    return _month_with(folder, items, {"entries": entries}, payer), MONTH


def _months_of_instalments(folder: Path, count: int, items: int) -> tuple[Workspace, str]:
    """A month in which the fees of as many months are due; each has as many fees as any other."""
    months = month_range(MONTH, add_months(MONTH, count - 1))
    entries = [{"type": "account", "value": "100000000007", "formula": "cost*usage", "months": "24"}]
    for month in months:
        workspace = _month_with(folder, items // 10, {"entries": entries}, month=month)
    return workspace, months[-1]


def _month_with(
    folder: Path,
    lines: int,
    documents: Mapping[str, Sequence[Mapping[str, object]]],
    payer: str = "billing_account_id",
    month: str = MONTH,
) -> Workspace:
    """A month of usage lines, a hundredth of them fees, all of which one rule shares; its items are matched."""
    config = folder / "config"
    for name in ("allocators", "cost_groups"):
        (config / name).mkdir(parents=True, exist_ok=True)
    allocator = {
        "category": "fee",
        "startMonth": MONTH,
        "criteria": [{"and": {"lineType": "Fee"}}],
        "allocator": documents["entries"],
    }
    (config / "allocators" / "fees.json").write_text(json.dumps(allocator))
    for group in documents.get("groups", []):
        (config / "cost_groups" / f"{group['id']}.json").write_text(json.dumps(group))
    workspace = Workspace(Settings(lake=folder / "lake", config=config))
    lines_of_month = f"""
        SELECT * REPLACE ('{month}' AS billing_month, {payer} AS billing_account_id,
            usage_date + ('{month}-01'::DATE - '{MONTH}-01'::DATE)::INTEGER AS usage_date,
            CASE WHEN is_fee THEN 'Fee' ELSE line_type END AS line_type,
            CASE WHEN is_fee THEN 'Purchase' ELSE charge_category END AS charge_category)
        FROM (SELECT *, hash(charge_description, usage_type) % 100 = 0 AS is_fee FROM ({synthetic_line_items(lines)}))"""
    with workspace.lake.connect() as connection, workspace.lake.stage(LINE_ITEMS, month) as staged:
        metadata = PartitionMetadata({"made": f"{lines} lines"}, "benchmark")
        workspace.lake.copy(
            connection, f"SELECT {', '.join(LINE_ITEM_COLUMNS)} FROM ({lines_of_month})", staged, metadata
        )
        workspace.lake.publish(staged, still_current=lambda: metadata.inputs)
    for table in order():
        if table.name != LINE_ITEMS and table.name not in KEPT:
            materialise(workspace, table, month)
    return workspace


def memory(folder: Path, lines: int, items: int) -> Iterator[Row]:
    """What two large months take in processes of their own, one of lines and one of splits, and one of half the lines."""
    peaks: list[float] = []
    few, many = (
        lambda n=n: peaks.append(peak_memory(folder / f"lines-{n}", n, "4GB")) for n in (max(lines // 2, 1), lines)
    )
    yield growth(f"all of a month, to {lines:,} lines", few, many, 1)
    yield _memory(f"{lines:,} lines from CUR to marts, with a DuckDB limit of 4 GB", peaks[0], "≤ 4 GiB")
    peak = _peak("splits", folder / "splits", items, "2GB")
    yield _memory(f"{50 * items:,} splits from items to marts, with a DuckDB limit of 2 GB", peak, "≤ 3 GiB")


def _memory(what: str, peak: float, target: str) -> Row:
    return Row(f"{what}: peak resident", f"{peak:.2f} GiB", "", peak, None, target)


def peak_memory(folder: Path, lines: int, limit: str) -> float:
    """GiB resident at most while a process of its own takes so many lines from the CUR to the marts."""
    return _peak("lines", folder, lines, limit)


def _peak(of: str, folder: Path, count: int, limit: str) -> float:
    root = Path(__file__).parent.parent
    return int(python("-m", "benchmarks.growing", of, str(folder), str(count), limit, folder=root)) / 1024**2


def month_of_splits(folder: Path, items: int, limit: str) -> None:
    """Split so many items over fifty accounts and add them up."""
    workspace = prepared(folder, items, 50, differing=100, memory_limit=limit)
    for table in order():
        if table.name == Allocations.name or table.group == "marts":
            materialise(workspace, table, MONTH)


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
    make = {"lines": whole_month, "splits": month_of_splits}[sys.argv[1]]
    make(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    print(_peak_resident())
