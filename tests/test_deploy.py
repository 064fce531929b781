"""The deployment's files as far as they can be held against the code without containers."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from octo_pipeline.registry.encryption import KeySetting
from octo_pipeline.settings import Settings, load_settings

DEPLOY = Path(__file__).parent.parent / "deploy"
SETTINGS = {f"OCTO_{name.upper()}" for name in Settings.model_fields}


def load(name: str) -> dict:
    return yaml.safe_load((DEPLOY / name).read_text())


# The image sets them, and folders of exports would have to be mounted.
NOT_PASSED = {"OCTO_CONFIG", "OCTO_TEMP"} | {name for name in SETTINGS if name.endswith("_EXPORTS")}


def test_every_setting_is_passed_and_no_other():
    """Regression: those of registration were not, so accounts could not be registered."""
    services = load("docker-compose.yaml")["services"]
    for service in ("code", "webserver", "viewer", "daemon", "console", "backup"):
        passed = {name for name in services[service]["environment"] if name.startswith("OCTO_")}
        assert passed == SETTINGS - NOT_PASSED
    (deployment,) = load("values.yaml")["dagster-user-deployments"]["deployments"]
    assert {variable["name"] for variable in deployment["env"]} <= SETTINGS


def test_the_example_of_the_environment_is_accepted(monkeypatch):
    """What is left empty in it is not set."""
    values = dict(line.split("=", 1) for line in (DEPLOY / ".env.example").read_text().splitlines() if "=" in line[:40])
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert load_settings().start_month == "2024-01"


def test_the_key_that_the_example_says_how_to_make_is_one():
    """Regression: the command printed a text that is not a key, so nothing could be registered."""
    (command,) = re.findall(r"# (python3 -c '.*')\nOCTO_SECRET_KEY=", (DEPLOY / ".env.example").read_text())
    key = subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout
    assert len(KeySetting(key).load()) == 1


def test_files_with_secrets_are_not_committed():
    compose = load("docker-compose.yaml")
    files = {file["path"] for service in compose["services"].values() for file in service.get("env_file", [])}
    ignored = (DEPLOY.parent / ".gitignore").read_text().splitlines()
    assert {f"deploy/{name}" for name in {*files, ".env"}} <= set(ignored)


def test_no_service_names_an_image_that_may_change_under_it_or_is_gone():
    images = {service["image"] for service in load("docker-compose.yaml")["services"].values() if "image" in service}
    # The community edition of MinIO has no images any more. Digests are set in .env.
    assert images == {"${POSTGRES_IMAGE:-postgres:16}", "${CADDY_IMAGE:-caddy:2}"}


def test_every_volume_and_every_dependency_is_there():
    compose = load("docker-compose.yaml")
    for service in compose["services"].values():
        assert set(service.get("depends_on", {})) <= compose["services"].keys()
        named = {volume.split(":")[0] for volume in service.get("volumes", []) if not volume.startswith(".")}
        assert named <= compose["volumes"].keys()


def test_dagster_has_its_driver_and_its_home():
    (url,) = {
        service["environment"]["DAGSTER_POSTGRES_URL"]
        for service in load("docker-compose.yaml")["services"].values()
        if "DAGSTER_POSTGRES_URL" in service["environment"]
    }
    assert url.startswith("postgresql+psycopg2://")
    assert load("values.yaml")["postgresql"]["postgresqlScheme"] == "postgresql+psycopg2"
    image = (DEPLOY / "Dockerfile").read_text()
    (home,) = re.findall(r"DAGSTER_HOME=(\S+)", image)
    assert f"deploy/dagster.yaml deploy/workspace.yaml {home}/\n" in image
    assert f"RUN chown octo {home}\n" in image
    compose = (DEPLOY / "docker-compose.yaml").read_text()
    assert compose.count(f"{home}/workspace.yaml") == compose.count("workspace.yaml") == 3


def test_the_image_gets_what_it_copies():
    copied = {
        source
        for line in (DEPLOY / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ")
        for source in line.split()[1:-1]
    }
    lines = (DEPLOY.parent / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert {line[1:] for line in lines if line.startswith("!")} == copied
    assert all((DEPLOY.parent / source).exists() for source in copied)


def test_every_variable_of_the_composition_is_in_the_example():
    files = ("docker-compose.yaml", "docker-compose.git.yaml")
    used = set(re.findall(r"\$\{(\w+)", "".join((DEPLOY / file).read_text() for file in files)))
    named = {line.split("=")[0] for line in (DEPLOY / ".env.example").read_text().splitlines() if "=" in line}
    assert used <= named


def test_only_the_proxy_is_reached_from_outside():
    """Dagster's webserver knows no users, so even a page in a browser on the host must not come to it."""
    published = {name for name, service in load("docker-compose.yaml")["services"].items() if "ports" in service}
    assert published == {"proxy"}


