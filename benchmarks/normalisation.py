"""Landed CUR files to ``cost_line_items``, against the least work that reads them.

Of Parquet that is one query, written by hand for exactly these files, that writes the same table; of packed CSV it is
DuckDB reading the files into a table of its own.
"""

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from benchmarks.measure import Row, compared
from octo_pipeline.settings import Settings
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.aws.cur import land_cur
from octo_pipeline.vendors.aws.sample import write_cur
from octo_pipeline.workspace import Workspace

MONTH = "2024-01"


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
        coalesce({text("line_item_legal_entity")}, {text("bill_billing_entity")}) AS publisher_name,
        max({text("line_item_usage_account_name")}) AS sub_account_name, max({text("product_product_name")}) AS service_name,
        max({text("bill_invoice_id")}) AS invoice_id, 'Amazon Web Services' AS invoice_issuer_name,
        sum({money("line_item_usage_amount")}) AS consumed_quantity, sum({money("line_item_unblended_cost")}) AS billed_cost,
        sum(CASE {text("line_item_line_item_type")} WHEN 'SavingsPlanCoveredUsage' THEN {money("savings_plan_savings_plan_effective_cost")}
          WHEN 'SavingsPlanRecurringFee' THEN {money("savings_plan_total_commitment_to_date")} - {money("savings_plan_used_commitment")}
          WHEN 'DiscountedUsage' THEN {money("reservation_effective_cost")} WHEN 'SavingsPlanNegation' THEN 0
          WHEN 'RIFee' THEN coalesce({money("reservation_unused_amortized_upfront_fee_for_billing_period")}, 0)
            + coalesce({money("reservation_unused_recurring_fee")}, 0)
          WHEN 'SavingsPlanUpfrontFee' THEN 0
          WHEN 'Fee' THEN CASE WHEN {arn} IS NULL THEN {money("line_item_unblended_cost")} ELSE 0 END
          ELSE {money("line_item_unblended_cost")} END) AS effective_cost,
        sum(coalesce(nullif({money("pricing_public_on_demand_cost")}, 0),
          CASE {text("line_item_line_item_type")} WHEN 'DiscountedUsage' THEN {money("reservation_effective_cost")}
          ELSE {money("line_item_unblended_cost")} END)) AS list_cost,
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


def normalisation(folder: Path, lines: int, runs: int, format: str) -> Row:
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

    def read() -> None:
        with duckdb.connect(config=workspace.lake.duckdb_config()) as connection:
            names = ", ".join(f"'{file}'" for file in files)
            connection.execute(f"CREATE TABLE rows AS FROM read_csv([{names}])")

    ours()
    theirs()
    check_same(workspace, folder / "by_hand.parquet")
    if format == "parquet":
        row = compared(f"normalisation, {lines:,} lines, Parquet", ours, theirs, runs, "≤ 1.15")
    else:
        row = compared(
            f"normalisation, {lines:,} lines, CSV gzip, against DuckDB's own read", ours, read, runs, "≤ 1.4"
        )
    shutil.rmtree(exports)
    shutil.rmtree(workspace.lake.root)
    return row


def check_same(workspace: Workspace, by_hand: Path) -> None:
    """A ratio means something only if both sides wrote the same table."""
    with duckdb.connect() as connection:
        query = "SELECT count(*), sum(billed_cost), sum(effective_cost), sum(list_cost), sum(line_count) FROM "
        files = (workspace.lake.path("cost_line_items", MONTH), by_hand)
        relations = [f"read_parquet('{file}', hive_partitioning = false)" for file in files]
        ours, theirs = (
            (
                connection.execute(f"{query} {relation}").fetchone(),
                sorted(row[0] for row in connection.execute(f"DESCRIBE FROM {relation}").fetchall()),
            )
            for relation in relations
        )
    if ours != theirs:
        raise SystemExit(f"the two sides differ: {ours} and {theirs}")
