"""`make bench`: how long the pipeline takes, as ratios to the least work that could give the same result.

All ratios of a table come from one run: both sides are timed in turn, so a machine that slows down slows both.
Nothing here asserts; docs/performance.md says how to read it.
"""

import argparse
import json
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
from rich.console import Console
from rich.table import Table

from octo_pipeline.allocation.allocator import parse_allocator
from octo_pipeline.allocation.columns import LINE_ITEM_COLUMNS
from octo_pipeline.allocation.matching import match_items
from octo_pipeline.sample.aws import write_cur
from octo_pipeline.settings import Settings
from octo_pipeline.sources.aws_cur import land_cur
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.table import materialise
from octo_pipeline.tables.workspace import Workspace

MONTH = "2024-01"


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def paired(work: Callable[[], object], other: Callable[[], object], runs: int) -> tuple[float, float, float]:
    """Median seconds of both and the median of their ratio, run in turn."""
    times = [(seconds(work), seconds(other)) for _ in range(runs)]
    return (
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        statistics.median(a / b for a, b in times),
    )


def hand_written(files: list[Path], target: Path) -> str:
    """The same table by one query that knows exactly these files: no checks, no proof, no other schemas."""
    names = ", ".join(f"'{f}'" for f in files)
    read = (
        f"read_csv([{names}], all_varchar = true, header = true)"
        if files[0].name.endswith(".csv.gz")
        else f"read_parquet([{names}])"
    )

    def column(name: str) -> str:
        if files[0].name.endswith(".csv.gz"):
            return CSV_NAMES[name]
        return name

    def text(name: str) -> str:
        return f"nullif(trim({column(name)}), '')"

    def money(name: str) -> str:
        return (
            f"nullif({column(name)}::VARCHAR, '')::DECIMAL(38,10)"
            if files[0].name.endswith(".csv.gz")
            else f"{name}::DECIMAL(38,10)"
        )

    tags = ", ".join(f"'\"{key}\":' || to_json({text(name)})" for key, name in sorted(TAGS.items()))
    arn, plan = text("reservation_reservation_a_r_n"), text("savings_plan_savings_plan_a_r_n")
    return f"""
    COPY (
      SELECT * REPLACE (tags::JSON::MAP(VARCHAR, VARCHAR) AS tags), MAP {{}}::MAP(VARCHAR, VARCHAR) AS project_labels FROM (
      SELECT strftime({column("bill_billing_period_start_date")}::TIMESTAMP, '%Y-%m') AS billing_month, 'aws' AS vendor,
        {text("bill_payer_account_id")} AS billing_account_id, {text("line_item_usage_account_id")} AS sub_account_id,
        {column("line_item_usage_start_date")}::TIMESTAMP::DATE AS usage_date, {text("line_item_line_item_type")} AS line_type,
        CASE WHEN line_type IN ('Usage', 'DiscountedUsage', 'SavingsPlanCoveredUsage', 'SavingsPlanNegation') THEN 'Usage'
          WHEN line_type IN ('Fee', 'RIFee', 'SavingsPlanRecurringFee', 'SavingsPlanUpfrontFee') THEN 'Purchase'
          WHEN line_type = 'Tax' THEN 'Tax' ELSE 'Credit' END AS charge_category,
        {text("line_item_product_code")} AS service_code, {text("line_item_line_item_description")} AS charge_description,
        {text("line_item_operation")} AS operation, {text("line_item_usage_type")} AS usage_type,
        {text("product_region")} AS region_id, {text("line_item_currency_code")} AS billing_currency,
        CASE WHEN {arn} IS NOT NULL THEN 'RI' WHEN {plan} IS NOT NULL THEN 'SP' END AS commitment_discount_type,
        coalesce({arn}, {plan}) AS commitment_discount_id, {text("pricing_offering_class")} AS offer_class,
        CASE WHEN line_type IN ('DiscountedUsage', 'SavingsPlanCoveredUsage') THEN 'used'
          WHEN line_type IN ('RIFee', 'SavingsPlanRecurringFee') THEN 'unused' END AS savings_kind,
        '{{' || concat_ws(',', {tags}) || '}}' AS tags,
        max({text("product_product_name")}) AS service_name,
        sum({money("line_item_usage_amount")}) AS consumed_quantity, sum({money("line_item_unblended_cost")}) AS billed_cost,
        sum(CASE {text("line_item_line_item_type")} WHEN 'SavingsPlanCoveredUsage' THEN {money("savings_plan_savings_plan_effective_cost")}
          WHEN 'SavingsPlanRecurringFee' THEN {money("savings_plan_total_commitment_to_date")} - {money("savings_plan_used_commitment")}
          WHEN 'DiscountedUsage' THEN {money("reservation_effective_cost")} WHEN 'SavingsPlanNegation' THEN 0
          WHEN 'RIFee' THEN coalesce({money("reservation_unused_amortized_upfront_fee_for_billing_period")}, 0)
            + coalesce({money("reservation_unused_recurring_fee")}, 0)
          WHEN 'SavingsPlanUpfrontFee' THEN 0
          WHEN 'Fee' THEN CASE WHEN {arn} IS NULL THEN {money("line_item_unblended_cost")} ELSE 0 END
          ELSE {money("line_item_unblended_cost")} END) AS effective_cost,
        sum(coalesce({money("pricing_public_on_demand_cost")}, {money("line_item_unblended_cost")})) AS list_cost,
        count(*) AS line_count
      FROM {read} GROUP BY ALL)
    ) TO '{target}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"""


