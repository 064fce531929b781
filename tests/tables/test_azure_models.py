"""The unit tests of the models of Azure and FOCUS, in the engine and with the types that they run with."""

import duckdb

from octo_pipeline.tables import dbt
from octo_pipeline.vendors.catalog import VENDORS


def test_the_unit_tests_of_the_models_of_azure_and_focus(tmp_path, monkeypatch):
    from dbt.cli.main import dbtRunner

    with duckdb.connect() as con:
        relations = {
            f"landing.{name}": query
            for vendor in ("azure", "focus")
            for name, query in VENDORS[vendor].files().relations(con, []).items()
        }
    monkeypatch.setattr(dbt, "_session", dbt.Session(relations=relations))
    folder = str(dbt.project_folder())
    done = dbtRunner().invoke(
        ["build", "--select", "+int_azure__charges", "+int_focus__charges", "--project-dir", folder, "--profiles-dir", folder, "--target-path",
         str(tmp_path), "--log-path", str(tmp_path), "--no-partial-parse", "--no-send-anonymous-usage-stats", *dbt.VARIABLES]
    )  # fmt: skip
    assert done.exception is None
    results = {r.node.name: (r.status, r.message) for r in done.result.results if r.node.resource_type == "unit_test"}
    assert {name: status for name, (status, _) in results.items()} == {
        "int_azure__charges_of_a_partner": "pass",
        "int_azure__charges_of_actual_and_amortised_cost": "pass",
        "int_focus__charges_of_the_standard": "pass",
        "int_focus__charges_of_the_preview": "pass",
    }, results
