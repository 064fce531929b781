"""The check that invoices bill what the line items that name them add up to."""

from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from octo_pipeline.services.checks import CheckResult
from octo_pipeline.tables.invoice_costs import InvoiceCosts
from octo_pipeline.workspace import Workspace
from tests.support.case import publish
from tests.support.small_month import MONTH, line_item
from tests.support.workspaces import run_check, workspace_in


def checked(folder: Path, currency: str, invoiced: str, listed: str) -> CheckResult:
    """The check of a month with one invoice, which a line item of an amount names."""
    workspace = workspace_in(folder, [line_item("1", listed, billing_currency=currency)], [])
    _name_invoice(workspace)
    row = f"'{MONTH}', 'aws', '999999999999', 'R1', 'AWS', '{currency}', {invoiced}"
    columns = ", ".join(f"c{i}::{kind} AS {name}" for i, (name, kind) in enumerate(InvoiceCosts.columns.items()))
    names = ", ".join(f"c{i}" for i in range(len(InvoiceCosts.columns)))
    with duckdb.connect() as connection:
        publish(
            workspace.lake, connection, InvoiceCosts.name, MONTH, f"SELECT {columns} FROM (VALUES ({row})) t({names})"
        )
    return run_check("invoices_reconcile", workspace, MONTH)


def _name_invoice(workspace: Workspace) -> None:
    lake = workspace.lake
    path = lake.path("cost_line_items", MONTH)
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE lines AS SELECT * REPLACE ('R1' AS invoice_id) FROM '{path}'")
        publish(lake, connection, "cost_line_items", MONTH, "FROM lines")


@pytest.mark.parametrize(
    ("currency", "invoiced", "listed"),
    # A hundred minor units: 1.00 USD, 100 JPY, 0.100 KWD.
    [("USD", "11", "10"), ("JPY", "110", "10"), ("KWD", "10.1", "10")],
)
def test_within_the_tolerance_it_passes(tmp_path, currency, invoiced, listed):
    assert checked(tmp_path, currency, invoiced, listed).passed


@pytest.mark.parametrize(
    ("currency", "invoiced", "listed", "tolerance"),
    [("USD", "11.01", "10", "1"), ("JPY", "111", "10", "100"), ("KWD", "10.101", "10", "0.1")],
)
def test_beyond_the_tolerance_it_names_the_invoice(tmp_path, currency, invoiced, listed, tolerance):
    result = checked(tmp_path, currency, invoiced, listed)

    assert not result.passed
    assert "on 1 invoice than in the line items that name it, such as R1 of payer 999999999999" in result.summary
    difference = Decimal(invoiced) - Decimal(listed)
    assert result.details == (
        ("999999999999", "R1", currency, Decimal(invoiced), Decimal(listed), difference, Decimal(tolerance)),
    )
