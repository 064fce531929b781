"""`octo users`, `octo audit`, `octo secrets`, and who every changing command refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from octo_pipeline.cli.main import app
from octo_pipeline.cli.output import sentence
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.store import Registry
from octo_pipeline.services import access as acting
from octo_pipeline.settings import Settings
from octo_pipeline.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name in ("allocators", "cost_groups"):
        (tmp_path / "config" / name).mkdir(parents=True)
    monkeypatch.setenv("OCTO_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("OCTO_CONFIG", str(tmp_path / "config"))
    monkeypatch.setattr(acting, "os_user", lambda: "ana")
    return Workspace(Settings(lake=tmp_path / "lake", config=tmp_path / "config"))


def octo(*arguments: str, code: int = 0, answer: str | None = None) -> Result:
    result = CliRunner().invoke(app, arguments, input=answer)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def refused(*arguments: str) -> str:
    result = octo(*arguments, code=1)
    assert isinstance(result.exception, OctoError)
    return sentence(result.exception)


@pytest.fixture
def ana(workspace: Workspace) -> Workspace:
    """The workspace with ana as its administrator."""
    octo("registry", "init", "--admin", "ana")
    return workspace


def test_the_first_administrator_adds_the_others(ana: Workspace) -> None:
    assert octo("users", "add", "vic").stdout == "vic is a user with the role viewer.\n"
    octo("users", "add", "ed", "--role", "editor")
    assert octo("users", "add", "bob", "--role", "admin").stderr == ""
    rows = json.loads(octo("users", "list", "-o", "json").stdout)
    assert [(row["name"], row["role"], row["tokens"]) for row in rows] == [
        ("ana", "admin", 0), ("bob", "admin", 0), ("ed", "editor", 0), ("vic", "viewer", 0),
    ]  # fmt: skip
    assert "The role 'root' is unknown; it is one of viewer, editor, admin." in refused(
        "users", "add", "x", "--role", "root"
    )


def test_a_viewer_is_limited_to_cost_groups(ana: Workspace) -> None:
    folder = ana.settings.config / "cost_groups"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shop.json").write_text(
        '{"combinations": {"awsOptions": {"filters": [{"andFilters": {"account": "1"}}]}}}'
    )
    added = octo("users", "add", "vic", "--group", "shop")
    assert added.stdout == "vic is a user with the role viewer and sees only shop.\n"
    assert json.loads(octo("users", "list", "-o", "json").stdout)[1]["cost_groups"] == "shop"
    raised = refused("users", "role", "vic", "editor")
    assert "only viewers can be" in raised and "`octo users groups vic --everything`" in raised
    assert '"shops" is not a cost group; did you mean "shop"?' in refused("users", "groups", "vic", "--group", "shops")
    for flags in ((), ("--group", "shop", "--everything")):
        assert "Give either --group" in refused("users", "groups", "vic", *flags)
    assert octo("users", "groups", "vic", "--everything").stdout == "vic sees everything.\n"
    octo("users", "role", "vic", "editor")


def test_a_failed_command_makes_nobody_an_administrator(workspace: Workspace) -> None:
    """Regression: `octo accounts delete nothing` failed, and whoever ran it was the administrator from then on."""
    for command in (("accounts", "delete", "nothing", "--yes"), ("users", "add", "vic"), ("deliveries", "remove", "v")):
        assert "Run `octo registry init --admin NAME` to make the first administrator." in refused(*command)
    assert not workspace.registry.exists()


def test_a_token_can_be_required(ana: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: without OCTO_TOKEN a viewer was the administrator that the machine's user is."""
    octo("users", "add", "vic")
    monkeypatch.setenv("OCTO_REQUIRE_TOKEN", "true")
    assert "This registry takes tokens only" in refused("users", "role", "vic", "admin")
    text = octo("registry", "init", "--admin", "ana").stdout.strip()
    monkeypatch.setenv("OCTO_TOKEN", text)
    octo("users", "role", "vic", "editor")
    assert text not in octo("audit", "-o", "json").stdout


def test_the_machines_user_does_not_count_where_the_registry_is_on_a_server(
    postgresql: Callable[[], str], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTO_DATABASE_URL", postgresql())
    made = octo("registry", "init", "--admin", "ana")
    assert "ana is an administrator of this registry." in made.stderr
    assert "This registry takes tokens only" in refused("users", "add", "vic")
    assert "This registry takes tokens only" in refused("registry", "upgrade")
    monkeypatch.setenv("OCTO_TOKEN", made.stdout.strip())
    octo("users", "add", "vic")


# What editors may, and what only administrators may.
EDITS = [
    ("allocations", "restore", "a" * 32, "--reason", "x", "--yes"),
    ("allocations", "reapply", "a" * 32, "--reason", "x", "--yes"),
    ("allocators", "add", "new.json", "--yes"),
    ("allocators", "remove", "a0", "--yes"),
    ("charges", "import", "charges.csv", "--month", "2024-01", "--merge"),
]
CHANGES = [
    *EDITS,
    ("accounts", "delete", "a", "--yes"),
    ("accounts", "register", "gcp", "--id", "a", "--project", "p", "--dataset", "d", "--region", "EU"),
    ("deliveries", "remove", "v1", "--yes"),
    ("registry", "upgrade"),
    ("secrets", "rotate"),
    ("users", "add", "eve"),
    ("users", "groups", "ana", "--everything"),
    ("users", "role", "ana", "viewer"),
    ("users", "remove", "ana"),
    ("users", "token", "ana", "--label", "x"),
    ("users", "revoke", "12345678"),
]


@pytest.mark.parametrize("change", CHANGES, ids=" ".join)
def test_who_lacks_the_role_changes_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, change: tuple[str, ...]
) -> None:
    monkeypatch.chdir(workspace.settings.config)
    workspace.registry.users.add("ana", "admin", "ana")
    workspace.registry.users.add("vic", "viewer", "ana")
    workspace.registry.users.add("ed", "editor", "ana")
    events = workspace.registry.audit()
    Path("charges.csv").write_text("month,account,description,amount,currency,seller\n")
    refusals = [("vic", "'vic' is a viewer, and only"), ("eve", "'eve' is not a user of this")]
    if change not in EDITS:
        refusals.append(("ed", "'ed' is an editor, and only administrators"))
    for name, message in refusals:
        monkeypatch.setattr(acting, "os_user", lambda name=name: name)
        assert message in refused(*change)
    assert workspace.registry.audit() == events


