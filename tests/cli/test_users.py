"""`octo users`, `octo audit`, `octo secrets`, and who every changing command refuses."""

import json
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


def test_first_use_says_that_it_makes_an_administrator(workspace: Workspace) -> None:
    first = octo("users", "add", "vic")
    assert "The registry had no users: ana, the user of this machine, is its administrator from now on." in first.stderr
    assert first.stdout == "vic is a user with the role viewer.\n"
    assert octo("users", "add", "bob", "--role", "admin").stderr == ""
    rows = json.loads(octo("users", "list", "-o", "json").stdout)
    assert [(row["name"], row["role"], row["tokens"]) for row in rows] == [
        ("ana", "admin", 0), ("bob", "admin", 0), ("vic", "viewer", 0),
    ]  # fmt: skip


CHANGES = [
    ("allocations", "restore", "a" * 32, "--reason", "x", "--yes"),
    ("allocations", "reapply", "a" * 32, "--reason", "x", "--yes"),
    ("allocators", "add", "new.json", "--yes"),
    ("allocators", "remove", "a0", "--yes"),
    ("deliveries", "remove", "v1", "--yes"),
    ("registry", "upgrade"),
    ("secrets", "rotate"),
    ("users", "add", "eve"),
    ("users", "role", "ana", "viewer"),
    ("users", "remove", "ana"),
    ("users", "token", "ana", "--label", "x"),
    ("users", "revoke", "12345678"),
]


@pytest.mark.parametrize("change", CHANGES, ids=" ".join)
def test_a_viewer_and_a_stranger_change_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, change: tuple[str, ...]
) -> None:
    workspace.registry.users.add("ana", "admin", "ana")
    workspace.registry.users.add("vic", "viewer", "ana")
    events = workspace.registry.audit()
    for name, message in (
        ("vic", "'vic' is a viewer, and only administrators"),
        ("eve", "'eve' is not a user of this"),
    ):
        monkeypatch.setattr(acting, "os_user", lambda name=name: name)
        assert message in refused(*change)
    assert workspace.registry.audit() == events


def test_a_token_stands_for_its_user(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    octo("users", "add", "ci", "--role", "admin")
    made = octo("users", "token", "ci", "--label", "nightly job")
    text = made.stdout.strip()
    assert "Whoever sets OCTO_TOKEN to it acts as ci." in made.stderr
    monkeypatch.setattr(acting, "os_user", lambda: "somebody")
    monkeypatch.setenv("OCTO_TOKEN", text)
    octo("users", "add", "vic")
    assert workspace.registry.audit()[0].actor == "ci"

    listed = octo("users", "tokens")
    assert "nightly job" in listed.stdout
    assert text not in listed.stdout
    octo("users", "revoke", text.split("_")[1])
    said = refused("users", "add", "bob")
    assert "The token does not belong to this registry or was revoked" in said
    assert text not in said + octo("audit", "-o", "json").stdout


def test_the_audit_trail_is_printed_newest_first(workspace: Workspace) -> None:
    octo("users", "add", "vic")
    octo("users", "role", "vic", "admin")
    events = json.loads(octo("audit", "-o", "json").stdout)
    assert [(e["actor"], e["action"], e["subject"]) for e in events] == [
        ("ana", "set_role", "vic"), ("ana", "add_user", "vic"), ("ana", "add_user", "ana"),
    ]  # fmt: skip
    assert events[0]["details"] == {"role": "admin", "before": "viewer"}
    assert "set_role" in octo("audit", "--limit", "1").stdout
    assert len(octo("audit", "--limit", "2", "-o", "csv").stdout.splitlines()) == 3


def test_a_moment_is_never_cut_however_long_the_rest_is(workspace: Workspace) -> None:
    """Regression: a moment has a space, so it was narrowed before all else, to '2024-03…'."""
    octo("users", "add", "v" * 60)
    moment = f"{workspace.registry.audit()[0].at:%Y-%m-%d %H:%M}"
    table = octo("audit").stdout
    assert moment in table
    assert max(map(len, table.splitlines())) <= 100


def test_secrets_are_rotated(workspace: Workspace, tmp_path: Path) -> None:
    workspace.secrets.put("azure", "1", {"key": SecretStr("hunter2")}, "ana")
    key = (tmp_path / "lake" / "registry.key").read_text()
    assert octo("secrets", "rotate").stdout == "1 secret is encrypted with the new key.\n"
    assert (tmp_path / "lake" / "registry.key").read_text() != key
    assert workspace.secrets.get("azure", "1", "key").get_secret_value() == "hunter2"


def test_what_is_changed_in_files_is_in_the_audit_trail(workspace: Workspace) -> None:
    document = {
        "id": "new", "category": "fee", "startMonth": "2024-01", "criteria": [{"and": {"description": "x"}}],
        "allocator": [{"type": "account", "value": "1", "formula": "cost*usage"}],
    }  # fmt: skip
    file = workspace.settings.config / "new.json"
    file.write_text(json.dumps(document))
    octo("allocators", "add", str(file), "--yes")
    octo("allocators", "remove", "new", "--yes")
    removed, saved, _ = workspace.registry.audit()
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