TAGS: dict[str, str] = {}
CSV_NAMES: dict[str, str] = {}


def learn_names(files: list[Path]) -> None:
    """The columns of the files by their Parquet names, and which are user tags."""
    source = f"read_csv('{files[0]}', all_varchar = true)" if files[0].name.endswith(".csv.gz") else f"'{files[0]}'"
    with duckdb.connect() as connection:
        found = [row[0] for row in connection.execute(f"DESCRIBE FROM {source}").fetchall()]
    with tempfile.TemporaryDirectory() as folder:
        write_cur(Path(folder), months=[MONTH], accounts=3, lines=100)
        parquet = next(Path(folder).rglob("*.parquet"))
        with duckdb.connect() as connection:
            plain = [row[0] for row in connection.execute(f"DESCRIBE FROM '{parquet}'").fetchall()]
    squashed = {name.replace("_", "").lower(): name for name in plain}
    for name in found:
        CSV_NAMES[squashed["".join(c for c in name.lower() if c.isalnum())]] = f'"{name}"'
    TAGS.update(
        {name.removeprefix("resource_tags_user_"): name for name in plain if name.startswith("resource_tags_user_")}
    )


def normalisation(folder: Path, lines: int, runs: int, format: str) -> tuple[str, float, float, float]:
    exports = folder / f"exports-{format}"
    write_cur(exports, months=[MONTH], accounts=400, lines=lines, files=4, format=format)
    workspace = Workspace(Settings(lake=folder / f"lake-{format}", config=folder))
    land_cur(workspace.lake.root, exports, month=MONTH, fetched_at=datetime.now(UTC))
    files = sorted(p for p in exports.rglob("*") if p.name.endswith((".parquet", ".csv.gz")))
    learn_names(files)
    table = CostLineItems()

    def ours() -> None:
        workspace.lake.remove(table.name, MONTH)
        materialise(workspace, table, MONTH)

    def theirs() -> None:
        with workspace.lake.connect() as connection:
            connection.execute(hand_written(files, folder / "by_hand.parquet"))

    ours()
    theirs()
    check_same(workspace, folder / "by_hand.parquet")
    result = paired(ours, theirs, runs)
    shutil.rmtree(exports)
    return f"normalisation, {lines:,} lines, {format}", *result


def check_same(workspace: Workspace, by_hand: Path) -> None:
    """A ratio means something only if both sides wrote the same table."""
    with duckdb.connect() as connection:
        query = "SELECT count(*), sum(billed_cost), sum(effective_cost), sum(list_cost), sum(line_count) FROM "
        ours = connection.execute(f"{query} '{workspace.lake.path('cost_line_items', MONTH)}'").fetchone()
        theirs = connection.execute(f"{query} '{by_hand}'").fetchone()
    if ours != theirs:
        raise SystemExit(f"the two sides differ: {ours} and {theirs}")


