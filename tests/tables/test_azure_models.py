"""The unit tests of the models of Azure and FOCUS, in the engine and with the types that they run with."""

import duckdb

from octo_pipeline.vendors.catalog import VENDORS
from tests.support.model_tests import unit_tests


def test_the_unit_tests_of_the_models_of_azure_and_focus(tmp_path):
    with duckdb.connect() as con:
        sources = {
            f"landing.{name}": query
            for vendor in ("azure", "focus")
            for name, query in VENDORS[vendor].files().relations(con, []).items()
        }
    assert unit_tests(tmp_path, sources, "+int_azure__charges", "+int_focus__charges") == {
        "int_azure__charges_of_a_partner": "pass",
        "int_azure__charges_of_actual_and_amortised_cost": "pass",
        "int_focus__charges_of_the_standard": "pass",
        "int_focus__charges_of_the_preview": "pass",
    }
