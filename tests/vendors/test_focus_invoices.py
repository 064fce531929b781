"""The invoices of FOCUS files: on line items, and by invoice from the source rows."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from octo_pipeline.services.sources import folder_source
from octo_pipeline.tables.graph import order
from octo_pipeline.tables.invoice_costs import InvoiceCosts
from octo_pipeline.tables.table import materialise
from tests.support.focus_files import ACCOUNT, MONTH, ROW, line_items, write_csv

NOW = datetime(2024, 6, 1, tzinfo=UTC)
INVOICED = ROW | {"InvoiceId": "i-1", "InvoiceIssuerName": "Microsoft Ltd.", "PublisherName": "Microsoft"}
SOLD = ROW | {"InvoiceId": "i-2", "InvoiceIssuerName": "Microsoft Ltd.", "PublisherName": "A seller", "BilledCost": "3"}


@pytest.mark.parametrize("kind", ["azure", "focus"])
def test_invoices_of_azures_export_and_of_anyones_files(workspace, tmp_path, kind):
    write_csv(tmp_path / "in" / "focus.csv", INVOICED, SOLD, ROW | {"BilledCost": "1"})
    folder_source(kind, tmp_path / "in").land(workspace.lake.root, MONTH, NOW)

    assert line_items(workspace, "publisher_name, invoice_id, invoice_issuer_name, billed_cost") == [
        ("A seller", "i-2", "Microsoft Ltd.", Decimal(3)),
        ("Microsoft", "i-1", "Microsoft Ltd.", Decimal(10)),
        (None, None, None, Decimal(1)),
    ]
    for table in order():
        materialise(workspace, table, MONTH)
    with workspace.lake.connect() as connection:
        invoices = workspace.lake.scan("invoice_costs", [MONTH], InvoiceCosts.columns)
        rows = connection.execute(
            f"SELECT vendor, billing_account_id, invoice_id, invoice_issuer_name, billed_cost FROM {invoices} ORDER BY ALL"
        ).fetchall()
    assert rows == [
        ("azure", ACCOUNT, "i-1", "Microsoft Ltd.", Decimal(10)),
        ("azure", ACCOUNT, "i-2", "Microsoft Ltd.", Decimal(3)),
        ("azure", ACCOUNT, None, None, Decimal(1)),
    ]
