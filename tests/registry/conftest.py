"""A registry on each database: SQLite always, PostgreSQL where its server and driver are installed."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from octo_pipeline.registry.records import Decision
from octo_pipeline.registry.registry import Registry

_PROGRAMS = ("initdb", "postgres", "pg_isready", "createdb")

DECIDED_AT = datetime(2024, 5, 1, 10, 30, tzinfo=UTC)


def _postgresql_folder() -> Path:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders += [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    for folder in folders:
        if all((folder / name).exists() for name in _PROGRAMS):
            break
    else:
        pytest.skip(f"no PostgreSQL server ({', '.join(_PROGRAMS)}) is installed")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("PostgreSQL's driver psycopg is not installed")
    return folder


def _server_user() -> dict[str, Any]:
    # PostgreSQL refuses to run as root.
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(server: subprocess.Popen[bytes], folder: Path, port: int) -> None:
    ready = [folder / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]
    for _ in range(300):
        if subprocess.run(ready, capture_output=True, check=False).returncode == 0:
            return
        assert server.poll() is None, "the PostgreSQL server ended before it was ready"
        time.sleep(0.1)
    raise AssertionError("the PostgreSQL server was not ready after 30 s")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """Makes an empty database on a server of our own and returns its URL."""
    folder = _postgresql_folder()
    home = Path(tempfile.mkdtemp(prefix="octo-registry-"))
    user = _server_user()
    if user:
        shutil.chown(home, user["user"], user["group"])
    data, port = home / "data", _free_port()
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    initdb = [folder / "initdb", "-D", data, "-U", "octo", "-A", "trust", "-E", "UTF8", "--no-sync"]
    run: dict[str, Any] = {"cwd": home, "env": environment, **user}
    subprocess.run(initdb, check=True, capture_output=True, **run)
    serve = [folder / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", home, "-F"]
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(serve, stdout=log, stderr=log, **run)

    def make() -> str:
        name = f"registry_{uuid.uuid4().hex}"
        subprocess.run([folder / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "octo", name], check=True)
        return f"postgresql://octo:not-a-secret@127.0.0.1:{port}/{name}"

    try:
        _wait_until_ready(server, folder, port)
        yield make
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
        shutil.rmtree(home)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/lake/registry.sqlite"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty place for a registry, on each database."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    return str(request.getfixturevalue("postgresql")())


@pytest.fixture
def registry(url: str) -> Registry:
    return Registry(url)


@pytest.fixture
def decide() -> Callable[..., Decision]:
    """Makes a decision that is right but for what is given."""

    def make(item_id: str = "a" * 32, action: str = "restore", **given: Any) -> Decision:
        values: dict[str, Any] = {
            "origin_month": "2024-01",
            "category": "fee",
            "actor": "finance",
            "reason": "billed twice",
            "decided_at": DECIDED_AT,
        }
        return Decision(action=action, item_id=item_id, **(values | given))  # type: ignore[arg-type]

    return make


@pytest.fixture
def sql(url: str) -> Callable[[str], Sequence[Any]]:
    """Runs a statement behind the registry's back."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool)

    def run(statement: str) -> Sequence[Any]:
        with engine.begin() as connection:
            result = connection.execute(text(statement))
            return result.all() if result.returns_rows else []

    return run


@pytest.fixture
def start(url: str) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts ``worker.py`` as a process of its own, which waits for a line; what still runs is ended."""
    processes: list[subprocess.Popen[str]] = []

    def run(command: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("worker.py"), command, url, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()
