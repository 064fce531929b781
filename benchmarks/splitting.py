"""A million account-usage items over fifty accounts: the table ``allocations``, and reading it through the view."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb

from benchmarks.matching import MONTH, synthetic_line_items
from benchmarks.measure import Row, command, compared, measured
from benchmarks.serving import pages
from octo_pipeline.allocation.formula_sql import select_sql
from octo_pipeline.allocation.matching import MATCHED_ITEM_COLUMNS
from octo_pipeline.allocation.shares import USAGE_SHARE_COLUMNS
from octo_pipeline.lake.lake import PartitionMetadata
from octo_pipeline.rules.formula import evaluate, parse_formula
from octo_pipeline.services.views import views
from octo_pipeline.settings import Settings
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.graph import order
from octo_pipeline.tables.table import Table, materialise
from octo_pipeline.workspace import Workspace

# A share that differs from account to account, with a choice in it, as people write them.
FORMULA = "usage > 0.5 ? cost*usage*0.8 : cost*usage"
LIBRARY = Path(__file__).parent.parent / ".bench" / "library" / "bin" / "python"


def prepared(
    folder: Path, items: int, accounts: int, allocators: int = 1, differing: int = 0, memory_limit: str | None = None
) -> Workspace:
    """A lake whose month has so many items, taken by allocators that each list so many accounts.

    `differing` percent of the items have an amortised cost of their own.
    """
    config = folder / "config"
    (config / "allocators").mkdir(parents=True)
    (config / "cost_groups").mkdir()
    for i in range(allocators):
        document = {
            "category": "account",
            "startMonth": MONTH,
            "criteria": [{"and": {"account": f"re:{'.' if allocators == 1 else i}$"}}],
            "allocator": [
                {"type": "account", "value": f"{100000000000 + a}", "formula": "cost*usage"} for a in range(accounts)
            ],
        }
        (config / "allocators" / f"a{i}.json").write_text(json.dumps(document))
    workspace = Workspace(Settings(lake=folder / "lake", config=config, memory_limit=memory_limit))
    with workspace.lake.connect() as connection, workspace.lake.stage("cost_line_items", MONTH) as staged:
        metadata = PartitionMetadata({"made": f"{items} lines"}, "benchmark")
        lines = (
            f"SELECT * REPLACE (CASE WHEN hash(charge_description, usage_type) % 100 < {differing} "
            "THEN billed_cost * 0.75 ELSE effective_cost END::DECIMAL(38,10) AS effective_cost) "
            f"FROM ({synthetic_line_items(items)})"
        )
        workspace.lake.copy(connection, lines, staged, metadata)
        workspace.lake.publish(staged, still_current=lambda: metadata.inputs)
    for table in (table for table in order() if table.group == "allocation"):
        if table.name != Allocations.name:
            materialise(workspace, table, MONTH)
    return workspace


def split(workspace: Workspace) -> None:
    """Make the month's allocations again."""
    make_again(workspace, Allocations(), MONTH)


def make_again(workspace: Workspace, table: Table, month: str) -> None:
    """Make a table of a month, with nothing left of the time before."""
    workspace.lake.remove(table.name, month)
    workspace.lake.drop_parts(table.name, month, but=[])
    materialise(workspace, table, month)


def by_hand(workspace: Workspace, target: Path) -> str:
    """The same rows by one query that knows there is one allocator without instalments, and who gets the most."""
    items = workspace.lake.scan("matched_items", [MONTH], MATCHED_ITEM_COLUMNS)
    shares = workspace.lake.scan("usage_shares", [MONTH], USAGE_SHARE_COLUMNS)
    split = "(cost::DOUBLE * usage_share)::DECIMAL(38,10)"
    effective = "(effective_cost::DOUBLE * usage_share)::DECIMAL(38,10)"
    return f"""
    COPY (
      WITH shares AS MATERIALIZED (
        SELECT account_id, entry_index, usage_share,
          row_number() OVER (ORDER BY usage_share DESC, account_id) = 1 AS is_largest FROM {shares}),
      rests AS (
        SELECT item_id, cost - sum({split}) AS rest, effective_cost - sum({effective}) AS effective_rest
        FROM {items}, shares
        WHERE allocator_id IS NOT NULL GROUP BY item_id, cost, effective_cost)
      SELECT * FROM (
      SELECT item_id, origin_month, 'checked_splitted' AS status, 'split' AS kind, NULL::VARCHAR AS reason,
        account_id AS target_account_id, entry_index, 0 AS tranche_index,
        {split} + CASE WHEN is_largest THEN rest ELSE 0 END AS cost,
        {effective} + CASE WHEN is_largest THEN effective_rest ELSE 0 END AS effective_cost
      FROM {items} JOIN rests USING (item_id), shares) WHERE cost <> 0 OR effective_cost <> 0
      UNION ALL
      SELECT item_id, origin_month,
        CASE WHEN allocator_id IS NULL THEN 'unchecked_allocated' ELSE 'checked_allocated' END, 'item',
        CASE WHEN allocator_id IS NULL THEN 'no_allocator' END, NULL, NULL, NULL, cost, effective_cost FROM {items}
    ) TO '{target}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"""


