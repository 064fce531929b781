"""What Azure's line items say of invoices and sellers, and how their text is trimmed."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.invoice_costs import InvoiceCosts
from octo_pipeline.tables.table import materialise
from tests.support.azure_exports import AMORTISED, BOUGHT, COVERED, FOCUS, MONTH, USAGE, csv_bytes, write

NOW = datetime(2024, 6, 10, tzinfo=UTC)
MARKETPLACE = USAGE | {"Cost": "5", "PublisherName": "Contoso", "invoiceId": "I-2"}
BY_MICROSOFT = USAGE | {"PublisherName": "Microsoft", "invoiceId": "I-1"}


@pytest.fixture
def made(tmp_path, workspace):
    """Makes the line items and invoices of loose files."""

    def make(table, columns, **files):
        (tmp_path / "loose").mkdir()
        source = write(tmp_path / "loose", {f"{name}.csv": csv_bytes(*rows) for name, rows in files.items()})
        source.land(workspace.lake.root, MONTH, NOW)
        materialise(workspace, CostLineItems(), MONTH)
        materialise(workspace, InvoiceCosts(), MONTH)
        with workspace.lake.connect() as con:
            scanned = workspace.lake.scan(table.name, [MONTH], table.columns)
            return con.execute(f"SELECT {columns} FROM {scanned} ORDER BY ALL").fetchall()

    return make


def test_sellers_and_invoices(made):
    found = made(
        CostLineItems,
        "publisher_name, invoice_id, invoice_issuer_name, billed_cost",
        actual=[BY_MICROSOFT, MARKETPLACE],
    )
    assert found == [
        ("Contoso", "I-2", "Microsoft", Decimal(5)),
        ("Microsoft", "I-1", "Microsoft", Decimal("1.5")),
    ]


def test_an_invoice_has_what_was_billed_alone(made):
    """Amortised cost is on no invoice, and the rows that it repeats are not counted again."""
    invoiced = {"PublisherName": "Microsoft", "InvoiceNumber": "I-1"}
    found = made(
        InvoiceCosts,
        "billing_account_id, invoice_id, invoice_issuer_name, currency, billed_cost",
        actual=[USAGE | invoiced, COVERED | invoiced, BOUGHT | invoiced | {"InvoiceNumber": ""}],
        amortized=[USAGE | invoiced, AMORTISED | invoiced],
    )
    assert found == [
        ("1234", "I-1", "Microsoft", "USD", Decimal("1.5")),
        ("1234", None, "Microsoft", "USD", Decimal(90)),
    ]


def test_invoices_of_focus(made):
    invoiced = FOCUS | {"InvoiceId": "I-1", "InvoiceIssuerName": "Microsoft", "PublisherName": "Contoso"}
    columns = "billing_account_id, invoice_id, invoice_issuer_name, billed_cost"
    assert made(InvoiceCosts, columns, focus=[invoiced]) == [("1234", "I-1", "Microsoft", Decimal("1.5"))]


@pytest.mark.parametrize("space", ["\t", "\u00a0", "\u3000", "\u2028", "\r\n", "\u0085", "  "])
def test_text_is_trimmed_of_all_white_space(made, space):
    """But the values of tags stay as they were exported."""
    padded = USAGE | {
        name: f"{space}{USAGE[name]}{space}"
        for name in ("MeterCategory", "SubscriptionId", "BillingAccountId", "ChargeType")
    }
    rows = [USAGE, padded | {"Date": "05/04/2024", "Product": space, "Tags": '"team": " web "'}]
    columns = "billing_account_id, sub_account_id, service_code, line_type, service_name, tags"
    assert made(CostLineItems, columns, actual=rows) == [
        ("1234", "aaaa-1", "Storage", "Usage", "Blob - Reads", {"team": "web"}),
        ("1234", "aaaa-1", "Storage", "Usage", None, {"team": " web "}),
    ]
