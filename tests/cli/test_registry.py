"""`octo registry upgrade`, which the sentence for an old registry tells people to run."""

import pytest
from typer.testing import CliRunner

from octo_pipeline.cli.main import app
from octo_pipeline.registry.store import Registry


@pytest.fixture
def upgrade(tmp_path, monkeypatch):
    monkeypatch.setenv("OCTO_LAKE", str(tmp_path / "lake"))

    def run() -> str:
        result = CliRunner().invoke(app, ["registry", "upgrade"])
        assert result.exit_code == 0, result.output
        return result.output

    return run


def test_the_registry_is_brought_to_the_version_of_the_program(upgrade, tmp_path):
    assert upgrade() == "The registry is now at this program's version.\n"
    assert upgrade() == "The registry was already at this program's version.\n"
    assert Registry(f"sqlite:///{tmp_path}/lake/registry.sqlite").audit() == []
