"""Rules of FOCUS 1.3 and 1.4 that focus-validator has no model of: allocated charges, and the data sets beside them."""

import json

import duckdb
import pytest

from octo_pipeline.outputs.focus.columns import BILLING_PERIOD, INVOICE_DETAIL
from octo_pipeline.outputs.focus.export import export_focus
from octo_pipeline.tables.account_costs import AccountCosts
from tests.support.case import make, publish, run
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator
from tests.support.workspaces import workspace_in


@pytest.fixture
def exported(tmp_path):
    """Reads a data set of a month with an invoiced, distributed fee."""
    workspace = workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [fee_allocator()])
    with duckdb.connect() as connection:
        path = workspace.lake.path("cost_line_items", MONTH)
        connection.execute(f"CREATE TABLE lines AS SELECT * REPLACE ('R1' AS invoice_id) FROM '{path}'")
        publish(workspace.lake, connection, "cost_line_items", MONTH, "FROM lines")
    workspace = make(run(workspace, [MONTH]), AccountCosts(), [MONTH])
    export_focus(workspace, [MONTH], tmp_path / "out", "1.4")

    def rows(dataset: str) -> list[dict[str, object]]:
        with duckdb.connect() as connection:
            file = tmp_path / "out" / dataset / f"billing_period={MONTH}" / "focus.parquet"
            result = connection.execute(f"SELECT * FROM read_parquet('{file}', hive_partitioning = false)")
            names = [column[0] for column in result.description]
            return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    return rows


def test_only_allocated_charges_have_a_method(exported):
    for row in exported("cost_and_usage"):
        is_allocated = row["x_Kind"] != "charge"
        for column in ("AllocatedMethodId", "AllocatedMethodDetails", "AllocatedResourceId"):
            assert (row[column] is not None) == is_allocated, column


def test_the_details_of_a_method_have_the_keys_of_the_standard(exported):
    for row in exported("cost_and_usage"):
        if row["AllocatedMethodDetails"]:
            details = json.loads(row["AllocatedMethodDetails"])
            assert details.keys() == {"Elements"}
            for element in details["Elements"]:
                assert element.keys() == {"AllocatedRatio", "UsageUnit", "UsageQuantity"}


def test_a_billing_period_has_all_its_columns_and_no_null(exported):
    [period] = exported("billing_period")
    assert tuple(period) == BILLING_PERIOD
    assert len(period) == 6
    assert None not in period.values()
    assert period["BillingPeriodStatus"] == "Open"


def test_every_charge_of_an_invoice_names_a_row_of_it(exported):
    details = exported("invoice_detail")
    assert {tuple(row) for row in details} == {INVOICE_DETAIL}
    assert len(INVOICE_DETAIL) == 22
    billed = {row["InvoiceDetailId"]: row["BilledCost"] for row in details}
    assert billed == {"R1/USD/Usage": 40, "R1/USD/Purchase": 100}
    assert {row["InvoiceDetailId"] for row in exported("cost_and_usage")} == set(billed)
