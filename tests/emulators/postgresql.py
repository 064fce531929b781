"""A PostgreSQL server of our own, where its programs and its driver are installed."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_PROGRAMS = ("initdb", "postgres", "pg_isready", "createdb")


def postgresql_folder() -> Path:
    """Where the server's programs are; skips the test if they are not installed."""
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


def server_user() -> dict[str, Any]:
    """Whom `subprocess` starts the server as."""
    # PostgreSQL refuses to run as root.
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


def free_port() -> int:
    """A port of loopback that nobody listens on."""
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
    folder = postgresql_folder()
    home = Path(tempfile.mkdtemp(prefix="octo-registry-"))
    user = server_user()
    if user:
        shutil.chown(home, user["user"], user["group"])
    data, port = home / "data", free_port()
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
