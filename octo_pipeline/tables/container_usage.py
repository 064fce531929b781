"""``container_usage``: what containers used of the resources that they ran on, from the vendors' split rows."""

from typing import ClassVar

import duckdb

from octo_pipeline.allocation.proofs import Proof
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.lake.lake import PartitionMetadata, Staged
from octo_pipeline.model.columns import LINE_ITEMS, MONEY, TAGS
from octo_pipeline.model.templates import render
from octo_pipeline.tables.landed_charges import counted_deliveries, explanation
from octo_pipeline.tables.table import Lineage, Reads, Table
from octo_pipeline.vendors.catalog import VENDORS
from octo_pipeline.vendors.landing import Delivery
from octo_pipeline.workspace import Workspace


class ContainerUsage(Table):
    """What containers used of shared resources: weights, since they repeat costs that are in cost_line_items."""

    name = "container_usage"
    group = "normalisation"
    grain = "One row per account, currency, parent resource and tags of containers."
    key = ("vendor", "billing_account_id", "sub_account_id", "billing_currency", "parent_resource_id", "tags")
    columns: ClassVar[dict[str, str]] = {
        "billing_month": "VARCHAR",
        "vendor": "VARCHAR",
        "billing_account_id": "VARCHAR",
        "sub_account_id": "VARCHAR",
        "billing_currency": "VARCHAR",
        "parent_resource_id": "VARCHAR",
        "tags": TAGS,
        "split_cost": MONEY,
        "unused_cost": MONEY,
    }
    # Of a month without line items nothing is known, so it has no container usage either.
    reads = (Reads("landing"), Reads(LINE_ITEMS))
    code = (
        "model",
        "vendors/data_columns.py",
        "vendors/data_files.py",
        *(f"vendors/{v.name}/{file}" for v in VENDORS.values() if v.container_usage for file in v.row_sources),
        "vendors/documents.py",
        "tables/container_usage.py",
    )
    proofs = (
        Proof(
            "source_costs",
            "the split and unused costs of each payer and currency add up to the source's",
            "tables/proof_container_usage_costs",
        ),
    )
    made_from: ClassVar[Lineage] = {}
    descriptions: ClassVar[dict[str, str]] = {
        "parent_resource_id": "The resource that the containers ran on, such as an EC2 instance.",
        "split_cost": "The part of the resource's cost that the containers used or reserved.",
        "unused_cost": "Their part of what nobody used of the resource.",
    }

    def outside_inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """The rows of the newest complete deliveries that have split rows."""
        return {f"landing/{d.vendor}/{d.account}": d.content for d in _deliveries(workspace, month)}

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Sum up the split rows of the month's newest deliveries.

        Raises:
            OctoError: a delivery contains something that cannot be read; the message names the file and where in it.
        """
        deliveries = _deliveries(workspace, month)
        with workspace.lake.connect() as connection:
            rows = [
                vendor.container_usage(
                    vendor.files().relations(connection, [d for d in deliveries if d.vendor == vendor.name])
                )
                for vendor in VENDORS.values()
                if vendor.container_usage
            ]
            try:
                split_rows = create_temp_table(connection, "split_rows", render("tables/split_rows", vendors=rows))
            except duckdb.Error as error:
                raise explanation(connection, deliveries, error) from error
            query = render("tables/container_usage", month=month, split_rows=split_rows)
            workspace.lake.copy(connection, query, staged, metadata)
            self.prove(connection, staged, split_rows=split_rows)


def _deliveries(workspace: Workspace, month: str) -> list[Delivery]:
    """Those that have split rows; earlier editions did not count them."""
    return [
        delivery
        for delivery in counted_deliveries(workspace, month)
        if VENDORS[delivery.vendor].container_usage and delivery.details.get("split_rows") != 0
    ]
