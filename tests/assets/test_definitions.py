"""The Dagster side: what is defined, and that it loads without a network."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

import octo_pipeline
from octo_pipeline.assets.cost_line_items import normalisation
from octo_pipeline.assets.partitions import monthly
from octo_pipeline.definitions import defs
from octo_pipeline.services.checks import CHECKS
from octo_pipeline.tables.graph import TABLES


def test_the_graph():
    graph = defs.resolve_asset_graph()
    nodes = {
        key.to_user_string(): (
            graph.get(key).group_name,
            sorted(parent.to_user_string() for parent in graph.get(key).parent_keys),
        )
        for key in graph.get_all_asset_keys()
    }
    assert nodes == {
        "allocators": ("configuration", []),
        "cost_groups": ("configuration", []),
        "metrics": ("configuration", []),
        "raw_cur": ("raw", []),
        "azure_usage": ("raw", []),
        "bigquery_export": ("raw", []),
        "focus_exports": ("raw", []),
        "manual_charges": ("raw", []),
        "stg_aws__cur": ("normalisation", ["raw_cur"]),
        "stg_aws__reservations": ("normalisation", ["raw_cur"]),
        "int_aws__charges": ("normalisation", ["stg_aws__cur", "stg_aws__reservations"]),
        "stg_azure__csp_usage": ("normalisation", ["azure_usage"]),
        "stg_azure__csp_reconciliation": ("normalisation", ["azure_usage"]),
        "stg_azure__cost_details": ("normalisation", ["azure_usage"]),
        "int_azure__charges": (
            "normalisation",
            [f"stg_azure__{name}" for name in ("cost_details", "csp_reconciliation", "csp_usage")],
        ),
        "stg_focus__charges": ("normalisation", ["azure_usage", "focus_exports"]),
        "int_focus__charges": ("normalisation", ["stg_focus__charges"]),
        "stg_manual__charges": ("normalisation", ["manual_charges"]),
        "int_manual__charges": ("normalisation", ["stg_manual__charges"]),
        "stg_gcp__billing": ("normalisation", ["bigquery_export"]),
        "int_gcp__billing": ("normalisation", ["stg_gcp__billing"]),
        "int_gcp__charges": ("normalisation", ["int_gcp__billing"]),
        "cost_line_items": (
            "normalisation",
            [f"int_{name}__charges" for name in ("aws", "azure", "focus", "gcp", "manual")],
        ),
        "container_usage": ("normalisation", ["cost_line_items"]),
        "invoice_costs": ("marts", ["cost_line_items"]),
        "matched_items": ("allocation", ["allocators", "cost_line_items"]),
        "resolved_accounts": ("allocation", ["container_usage", "cost_groups", "cost_line_items", "matched_items"]),
        "usage_shares": (
            "allocation",
            ["container_usage", "cost_groups", "cost_line_items", "metrics", "resolved_accounts"],
        ),
        "allocations": ("allocation", ["corrections", "cost_line_items", "matched_items", "usage_shares"]),
        "corrections": ("allocation", ["cost_line_items", "matched_items"]),
        "account_costs": ("marts", ["allocations", "corrections", "cost_line_items", "matched_items"]),
        "cost_group_costs": (
            "marts",
            ["allocations", "corrections", "cost_groups", "cost_line_items", "matched_items"],
        ),
        "prepayments": ("marts", ["allocations", "corrections", "matched_items"]),
        "focus_export": ("outputs", ["account_costs", "allocations", "corrections", "cost_line_items"]),
    }


def test_a_dbt_model_shows_its_sql_and_changes_its_code_version_with_it():
    specs = {spec.key.to_user_string(): spec for spec in normalisation.specs}
    model = specs["stg_gcp__billing"]
    assert "Google Cloud billing exports" in model.description
    assert "select * from {{ source('landing', 'gcp_billing') }}" in model.description
    assert len({spec.code_version for spec in specs.values()}) == len(specs)
    assert "dagster/column_schema" in specs["cost_line_items"].metadata
    assert all(spec.partitions_def == monthly and spec.skippable for spec in specs.values())


def test_the_checks():
    graph = defs.resolve_asset_graph()
    assert {(k.asset_key.to_user_string(), k.name) for k in graph.asset_check_keys} == {
        *((check.table, check.name) for check in CHECKS),
        *((table.name, "no_month_is_stale") for table in TABLES),
        *(
            (asset, "every_source_answered")
            for asset in ("raw_cur", "azure_usage", "bigquery_export", "focus_exports", "manual_charges")
        ),
    }


def test_what_is_asked_for_is_what_runs():
    """Regression: a backfill of three months made 31, because what is booked may read 36 earlier months."""
    graph = defs.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        if not node.is_materializable:
            continue
        assert node.is_partitioned, key
        assert node.backfill_policy.max_partitions_per_run == 1
        for parent in node.parent_keys:
            if graph.get(parent).is_partitioned:
                assert graph.get_partition_mapping(key, parent) == dg.TimeWindowPartitionMapping()


def test_what_dagster_keeps_private_is_imported_in_its_places_alone():
    """The launcher is loaded by Dagster's processes, which would wait for all assets if it were with the others."""
    package = Path(octo_pipeline.__file__).parent
    files = [file for file in package.rglob("*.py") if re.search(r"\bdagster\._", file.read_text())]
    places = {"assets/dagster_compat.py", "automation/run_launcher.py"}
    assert {file.relative_to(package).as_posix() for file in files} == places


def test_definitions_load_without_a_network_or_an_sdk():
    program = (
        "import socket, sys, warnings\n"
        "import dagster\n"
        "warnings.simplefilter('error', dagster.BetaWarning)\n"
        "warnings.simplefilter('error', dagster.PreviewWarning)\n"
        "def refuse(*args, **kwargs): raise AssertionError('network at import')\n"
        "socket.socket.connect = refuse\n"
        "socket.getaddrinfo = refuse\n"
        "import octo_pipeline.definitions\n"
        "heavy = {'boto3', 'botocore', 'msal', 'google.cloud.bigquery', 'dagster_aws', 'dagster_gcp', 'dbt'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    # A lake that began this month is the youngest that there is.
    environment = os.environ | {"OCTO_START_MONTH": datetime.now(UTC).strftime("%Y-%m")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    # A warning would be the first thing that a newcomer sees.
    assert (done.stdout, done.stderr, done.returncode) == ("[]\n", "", 0)
