"""Opening, making, migrating and refusing the database."""

import grp
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from octo_pipeline.cli.output import sentence
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry import database, migrations
from octo_pipeline.registry.database import HEAD, VERSION_TABLE
from octo_pipeline.registry.records import Caller, Decision
from octo_pipeline.registry.schema import METADATA
from octo_pipeline.registry.store import Registry

Decide = Callable[..., Decision]
Sql = Callable[[str], Sequence[Any]]

_NEXT = f"{int(HEAD) + 1:04}"
_SECOND_MIGRATION = f"""
from alembic import op

revision = "{_NEXT}"
down_revision = "{HEAD}"


def upgrade():
    op.execute("CREATE TABLE second (id INTEGER)")
"""


def everything_read(registry: Registry) -> list[Any]:
    return [
        registry.restored_items(),
        registry.restored_items(["2024-01"]),
        registry.decisions(),
        registry.audit(),
        registry.accounts.payer_members(["999999999999"]),
    ]


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, the code is one migration further."""

    def switch() -> None:
        scripts = tmp_path / "migrations"
        shutil.copytree(Path(migrations.__file__).parent, scripts)
        (scripts / "versions" / f"v{_NEXT}_second.py").write_text(_SECOND_MIGRATION)
        monkeypatch.setattr(database, "SCRIPTS", str(scripts))
        monkeypatch.setattr(database, "HEAD", _NEXT)

    return switch


def test_reading_what_is_not_there_costs_and_makes_nothing(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from octo_pipeline.registry.store import Registry\n"
        "r = Registry('sqlite:///' + sys.argv[1] + '/lake/registry.sqlite')\n"
        "print(r.exists(), r.restored_items(), r.restored_items(['2024-01']), r.decisions(), r.audit(),\n"
        "      r.accounts.payer_members(['1']), r.record_decisions([]))\n"
        "print([name for name in ('sqlalchemy', 'alembic', 'dagster', 'duckdb') if name in sys.modules])\n"
    )

    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)

    assert done.stdout == "False () () [] [] () 0\n[]\n"
    assert list(tmp_path.iterdir()) == []


def test_the_first_write_makes_the_registry(registry: Registry, decide: Decide) -> None:
    assert not registry.exists()
    assert everything_read(registry) == [(), (), [], [], ()]

    registry.record_decisions([decide()])

    assert registry.exists()
    assert registry.restored_items() == (("a" * 32, "2024-01"),)


def test_a_refused_first_write_leaves_nothing_to_read(registry: Registry, decide: Decide) -> None:
    with pytest.raises(OctoError, match="it is not restored"):
        registry.record_decisions([decide(action="reapply")])

    assert not registry.exists()
    assert everything_read(registry) == [(), (), [], [], ()]
    assert registry.record_decisions([decide()]) == 1


def test_the_sqlite_file_is_for_its_owner_only(sqlite_url: str, decide: Decide) -> None:
    mask = os.umask(0)
    try:
        Registry(sqlite_url).record_decisions([decide()])
    finally:
        os.umask(mask)

    path = Path(sqlite_url.removeprefix("sqlite:///"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [child.name for child in path.parent.iterdir()] == ["registry.sqlite"]


def test_editors_can_be_made_after_the_upgrade_of_an_older_registry(url: str, sql: Sql) -> None:
    registry = Registry(url)
    registry.users.add("ana", "admin", "ana")
    registry.users.make_token("ana", "nightly", "ana")
    # As the second migration left it.
    sql("ALTER TABLE users RENAME TO users_now")
    names = "name TEXT NOT NULL PRIMARY KEY, role TEXT NOT NULL, added_at TIMESTAMP NOT NULL"
    sql(f"CREATE TABLE users ({names}, CONSTRAINT ck_users_role CHECK (role IN ('admin', 'viewer')))")
    sql("INSERT INTO users SELECT name, role, added_at FROM users_now")
    sql("DROP TABLE users_now")
    sql("DROP TABLE period_events")
    sql("DROP TABLE sessions")
    sql("DROP TABLE answers")
    sql("DROP TABLE document_versions")
    sql(f"UPDATE {VERSION_TABLE} SET version_num = '0002'")

    assert registry.upgrade(Caller("ana"))
    registry.users.add("ed", "editor", "ana")
    assert [(user.name, user.role) for user in registry.users.all()] == [("ana", "admin"), ("ed", "editor")]
    assert len(registry.users.tokens()) == 1


@pytest.mark.parametrize("mode", [0o666, 0o660, 0o602])
def test_a_registry_that_others_can_write_is_refused(sqlite_url: str, decide: Decide, mode: int) -> None:
    """Regression: a registry with 0666 was used without a word, and whoever wrote it made the administrators."""
    registry = Registry(sqlite_url)
    registry.record_decisions([decide()])
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    path.chmod(mode)
    for use in (registry.audit, lambda: registry.record_decisions([decide("b" * 32)])):
        with pytest.raises(OctoError, match=r"can be changed by others than its owner.*`chmod go-w "):
            use()
    path.chmod(0o640)
    path.parent.chmod(0o777)
    with pytest.raises(OctoError, match="or its folder can"):
        registry.audit()
    path.parent.chmod(0o750)
    assert len(registry.audit()) == 1


def test_a_group_may_read_the_registry_and_no_more(sqlite_url: str, decide: Decide) -> None:
    own = grp.getgrgid(os.getgid()).gr_name
    Registry(sqlite_url, group=own).record_decisions([decide()])
    state = Path(sqlite_url.removeprefix("sqlite:///")).stat()
    assert (stat.S_IMODE(state.st_mode), state.st_gid) == (0o640, os.getgid())
    with pytest.raises(OctoError, match="The group 'no-such-group' does not exist on this machine"):
        Registry(sqlite_url, group="no-such-group").record_decisions([decide("b" * 32)])


def test_a_path_relative_and_full_of_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decide: Decide) -> None:
    monkeypatch.chdir(tmp_path)
    registry = Registry("sqlite:///a folder/100% #1 é;x.sqlite")
    monkeypatch.chdir("/")

    registry.record_decisions([decide()])

    assert (tmp_path / "a folder" / "100% #1 é;x.sqlite").exists()
    assert len(registry.decisions()) == 1


def test_migrations_make_what_the_code_expects(url: str) -> None:
    Registry(url).upgrade(Caller("root"))

    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, METADATA) == []
        assert context.get_current_revision() == HEAD
    assert ScriptDirectory(str(Path(migrations.__file__).parent)).get_current_head() == HEAD


def test_upgrade_from_nothing_and_again(registry: Registry) -> None:
    assert registry.upgrade(Caller("root")) is True
    assert registry.exists()
    assert registry.upgrade(Caller("root")) is False
    assert everything_read(registry) == [(), (), [], [], ()]


def test_a_registry_that_is_behind_is_refused_until_it_is_upgraded(
    registry: Registry, decide: Decide, next_version: Callable[[], None]
) -> None:
    registry.record_decisions([decide("a" * 32)])
    next_version()

    for use in (
        registry.restored_items,
        registry.exists,
        lambda: registry.record_decisions([decide("b" * 32)]),
    ):
        if use == registry.exists and registry.path is not None:
            continue
        with pytest.raises(OctoError, match=rf"is at version {HEAD} and .* needs {_NEXT}. Back it up"):
            use()

    assert registry.upgrade(Caller("root")) is True
    registry.record_decisions([decide("b" * 32)])
    assert [item.item_id for item in registry.restored_items()] == ["a" * 32, "b" * 32]


def test_a_registry_that_is_ahead_is_refused_and_not_upgraded(registry: Registry, decide: Decide, sql: Sql) -> None:
    registry.record_decisions([decide()])
    sql(f"UPDATE {VERSION_TABLE} SET version_num = '0999'")

    for use in (
        registry.decisions,
        lambda: registry.upgrade(Caller("root")),
        lambda: registry.record_decisions([decide()]),
    ):
        with pytest.raises(OctoError, match=rf"is at version 0999, .* up to {HEAD}: a newer one wrote it"):
            use()

    assert sql(f"SELECT version_num FROM {VERSION_TABLE}") == [("0999",)]


def test_a_failed_migration_changes_nothing(
    registry: Registry, decide: Decide, sql: Sql, next_version: Callable[[], None]
) -> None:
    registry.record_decisions([decide()])
    next_version()
    sql("CREATE TABLE second (id INTEGER)")

    with pytest.raises(OctoError, match=r"cannot be used: .*second.* already exists"):
        registry.upgrade(Caller("root"))

    assert sql(f"SELECT version_num FROM {VERSION_TABLE}") == [(HEAD,)]


def test_a_database_of_something_else_is_left_alone(registry: Registry, decide: Decide, sql: Sql, url: str) -> None:
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir()
    sql("CREATE TABLE alembic_version (version_num VARCHAR(32))")

    for use in (
        registry.audit,
        lambda: registry.upgrade(Caller("root")),
        lambda: registry.record_decisions([decide()]),
    ):
        with pytest.raises(OctoError, match="is not a registry of octo-pipeline: it holds other tables"):
            use()

    with pytest.raises(Exception, match="decisions"):
        sql("SELECT * FROM decisions")


def test_a_file_that_is_no_database(sqlite_url: str, decide: Decide) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    path.parent.mkdir()
    path.write_text("month,cost\n" * 1000)
    registry = Registry(sqlite_url)

    for use in (registry.restored_items, lambda: registry.record_decisions([decide()])):
        with pytest.raises(OctoError, match=r"registry\.sqlite cannot be used: file is not a database\. Check that"):
            use()

    assert path.read_text() == "month,cost\n" * 1000


def test_an_empty_file_is_no_registry_yet(sqlite_url: str, decide: Decide) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    path.parent.mkdir()
    path.touch()
    registry = Registry(sqlite_url)

    assert not registry.exists()
    assert registry.decisions() == []
    assert registry.record_decisions([decide()]) == 1


def test_places_where_no_file_can_be(tmp_path: Path, decide: Decide) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")

    with pytest.raises(OctoError, match="cannot be written: Is a directory"):
        Registry(f"sqlite:///{tmp_path}").record_decisions([decide()])
    with pytest.raises(OctoError, match="cannot be used: unable to open database file"):
        Registry(f"sqlite:///{tmp_path}").decisions()
    with pytest.raises(OctoError, match=r"cannot be written: (Not a directory|File exists)"):
        Registry(f"sqlite:///{tmp_path}/file/registry.sqlite").record_decisions([decide()])
    with pytest.raises(OctoError, match="cannot be read: Too many levels of symbolic links"):
        Registry(f"sqlite:///{tmp_path}/loop").exists()
    assert Registry(f"sqlite:///{tmp_path}/file/registry.sqlite").decisions() == []


def test_a_writer_that_never_ends_is_waited_for_and_named(
    registry: Registry, decide: Decide, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.record_decisions([decide()])
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.5)

    with (
        Registry(url).writing(),
        pytest.raises(OctoError, match=r"cannot be used: .*(database is locked|lock timeout)"),
    ):
        Registry(url).record_decisions([decide("b" * 32)])

    assert Registry(url).record_decisions([decide("b" * 32)]) == 1


@pytest.mark.parametrize(
    "url",
    [
        "",
        "registry.sqlite",
        "mysql://octo:hunter2@host/registry",
        "postgresql+psycopg2://octo:hunter2@host/registry",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///file:hunter2?mode=memory&uri=true",
        "sqlite:///registry.sqlite?timeout=5",
        "sqlite:///a\0b",
        "sqlite+aiosqlite:///registry.sqlite",
    ],
)
def test_urls_that_are_not_used(url: str) -> None:
    with pytest.raises(OctoError, match="The registry's URL") as refused:
        Registry(url)
    assert "Set OCTO_DATABASE_URL to sqlite:////folder/registry.sqlite" in sentence(refused.value)
    assert "hunter2" not in sentence(refused.value)


@pytest.mark.parametrize("host", ["host:hunter2/registry", "a:hunter2@host:port/registry", "[/registry"])
def test_a_postgresql_url_that_cannot_be_read(host: str) -> None:
    registry = Registry(f"postgresql://{host}")

    with pytest.raises(OctoError, match=r"cannot be (read|used)|is not installed") as refused:
        registry.decisions()
    assert "hunter2" not in str(refused.value)


def test_a_postgresql_without_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(OctoError, match=r'its driver is not installed; install it with pip install "psycopg'):
        Registry("postgresql://octo:hunter2@127.0.0.1/registry").decisions()


def test_a_postgresql_that_is_down(postgresql: Callable[[], str], decide: Decide) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    registry = Registry(f"postgresql://octo:hunter2@127.0.0.1:{port}/registry?application_name=octo")

    for use in (registry.exists, registry.decisions, lambda: registry.record_decisions([decide()])):
        with pytest.raises(OctoError) as refused:
            use()
        assert f"The registry postgresql://127.0.0.1:{port}/registry cannot be used: " in str(refused.value)
        assert "hunter2" not in str(refused.value)


def test_a_postgresql_that_never_answers(postgresql: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CONNECT_SECONDS", 2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        registry = Registry(f"postgresql://octo@127.0.0.1:{silent.getsockname()[1]}/registry")

        with pytest.raises(OctoError, match=r"cannot be used: .*time"):
            registry.decisions()


def test_a_postgresql_database_that_is_not_there(postgresql: Callable[[], str]) -> None:
    url = postgresql()

    with pytest.raises(OctoError, match='database "missing" does not exist'):
        Registry(url.rpartition("/")[0] + "/missing").decisions()
    assert Registry(url.replace("postgresql://", "postgres://")).decisions() == []


@pytest.mark.parametrize("version", ["0001", "0002", "0003", "0004"])
def test_a_registry_of_each_earlier_version_is_refused_then_upgraded_with_all_its_rows(
    url: str, sql: Sql, version: str
) -> None:
    """What people decided and registered with an earlier version of the program is there after the upgrade."""
    registry = Registry(url)
    time, later = "'2024-05-01 10:30:00'", version >= "0002"
    with registry.creating(version):
        pass
    sql(f"INSERT INTO decisions VALUES (1, 'restore', '{'a' * 32}', '2024-01', 'fee', 'ana', 'billed twice', {time})")
    sql(f"INSERT INTO audit_events VALUES (1, {time}, 'ana', 'restore', '{'a' * 32}', '{{\"count\": 1}}')")
    sql(
        "INSERT INTO registered_accounts (id, vendor, account_id, payer_id, registered_at) "
        f"VALUES (7, 'aws', '111122223333', '999988887777', {time})"
    )
    if later:
        sql(f"INSERT INTO users VALUES ('ana', 'admin', {time})")
        sql(f"INSERT INTO secrets VALUES ('aws', '111122223333', 'api', 'k', 'sealed', {time})")
    if version >= "0004":
        sql(f"INSERT INTO period_events VALUES (1, '2024-01', 'close', false, 'ana', '', 'c', NULL, {time})")
    with pytest.raises(OctoError, match=f"is at version {version} and this octo-pipeline needs {HEAD}"):
        registry.restored_items()

    assert registry.upgrade(Caller("ana"))
    assert registry.restored_items() == (("a" * 32, "2024-01"),)
    assert [(event.action, event.details) for event in registry.audit()] == [("restore", {"count": 1})]
    assert registry.accounts.payer_members(["999988887777"]) == (("999988887777", "111122223333"),)
    assert [user.role for user in registry.users.all()] == (["admin"] if later else [])
    assert [row[0] for row in sql("SELECT ciphertext FROM secrets")] == (["sealed"] if later else [])
    assert list(registry.periods.all()) == (["2024-01"] if version >= "0004" else [])
    assert registry.upgrade(Caller("ana")) is False
