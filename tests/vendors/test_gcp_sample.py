"""The sample billing export: deterministic, consistent as an invoice is, and readable as Google's is."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.gcp.billing_folder import GcpFolderSource
from octo_pipeline.vendors.gcp.sample import BILLING_ACCOUNT, PLATFORM, WAREHOUSE, write_billing_export

MONTHS = ["2024-01", "2024-02"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> list[Path]:
    return write_billing_export(tmp_path_factory.mktemp("sample"), months=MONTHS)


def rows(files: list[Path], query: str) -> list[tuple]:
    with duckdb.connect() as con:
        return con.execute(query.format(f"read_parquet({[str(file) for file in files]})")).fetchall()


def test_a_month_is_a_file_where_the_folder_source_looks(sample):
    assert [file.name for file in sample] == ["202401-000000000000.parquet", "202402-000000000000.parquet"]
    source = GcpFolderSource(sample[0].parent.parent.parent)
    assert [one.account for month in MONTHS for one in source.available(month)] == [BILLING_ACCOUNT] * 2


def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(sample, tmp_path):
    again = write_billing_export(tmp_path / "again", months=MONTHS)
    other = write_billing_export(tmp_path / "other", months=MONTHS, seed=8)

    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in sample]
    assert other[0].read_bytes() != sample[0].read_bytes()


def test_an_invoice_is_a_whole_number_of_cents_and_its_tax_is_of_all_else(sample):
    net = (
        "sum(cost::DECIMAL(38, 9) + coalesce(list_sum(list_transform(credits, lambda c: c.amount::DECIMAL(38, 9))), 0))"
    )
    for file in sample:
        ((total, tax, rounding),) = rows(
            [file],
            f"SELECT {net}, {net} FILTER (cost_type = 'tax'), {net} FILTER (cost_type = 'rounding_error') FROM {{}}",
        )
        assert total == round(total, 2)
        assert abs(rounding) <= Decimal("0.005")
        assert abs(tax - (total - tax - rounding) * Decimal("0.2")) < Decimal("1e-8")


def test_a_month_has_what_allocation_is_about(sample):
    found = rows(
        sample,
        "SELECT count(DISTINCT project.id), count(*) FILTER (project.id IS NULL), "
        f"count(*) FILTER (project.id = '{PLATFORM}' AND sku.description LIKE 'Commitment%'), "
        f"count(*) FILTER (project.id = '{WAREHOUSE}' AND service.description = 'BigQuery') > 100, "
        "count(*) FILTER (len(list_filter(labels, lambda l: l.key = 'k8s-namespace')) > 0) > 1000, "
        "min(len(project.labels)), count(DISTINCT currency) FROM {}",
    )
    assert found == [(8, 8, 2 * (31 + 29), True, True, 3, 1)]
    credits = rows(sample, "SELECT DISTINCT unnest(credits).type FROM {} ORDER BY 1")
    assert [name for (name,) in credits] == ["COMMITTED_USAGE_DISCOUNT", "PROMOTION", "SUSTAINED_USAGE_DISCOUNT"]
    only_last = "SELECT invoice.month FROM {} WHERE cost_type = 'adjustment' OR sku.description = 'Programme credit'"
    assert rows(sample, only_last) == [("202402",), ("202402",)]


def test_some_usage_of_an_invoice_is_of_the_month_before(sample):
    month = "strftime({}(usage_start_time) AT TIME ZONE 'UTC', '%Y-%m')"
    query = f"SELECT {month.format('min')}, {month.format('max')} FROM {{}}"

    assert rows(sample[1:], query) == [("2024-01", "2024-02")]


def test_a_commitment_saves_more_than_it_costs(sample):
    ((saved, fees),) = rows(
        sample,
        "SELECT -sum(list_sum(list_transform(list_filter(credits, lambda c: c.type LIKE 'COMMITTED%'), lambda c: c.amount))), "
        "sum(cost) FILTER (sku.description LIKE 'Commitment%') FROM {}",
    )
    assert 0 < fees < saved


def test_the_sample_is_made_into_line_items(sample, workspace):
    source = GcpFolderSource(sample[0].parent.parent.parent)
    source.land(workspace.lake.root, "2024-02", datetime(2024, 3, 3, tzinfo=UTC))
    materialise(workspace, CostLineItems(), "2024-02")

    items = workspace.lake.scan("cost_line_items", ["2024-02"], CostLineItems.columns)
    with workspace.lake.connect() as con:
        categories = con.execute(f"SELECT DISTINCT charge_category FROM {items} ORDER BY 1").fetchall()
        saved = con.execute(
            f"SELECT commitment_discount_id, sum(list_cost - effective_cost) > 0 FROM {items} "
            "WHERE savings_kind = 'used' GROUP BY 1 ORDER BY 1"
        ).fetchall()
    assert categories == [("Adjustment",), ("Credit",), ("Tax",), ("Usage",)]
    assert saved == [("commitment-1", True), ("commitment-2", True)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"months": []}, "at least one month"),
        ({"months": ["2024-13"]}, "2024-13"),
        ({"months": ["2024-01", "2024-01"]}, "remove the repeated one"),
        ({"months": MONTHS, "projects": 2}, "at least 3"),
        ({"months": MONTHS, "lines": 99}, "at least 100"),
    ],
)
def test_an_argument_out_of_range_is_refused(tmp_path, arguments, said):
    with pytest.raises(OctoError, match=said):
        write_billing_export(tmp_path, **arguments)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OctoError, match=str(tmp_path / "file")):
        write_billing_export(tmp_path / "file", months=MONTHS)