def splitting(folder: Path, items: int, accounts: int, runs: int) -> Iterator[Row]:
    workspace = prepared(folder / "splitting", items, accounts, differing=100)
    target = folder / "splits_by_hand.parquet"

    def theirs() -> None:
        with workspace.lake.connect() as connection:
            connection.execute(by_hand(workspace, target))

    split(workspace)
    theirs()
    _check_same(workspace, target)
    what = f"splitting, {items:,} items × {accounts}"
    yield compared(f"{what}, both measures", lambda: split(workspace), theirs, runs, "≤ 1.3")
    target.unlink()
    same, few = (prepared(folder / f"differing_{n}", items, accounts, differing=n) for n in (0, 10))
    split(same)
    split(few)
    yield compared(f"{what}, 10 % differ, against none", lambda: split(few), lambda: split(same), runs, "≤ 1.25")
    for other in (same, few):
        shutil.rmtree(other.lake.root)
    ours = measured(lambda: split(workspace))
    splits = workspace.lake.rows(Allocations.name, MONTH) - items
    # The short form does not make its environment.
    if LIBRARY.exists():
        yield _library(ours.wall, ours.cpu, splits, accounts)
    yield _evaluation(5_000_000, 20_000)
    yield from _reading(workspace)
    yield from pages(workspace, MONTH, splits)
    shutil.rmtree(workspace.lake.root)


def _check_same(workspace: Workspace, target: Path) -> None:
    query = "SELECT kind, count(*), sum(cost), sum(effective_cost), "
    query += "bit_xor(hash(item_id, target_account_id, cost, effective_cost)) FROM '{}' GROUP BY kind ORDER BY 1"
    with duckdb.connect() as connection:
        ours = connection.execute(query.format(workspace.lake.path(Allocations.name, MONTH))).fetchall()
        theirs = connection.execute(query.format(target)).fetchall()
    if ours != theirs:
        raise SystemExit(f"the two sides differ: {ours} and {theirs}")


def _library(wall: float, cpu: float, splits: int, accounts: int) -> Row:
    items = 2_000
    script = str(Path(__file__).parent / "library_splits.py")
    seconds, processor = map(float, command([str(LIBRARY), script, str(items), str(accounts)]).split())
    theirs = items * accounts
    return Row(
        f"splits per second, written and proved, against cloud-cost-allocation in memory ({theirs:,})",
        f"{splits / wall:,.0f} /s",
        f"{theirs / seconds:,.0f} /s",
        (splits / wall) / (theirs / seconds),
        (splits / cpu) / (theirs / processor),
        "≥ 40",
    )


def _evaluation(rows: int, rows_by_simpleeval: int) -> Row:
    formula = parse_formula(FORMULA)
    inputs = "(SELECT (i % 100000)::DOUBLE AS cost, (i % 97 / 97)::DOUBLE AS usage, 50::DOUBLE AS accounts, "
    inputs += f"0.5::DOUBLE AS group_usage FROM range({rows}) AS r(i))"
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE inputs AS FROM {inputs}")
        ours = measured(
            lambda: connection.execute(f"SELECT sum(result) FROM ({select_sql(formula, 'inputs')})").fetchall()
        )

    def by_row() -> None:
        for i in range(rows_by_simpleeval):
            evaluate(formula, cost=i, usage=i % 97 / 97, accounts=50, group_usage=0.5, active_accounts=50)

    theirs = measured(by_row)
    return Row(
        "formulas per second, against simpleeval row by row",
        f"{rows / ours.wall:,.0f} /s",
        f"{rows_by_simpleeval / theirs.wall:,.0f} /s",
        (rows / ours.wall) / (rows_by_simpleeval / theirs.wall),
        (rows / ours.cpu) / (rows_by_simpleeval / theirs.cpu),
        "≥ 30",
    )


def _reading(workspace: Workspace) -> Iterator[Row]:
    with workspace.lake.connect() as connection:
        for name, view in views(workspace).items():
            connection.execute(f"CREATE VIEW {name} AS {view}")
        items = connection.execute("SELECT item_id FROM matched_items WHERE item_id > '8' LIMIT 1").fetchall()
        month = f"booking_month = '{MONTH}'"
        item = f"SELECT * FROM allocations WHERE {month} AND item_id = '{items[0][0]}'"
        account = (
            "SELECT category, source_account, service_code, currency, sum(cost) FROM allocations "
            f"WHERE {month} AND target_account = '100000000007' GROUP BY ALL"
        )
        group = (
            f"SELECT target_account, kind, currency, sum(cost) FROM allocations WHERE {month} "
            "AND kind <> 'item' AND service_code = 'Service03' GROUP BY ALL"
        )
        targets = {
            "one item": (item, "≤ 0.1 s"),
            "one account": (account, "≤ 0.3 s"),
            "one cost group": (group, "≤ 0.5 s"),
        }
        for what, (query, target) in targets.items():
            connection.execute(query).fetchall()
            took = measured(lambda query=query: connection.execute(query).fetchall())
            yield Row(f"reading {what} through the view", f"{took.wall:.2f} s", "", took.wall, took.cpu, target)
