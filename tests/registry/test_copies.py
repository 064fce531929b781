"""Copies of a registry: every row, of one moment, the same text from each database."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry import copies
from octo_pipeline.registry.copies import copy_registry, load_registry
from octo_pipeline.registry.database import HEAD
from octo_pipeline.registry.encryption import KeyFile
from octo_pipeline.registry.records import Actor, Decision, DocumentVersion, NewAccount
from octo_pipeline.registry.schema import METADATA
from octo_pipeline.registry.store import Registry
from octo_pipeline.registry.stored_secrets import Secrets

Decide = Callable[..., Decision]
ANA = Actor("ana")


@pytest.fixture
def filled(registry: Registry, decide: Decide, tmp_path: Path) -> Registry:
    """A registry with rows in every table, and texts that databases sort and write in their own ways."""
    for name in ("élise", "Bob", "alice"):
        registry.users.add(name, "admin", ANA)
        registry.users.make_token(name, "nightly", ANA)
    registry.record_decisions([decide(), decide("b" * 32, reason="“twice” \U0001f4b6 \\u0000")])
    registry.record_decisions([decide(action="reapply")])
    registry.periods.record("close", ["2024-01"], ANA, closings={"2024-01": "a" * 32})
    Secrets(registry, KeyFile(tmp_path / "keys")).put("aws", "1", {"api": SecretStr("hunter2")}, ANA)
    registry.accounts.add([NewAccount("aws", "111122223333", settings={"a": [1, None, 0.1]})], ANA)
    version = DocumentVersion("allocator", "support", "a" * 32, '{"name":"“twice” \U0001f4b6"}')
    registry.documents.save([version], ANA, "save_allocator", "support", {})
    return registry


def copied(registry: Registry, folder: Path) -> dict[str, str]:
    folder.mkdir()
    copy_registry(registry, folder)
    return {file.name: file.read_text() for file in folder.iterdir()}


def load(registry: Registry, folder: Path, version: str = HEAD) -> None:
    load_registry(registry, folder, version, ANA, "octo.zip", {"made_at": "today"})


@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
def test_a_copy_is_a_registry_with_the_same_rows_on_each_database(
    filled: Registry, tmp_path: Path, request: pytest.FixtureRequest, target: str
) -> None:
    before = copied(filled, tmp_path / "before")
    assert all(before.values()), "each table has rows"
    # Who is signed in signs in again.
    assert before.keys() == {f"{name}.jsonl" for name in METADATA.tables.keys() - {"answers", "sessions"}}
    url = f"sqlite:///{tmp_path}/new.sqlite" if target == "sqlite" else request.getfixturevalue("postgresql")()
    restored = Registry(url)
    load(restored, tmp_path / "before")

    after = copied(restored, tmp_path / "after")
    events = after.pop("audit_events.jsonl").splitlines(keepends=True)
    assert "".join(events[:-1]) == before.pop("audit_events.jsonl")
    assert after == before
    newest = restored.audit(1)[0]
    assert (newest.actor, newest.action, newest.details) == ("ana", "restore_backup", {"made_at": "today"})
    assert restored.restored_items() == filled.restored_items()
    # Ids go on after those that were restored.
    restored.accounts.add([NewAccount("aws", "111122224444")], ANA)
    assert len(restored.accounts.all()) == 2


def test_a_copy_is_of_one_moment(filled: Registry, decide: Decide, tmp_path: Path, monkeypatch: Any) -> None:
    """A writer between two tables: PostgreSQL would show it with its usual isolation, SQLite makes it wait."""
    if filled.path is not None:
        pytest.skip("a writer of SQLite waits for the reader")
    lines = copies._lines

    def with_a_writer(connection: Any, table: Any) -> Any:
        yield from lines(connection, table)
        if table.name == "audit_events":
            filled.record_decisions([decide("c" * 32)])

    monkeypatch.setattr(copies, "_lines", with_a_writer)
    tables = copied(filled, tmp_path / "copy")
    assert len(filled.decisions()) == 4
    assert tables["decisions.jsonl"].count("\n") == 3
    assert "c" * 32 not in "".join(tables.values())


def test_there_is_nothing_to_copy_where_there_is_no_registry(registry: Registry, tmp_path: Path) -> None:
    assert copied(registry, tmp_path / "copy") == {}
    assert not registry.exists()


def test_a_registry_is_not_restored_over_another(filled: Registry, tmp_path: Path) -> None:
    before = copied(filled, tmp_path / "before")
    with pytest.raises(OctoError, match="is there already, and only an empty place is restored to"):
        load(filled, tmp_path / "before")
    assert copied(filled, tmp_path / "after") == before


@pytest.mark.parametrize(
    "change", ["lost row", "lost table", "unknown column", "other text", "no JSON"], ids=lambda change: change
)
def test_what_does_not_come_back_as_it_was_is_not_restored(
    filled: Registry, tmp_path: Path, monkeypatch: Any, change: str
) -> None:
    copied(filled, tmp_path / "copy")
    file = tmp_path / "copy" / "users.jsonl"
    if change == "lost row":
        lines = copies._lines
        monkeypatch.setattr(copies, "_lines", lambda connection, table: list(lines(connection, table))[:-1])
    elif change == "lost table":
        file.unlink()
    elif change == "unknown column":
        file.write_text(json.dumps(json.loads(file.read_text().splitlines()[0]) | {"rank": 1}) + "\n")
    elif change == "other text":
        file.write_text(file.read_text().replace('"admin"', '"admin" '))
    else:
        file.write_text("{\n")
    restored = Registry(f"sqlite:///{tmp_path}/new.sqlite")
    with pytest.raises(OctoError) as refused:
        load(restored, tmp_path / "copy")
    assert refused.value.code == "restored-registry-differs"
    assert not restored.exists()


def test_a_copy_of_an_earlier_version_is_brought_to_this_one(registry: Registry, tmp_path: Path) -> None:
    """As the third migration left it: without the events of months."""
    time = "2024-05-01T10:30:00+00:00"
    rows: dict[str, list[dict[str, Any]]] = {
        "decisions": [
            {
                "id": 1,
                "action": "restore",
                "item_id": "a" * 32,
                "origin_month": "2024-01",
                "category": "fee",
                "actor": "finance",
                "reason": "billed twice",
                "decided_at": time,
            }
        ],
        "audit_events": [],
        "registered_accounts": [],
        "users": [{"name": "ana", "role": "editor", "added_at": time}],
        "tokens": [],
        "secrets": [],
    }
    for table, values in rows.items():
        lines = [json.dumps(row, sort_keys=True, separators=(",", ":")) + "\n" for row in values]
        (tmp_path / f"{table}.jsonl").write_text("".join(lines))
    load(registry, tmp_path, "0003")
    assert registry.restored_items() == (("a" * 32, "2024-01"),)
    assert [user.role for user in registry.users.all()] == ["editor"]
    assert registry.periods.all() == {}