@pytest.mark.parametrize("edit", EDITS, ids=" ".join)
def test_an_editor_is_asked_for_more_than_a_role(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, edit: tuple[str, ...]
) -> None:
    monkeypatch.chdir(workspace.settings.config)
    workspace.registry.users.add("ana", "editor", "root")
    result = CliRunner().invoke(app, edit)
    assert "only" not in str(result.exception)
    assert "is not a user" not in str(result.exception)


def test_a_token_stands_for_its_user(ana: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    octo("users", "add", "ci", "--role", "admin")
    made = octo("users", "token", "ci", "--label", "nightly job")
    text = made.stdout.strip()
    assert "Whoever sets OCTO_TOKEN to it acts as ci." in made.stderr
    monkeypatch.setattr(acting, "os_user", lambda: "somebody")
    monkeypatch.setenv("OCTO_TOKEN", text)
    octo("users", "add", "vic")
    assert ana.registry.audit()[0].actor == "ci"

    listed = octo("users", "tokens")
    assert "nightly job" in listed.stdout
    assert text not in listed.stdout
    octo("users", "revoke", text.split("_")[1])
    said = refused("users", "add", "bob")
    assert "The token does not belong to this registry or was revoked" in said
    assert text not in said + octo("audit", "-o", "json").stdout


def test_the_audit_trail_is_printed_newest_first(ana: Workspace) -> None:
    octo("users", "add", "vic")
    octo("users", "role", "vic", "admin")
    events = json.loads(octo("audit", "-o", "json").stdout)
    assert [(e["actor"], e["action"], e["subject"]) for e in events] == [
        ("ana", "set_role", "vic"), ("ana", "add_user", "vic"), ("ana", "add_user", "ana"),
    ]  # fmt: skip
    assert events[0]["details"] == {"role": "admin", "before": "viewer"}
    assert "set_role" in octo("audit", "--limit", "1").stdout
    assert len(octo("audit", "--limit", "2", "-o", "csv").stdout.splitlines()) == 3


def test_a_moment_is_never_cut_however_long_the_rest_is(ana: Workspace) -> None:
    """Regression: a moment has a space, so it was narrowed before all else, to '2024-03…'."""
    octo("users", "add", "v" * 60)
    moment = f"{ana.registry.audit()[0].at:%Y-%m-%d %H:%M}"
    table = octo("audit").stdout
    assert moment in table


def test_secrets_are_rotated(ana: Workspace, tmp_path: Path) -> None:
    ana.secrets.put("azure", "1", {"key": SecretStr("hunter2")}, "ana")
    key = (tmp_path / "lake" / "registry.key").read_text()
    assert octo("secrets", "rotate").stdout == "1 secret is encrypted with the new key.\n"
    assert (tmp_path / "lake" / "registry.key").read_text() != key
    assert ana.secrets.get("azure", "1", "key").get_secret_value() == "hunter2"


def test_what_is_changed_in_files_is_in_the_audit_trail(ana: Workspace) -> None:
    document = {
        "id": "new", "category": "fee", "startMonth": "2024-01", "criteria": [{"and": {"description": "x"}}],
        "allocator": [{"type": "account", "value": "1", "formula": "cost*usage"}],
    }  # fmt: skip
    file = ana.settings.config / "new.json"
    file.write_text(json.dumps(document))
    octo("allocators", "add", str(file), "--yes")
    octo("allocators", "remove", "new", "--yes")
    removed, saved, *_ = ana.registry.audit()
    assert (saved.actor, saved.action, saved.subject) == ("ana", "save_allocator", "new")
    assert (removed.actor, removed.action, removed.subject) == ("ana", "remove_allocator", "new")


def test_the_user_is_the_systems_and_not_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import pwd

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    assert acting.os_user() == pwd.getpwuid(os.geteuid()).pw_name
    monkeypatch.setattr(os, "geteuid", lambda: 3_999_999)
    assert acting.os_user() == "uid-3999999"


def test_a_registry_that_is_down_is_a_sentence(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTO_DATABASE_URL", "postgresql://octo:hunter2@127.0.0.1:9/registry")
    said = refused("users", "add", "vic")
    assert "The registry postgresql://127.0.0.1:9/registry cannot be used: " in said
    assert "hunter2" not in said
    assert Registry(workspace.settings.registry_url).exists() is False