def test_the_proxy_gets_what_its_configuration_names_and_leads_to_services_that_there_are():
    services = load("docker-compose.yaml")["services"]
    variables = re.findall(r"\{\$(\w+)(?::([^}]+))?\}", (DEPLOY / "Caddyfile").read_text())
    assert {name for name, default in variables if not default} == services["proxy"]["environment"].keys()
    targets = {default.split(":")[0]: default.split(":")[1] for _, default in variables if default}
    assert targets == {"console": "8000", "webserver": "3000", "viewer": "3000"}
    for name, port in targets.items():
        assert port in services[name]["command"]
    assert ("--read-only" in services["viewer"]["command"], "--read-only" in services["webserver"]["command"]) == (
        True,
        False,
    )


def test_every_service_of_ours_says_whether_it_is_well():
    services = load("docker-compose.yaml")["services"]
    assert {name for name, service in services.items() if "healthcheck" not in service} == {"proxy", "backup"}


def chart_queue() -> dict:
    """What the chart configures Dagster's queue with."""
    coordinator = load("values.yaml")["dagsterDaemon"]["runCoordinator"]
    queue = coordinator["config"]["customRunCoordinator"]
    name = {key: load("dagster.yaml")["run_coordinator"][key] for key in ("module", "class")}
    assert {key: queue[key] for key in name} == name
    return queue["config"]


def test_executors_get_settings_of_spark_and_no_more_memory_than_they_ask_for():
    (deployment,) = load("values.yaml")["dagster-user-deployments"]["deployments"]
    values = {variable["name"]: variable["value"] for variable in deployment["env"]}
    settings = Settings(engine_options=values["OCTO_ENGINE_OPTIONS"], distribute_from=values["OCTO_DISTRIBUTE_FROM"])
    assert settings.distribute_from == Settings().distribute_from
    options = settings.spark_options
    assert options["spark.executor.cores"] == options["spark.task.cpus"]
    limit, overhead = options["spark.executorEnv.OCTO_MEMORY_LIMIT"], options["spark.executor.memoryOverhead"]
    assert (int(limit.removesuffix("GB")) + 0.5) * 10**9 <= int(overhead.removesuffix("g")) * 1024**3
    mounted = options["spark.kubernetes.executor.volumes.emptyDir.spark-local-dir-1.mount.path"]
    assert mounted == options["spark.executorEnv.OCTO_TEMP"]
    role, binding = yaml.safe_load_all((DEPLOY / "spark-rights.yaml").read_text())
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    (account,) = binding["subjects"]
    assert account["name"] == load("values.yaml")["serviceAccount"]["name"]


def test_the_image_of_executors_has_the_spark_that_is_tested():
    tested = (DEPLOY.parent / "tests" / "emulators" / "spark.txt").read_text().splitlines()[0]
    image = (DEPLOY / "spark.Dockerfile").read_text()
    version = tested.rpartition("==")[2]
    assert f'"{tested}"' in image
    assert f"FROM apache/spark:{version} AS spark\n" in image


def pods() -> list[dict]:
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    assert [document["kind"] for document in documents] == [
        "Deployment",
        "Service",
        "NetworkPolicy",
        "NetworkPolicy",
        "PersistentVolumeClaim",
        "CronJob",
    ]
    console, *_, backup = documents
    return [console["spec"]["template"]["spec"], backup["spec"]["jobTemplate"]["spec"]["template"]["spec"]]


def test_pods_beside_the_chart_have_its_configuration_lake_and_limits():
    (deployment,) = load("values.yaml")["dagster-user-deployments"]["deployments"]
    lake = {variable["name"]: variable["value"] for variable in deployment["env"]}["OCTO_LAKE"]
    for pod in pods():
        (container,) = pod["containers"]
        env = {variable["name"]: variable["value"] for variable in container["env"]}
        assert env.keys() <= SETTINGS
        assert env["OCTO_LAKE"] == lake
        mounts = [mount for mount in container["volumeMounts"] if mount["name"] != "backups"]
        assert mounts == deployment["volumeMounts"]
        volumes = {volume["name"] for volume in pod["volumes"] if volume["name"] != "backups"}
        assert volumes == {volume["name"] for volume in deployment["volumes"]}
        assert pod["securityContext"] == deployment["podSecurityContext"]
        assert container["securityContext"] == deployment["securityContext"]
        assert container["envFrom"] == [{"secretRef": secret} for secret in deployment["envSecrets"]]
        assert container["resources"]["limits"].keys() == {"memory"}


