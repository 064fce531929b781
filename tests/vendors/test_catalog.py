"""The vendors as objects: light to load, side by side, and with a code version of what reads their files."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import octo_pipeline
from octo_pipeline.model.vendors import VENDORS
from octo_pipeline.vendors import catalog

FOLDER = Path(octo_pipeline.__file__).parent / "vendors"


def imports(file: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_every_vendor_of_the_list_describes_itself():
    assert list(catalog.VENDORS) == list(VENDORS) == ["aws", "azure", "gcp", "focus", "manual"]
    assert {vendor.name: vendor.raw_asset for vendor in catalog.VENDORS.values()} == {
        "aws": "raw_cur",
        "azure": "azure_usage",
        "gcp": "bigquery_export",
        "focus": "focus_exports",
        "manual": "manual_charges",
    }


@pytest.mark.parametrize("name", VENDORS)
def test_no_vendor_knows_another(name):
    others = tuple(f"octo_pipeline.vendors.{other}." for other in VENDORS if other != name)
    for file in (FOLDER / name).rglob("*.py"):
        assert [module for module in imports(file) if module.startswith(others)] == [], file


def test_what_vendors_share_knows_none_of_them():
    every = tuple(f"octo_pipeline.vendors.{name}." for name in VENDORS)
    for file in FOLDER.glob("*.py"):
        assert [module for module in imports(file) if module.startswith(every)] == [], file


@pytest.mark.parametrize("name", VENDORS)
def test_the_code_version_has_what_reads_the_files_and_nothing_else(name):
    vendor, package = catalog.VENDORS[name], f"octo_pipeline.vendors.{name}."
    first = vendor.files().__name__.removeprefix(package)
    seen, waiting = set(), [first]
    while waiting:
        module = waiting.pop()
        if module not in seen and (file := FOLDER / name / f"{module}.py").is_file():
            seen.add(module)
            waiting += [one.removeprefix(package).split(".")[0] for one in imports(file) if one.startswith(package)]
    # Templates have no imports to follow: the folder counts as a whole.
    assert {f"{module}.py" for module in seen} == set(vendor.row_sources) - {"sql"}


def test_the_catalog_loads_neither_an_sdk_nor_an_engine():
    program = (
        "import sys, octo_pipeline.vendors.catalog\n"
        "print(sorted({'boto3', 'botocore', 'google', 'msal', 'duckdb', 'pydantic', 'dagster'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
