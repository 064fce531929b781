"""Backups: what is in them, that they come back as they were, and that nothing else happens where they cannot."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from pydantic import SecretStr

from octo_pipeline.lake.lake import Lake
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.copies import copy_registry
from octo_pipeline.registry.records import Actor
from octo_pipeline.registry.store import Registry
from octo_pipeline.services import backups
from octo_pipeline.services.backups import landed_months, make_backup, restore_backup, unfinished_restore
from octo_pipeline.services.doctor import examine
from octo_pipeline.services.landing import land_month
from octo_pipeline.services.months import Failed, make_months
from octo_pipeline.settings import Settings
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.graph import order
from octo_pipeline.tables.table import KEPT
from octo_pipeline.vendors.aws.cur import CurFolderSource
from octo_pipeline.vendors.aws.sample import write_cur
from octo_pipeline.workspace import Workspace
from tests.support.closing import close_months
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator
from tests.support.workspaces import decision, workspace_in, write_allocators

ANA = Actor("ana")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """An installation with a closed month, a decision, users, a secret, and hidden files in its configuration."""
    folder = tmp_path_factory.mktemp("original")
    workspace = workspace_in(folder, [*USAGE_OF_10_AND_30, FEE_OF_100], [fee_allocator()])
    close_months(workspace, [MONTH])
    workspace = Workspace(workspace.settings)
    workspace.registry.record_decisions([decision("restore", "a" * 32, MONTH)])
    workspace.registry.users.add("ana", "admin", ANA)
    workspace.secrets.put("aws", "1", {"api": SecretStr("hunter2")}, ANA)
    config = workspace.settings.config
    (config / "exchange_rates.csv").write_text("month,currency,rate\n")
    (config / ".git").mkdir()
    (config / ".git" / "HEAD").write_text("ref")
    return Workspace(workspace.settings)


@pytest.fixture(scope="module")
def backup(original: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("backups") / "octo.zip"
    list(make_backup(original, path))
    return path


@pytest.fixture
def empty(tmp_path: Path) -> Workspace:
    return Workspace(Settings(lake=tmp_path / "new" / "lake", config=tmp_path / "new" / "config"))


def files_below(folder: Path) -> dict[str, bytes]:
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in files.items() if not name.startswith(".")}


def rows_of(registry: Registry, folder: Path) -> dict[str, list[str]]:
    folder.mkdir()
    copy_registry(registry, folder)
    return {file.name: file.read_text().splitlines() for file in folder.iterdir()}


def rewritten(backup: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The archive with other files."""
    with zipfile.ZipFile(backup) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target


def test_everything_that_cannot_be_made_again_comes_back_as_it_was(original, backup, empty, tmp_path):
    parts = [part.sentence for part in restore_backup(empty, backup, ANA)]
    assert parts == [
        "closed months: 1 month",
        "configuration: 2 files",
        "keys: 1 secret cannot be read until this installation has the keys that they were encrypted with",
        "registry: 8 rows, and an event about this",
    ]
    before, after = rows_of(original.registry, tmp_path / "a"), rows_of(empty.registry, tmp_path / "b")
    assert json.loads(after["audit_events.jsonl"].pop())["action"] == "restore_backup"
    assert after == before
    assert files_below(empty.settings.config) == files_below(original.settings.config)
    kept = {f"{table}/month={MONTH}/data.parquet" for table in KEPT}
    closing = Path(*original.closing(MONTH).folder)
    was = files_below(Path(original.settings.lake))
    names = {name for name in was if name in kept or name.startswith(str(closing))}
    assert len(names) == len(KEPT) + 5
    now = files_below(Path(empty.settings.lake))
    assert {name for name in now if not name.startswith("registry.")} == names
    assert all(now[name] == was[name] for name in names)
    # The closed month is as it was closed, and what it was closed with.
    restored = Workspace(empty.settings)
    assert restored.periods == original.periods
    assert restored.configuration_of(MONTH).allocators == original.configuration_of(MONTH).allocators
    assert unfinished_restore(restored.lake) is None


def test_a_backup_is_for_its_owner_and_has_no_key_unless_asked(original, backup, empty, tmp_path):
    assert backup.stat().st_mode & 0o777 == 0o600
    key = (Path(original.settings.lake) / "registry.key").read_text()
    with zipfile.ZipFile(backup) as archive:
        assert not any(key.strip().encode() in archive.read(name) for name in archive.namelist())
    with_keys = tmp_path / "keys.zip"
    parts = [part.sentence for part in make_backup(original, with_keys, with_keys=True)]
    assert parts[-1] == "keys: in it, so whoever has the file can read 1 secret"
    parts = [part.sentence for part in restore_backup(empty, with_keys, ANA)]
    assert "keys: 1 secret can be read" in parts
    assert Workspace(empty.settings).secrets.get("aws", "1", "api").get_secret_value() == "hunter2"
    assert (Path(empty.settings.lake) / "registry.key").stat().st_mode & 0o777 == 0o600


