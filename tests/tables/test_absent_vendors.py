"""A month costs the time of the vendors that delivered something of it, and reads as if the others were there."""

from datetime import UTC, datetime
from decimal import Decimal

import duckdb
import pytest

from octo_pipeline.model.columns import LINE_ITEM_COLUMNS
from octo_pipeline.model.sql import identifier
from octo_pipeline.services.sources import folder_source
from octo_pipeline.tables import dbt
from octo_pipeline.tables.cost_line_items import CostLineItems, no_charges
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.catalog import VENDORS
from tests.support import azure_exports, focus_files
from tests.support.compiled_models import compiled_models, read_by

NOW = datetime(2024, 6, 10, tzinfo=UTC)
MONTH = azure_exports.MONTH
IN_MAY = focus_files.ROW | {
    "BillingPeriodStart": "2024-05-01T00:00:00Z", "BillingPeriodEnd": "2024-06-01T00:00:00Z",
    "ChargePeriodStart": "2024-05-05T00:00:00Z", "ChargePeriodEnd": "2024-05-06T00:00:00Z", "ProviderName": "Contoso",
}  # fmt: skip


@pytest.fixture
def engine():
    """Empty landed relations of all vendors."""
    with duckdb.connect() as connection:
        connection.execute("create schema landing")
        connection.execute(f"set variable octo_month = '{MONTH}'")
        for vendor in VENDORS.values():
            relations = vendor.files().relations(connection, [])
            if vendor.model_relations:
                relations = vendor.model_relations(connection, [], relations)
            for name, query in relations.items():
                connection.execute(f"create view landing.{identifier(name)} as {query}")
        yield connection


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_columns_of_a_vendor_alone_have_the_types_of_the_table(engine, vendor):
    """In a union, columns that are always null would take the type of another vendor."""
    charges = f"int_{vendor}__charges"
    for absent in VENDORS.keys() - {vendor}:
        engine.execute(f"create view int_{absent}__charges as {no_charges()}")
    for name, model in compiled_models().items():
        if name in read_by(charges) | {charges}:
            engine.execute(f"create view {identifier(name)} as {model.sql}")

    columns = engine.execute(f"describe {compiled_models()['cost_line_items'].sql}").fetchall()

    assert {name: type for name, type, *_ in columns} == LINE_ITEM_COLUMNS


def test_models_of_vendors_with_deliveries_are_run(workspace, tmp_path, monkeypatch):
    runs = []
    run = dbt.DbtProject.run

    def recorded(project, models, session):
        runs.append([*models])
        run(project, models, session)

    monkeypatch.setattr(dbt.DbtProject, "run", recorded)

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
    assert runs == [["+int_focus__charges", "cost_line_items"]]

    azure = azure_exports.write(tmp_path / "azure", azure_exports.export(azure_exports.USAGE | {"Cost": "1.5"}))
    azure.land(workspace.lake.root, MONTH, NOW)
    assert costs() == [("azure", Decimal("1.5")), ("contoso", Decimal(10))]
    # Azure exports FOCUS, too.
    assert runs[1:] == [["+int_azure__charges", "+int_focus__charges", "cost_line_items"]]