def test_every_pod_and_every_service_has_the_configuration_from_git():
    (deployment,) = load("values.yaml")["dagster-user-deployments"]["deployments"]
    launcher = load("values.yaml")["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]["podSpecConfig"]
    # Beside what goes on, git-sync goes on; before what ends, it fetches once.
    console, backup = pods()
    assert console["initContainers"] == deployment["initContainers"]
    assert backup["initContainers"] == launcher["initContainers"]
    (beside,), (before,) = deployment["initContainers"], launcher["initContainers"]
    of_git = load("docker-compose.git.yaml")["services"]["git-sync"]
    assert beside["image"] == before["image"] == of_git["image"].removeprefix("${GIT_SYNC_IMAGE:-").removesuffix("}")
    assert {"--root=/git", "--link=current"} == set(beside["args"]) & set(before["args"])
    # A run that takes long may read documents at its end.
    assert "--stale-worktree-timeout=24h" in beside["args"]
    settings = of_git["environment"]
    assert (settings["GITSYNC_ROOT"], settings["GITSYNC_LINK"]) == ("/git", "current")
    assert settings["GITSYNC_STALE_WORKTREE_TIMEOUT"] == "24h"

    services = load("docker-compose.git.yaml")["services"]
    own = {name for name, service in load("docker-compose.yaml")["services"].items() if "build" in service}
    assert services.keys() == own | {"git-sync"}
    for name in own:
        assert services[name]["environment"] == {"OCTO_CONFIG": "/git/current/${GIT_FOLDER:-}"}
        assert services[name]["volumes"] == ["git:/git:ro"]
    for container in (pod["containers"][0] for pod in pods()):
        assert {"name": "OCTO_CONFIG", "value": "/git/current"} in container["env"]


def test_the_chart_and_compose_try_a_run_again_alike():
    from dagster._config import process_config
    from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator

    compose = load("dagster.yaml")["run_coordinator"]["config"]
    assert compose.items() <= chart_queue().items()
    checked = process_config(QueuedRunCoordinator.config_type(), chart_queue())
    assert checked.success, checked.errors


def test_dagster_takes_the_instance_configuration(monkeypatch):
    from dagster._config import process_config
    from dagster._core.instance.config import dagster_instance_config_schema

    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql://octo@localhost/dagster")
    config = load("dagster.yaml")
    checked = process_config(dagster_instance_config_schema(), config)
    assert checked.success, checked.errors


def s3_logs() -> dict[str, object]:
    """What Helm makes of its values."""
    values = load("values.yaml")["computeLogManager"]["config"]["s3ComputeLogManager"]
    return {re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name): value for name, value in values.items()}


def test_what_a_step_prints_is_read_from_the_bucket(aws, tmp_path):
    from dagster._serdes import ConfigurableClassData

    location, key = ("dagster_aws.s3.compute_log_manager", "S3ComputeLogManager"), ["run", "compute_logs", "step"]

    def config(folder: str) -> str:
        return yaml.dump(s3_logs() | {"bucket": "company-cur", "local_dir": str(tmp_path / folder)})

    # A process of its own, because pytest has taken this one's output.
    program = (
        "import sys\n"
        "from dagster._serdes import ConfigurableClassData\n"
        f"with ConfigurableClassData(*{location}, sys.argv[1]).rehydrate().capture_logs({key}):\n"
        "    print('made 2024-01', flush=True)\n"
    )
    with (tmp_path / "printed").open("w") as printed:
        # No pipe: the processes that follow a log for Dagster can outlive it, and would hold a pipe open for good.
        command = [sys.executable, "-c", program, config("run")]
        subprocess.run(command, check=True, stdout=printed, stderr=printed, timeout=120)

    manager = ConfigurableClassData(*location, config("webserver")).rehydrate()
    assert manager.get_log_data(key).stdout == b"made 2024-01\n"


def test_the_logs_of_one_host_are_in_the_volume_that_all_containers_share():
    folder = load("dagster.yaml")["compute_logs"]["config"]["base_dir"]
    services = load("docker-compose.yaml")["services"]
    for service in ("code", "webserver", "daemon"):
        targets = [volume.split(":")[1] for volume in services[service]["volumes"]]
        assert any(folder.startswith(f"{target}/") for target in targets)


def test_google_cloud_takes_the_same_configuration_for_its_logs():
    from dagster._config import process_config
    from dagster_gcp.gcs.compute_log_manager import GCSComputeLogManager

    checked = process_config(
        GCSComputeLogManager.config_type(), {name: s3_logs()[name] for name in ("bucket", "prefix")}
    )
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
    assert limit == chart_queue()["tag_concurrency_limits"]
    alone = yaml.safe_load((DEPLOY.parent / "dagster.yaml").read_text())
    assert alone["concurrency"]["runs"]["tag_concurrency_limits"] == limit
