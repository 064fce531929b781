"""What the doctor says of an installation that lacks something."""

import base64
import grp
import os
import re
import shutil
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy
from pydantic import SecretStr
from sqlalchemy import create_engine

from octo_pipeline.automation.storage import store_an_event
from octo_pipeline.engine.local import LocalEngine
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.registry import store
from octo_pipeline.registry.encryption import NEW_KEY
from octo_pipeline.registry.records import Actor, Caller
from octo_pipeline.registry.store import Registry
from octo_pipeline.services import doctor
from octo_pipeline.services.doctor import Finding, examine
from octo_pipeline.settings import Settings
from octo_pipeline.tables.dbt import DbtProject
from octo_pipeline.vendors.aws.cur import CurFolderSource
from octo_pipeline.vendors.aws.sample import write_cur
from octo_pipeline.workspace import Workspace
from tests.support.case import run
from tests.support.reports import write_json
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.workspaces import workspace_in

NOW = datetime(2024, 4, 5, tzinfo=UTC)


def found(workspace: Workspace, area: str) -> list[tuple[str, str]]:
    return [(one.state, one.sentence) for one in examine(workspace, NOW) if one.area == area]


def test_an_empty_installation_is_told_what_to_do_first(workspace, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    told: dict[str, list[Finding]] = {}
    for one in examine(workspace, NOW):
        told.setdefault(one.area, []).append(one)
    assert list(told) == [
        "versions",
        "configuration",
        "lake",
        "registry",
        "periods",
        "rates",
        "dagster",
        "sources",
        "months",
    ]
    assert not [one for findings in told.values() for one in findings if one.state == "error"]
    assert told["months"][0].remedies == (Remedy("run", month="YYYY-MM"),)
    assert told["configuration"][-1].remedies == (Remedy("allocators add", "FILE"),)
    assert "DAGSTER_HOME is not set" in told["dagster"][0].sentence


def test_a_bad_rule_and_a_bad_source_are_named(workspace):
    (workspace.settings.config / "allocators" / "half.json").write_text("{")
    write_json(workspace.settings.config / "sources" / "one.json", {"vendor": "ibm"})
    state, sentence = found(workspace, "configuration")[0]
    assert (state, "half.json" in sentence) == ("error", True)
    ((state, sentence),) = found(workspace, "sources")
    assert (state, "one.json: vendor must be" in sentence) == ("error", True)


def test_a_source_that_answers_and_one_that_does_not(workspace, tmp_path, aws):
    write_cur(tmp_path / "exports", months=["2024-03"], accounts=3, lines=100)
    settings = Settings(
        lake=workspace.settings.lake, config=workspace.settings.config, aws_exports=tmp_path / "exports"
    )
    document = {"vendor": "aws", "account": "111122223333", "bucket": "no-such-bucket"}
    write_json(settings.config / "sources" / "one.json", document)
    told = found(Workspace(settings), "sources")
    assert ("ok", f"aws at {tmp_path / 'exports'} answers; exports: 1 for 2024-03, 0 for 2024-04.") in told
    assert any(state == "error" and "there is no such bucket" in sentence for state, sentence in told)


def test_two_sources_of_one_account_are_named(workspace, tmp_path, monkeypatch):
    for folder in ("here", "there"):
        write_cur(tmp_path / folder, months=["2024-03"], accounts=3, lines=100)
    both = [CurFolderSource(tmp_path / folder) for folder in ("here", "there")]
    monkeypatch.setattr(doctor, "sources", lambda workspace, vendor: both if vendor == "aws" else [])
    warnings = [sentence for state, sentence in found(workspace, "sources") if state == "warning"]
    assert warnings == [
        f"aws 999988887777 is exported by aws at {tmp_path / 'here'} and by aws at {tmp_path / 'there'}. For each month, "
        "the export that was landed last counts. Remove all but one of them."
    ]
    both.pop()
    assert not [sentence for state, sentence in found(workspace, "sources") if state == "warning"]


def test_months_that_are_missing_empty_or_stale_are_named(tmp_path):
    lines = [*USAGE_OF_10_AND_30, FEE_OF_100, line_item("1", "5", billing_month="2024-03")]
    workspace = run(workspace_in(tmp_path, lines, [fee_allocator()]), [MONTH, "2024-03"])
    told = [sentence for state, sentence in found(Workspace(workspace.settings), "months") if state == "warning"]
    assert told[0] == "2024-02 was never run."
    # The line items of this test come from no delivery, so every month of theirs is stale.
    assert told[-1].startswith("2024-01, 2024-03 are stale")


def test_a_lake_that_cannot_be_written_is_an_error(workspace):
    settings = Settings(lake="/proc/octo", config=workspace.settings.config)
    ((state, sentence),) = found(Workspace(settings), "lake")
    assert (state, "Cannot write to the lake /proc/octo" in sentence) == ("error", True)


def test_it_makes_no_folder_and_no_file(tmp_path, monkeypatch):
    """Not the lake's, nor that of the group, the registry, the manifest or Dagster."""
    (tmp_path / "config").mkdir()
    monkeypatch.setattr(DbtProject, "_cache", tmp_path / "cache")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    group = grp.getgrgid(os.getgid()).gr_name
    for settings in (
        Settings(lake=tmp_path / "new" / "lake", config=tmp_path / "config"),
        Settings(lake=tmp_path / "new" / "lake", config=tmp_path / "config", group=group),
    ):
        findings = list(examine(Workspace(settings), NOW))
        assert [one.sentence for one in findings if one.state == "error"] == []
        assert sorted(tmp_path.rglob("*")) == [tmp_path / "config"]
    told = [one.sentence for one in findings]
    assert f"The lake {tmp_path}/new/lake can be made; the first run makes it." in told
    assert any(sentence.startswith("The dbt manifest is not built yet") for sentence in told)


def test_the_rates_of_the_watched_months_are_looked_at(tmp_path):
    euros = line_item("3", "5", billing_currency="EUR", billing_month="2024-03")
    yen = line_item("3", "5", billing_currency="JPY", billing_month="2024-03")
    workspace = run(workspace_in(tmp_path, [line_item("1", "5", billing_month="2024-03"), euros, yen], []), ["2024-03"])
    rates = workspace.settings.config / "exchange_rates.csv"
    rates.write_text("month,currency,rate\n2024-03,EUR,1.1\n")
    needed = "it is needed where the accounts of one allocator are billed in several currencies."
    assert found(Workspace(workspace.settings), "rates") == [
        ("warning", "exchange_rates.csv has no rate of EUR in 2024-04; that of 2024-03 is used."),
        ("warning", f"exchange_rates.csv has no rate of JPY in 2024-03 or earlier; {needed}"),
        ("warning", f"exchange_rates.csv has no rate of JPY in 2024-04 or earlier; {needed}"),
    ]
    lines = [f"{month},{currency},1.1" for month in ("2024-03", "2024-04") for currency in ("EUR", "JPY")]
    rates.write_text("\n".join(["month,currency,rate", *lines]))
    assert found(Workspace(workspace.settings), "rates") == [("ok", "EUR and JPY have rates for 2024-03 and 2024-04.")]


def test_a_registry_on_a_server_is_written_and_nothing_stays(tmp_path, postgresql, workspace):
    settings = workspace.settings.model_copy(update={"database_url": postgresql()})
    served = Workspace(settings)
    served.registry.users.add("maria", "admin", Actor("tester"))
    before = served.registry.audit()
    assert found(served, "registry")[0][0] == "ok"
    assert served.registry.audit() == before

    def refused(*_, **__):
        raise OctoError("cannot execute INSERT in a read-only transaction", code="database-read-only")

    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(store, "append_event", refused)
    assert found(served, "registry") == [("error", "cannot execute INSERT in a read-only transaction")]
    monkeypatch.undo()


@pytest.mark.slow
def test_dagsters_postgresql_stores_an_event_and_nothing_stays(tmp_path, postgresql, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    assert store_an_event() is None
    url = postgresql().replace("postgresql://", "postgresql+psycopg2://")
    (tmp_path / "dagster.yaml").write_text(
        f"storage:\n  postgres:\n    postgres_url: {url}\ntelemetry:\n  enabled: false\n"
    )
    assert store_an_event() == "Dagster's storage on PostgreSQL keeps events: one was stored, read and removed."
    with dg.DagsterInstance.get() as instance:
        assert list(instance.all_asset_keys()) == []
    (tmp_path / "dagster.yaml").write_text(f"storage:\n  postgres:\n    postgres_url: {url}gone\n")
    # Dagster tries again and again, a second each.
    monkeypatch.setattr("dagster_postgres.utils.time.sleep", lambda _: None)
    with pytest.raises(
        OctoError, match=r"Dagster's storage on PostgreSQL, as .*dagster\.yaml names it, does not keep events: "
    ):
        store_an_event()


# Faults of installations for several people, each put back.


def warnings_and_errors(workspace: Workspace, area: str) -> list[str]:
    return [sentence for state, sentence in found(workspace, area) if state != "ok"]


def with_settings(workspace: Workspace, **settings: object) -> Workspace:
    return Workspace(workspace.settings.model_copy(update=settings))


def test_a_configuration_that_was_mounted_flat_is_an_error(workspace):
    """Regression: a ConfigMap has no folders, so the Helm values mounted no allocators, and nobody noticed."""
    config = workspace.settings.config
    (config / "allocators").rmdir()
    assert warnings_and_errors(Workspace(workspace.settings), "configuration") == [
        f"There is no allocator; {config}/allocators does not exist, so every cost stays where it was billed."
    ]
    write_json(config / "support.json", fee_allocator())
    assert warnings_and_errors(Workspace(workspace.settings), "configuration")[0] == (
        f"support.json is in {config} itself, where nothing is read. Rules belong in {config}/allocators, cost groups in "
        f"{config}/cost_groups, sources in {config}/sources."
    )


def test_the_endpoint_of_a_lake_is_not_that_of_the_bills(workspace, tmp_path, s3_server, monkeypatch):
    """Regression: AWS_ENDPOINT_URL_S3 took the requests for bills to the lake's store."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    bucket = s3_server.bucket()
    server = {"lake": f"s3://{bucket}/lake", "temp": tmp_path, "database_url": f"sqlite:///{tmp_path}/r.sqlite"}
    swallowed = with_settings(workspace, **server)
    assert warnings_and_errors(swallowed, "lake") == [
        "AWS_ENDPOINT_URL_S3 is set for the lake, so requests for AWS's bills go there too, with its keys."
    ]
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    right = with_settings(workspace, **server, lake_endpoint=s3_server.endpoint)
    assert warnings_and_errors(right, "lake") == []
    # Nobody listens there.
    monkeypatch.setattr("octo_pipeline.lake.root._ATTEMPTS", 1)
    wrong = with_settings(workspace, **server, lake_endpoint="http://127.0.0.1:9")
    ((state, sentence),) = found(wrong, "lake")
    assert state == "error"
    assert f"s3://{bucket}/lake" in sentence


def test_a_registry_in_a_file_of_one_machine_is_named_where_others_may_use_the_lake(workspace, tmp_path, s3_server):
    settings = {
        "lake": f"s3://{s3_server.bucket()}/lake",
        "temp": tmp_path,
        "lake_endpoint": s3_server.endpoint,
        "lake_access_key": "test-key",
        "lake_secret_key": SecretStr("test-secret"),
        "database_url": f"sqlite:///{tmp_path}/r.sqlite",
    }
    assert warnings_and_errors(with_settings(workspace, **settings), "registry") == [
        f"The lake is in a bucket and the registry is the file {tmp_path}/r.sqlite of this machine: other machines that make "
        "months of this lake do not see the decisions."
    ]


def test_a_server_without_users_keys_and_registration_settings_is_told_what_it_lacks(workspace, postgresql):
    url = postgresql()
    bare = with_settings(workspace, database_url=url)
    assert found(bare, "secrets") == []
    bare.registry.users.add("maria", "admin", Actor("tester"))
    assert warnings_and_errors(bare, "secrets") == [
        f"Secrets in a registry on a server need a key in the settings, because other machines cannot read a key file of this "
        f"machine. This makes a key: {NEW_KEY}"
    ]
    assert warnings_and_errors(bare, "registration") == [
        "AWS accounts cannot be registered.",
        "Google Cloud billing accounts cannot be registered.",
    ]
    key = SecretStr(base64.urlsafe_b64encode(bytes(32)).decode())
    whole = with_settings(
        workspace, database_url=url, secret_key=key, aws_principal="arn:x", gcp_service_account="octo@example.com"
    )
    whole.secrets.put("aws", "1", {"api": SecretStr("hunter2")}, Actor("tester"))
    assert found(whole, "secrets") == [("ok", "The stored secrets can be read.")]
    assert found(whole, "registration") == []
    other = SecretStr(base64.urlsafe_b64encode(bytes(31) + b"1").decode())
    assert warnings_and_errors(with_settings(whole, secret_key=other), "secrets") == [
        "1 stored secret, such as aws/1/api, cannot be read: the key is another one than when they were stored."
    ]


def test_a_server_without_users_is_named(workspace, postgresql):
    empty = with_settings(workspace, database_url=postgresql())
    empty.registry.upgrade(Caller("root"))
    assert warnings_and_errors(empty, "registry") == ["The registry has no users, so nobody can change anything."]


def test_clocks_that_are_apart_are_named(workspace, postgresql, monkeypatch):
    served = with_settings(workspace, database_url=postgresql())
    served.registry.users.add("maria", "admin", Actor("tester"))
    assert warnings_and_errors(served, "registry") == []
    server_time = Registry.server_time
    monkeypatch.setattr(Registry, "server_time", lambda registry: server_time(registry) - timedelta(minutes=5))
    (sentence,) = warnings_and_errors(served, "registry")
    assert re.fullmatch(
        r"The clock of this machine and that of the registry's server are 300 seconds apart\..*", sentence
    )


def test_a_home_of_dagster_that_keeps_no_logs_and_starts_nothing_again_is_named(workspace, tmp_path, monkeypatch):
    """Regression: DAGSTER_HOME belonged to root, so no run had logs."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    file = tmp_path / "dagster.yaml"
    root = Path(__file__).parent.parent.parent
    shutil.copy(root / "dagster.yaml", file)
    assert found(workspace, "dagster") == [("ok", f"Runs are recorded in {tmp_path}.")]
    file.write_text("telemetry:\n  enabled: false\n")
    assert warnings_and_errors(workspace, "dagster") == [
        f"{file} has no run_retries, so a run whose process was killed is not started again.",
        f"{file} has no limit of dagster/partition, so two runs make one month at the same time.",
    ]
    shutil.copy(root / "deploy" / "dagster.yaml", file)
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) == str(tmp_path))
    (sentence,) = warnings_and_errors(workspace, "dagster")
    assert sentence.startswith(
        "/var/lib/octo/logs cannot be written by this user, so Dagster keeps no logs of its runs."
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "change", "reason"),
    [
        ("postgresql://", "", "syntax error"),
        ("postgresql+psycopg2://", "ALTER TABLE event_logs RENAME partition TO former", "partition"),
    ],
    ids=["driver that refuses", "tables of another version"],
)
def test_a_storage_of_dagster_that_keeps_no_event_is_an_error(tmp_path, postgresql, monkeypatch, url, change, reason):
    """Regression: with SQLAlchemy 2.1, postgresql:// means a driver that refuses what Dagster sends with each event."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setattr("dagster_postgres.utils.time.sleep", lambda _: None)
    server = postgresql()
    text = "storage:\n  postgres:\n    postgres_url: {}\ntelemetry:\n  enabled: false\n"
    right = server.replace("postgresql://", "postgresql+psycopg2://")
    (tmp_path / "dagster.yaml").write_text(text.format(right))
    if change:
        assert store_an_event() is not None
        with create_engine(right).begin() as connection:
            connection.execute(sqlalchemy.text(change))
    (tmp_path / "dagster.yaml").write_text(text.format(server.replace("postgresql://", url)))
    with pytest.raises(OctoError, match=f"does not keep events: .*{reason}"):
        store_an_event()


def test_the_engine_is_asked_by_small_tasks(workspace, monkeypatch):
    settings = workspace.settings.model_copy(update={"engine": "spark://127.0.0.1:7077"})
    assert found(workspace, "engine") == []
    (ok, warning) = found(Workspace(settings, own_engine=LocalEngine()), "engine")
    assert ok == ("ok", f"The engine runs tasks with this version on {socket.gethostname()}.")
    assert warning[1].startswith("Nothing limits DuckDB's memory in the engine's tasks")
    limited = settings.model_copy(update={"engine_options": '{"spark.executorEnv.OCTO_MEMORY_LIMIT": "2GB"}'})
    assert found(Workspace(limited, own_engine=LocalEngine()), "engine") == [ok]


class Busy:
    def map(self, task, payloads):
        time.sleep(2)


class Refusing:
    def map(self, task, payloads):
        raise OctoError("Another version.", code="no-good")


def test_an_engine_without_workers_or_with_others_is_an_error(workspace, monkeypatch):
    monkeypatch.setattr(doctor, "_PATIENCE", 0.1)
    settings = workspace.settings.model_copy(update={"engine": "spark://127.0.0.1:7077"})
    ((state, sentence),) = found(Workspace(settings, own_engine=Busy()), "engine")
    assert (state, sentence.partition(".")[0]) == ("error", "The engine was given 8 small tasks and ran none in 0")
    assert found(Workspace(settings, own_engine=Refusing()), "engine") == [("error", "Another version.")]


class Broken:
    def map(self, task, payloads):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_any_error_of_an_engine_is_what_the_doctor_says(workspace, monkeypatch):
    """Regression: the doctor waited for an answer that never came, and then ended in a traceback."""
    monkeypatch.setattr(doctor, "_PATIENCE", 5)
    settings = workspace.settings.model_copy(update={"engine": "k8s://127.0.0.1:6443"})
    assert found(Workspace(settings, own_engine=Broken()), "engine") == [
        ("error", "The engine cannot run tasks (gaierror: [Errno -2] Name or service not known)."),
    ]
