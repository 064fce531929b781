"""What the doctor says of an installation that lacks something."""

import grp
import os
from datetime import UTC, datetime

import dagster as dg
import pytest

from octo_pipeline.automation.storage import store_an_event
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.registry import store
from octo_pipeline.registry.records import Actor
from octo_pipeline.services import doctor
from octo_pipeline.services.doctor import Finding, examine
from octo_pipeline.settings import Settings
from octo_pipeline.tables.dbt import DbtProject, dbt_project
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
    dbt_project.cache_clear()
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
    dbt_project.cache_clear()


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