def test_a_backup_moves_an_installation_to_a_bucket_and_a_server(
    original, backup, tmp_path, s3_server, postgresql, monkeypatch
):
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    there = Workspace(
        Settings(
            lake=f"s3://{s3_server.bucket()}/lake",
            config=tmp_path / "config",
            temp=tmp_path / "temp",
            database_url=postgresql(),
        )
    )
    with pytest.raises(OctoError) as refused:
        list(restore_backup(there, backup, ANA))
    assert refused.value.code == "secret-key-not-set"
    assert there.lake.folders() == []
    keys = SecretStr((Path(original.settings.lake) / "registry.key").read_text().strip())
    there = Workspace(there.settings.model_copy(update={"secret_key": keys}))
    parts = [part.sentence for part in restore_backup(there, backup, ANA)]
    assert "keys: 1 secret can be read" in parts
    assert (
        rows_of(there.registry, tmp_path / "a")["users.jsonl"]
        == rows_of(original.registry, tmp_path / "b")["users.jsonl"]
    )
    with there.lake.connect() as connection:
        costs = "SELECT owner_id, final_cost FROM {} ORDER BY ALL"
        moved, first = (
            connection.execute(costs.format(w.lake.scan(AccountCosts.name, [MONTH], AccountCosts.columns))).fetchall()
            for w in (there, original)
        )
    assert moved == first


@pytest.mark.slow
def test_months_that_are_made_again_from_a_restored_landing_have_the_same_rows(tmp_path, empty):
    write_cur(tmp_path / "exports", months=[MONTH, "2024-02"], accounts=3, lines=100)
    config = tmp_path / "config"
    (config / "cost_groups").mkdir(parents=True)
    document = {"criteria": [{"and": {"productCode": "AWSSupportEnterprise"}}]}
    write_allocators(config, [fee_allocator() | document])
    first = Workspace(Settings(lake=tmp_path / "lake", config=config))
    for month in (MONTH, "2024-02"):
        land_month(first, "aws", [CurFolderSource(tmp_path / "exports")], month)
    made(first)
    close_months(Workspace(first.settings), [MONTH])

    sentences = [
        part.sentence for part in make_backup(Workspace(first.settings), tmp_path / "octo.zip", with_landing=True)
    ]
    assert sentences[3].startswith("landing: 2 deliveries, ")
    assert landed_months(tmp_path / "octo.zip") == [MONTH, "2024-02"]
    list(restore_backup(empty, tmp_path / "octo.zip", ANA))
    made(Workspace(empty.settings))
    with duckdb.connect() as connection:
        for table in (table.name for table in order()):
            rows, again = (
                connection.execute(
                    f"SELECT month, * FROM read_parquet('{lake}/{table}/*/*.parquet', hive_partitioning = true) ORDER BY ALL"
                ).fetchall()
                for lake in (first.settings.lake, empty.settings.lake)
            )
            assert again == rows, table
        assert Lake(Path(empty.settings.lake)).rows("allocations", MONTH) > 0


def made(workspace: Workspace) -> None:
    events = list(make_months(workspace, [MONTH, "2024-02"], order()))
    assert not [event.error for event in events if isinstance(event, Failed)]


def test_a_damaged_archive_changes_nothing(backup, empty, tmp_path):
    content = backup.read_bytes()
    for name, damaged in {
        "cut": content[: len(content) // 2],
        "empty": b"",
        "text": b"a text",
        "bit": content[:200] + bytes([content[200] ^ 1]) + content[201:],
    }.items():
        file = tmp_path / f"{name}.zip"
        file.write_bytes(damaged)
        with pytest.raises(OctoError) as refused:
            list(restore_backup(empty, file, ANA))
        assert refused.value.code == "backup-damaged", name
    with pytest.raises(OctoError, match=r"cannot be read: No such file"):
        list(restore_backup(empty, tmp_path / "missing.zip", ANA))
    assert not (tmp_path / "new").exists()


def changed_manifest(**values: object) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        files["manifest.json"] = json.dumps(json.loads(files["manifest.json"]) | values).encode()

    return change


def added(name: str, *, listed: bool = True) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        manifest = json.loads(files["manifest.json"])
        if listed:
            manifest["files"][name] = [1, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"]
        files["manifest.json"] = json.dumps(manifest).encode()
        files[name] = b"x"

    return change


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (changed_manifest(format=2), "backup-of-newer-version"),
        (changed_manifest(registry_version="9999"), "backup-of-newer-version"),
        (changed_manifest(colour="red"), "backup-damaged"),
        (lambda files: files.pop("manifest.json"), "backup-damaged"),
        (lambda files: files.pop("registry/users.jsonl"), "backup-damaged"),
        (added("configuration/more.json", listed=False), "backup-damaged"),
        (lambda files: files.update({"registry/users.jsonl": b"{}\n"}), "backup-damaged"),
        (added("configuration/../../../etc/cron.d/x"), "backup-name-wrong"),
        (added("/etc/cron.d/x"), "backup-name-wrong"),
        (added("configuration/..\\x"), "backup-name-wrong"),
        (added("configuration/C:x"), "backup-name-wrong"),
        (added("lake/./x"), "backup-name-wrong"),
        (added("programs/x"), "backup-part-unknown"),
    ],
)
def test_archives_that_say_something_else_than_they_hold_change_nothing(backup, empty, tmp_path, change, code):
    file = rewritten(backup, tmp_path / "other.zip", change)
    with pytest.raises(OctoError) as refused:
        list(restore_backup(empty, file, ANA))
    assert refused.value.code == code
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.zip"]


