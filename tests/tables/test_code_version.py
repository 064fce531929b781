"""The digest of the code that a table's rows depend on."""

import shutil
from pathlib import Path

import pytest

import octo_pipeline
from octo_pipeline.tables.table import code_version

PACKAGE = Path(octo_pipeline.__file__).parent


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package's code that may be changed."""
    copy = tmp_path / "octo_pipeline"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "static", "node_modules"))
    monkeypatch.setattr(octo_pipeline, "__file__", str(copy / "__init__.py"))
    code_version.cache_clear()
    yield copy
    code_version.cache_clear()


@pytest.mark.parametrize(
    ("part", "template"),
    [
        ("vendors/gcp/billing_rows.py", "vendors/gcp/sql/rows.sql.j2"),
        ("vendors/focus/charge_rows.py", "vendors/focus/sql/names.sql.j2"),
    ],
    ids=["a template that the file renders", "a template that its template imports"],
)
def test_a_template_of_a_file_changes_the_version(package, part, template):
    """Regression: months were not made again when the queries that read their files had changed."""
    before = code_version(part)
    file = package / template
    file.write_text(f"{file.read_text()} ")
    code_version.cache_clear()

    assert code_version(part) != before


def test_a_template_of_another_file_does_not(package):
    before = code_version("vendors/gcp/billing_columns.py")
    file = package / "vendors/gcp/sql/rows.sql.j2"
    file.write_text(f"{file.read_text()} ")
    code_version.cache_clear()

    assert code_version("vendors/gcp/billing_columns.py") == before
