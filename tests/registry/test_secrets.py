"""Secrets at rest: encrypted, bound to their place, readable through a rotation, and never in a sentence."""

import base64
import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from octo_pipeline.cli.output import sentence
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.encryption import KeyFile, KeySetting
from octo_pipeline.registry.store import Registry
from octo_pipeline.registry.stored_secrets import Secrets

Sql = Callable[[str], Sequence[Any]]
PLAIN = "hunter2 é \U0001f511 and more"

KEY = base64.urlsafe_b64encode(bytes(32)).decode()


def new_key() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "registry.key"


@pytest.fixture
def secrets(registry: Registry, key_file: Path) -> Secrets:
    return Secrets(registry, KeyFile(key_file))


def put(secrets: Secrets, text: str = PLAIN, name: str = "api", account: str = "1") -> None:
    secrets.put("azure", account, {name: SecretStr(text)}, "ana")


def test_a_secret_comes_back_and_is_nowhere_in_plain(
    registry: Registry, secrets: Secrets, key_file: Path, sql: Sql, url: str
) -> None:
    put(secrets)
    put(secrets, "another", "refresh")

    assert secrets.get("azure", "1", "api").get_secret_value() == PLAIN
    assert PLAIN not in repr(secrets.get("azure", "1", "api"))
    kept = str(sql("SELECT * FROM secrets")) + str(sql("SELECT * FROM audit_events"))
    assert "hunter2" not in kept
    if path := registry.path:
        assert b"hunter2" not in path.read_bytes()
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert [path.name for path in key_file.parent.iterdir()] == ["registry.key"]
    event = registry.audit()[1]
    assert (event.actor, event.action, event.details) == ("ana", "put_secrets", {"vendor": "azure", "names": ["api"]})


def test_the_same_secret_twice_is_another_text_and_a_new_one_replaces_it(secrets: Secrets, sql: Sql) -> None:
    put(secrets, "same", "a")
    put(secrets, "same", "b")
    first, second = sql("SELECT ciphertext FROM secrets")
    assert first != second

    put(secrets, "other", "a")
    assert secrets.get("azure", "1", "a").get_secret_value() == "other"
    assert sql("SELECT count(*) FROM secrets") == [(2,)]


def test_a_secret_that_is_not_there(secrets: Secrets) -> None:
    with pytest.raises(OctoError, match="There is no secret azure/1/api") as refused:
        secrets.get("azure", "1", "api")
    assert "Run `octo accounts show 1` to see what to do, or `octo accounts sign-in 1`" in sentence(refused.value)
    put(secrets, account="2")
    with pytest.raises(OctoError, match="There is no secret azure/1/api"):
        secrets.get("azure", "1", "api")


def test_tampering_is_found(secrets: Secrets, sql: Sql) -> None:
    put(secrets, "one", "a")
    put(secrets, "two", "b")
    sql("UPDATE secrets SET ciphertext = (SELECT s.ciphertext FROM secrets s WHERE s.name = 'b') WHERE name = 'a'")

    with pytest.raises(OctoError, match="The stored secret azure/1/a was changed outside octo-pipeline"):
        secrets.get("azure", "1", "a")
    with pytest.raises(OctoError, match="azure/1/a was changed outside"):
        secrets.rotate("ana")
    sql("UPDATE secrets SET ciphertext = 'no base64!' WHERE name = 'b'")
    with pytest.raises(OctoError, match="azure/1/b was changed outside"):
        secrets.get("azure", "1", "b")


def test_rotating_the_key_file(registry: Registry, secrets: Secrets, key_file: Path, sql: Sql) -> None:
    put(secrets, "one", "a")
    put(secrets, "two", "b")
    before, rows = key_file.read_text(), sql("SELECT ciphertext FROM secrets")

    assert secrets.rotate("ana") == 2

    assert key_file.read_text().count("\n") == 1
    assert key_file.read_text() != before
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert not set(rows) & set(sql("SELECT ciphertext FROM secrets"))
    assert [secrets.get("azure", "1", name).get_secret_value() for name in ("a", "b")] == ["one", "two"]
    old = Secrets(registry, KeySetting(before))
    with pytest.raises(OctoError, match=r"was encrypted with a key \(") as refused:
        old.get("azure", "1", "a")
    assert before.strip() not in str(refused.value)
    assert registry.audit()[0].action == "rotate_secrets"


def test_a_rotation_that_is_stopped_leaves_every_secret_readable(
    registry: Registry, secrets: Secrets, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(secrets)

    def stop(self: KeyFile) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(KeyFile, "drop_old", stop)
        with pytest.raises(KeyboardInterrupt):
            secrets.rotate("ana")
    assert secrets.get("azure", "1", "api").get_secret_value() == PLAIN

    with monkeypatch.context() as patched:
        patched.setattr("octo_pipeline.registry.stored_secrets.append_event", stop)
        with pytest.raises(TypeError):
            secrets.rotate("ana")
    assert secrets.get("azure", "1", "api").get_secret_value() == PLAIN
    secrets.rotate("ana")
    assert secrets.get("azure", "1", "api").get_secret_value() == PLAIN
    assert key_file.read_text().count("\n") == 1


def test_rotating_the_setting(registry: Registry) -> None:
    old, new = new_key(), new_key()
    put(Secrets(registry, KeySetting(old)))

    both = Secrets(registry, KeySetting(f"{new},{old}"))
    assert both.get("azure", "1", "api").get_secret_value() == PLAIN
    assert both.rotate("ana") == 1
    assert Secrets(registry, KeySetting(new)).get("azure", "1", "api").get_secret_value() == PLAIN


def test_processes_that_make_the_key_at_once_agree_on_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        keys = list(pool.map(lambda _: KeyFile(tmp_path / "key").load_or_make()[0].id, range(64)))
    assert len(set(keys)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("text", ["", "hunter2", KEY[:-2], f"{KEY},hunter2", "é" * 44, "\0"], ids=range(6))
def test_what_is_no_key(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_text(text)

    for wrong in (lambda: KeySetting(text), KeyFile(path).load):
        with pytest.raises(OctoError, match=r"(contains something that is not a key|is empty)") as refused:
            wrong()
        assert "hunter2" not in str(refused.value)


def test_key_files_that_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / "key"
    KeyFile(path).load_or_make()
    path.chmod(0o640)
    with pytest.raises(OctoError, match=r"can be read by others. Run `chmod 600 .*key`"):
        KeyFile(path).load()
    with pytest.raises(OctoError, match="cannot be read"):
        KeyFile(tmp_path).load()
    with pytest.raises(OctoError, match=r"cannot be (read|written)"):
        KeyFile(path / "key").load_or_make()
