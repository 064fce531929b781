"""The deployment's files as far as they can be held against the code without containers."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from octo_pipeline.settings import Settings

DEPLOY = Path(__file__).parent.parent / "deploy"
SETTINGS = {f"OCTO_{name.upper()}" for name in Settings.model_fields}


def load(name: str) -> dict:
    return yaml.safe_load((DEPLOY / name).read_text())


def test_every_setting_that_is_passed_exists():
    compose = load("docker-compose.yaml")
    passed = {name for service in compose["services"].values() for name in service.get("environment", {})}
    assert {name for name in passed if name.startswith("OCTO_")} <= SETTINGS
    (deployment,) = load("values.yaml")["dagster-user-deployments"]["deployments"]
    assert {one["name"] for one in deployment["env"]} <= SETTINGS


def test_every_variable_of_the_composition_is_in_the_example():
    used = set(re.findall(r"\$\{(\w+)", (DEPLOY / "docker-compose.yaml").read_text()))
    named = {line.split("=")[0] for line in (DEPLOY / ".env.example").read_text().splitlines() if "=" in line}
    assert used <= named


def test_ports_are_published_on_loopback_only():
    for service in load("docker-compose.yaml")["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_dagster_takes_the_instance_configuration(monkeypatch):
    from dagster._config import process_config
    from dagster._core.instance.config import dagster_instance_config_schema

    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql://octo@localhost/dagster")
    monkeypatch.setenv("DAGSTER_LOG_BUCKET", "company-cur")
    config = load("dagster.yaml")
    checked = process_config(dagster_instance_config_schema(), config)
    assert checked.success, checked.errors


def test_what_a_step_prints_is_read_from_the_bucket(aws, monkeypatch, tmp_path):
    from dagster._serdes import ConfigurableClassData

    monkeypatch.setenv("DAGSTER_LOG_BUCKET", "company-cur")
    compute_logs = load("dagster.yaml")["compute_logs"]
    where, key = (compute_logs["module"], compute_logs["class"]), ["run", "compute_logs", "step"]

    def config(folder: str) -> str:
        return yaml.dump(compute_logs["config"] | {"local_dir": str(tmp_path / folder)})

    # A process of its own, because pytest has taken this one's output.
    program = (
        "import sys\n"
        "from dagster._serdes import ConfigurableClassData\n"
        f"with ConfigurableClassData(*{where}, sys.argv[1]).rehydrate().capture_logs({key}):\n"
        "    print('made 2024-01', flush=True)\n"
    )
    subprocess.run([sys.executable, "-c", program, config("run")], check=True, capture_output=True)

    manager = ConfigurableClassData(*where, config("webserver")).rehydrate()
    assert manager.get_log_data(key).stdout == b"made 2024-01\n"


def test_google_cloud_takes_the_same_configuration_for_its_logs(monkeypatch):
    from dagster._config import process_config
    from dagster_gcp.gcs.compute_log_manager import GCSComputeLogManager

    monkeypatch.setenv("DAGSTER_LOG_BUCKET", "company-logs")
    config = load("dagster.yaml")["compute_logs"]["config"]
    checked = process_config(GCSComputeLogManager.config_type(), {name: config[name] for name in ("bucket", "prefix")})
    assert checked.success, checked.errors


def test_every_way_to_load_the_definitions_names_the_same_module():
    (location,) = yaml.safe_load((DEPLOY.parent / "workspace.yaml").read_text())["load_from"]
    tools = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["tool"]
    expected = {"module_name": "octo_pipeline.definitions", "location_name": "octo_pipeline"}
    assert location["python_module"] == expected
    assert tools["dagster"] == {"module_name": expected["module_name"], "code_location_name": expected["location_name"]}
    assert tools["dg"]["project"]["code_location_target_module"] == expected["module_name"]
    assert tools["dg"]["project"]["code_location_name"] == expected["location_name"]


def test_one_run_a_month_everywhere():
    limit = load("dagster.yaml")["concurrency"]["runs"]["tag_concurrency_limits"]
    (helm,) = [load("values.yaml")["dagsterDaemon"]["runCoordinator"]["config"]["queuedRunCoordinator"]]
    assert limit == helm["tagConcurrencyLimits"]
    alone = yaml.safe_load((DEPLOY.parent / "dagster.yaml").read_text())
    assert alone["concurrency"]["runs"]["tag_concurrency_limits"] == limit
