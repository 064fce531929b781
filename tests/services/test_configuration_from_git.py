"""The configuration as git-sync keeps it: a folder of each commit, and a link that is exchanged in one step."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from octo_pipeline import workspace as reading
from octo_pipeline.cli.main import app
from octo_pipeline.console.app import create_app
from octo_pipeline.registry.records import Actor, Caller
from octo_pipeline.rules import cost_group
from octo_pipeline.services.remembered import remembered
from octo_pipeline.services.sources import sources
from octo_pipeline.settings import Settings
from octo_pipeline.workspace import Workspace
from tests.support.git_sync import GitSync

RULE = {
    "startMonth": "2024-01",
    "criteria": [{"and": {"productCode": "AWSSupportEnterprise"}}],
    "allocator": [{"type": "payer", "value": "999988887777", "formula": "cost*usage"}],
}
GROUP = {"combinations": {"awsOptions": {"filters": [{"andFilters": {"account": "1"}}]}}}


def documents(version: str) -> dict[str, str]:
    """Files that all say of which version they are."""
    return {
        f"allocators/{version}.json": json.dumps(RULE),
        f"cost_groups/{version}.json": json.dumps(GROUP),
        f"metrics/{version}.csv": "month,account,group,quantity\n2024-01,1,,1\n",
        "exchange_rates.csv": f"month,currency,rate\n2024-01,{'EUR' if version == 'first' else 'CHF'},1.1\n",
        "cost_centres.csv": f"owner_type,owner_id,cost_centre,ledger_account,name,email\naccount,1,{version},640100,,\n",
        f"sources/{version}.json": json.dumps({"vendor": "aws", "use": False}),
    }


def versions_in(workspace: Workspace) -> set[str]:
    """Of which versions a workspace has documents."""
    read = workspace.configuration
    assert read.problems == ()
    assert sources(workspace, "aws") == []
    (rate,), (line,) = read.rates, read.cost_centres.lines
    names = {*(rule.id for rule in read.allocators), *read.cost_groups, *read.metrics, line.cost_centre}
    return names | {{"EUR": "first", "CHF": "second"}[rate.currency]}


@pytest.fixture
def git(tmp_path: Path) -> GitSync:
    """A repository whose first version is checked out."""
    git = GitSync(tmp_path)
    git.commit(documents("first"), folder="costs")
    git.exchange()
    git.commit(documents("second"), folder="costs")
    return git


@pytest.fixture
def settings(git: GitSync, tmp_path: Path) -> Settings:
    return Settings(lake=str(tmp_path / "lake"), config=git.link / "costs")


def test_a_version_is_read_whole_when_the_link_is_exchanged_in_the_middle(git, settings, monkeypatch):
    """Regression: cost groups were of one version and allocators of the next."""
    load = reading.load_allocators

    def load_meanwhile(*arguments):
        git.exchange()
        return load(*arguments)

    monkeypatch.setattr(reading, "load_allocators", load_meanwhile)
    workspace = Workspace(settings)
    assert versions_in(workspace) == {"first"}
    monkeypatch.undo()
    # What began with a version stays with it, whatever reads documents later, and what begins now has the new one.
    assert versions_in(Workspace(workspace.settings)) == {"first"}
    assert versions_in(Workspace(settings)) == {"second"}


def test_one_version_is_validated_when_the_link_is_exchanged_in_the_middle(git, settings, monkeypatch):
    """Regression: rules that name a cost group were held against the groups of the version before."""

    def naming(version: str) -> dict[str, str]:
        target = {"type": "group", "value": version, "formula": "cost"}
        return documents(version) | {f"allocators/{version}.json": json.dumps(RULE | {"allocator": [target]})}

    load = cost_group.load_cost_groups

    def load_before(*arguments):
        groups = load(*arguments)
        git.exchange()
        return groups

    git.commit(naming("first"), folder="costs")
    git.exchange()
    git.commit(naming("second") | {"allocators/more.json": json.dumps(RULE)}, folder="costs")
    monkeypatch.setenv("OCTO_LAKE", settings.lake)
    monkeypatch.setenv("OCTO_CONFIG", str(settings.config))
    monkeypatch.setattr(cost_group, "load_cost_groups", load_before)
    for valid in ("3 files are valid.\n", "4 files are valid.\n"):
        done = CliRunner().invoke(app, ["allocators", "validate"])
        assert (done.exit_code, done.stdout) == (0, valid), done.output


def test_what_is_remembered_is_of_the_version_that_it_was_computed_from(git, settings):
    workspace = Workspace(settings)
    assert versions_in(workspace) == {"first"}
    git.exchange()
    shown = [remembered(w, "rules", "2024-01", lambda w=w: versions_in(w)) for w in (workspace, Workspace(settings))]
    assert shown == [{"first"}, {"second"}]


@pytest.fixture
def browser(settings) -> TestClient:
    """The console and the API, and an editor who is signed in to both."""
    users = Workspace(settings).registry.users
    users.add("eve", "editor", Actor("tester"))
    token = users.make_token("eve", "tests", Actor("tester"))
    client = TestClient(create_app(settings, hosts=("testserver",)), raise_server_exceptions=False)
    client.headers["Authorization"] = f"Bearer {token}"
    client.cookies.set("octo_session", Workspace(settings).registry.sessions.begin(Caller(None, token), "token"))
    return client


def test_a_server_shows_the_next_version_without_a_restart_and_names_no_folder_of_its_own(git, settings, browser):
    def shown() -> tuple[list[str], bool, bool]:
        rules = browser.get("/api/v1/allocators").json()["items"]
        page = browser.get("/rules").text
        return [rule["id"] for rule in rules], ">first<" in page, ">second<" in page

    assert shown() == (["first"], True, False)
    git.exchange()
    assert shown() == (["second"], False, True)
    twice = {f"allocators/{name}.json": json.dumps(RULE | {"id": "twice"}) for name in ("a", "b")}
    git.commit(twice, folder="costs")
    git.exchange()
    problem = browser.get("/api/v1/allocators/twice").json()
    assert problem["detail"] == (
        "Several files in configuration/allocators have the id 'twice': a.json, b.json. Give each its own id first."
    )


def test_a_command_reads_what_the_link_leads_to(git, settings):
    def rules() -> list[str]:
        command = [sys.executable, "-m", "octo_pipeline.cli.main", "allocators", "list", "--output", "json"]
        environment = {
            "OCTO_LAKE": settings.lake,
            "OCTO_CONFIG": str(settings.config),
            "PYTHONPATH": ":".join(sys.path),
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return [rule["id"] for rule in json.loads(done.stdout)]

    assert rules() == ["first"]
    git.exchange()
    assert rules() == ["second"]
