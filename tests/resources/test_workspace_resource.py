"""The resources of a run: what counts when a setting is given in several places, and what Dagster shows."""

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap, ResourceConfigEnvVarSnap

from octo_pipeline.resources.workspace_resource import run_resources
from octo_pipeline.settings import load_settings
from octo_pipeline.workspace import Workspace


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in ("OCTO_LAKE", "OCTO_CONFIG", "OCTO_DATABASE_URL", "OCTO_BASE_CURRENCY"):
        monkeypatch.delenv(name, raising=False)


def used(resources: dict, run_config: dict | None = None) -> Workspace:
    """The workspace that the op of a run is given."""
    workspaces = []

    @dg.op
    def keep(context: dg.OpExecutionContext, workspace: dg.ResourceParam[Workspace]) -> None:
        assert workspace.run_id == context.run_id
        workspaces.append(workspace)

    @dg.job
    def run() -> None:
        keep()

    job = dg.Definitions(jobs=[run], resources=resources).resolve_job_def("run")
    job.execute_in_process(run_config=run_config)
    return workspaces[0]


def test_a_setting_is_the_one_of_the_definitions_or_else_of_the_environment(monkeypatch):
    monkeypatch.setenv("OCTO_LAKE", "/definitions")
    resources = run_resources(load_settings())
    monkeypatch.setenv("OCTO_CONFIG", "/environment")
    settings = used(resources).settings
    assert (settings.lake, str(settings.config), settings.base_currency) == ("/definitions", "/environment", "USD")


def test_the_registry_is_the_one_of_the_variable_or_beside_the_lake(monkeypatch):
    monkeypatch.setenv("OCTO_LAKE", "/somewhere")
    assert used(run_resources(load_settings())).settings.registry_url == "sqlite:////somewhere/registry.sqlite"
    monkeypatch.setenv("OCTO_DATABASE_URL", "sqlite:////elsewhere/registry.sqlite")
    assert used(run_resources(load_settings())).settings.registry_url == "sqlite:////elsewhere/registry.sqlite"


def test_a_run_cannot_choose_another_lake():
    with pytest.raises(dg.DagsterResourceFunctionError) as raised:
        used(run_resources(load_settings()), {"resources": {"lake": {"config": {"lake": "/other"}}}})
    assert "A run cannot choose its lake" in str(raised.value.__cause__)


def test_dagster_shows_lake_and_configuration_and_no_password(monkeypatch):
    monkeypatch.setenv("OCTO_LAKE", "s3://company-costs/lake")
    monkeypatch.setenv("OCTO_CONFIG", "rules")
    monkeypatch.setenv("OCTO_DATABASE_URL", "postgresql://octo:hush@localhost/octo")
    repository = dg.Definitions(resources=run_resources(load_settings())).get_repository_def()
    snapshots = RepositorySnap.from_def(repository).resources
    shown = {snapshot.name: snapshot.configured_values for snapshot in snapshots}
    assert shown["lake"]["lake"] == '"s3://company-costs/lake"'
    assert shown["configuration"]["config"] == '"rules"'
    assert shown["registry"]["database_url"] == ResourceConfigEnvVarSnap(name="OCTO_DATABASE_URL")
    assert "hush" not in str(snapshots)


def test_dagster_shows_the_defaults_of_what_is_not_set():
    repository = dg.Definitions(resources=run_resources(load_settings())).get_repository_def()
    shown = {snapshot.name: snapshot.configured_values for snapshot in RepositorySnap.from_def(repository).resources}
    assert shown["lake"] == {"lake": '"lake"', "memory_limit": "null", "temp": "null"}
    assert shown["configuration"] == {"config": '"allocator_configs"', "base_currency": '"USD"'}