def matching(folder: Path, lines: int, runs: int) -> tuple[str, float, float, float]:
    """200 allocators with three criteria each over account-usage lines, none of which folds with another."""
    allocators = [parse_allocator(json.dumps(rule(i)), file=f"a{i}.json") for i in range(200)]
    source = folder / "lines.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({synthetic_line_items(lines)}) TO '{source}' (FORMAT parquet)")
    columns = sorted({c for a in allocators for criteria in a.criteria for c in criteria})
    patterns = {(column, condition) for a in allocators for m in a.criteria for column, condition in m.items()}

    def ours() -> None:
        with duckdb.connect(config={"preserve_insertion_order": "false"}) as connection:
            query = match_items(connection, f"read_parquet('{source}')", MONTH, allocators)
            connection.execute(f"CREATE TABLE matched AS {query}")

    def theirs() -> None:
        with duckdb.connect() as connection:
            touched = ", ".join(f"count(DISTINCT hash({c}) % 1000)" for c in columns)
            connection.execute(f"SELECT {touched} FROM '{source}'").fetchall()
            for column in columns:
                connection.execute(f"CREATE TABLE v_{column} AS SELECT DISTINCT {column} AS v FROM '{source}'")
                for condition in {c for name, c in patterns if name == column}:
                    connection.execute(f"SELECT count(*) FROM v_{column} WHERE {condition.sql('v')}").fetchall()

    ours()
    return f"matching, 200 allocators, {lines:,} lines", *paired(ours, theirs, runs)


def rule(i: int) -> dict[str, object]:
    """An allocator whose criteria use equality and patterns, on values that some lines have."""
    return {
        "category": "account",
        "startMonth": MONTH,
        "criteria": [
            {"and": {"account": f"{100000000000 + i}", "productCode": f"re:^Service{i % 30:02d}$"}},
            {"and": {"usageType": f"re:Type{i:04d}", "region": "!re:^eu-"}},
            {"and": {"description": f"re:(?i)item {i} of .* month", "operation": "re:^Run"}},
        ],
        "allocator": [{"type": "account", "value": "100000000000", "formula": "cost"}],
    }


def synthetic_line_items(lines: int) -> str:
    """Account-usage lines with 400 accounts, 30 services and thousands of usage types and descriptions."""
    made = {
        "billing_month": f"'{MONTH}'",
        "vendor": "'aws'",
        "billing_account_id": "'999988887777'",
        "sub_account_id": "(100000000000 + hash(i) % 400)::VARCHAR",
        "usage_date": "DATE '2024-01-01' + (i % 31)::INTEGER",
        "line_type": "'Usage'",
        "charge_category": "'Usage'",
        "service_code": "'Service' || lpad((hash(i + 1) % 30)::VARCHAR, 2, '0')",
        "charge_description": "'item ' || (hash(i + 2) % 11000)::VARCHAR || ' of the month'",
        "operation": "['RunInstances', 'PutObject', 'GetObject', 'Invoke'][(hash(i + 3) % 4 + 1)::INTEGER]",
        "usage_type": "'Type' || lpad((hash(i + 4) % 10000)::VARCHAR, 4, '0')",
        "region_id": "['us-east-1', 'eu-west-1', 'ap-northeast-1'][(hash(i + 5) % 3 + 1)::INTEGER]",
        "billing_currency": "'USD'",
    }
    values = []
    for name, kind in LINE_ITEM_COLUMNS.items():
        if kind.startswith("MAP"):
            values.append(f"MAP {{}}::{kind} AS {name}")
        elif kind.startswith("DECIMAL"):
            values.append(f"(i % 1000 / 7)::{kind} AS {name}")
        else:
            values.append(f"({made.get(name, 'NULL')})::{kind} AS {name}")
    return f"SELECT {', '.join(values)} FROM range({lines}) AS lines(i)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    table = Table(title="ratios of one run (medians)")
    for name in ("what", "ours, s", "the other side, s", "ratio"):
        table.add_column(name, justify="left" if name == "what" else "right")
    with tempfile.TemporaryDirectory(prefix="octo-bench-") as name:
        folder = Path(name)
        for what, ours, theirs, ratio in (
            normalisation(folder, arguments.lines, arguments.runs, "parquet"),
            normalisation(folder, arguments.lines, 1, "csv.gz"),
            matching(folder, arguments.lines, arguments.runs),
        ):
            table.add_row(what, f"{ours:.2f}", f"{theirs:.2f}", f"{ratio:.2f}")
    Console(width=100).print(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    Console().print(f"peak resident memory of the process: {peak:.1f} GiB")


if __name__ == "__main__":
    main()