def test_only_an_empty_place_is_restored_to(original, backup, empty, tmp_path):
    def refusal(workspace: Workspace) -> str:
        with pytest.raises(OctoError) as refused:
            list(restore_backup(workspace, backup, ANA))
        assert refused.value.code == "restore-place-not-empty"
        return str(refused.value)

    before = files_below(Path(original.settings.lake))
    assert "has account_costs already" in refusal(Workspace(original.settings))
    assert files_below(Path(original.settings.lake)) == before
    empty.registry.users.add("bob", "admin", Actor("bob"))
    assert "There is a registry already" in refusal(Workspace(empty.settings))
    shutil.rmtree(empty.settings.lake)
    shutil.copytree(original.settings.config, empty.settings.config)
    (empty.settings.config / "allocators" / "a0.json").write_text("{}")
    assert "a0.json is not in the backup, or otherwise" in refusal(Workspace(empty.settings))
    # The same configuration may be there: it is mounted, or checked out.
    shutil.copy(original.settings.config / "allocators" / "a0.json", empty.settings.config / "allocators")
    list(restore_backup(Workspace(empty.settings), backup, ANA))


@pytest.mark.parametrize("step", ["_publish", "_restore_configuration", "load_registry", "_was_loaded"])
def test_a_restore_that_is_killed_is_seen_and_goes_on(original, backup, empty, tmp_path, step):
    def killed(*_: object, **__: object) -> None:
        os._exit(9)

    child = os.fork()
    if child == 0:
        setattr(backups, step, killed)
        list(restore_backup(empty, backup, ANA))
        os._exit(0)
    assert os.waitpid(child, 0)[1] != 0
    half = Workspace(empty.settings)
    assert unfinished_restore(half.lake) is not None
    assert not half.registry.exists()
    (finding, *_) = [finding for finding in examine(half) if finding.area == "lake"]
    assert finding.state == "error"
    assert "is being restored to this lake, or that was interrupted" in finding.sentence
    other = tmp_path / "other.zip"
    list(make_backup(original, other))
    with pytest.raises(OctoError, match="Another backup was being restored"):
        list(restore_backup(Workspace(empty.settings), other, ANA))
    list(restore_backup(Workspace(empty.settings), backup, ANA))
    assert unfinished_restore(half.lake) is None
    assert rows_of(half.registry, tmp_path / "a").keys() == rows_of(original.registry, tmp_path / "b").keys()


def test_a_kill_after_the_registry_was_made_does_not_make_it_twice(backup, empty, monkeypatch):
    remove_folder = Lake.remove_folder

    def killed_at_the_mark(lake: Lake, *names: str, first: str) -> None:
        if names == (".restoring",):
            raise KeyboardInterrupt
        remove_folder(lake, *names, first=first)

    with monkeypatch.context() as patched:
        patched.setattr(Lake, "remove_folder", killed_at_the_mark)
        with pytest.raises(KeyboardInterrupt):
            list(restore_backup(empty, backup, ANA))
    assert len(empty.registry.audit()) == 5
    list(restore_backup(Workspace(empty.settings), backup, ANA))
    assert len(empty.registry.audit()) == 5
    assert unfinished_restore(empty.lake) is None


def test_a_backup_is_whole_or_not_there(original, tmp_path, monkeypatch):
    file = tmp_path / "octo.zip"
    file.write_text("another")
    with pytest.raises(OctoError, match="is there already"):
        list(make_backup(original, file))
    assert file.read_text() == "another"
    file.unlink()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(backups, "_copy_closed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(make_backup(original, file))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OctoError, match="cannot be written"):
        list(make_backup(original, tmp_path / "no" / "octo.zip"))


def test_a_backup_needs_a_configuration(original, tmp_path):
    settings = original.settings.model_copy(update={"config": tmp_path / "none"})
    with pytest.raises(OctoError, match=r"There is no configuration in .*none"):
        list(make_backup(Workspace(settings), tmp_path / "octo.zip"))
