"""A new vendor is a folder, its dbt models and one line: shown with a vendor that the product does not have.

The product is copied, the files of tests/support/fourth_vendor are added and one line is put into model/vendors.py.
All that follows runs in the copy, in processes of their own.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from octo_pipeline.tables.dbt import project_folder

ROOT = Path(__file__).parents[2]
ADDED = ROOT / "tests" / "support" / "fourth_vendor"
COPIED = ("octo_pipeline", "dbt_project", "pyproject.toml")
MONTH = "2024-01"
COSTS = """tenancy,day,service,cost,currency
acme,2024-01-05,Compute,100.25,USD
acme,2024-01-06,Block Storage,20.5,USD
"""

pytestmark = pytest.mark.slow


def files_in(folder: Path) -> dict[str, bytes]:
    paths = (path for part in COPIED for path in [folder / part, *(folder / part).rglob("*")])
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in paths
        if path.is_file() and not {"__pycache__", "target", "logs"} & set(path.parts)
    }


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    """A copy of the product with the vendor oci, and what of its existing files is another."""
    copy = tmp_path_factory.mktemp("product")
    for name, content in files_in(ROOT).items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(content)
    before = files_in(copy)
    shutil.copytree(ADDED, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    names = copy / "octo_pipeline" / "model" / "vendors.py"
    last = '        VendorName("focus", "Folder of FOCUS files of any provider", is_cloud=False),\n'
    assert last in names.read_text()
    names.write_text(names.read_text().replace(last, f'{last}        VendorName("oci", "Folder of OCI costs"),\n'))
    after = files_in(copy)
    return copy, [name for name, content in before.items() if after[name] != content]


@pytest.fixture(scope="module")
def world(product, tmp_path_factory):
    """Runs Python in the copy, over a lake that has one month of the vendor."""
    folder = tmp_path_factory.mktemp("world")
    for name in ("exports", "config/allocators", "config/cost_groups"):
        (folder / name).mkdir(parents=True)
    (folder / "exports" / f"acme-{MONTH}.csv").write_text(COSTS)
    group = {"name": "Tenancy", "combinations": {"ociOptions": {"filters": [{"andFilters": {"account": "acme"}}]}}}
    (folder / "config" / "cost_groups" / "tenancy.json").write_text(json.dumps(group))
    environment = os.environ | {
        "PYTHONPATH": str(product[0]),
        "OCTO_LAKE": str(folder / "lake"),
        "OCTO_CONFIG": str(folder / "config"),
        "OCTO_OCI_EXPORTS": str(folder / "exports"),
        "OCTO_START_MONTH": MONTH,
    }
    environment.pop("DAGSTER_HOME", None)

    def python(program: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], env=environment, capture_output=True, text=True, cwd=folder
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    octo = "from octo_pipeline.cli.main import main; main()"
    python(octo, "run", "--month", MONTH)
    return lambda *arguments: python(octo, *arguments), python


def test_one_existing_file_changes(product):
    assert product[1] == ["octo_pipeline/model/vendors.py"]


def test_its_month_goes_all_the_way_through_the_house(world):
    octo, _ = world
    deliveries = json.loads(octo("deliveries", "list", "--output", "json"))
    assert [(one["vendor"], one["account"]) for one in deliveries] == [("oci", "acme")]
    costs = json.loads(octo("accounts", "costs", "--month", MONTH, "--output", "json"))
    assert [(one["owner_id"], float(one["billed"]), float(one["final_cost"])) for one in costs] == [
        ("acme", 120.75, 120.75)
    ]
    groups = json.loads(octo("cost-groups", "show", "tenancy", "--month", MONTH, "--output", "json"))
    assert {one["vendor"] for one in groups} == {"oci"}


def test_dagster_has_its_asset_its_sensor_and_its_models(world):
    _, python = world
    program = """
from octo_pipeline.definitions import defs
import octo_pipeline
graph = defs.resolve_asset_graph()
keys = {key.to_user_string(): sorted(parent.to_user_string() for parent in graph.get(key).parent_keys)
        for key in graph.get_all_asset_keys()}
print(octo_pipeline.__file__)
from octo_pipeline.automation.deliveries import Looked
from datetime import datetime, UTC
print("oci" in Looked().vendors_to_ask(datetime.now(UTC)))
print(keys["stg_oci__costs"], keys["int_oci__charges"], "int_oci__charges" in keys["cost_line_items"])
"""
    where, *lines = python(program).splitlines()
    assert not where.startswith(str(project_folder().parent))
    assert lines == ["True", "['oci_costs'] ['stg_oci__costs'] True"]


def test_a_document_may_name_it(world):
    _, python = world
    program = """
import json
from octo_pipeline.services.sources import sources
from octo_pipeline.settings import load_settings
from octo_pipeline.workspace import Workspace
workspace = Workspace(load_settings())
folder = workspace.settings.config / "sources"
folder.mkdir()
(folder / "more.json").write_text(json.dumps({"vendor": "oci", "folder": "/more"}))
print([source.name for source in sources(workspace, "oci")][0])
"""
    assert python(program).strip() == "oci at /more"
