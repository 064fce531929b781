"""``invoice_costs``: what each invoice bills, from the vendors' own rows."""

from typing import ClassVar

from octo_pipeline.allocation.proofs import Proof
from octo_pipeline.lake.lake import PartitionMetadata, Staged
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS, MONEY
from octo_pipeline.model.sql import rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.tables.cost_line_items import INVOICES
from octo_pipeline.tables.table import Lineage, Reads, Table
from octo_pipeline.workspace import Workspace


class InvoiceCosts(Table):
    """What each invoice of the month bills. A line item can have lines of two invoices; a row here has one."""

    name = "invoice_costs"
    group = "marts"
    grain = "One row per payer, invoice, issuer and currency; one without an invoice for what is not invoiced."
    key = ("vendor", "billing_account_id", "invoice_id", "invoice_issuer_name", "currency")
    columns: ClassVar[dict[str, str]] = {
        "billing_month": "VARCHAR",
        "vendor": "VARCHAR",
        "billing_account_id": "VARCHAR",
        "invoice_id": "VARCHAR",
        "invoice_issuer_name": "VARCHAR",
        "currency": "VARCHAR",
        "billed_cost": MONEY,
    }
    reads = (Reads(LINE_ITEMS),)
    code = ("tables/invoice_costs.py", "tables/sql/invoices.sql.j2", "tables/sql/invoice_costs_of_line_items.sql.j2")
    proofs = (
        Proof(
            "line_items",
            "the invoices of each payer and currency add up to its line items, which are proved against the source",
            "tables/proof_invoice_costs_line_items",
        ),
        Proof("listed", "every invoice that a line item names is listed", "tables/proof_invoice_costs_listed"),
    )
    made_from: ClassVar[Lineage] = {"billed_cost": ((LINE_ITEMS, "billed_cost"),)}
    descriptions: ClassVar[dict[str, str]] = {
        "invoice_id": "The invoice; null until the vendor has invoiced, or where its exports do not name it.",
        "invoice_issuer_name": "Who issues the invoice.",
        "billed_cost": "What the invoice bills, from the source rows.",
    }

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Write the sums by invoice that were recorded when the month's source rows were normalised."""
        lake = workspace.lake
        source = lake.metadata(LINE_ITEMS, month)
        with lake.connect() as connection:
            line_items = lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS)
            if source and INVOICES in source.facts:
                invoices = source.facts[INVOICES]
            else:
                query = render("tables/invoice_costs_of_line_items", line_items=line_items)
                invoices = connection.execute(query).fetchall()
            rows = [(month, *invoice) for invoice in invoices]
            lake.copy(connection, rows_sql(self.columns, rows), staged, metadata)
            self.prove(connection, staged, line_items=line_items)
