"""A month with all three vendors in three currencies, through every table: one meaning, nothing lost."""

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from octo_pipeline.services.checks import CHECKS
from octo_pipeline.services.landing import land_month
from octo_pipeline.services.sources import sources
from octo_pipeline.settings import Settings
from octo_pipeline.tables import item_parts
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.aws.sample import write_cur
from octo_pipeline.vendors.azure.sample import write_csp
from octo_pipeline.vendors.gcp.sample import write_billing_export
from octo_pipeline.workspace import Workspace

# The vendors with sample months.
SAMPLED = ("aws", "azure", "gcp")
ROOT = Path(__file__).parent.parent.parent
MONTH = "2024-03"
CURRENCIES = {"aws": "USD", "azure": "GBP", "gcp": "EUR"}


@pytest.fixture(scope="module")
def month(tmp_path_factory) -> Workspace:
    """March of the sample, with the shipped rules."""
    folder = tmp_path_factory.mktemp("three")
    write_cur(folder, months=[MONTH], accounts=6, lines=500)
    write_csp(folder, months=[MONTH], lines=300)
    write_billing_export(folder, months=[MONTH], lines=300)
    settings = Settings(
        lake=str(folder / "lake"),
        config=ROOT / "allocator_configs",
        aws_exports=folder / "aws",
        azure_exports=folder / "azure",
        gcp_exports=folder / "gcp",
    )
    workspace = Workspace(settings)
    for vendor in SAMPLED:
        landed = land_month(workspace, vendor, sources(workspace, vendor), MONTH)
        assert (landed.new, landed.failures) == (1, ())
    for table in TABLES:
        assert materialise(workspace, table, MONTH).outcome == "published"
    return workspace


def query(workspace: Workspace, text: str) -> list[tuple]:
    with duckdb.connect() as connection:
        return connection.execute(text.replace("{lake}", str(workspace.lake.root))).fetchall()


def test_each_vendors_bill_is_there_in_its_currency(month):
    rows = query(
        month,
        "SELECT vendor, billing_currency, sum(billed_cost) > 0, count(DISTINCT sub_account_id) > 2 "
        "FROM '{lake}/cost_line_items/*/*.parquet' GROUP BY ALL ORDER BY ALL",
    )
    assert rows == [(vendor, currency, True, True) for vendor, currency in sorted(CURRENCIES.items())]


def test_every_check_of_the_month_that_is_an_error_passes(month):
    failed = {c.name: r.summary for c in CHECKS if c.severity == "error" and not (r := c.run(month, MONTH)).passed}
    assert failed == {}


def test_what_one_vendor_billed_is_shared_by_usage_at_all_three_in_its_own_currency(month):
    rows = query(
        month,
        "SELECT a.kind, count(DISTINCT l.vendor), sum(a.cost), any_value(m.cost), any_value(m.billing_currency) "
        "FROM '{lake}/allocations/*/*.parquet' AS a JOIN '{lake}/matched_items/*/*.parquet' AS m USING (item_id) "
        "JOIN (SELECT DISTINCT vendor, sub_account_id FROM '{lake}/cost_line_items/*/*.parquet') AS l "
        "ON l.sub_account_id = a.target_account_id "
        "WHERE m.allocator_id = 'azure-savings-plan' AND a.kind <> 'item' GROUP BY ALL",
    )
    ((kind, vendors, cost, item, currency),) = rows
    assert (kind, vendors, currency) == ("split", 3, "GBP")
    assert cost == item


def test_a_cost_group_is_found_by_tags_and_project_labels(month):
    rows = query(
        month,
        "SELECT vendor, currency, sum(cost) > 0 FROM '{lake}/cost_group_costs/*/*.parquet' "
        "WHERE cost_group_id = 'production' AND section = 'direct' GROUP BY ALL ORDER BY ALL",
    )
    assert rows == [(vendor, currency, True) for vendor, currency in sorted(CURRENCIES.items())]


def test_commitments_of_aws_and_google_give_savings(month):
    rows = query(
        month,
        "SELECT DISTINCT vendor, commitment_discount_type FROM '{lake}/matched_items/*/*.parquet' "
        "WHERE category = 'savings' AND cost <> 0 ORDER BY ALL",
    )
    assert ("gcp", "CUD") in rows
    assert {("aws", "RI"), ("aws", "SP")} & set(rows)


def test_what_accounts_finally_pay_is_the_bill_currency_by_currency(month):
    rows = query(
        month,
        "SELECT currency, sum(final_cost) - sum(billed) FROM '{lake}/account_costs/*/*.parquet' GROUP BY ALL",
    )
    # The yearly fee of an earlier month is booked in USD; the other currencies have nothing from elsewhere.
    assert {currency: difference for currency, difference in rows if currency != "USD"} == {
        "EUR": Decimal(0),
        "GBP": Decimal(0),
    }


def test_a_month_that_is_made_in_parts_is_the_same_month(month, monkeypatch):
    names = ("allocations", "account_costs", "cost_group_costs", "prepayments")
    whole = {name: made(month, name) for name in names}
    monkeypatch.setattr(item_parts, "SPLITS_PER_PART", month.lake.rows("allocations", MONTH) // 7)
    for table in (table for table in TABLES if table.name in names):
        month.lake.remove(table.name, MONTH)
        assert materialise(month, table, MONTH).outcome == "published"
    assert len(month.lake.metadata("allocations", MONTH).facts["parts_of_items"]) >= 7
    assert {name: made(month, name) for name in names} == whole


def made(workspace: Workspace, table: str) -> tuple:
    """The fingerprint, the facts and a digest of the rows of the month, which the parts do not change."""
    metadata = workspace.lake.metadata(table, MONTH)
    facts = {name: fact for name, fact in metadata.facts.items() if not name.startswith("parts")}
    rows = query(
        workspace,
        f"SELECT count(*), sum(hash(t)::HUGEINT)::VARCHAR FROM '{{lake}}/{table}/month={MONTH}/*.parquet' AS t",
    )
    return metadata.fingerprint, facts, rows


@pytest.mark.slow
def test_the_sample_command_writes_what_a_run_takes(tmp_path):
    environment = os.environ | {
        "OCTO_LAKE": str(tmp_path / "lake"),
        "OCTO_CONFIG": str(ROOT / "allocator_configs"),
        **{f"OCTO_{vendor.upper()}_EXPORTS": str(tmp_path / "exports" / vendor) for vendor in SAMPLED},
    }
    environment.pop("DAGSTER_HOME", None)
    program = "from octo_pipeline.cli.main import main; main()"

    def octo(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = octo(
        "sample", str(tmp_path / "exports"), "--from", MONTH, "--to", MONTH, "--accounts", "4", "--lines", "400"
    )
    assert "AWS Cost and Usage Report (USD), an Azure partner's usage (GBP)" in said
    said = octo("run", "--month", MONTH)
    assert all(f" {currency} in " in said for currency in CURRENCIES.values())
    deliveries = json.loads(octo("deliveries", "list", "--output", "json"))
    assert sorted(one["vendor"] for one in deliveries) == list(SAMPLED)
