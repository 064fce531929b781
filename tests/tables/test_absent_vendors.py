"""A month costs the time of the vendors that delivered something of it, and reads as if the others were there."""

from datetime import UTC, datetime
from decimal import Decimal

import duckdb
import pytest

from octo_pipeline.lake.lake import PartitionMetadata, Staged
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS
from octo_pipeline.services.sources import folder_source
from octo_pipeline.tables import cost_line_items
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.dbt import run_model
from octo_pipeline.tables.landed_charges import no_charges
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.catalog import VENDORS
from tests.support import azure_exports, focus_files

NOW = datetime(2024, 6, 10, tzinfo=UTC)
MONTH = azure_exports.MONTH
IN_MAY = focus_files.ROW | {
    "BillingPeriodStart": "2024-05-01T00:00:00Z", "BillingPeriodEnd": "2024-06-01T00:00:00Z",
    "ChargePeriodStart": "2024-05-05T00:00:00Z", "ChargePeriodEnd": "2024-05-06T00:00:00Z", "ProviderName": "Contoso",
}  # fmt: skip


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_columns_of_a_vendor_alone_have_the_types_of_the_table(tmp_path, vendor):
    """In a union, columns that are always null would take the type of another vendor."""
    staged = Staged("cost_line_items", MONTH, tmp_path)
    relations: dict[str, str] = {f"main.int_{absent}__charges": no_charges() for absent in VENDORS.keys() - {vendor}}
    with duckdb.connect() as connection:
        for landed in VENDORS.values():
            own = landed.files().relations(connection, [])
            own = landed.model_relations(connection, [], own) if landed.model_relations else own
            relations |= {f"landing.{name}": query for name, query in own.items()}
        run_model(connection, staged, PartitionMetadata({}, ""), relations, LINE_ITEM_COLUMNS)
        columns = connection.execute(f"describe from {staged.relation}").fetchall()

    assert {name: type for name, type, *_ in columns} == LINE_ITEM_COLUMNS


def test_models_of_vendors_with_deliveries_are_read(workspace, tmp_path, monkeypatch):
    read = []

    def recorded(connection, staged, metadata, relations, columns):
        read.append(
            sorted(f"int_{vendor}__charges" for vendor in VENDORS if f"main.int_{vendor}__charges" not in relations)
        )
        run_model(connection, staged, metadata, relations, columns)

    monkeypatch.setattr(cost_line_items, "run_model", recorded)

    def costs():
        materialise(workspace, CostLineItems(), MONTH)
        with workspace.lake.connect() as connection:
            rows = workspace.lake.scan("cost_line_items", [MONTH], LINE_ITEM_COLUMNS)
            return connection.execute(
                f"select vendor, sum(billed_cost) from {rows} group by all order by all"
            ).fetchall()

    path = focus_files.write_csv(tmp_path / "focus" / "a.csv", IN_MAY)
    folder_source("focus", path.parent).land(workspace.lake.root, MONTH, NOW)
    assert costs() == [("contoso", Decimal(10))]
    assert read == [["int_focus__charges"]]

    azure = azure_exports.write(tmp_path / "azure", azure_exports.export(azure_exports.USAGE | {"Cost": "1.5"}))
    azure.land(workspace.lake.root, MONTH, NOW)
    assert costs() == [("azure", Decimal("1.5")), ("contoso", Decimal(10))]
    # Azure exports FOCUS, too.
    assert read[1:] == [["int_azure__charges", "int_focus__charges"]]
