"""What deploy/ describes, as processes on loopback: the same commands, settings and configuration, without containers.

PostgreSQL and the proxy are real servers, the store is the strict S3 emulator behind a relay that can be killed. `Process.kill`
kills one as the kernel would, and `start` is what ``restart: unless-stopped`` or Kubernetes do then.
"""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from html import unescape
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import boto3
import yaml

from tests.emulators.aws import KEY, REGION, SECRET
from tests.emulators.postgresql import postgresql_folder, server_user
from tests.support.proxy import SIGNED_IN, ask_through, proxy_command

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
# Everything here is slow on a loaded machine.
PATIENCE_SECONDS = 900.0
BUCKET = "company-octo-lake"
SECRET_KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for something."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.5)


@dataclass
class Process:
    """One of the processes; what it prints is in a file.

    Attributes:
        is_ready: whether it answers.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str]
    folder: Path
    is_ready: Callable[[], bool]
    user: Mapping[str, Any] = field(default_factory=dict)
    _process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it and wait until it answers; like a supervisor, start it again if it ends before."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            self.begin()
            if self.is_ready():
                return
            time.sleep(0.3)
        raise AssertionError(f"{self.name} does not answer; see {self.folder / self.name}.log")

    def begin(self) -> None:
        """Start it unless it runs, and wait for nothing."""
        if self.is_running:
            return
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command, env=dict(self.environment), stdout=log, stderr=log, cwd=self.folder, **self.user
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """Kill it and all that it started with SIGKILL, as a container ends when its first process is killed."""
        assert self._process is not None
        for pid in [self.pid, *descendants(self.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End it, first as one asks and then as one does not."""
        if self._process is None or self._process.poll() is not None:
            return
        started = descendants(self.pid)
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        for pid in started:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@dataclass
class Installation:
    """The processes, and the settings that each of them has.

    Attributes:
        proxy: the port of the proxy, by which people come to everything.
    """

    folder: Path
    settings: dict[str, str]
    processes: dict[str, Process]
    proxy: int

    def octo(self, *arguments: str) -> str:
        """What `octo` prints in this installation."""
        done = subprocess.run(
            [str(BIN / "python"), "-m", "octo_pipeline.cli.main", *arguments],
            env=self.settings,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"octo {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def ask(self, query: str, **variables: Any) -> Any:
        """What Dagster's API answers through the proxy, as soon as both answer again."""
        body = json.dumps({"query": query, "variables": variables})
        headers = {"Content-Type": "application/json", "Origin": f"https://dagster.localhost:{self.proxy}"}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with suppress(OSError, HTTPException):
                status, _, text = ask_through(self.proxy, "dagster", "POST", "/graphql", body, **headers, **SIGNED_IN)
                if status == 200 and (data := json.loads(text).get("data")) is not None:
                    return data
            assert time.monotonic() < deadline, f"Dagster did not answer {query}"
            time.sleep(1)


@dataclass
class Person:
    """Somebody with a browser, who signs in to the console by a token and comes through the proxy."""

    proxy: int
    token: str
    cookies: dict[str, str] = field(default_factory=dict)

    def _ask(self, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, str]:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        status, answered, text = ask_through(self.proxy, "costs", method, path, body, Cookie=cookies, **headers)
        for line in answered.get_all("Set-Cookie") or []:
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
        return status, text

    def sign_in(self) -> None:
        """Send the form with the token."""
        form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": f"https://costs.localhost:{self.proxy}"}
        status, text = self._ask("POST", "/sign-in", urlencode({"token": self.token}), **form)
        assert status == 303, text

    def page(self, path: str) -> str | None:
        """What is read on a page, on one line; None while nobody answers or the proxy says that the console does not."""
        try:
            status, text = self._ask("GET", path)
        except (OSError, HTTPException):
            return None
        if status == 502:
            return None
        assert status == 200, text
        return " ".join(re.sub(r"<[^>]*>", " ", unescape(text.partition('<main id="content"')[2])).split())


def answers(address: str) -> bool:
    """Whether a server answers, whatever it says."""
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@contextmanager
def installation(folder: Path, **settings: str) -> Iterator[Installation]:
    """Start everything, and end it again.

    Args:
        folder: an empty folder.
        settings: further environment variables of the code server, webserver, daemon and console.
    """
    ports = _ports("postgres", "emulator", "store", "code", "webserver", "console", "proxy")
    environment = _environment(folder, ports) | settings
    _write_dagster_home(folder, ports["code"])
    processes = _processes(folder, ports, environment)
    try:
        _start_postgresql(folder, processes["postgres"], ports["postgres"])
        processes["emulator"].start()
        processes["store"].start()
        _client(ports["store"]).create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        processes["code"].start()
        for name in ("webserver", "daemon", "console", "proxy"):
            processes[name].begin()
        for name in ("webserver", "daemon", "console", "proxy"):
            processes[name].start()
        yield Installation(folder, environment, processes, ports["proxy"])
    finally:
        for name in reversed(list(processes)):
            processes[name].stop()


def _ports(*names: str) -> dict[str, int]:
    """A port of each name, below those that the system gives to connections: one could be taken while its process starts again."""
    ports: dict[str, int] = {}
    for port in random.sample(range(20_000, 30_000), 1_000):
        if len(ports) == len(names):
            return ports
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports[names[len(ports)]] = port
    raise AssertionError("no ports are free")


def _environment(folder: Path, ports: Mapping[str, int]) -> dict[str, str]:
    """The variables that docker-compose.yaml passes, with addresses of loopback, and nothing of this process's own."""
    composed = yaml.safe_load((DEPLOY / "docker-compose.yaml").read_text())["services"]["code"]["environment"]
    server = f"octo:pw@127.0.0.1:{ports['postgres']}"
    values = {
        "DAGSTER_POSTGRES_URL": composed["DAGSTER_POSTGRES_URL"].split("://")[0] + f"://{server}/dagster",
        "OCTO_DATABASE_URL": composed["OCTO_DATABASE_URL"].split("://")[0] + f"://{server}/octo",
        "OCTO_SECRET_KEY": SECRET_KEY,
        "OCTO_LAKE": f"s3://{BUCKET}/lake",
        "OCTO_LAKE_ENDPOINT": f"http://127.0.0.1:{ports['store']}",
        "OCTO_LAKE_ACCESS_KEY": KEY,
        "OCTO_LAKE_SECRET_KEY": SECRET,
        "OCTO_MEMORY_LIMIT": "1GB",
        "OCTO_PUBLIC_URL": f"https://costs.localhost:{ports['proxy']}",
        "OCTO_TRUSTED_PROXIES": "127.0.0.1",
    }
    passed = {name: values.get(name, "") for name in composed}
    return passed | {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "home"),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "DAGSTER_HOME": str(folder / "dagster"),
        "OCTO_CONFIG": str(folder / "config"),
        "OCTO_TEMP": str(folder / "temp"),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
        # The bills are elsewhere: what is for the lake must not go there.
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "no_proxy": "*",
    }


def _write_dagster_home(folder: Path, code_port: int) -> None:
    """Deploy's own files, with two runs at a time and with folders and ports of this installation."""
    for name in ("home", "dagster", "config", "temp", "logs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    instance = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    instance["compute_logs"]["config"]["base_dir"] = str(folder / "logs")
    instance["concurrency"]["runs"]["max_concurrent_runs"] = 2
    # Only to wait for less.
    instance["run_monitoring"] |= {"start_timeout_seconds": 90, "poll_interval_seconds": 5}
    instance["run_coordinator"]["config"] |= {"max_user_code_failure_retries": 100, "user_code_failure_retry_delay": 6}
    (folder / "dagster" / "dagster.yaml").write_text(yaml.safe_dump(instance))
    workspace = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())
    (location,) = workspace["load_from"]
    location["grpc_server"] |= {"host": "127.0.0.1", "port": code_port}
    (folder / "dagster" / "workspace.yaml").write_text(yaml.safe_dump(workspace))


def _processes(folder: Path, ports: Mapping[str, int], environment: Mapping[str, str]) -> dict[str, Process]:
    programs, user = postgresql_folder(), server_user()
    workspace = str(folder / "dagster" / "workspace.yaml")
    services = yaml.safe_load((DEPLOY / "docker-compose.yaml").read_text())["services"]
    postgres = ["-D", str(folder / "postgres" / "data"), "-h", "127.0.0.1", "-p", str(ports["postgres"])]

    def command(words: list[str], **ports_of: int) -> list[str]:
        """The words of deploy/ with the programs of this environment, addresses of loopback and other ports."""
        replaced = {"0.0.0.0": "127.0.0.1", "/opt/octo/dagster/workspace.yaml": workspace}
        replaced |= {name.removeprefix("port"): str(port) for name, port in ports_of.items()}
        words = [re.sub(r"\$\{\w+:-(.*)\}", r"\1", word) for word in words]
        return [str(BIN / words[0]), *(replaced.get(word, word) for word in words[1:])]

    def ready(*check: str) -> Callable[[], bool]:
        return lambda: subprocess.run(check, capture_output=True, check=False, env=dict(environment)).returncode == 0

    (image,) = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if line.startswith("CMD ")]
    daemon = ready(str(BIN / "dagster-daemon"), "liveness-check")
    # Dagster for those who look on is the same program; one of them is enough here.
    behind = {"console": "console", "webserver": "webserver", "viewer": "webserver"}
    addresses = {site: f"127.0.0.1:{ports[name]}" for site, name in behind.items()}
    through, of_proxy = proxy_command(folder, ports["proxy"], addresses)

    def comes_through() -> bool:
        with suppress(OSError):
            return ask_through(ports["proxy"], "costs", "GET", "/api/openapi.json")[0] == 200
        return False

    of = {
        "postgres": (
            [str(programs / "postgres"), *postgres, "-k", str(folder / "postgres")],
            ready(str(programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(ports["postgres"])),
        ),
        "emulator": (
            [sys.executable, "-m", "tests.support.s3_process", str(ports["emulator"])],
            lambda: answers(f"http://127.0.0.1:{ports['emulator']}"),
        ),
        "store": (
            [sys.executable, "-m", "tests.support.relay", str(ports["store"]), str(ports["emulator"])],
            lambda: answers(f"http://127.0.0.1:{ports['store']}"),
        ),
        "code": (
            command(yaml.safe_load(image.removeprefix("CMD ")), port4000=ports["code"]),
            ready(str(BIN / "dagster"), "api", "grpc-health-check", "-p", str(ports["code"])),
        ),
        "webserver": (
            command(services["webserver"]["command"], port3000=ports["webserver"]),
            lambda: answers(f"http://127.0.0.1:{ports['webserver']}/server_info"),
        ),
        "daemon": (command(services["daemon"]["command"]), daemon),
        "console": (
            command(services["console"]["command"], port8000=ports["console"]),
            lambda: answers(f"http://127.0.0.1:{ports['console']}/api/openapi.json"),
        ),
        "proxy": (through, comes_through),
    }
    of_others = {"postgres": {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}, "proxy": of_proxy}
    return {
        name: Process(
            name,
            words,
            of_others.get(name, environment),
            folder / "postgres" if name == "postgres" else folder,
            is_ready,
            user if name == "postgres" else {},
        )
        for name, (words, is_ready) in of.items()
    }


def _start_postgresql(folder: Path, process: Process, port: int) -> None:
    programs, user = postgresql_folder(), server_user()
    home = folder / "postgres"
    home.mkdir()
    if user:
        for path in (home, *home.parents):
            # PostgreSQL's user must come through to its folder.
            if path.stat().st_uid == os.geteuid() and path.is_relative_to("/tmp") and path != Path("/tmp"):
                path.chmod(0o755)
        shutil.chown(home, user["user"], user["group"])
        home.chmod(0o700)
    run: dict[str, Any] = {"cwd": home, "env": process.environment, "check": True, "capture_output": True, **user}
    subprocess.run([programs / "initdb", "-D", home / "data", "-U", "octo", "-A", "trust", "-E", "UTF8"], **run)
    process.start()
    for database in ("dagster", "octo"):
        subprocess.run([programs / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "octo", database], **run)


def _client(port: int) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name=REGION,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
    )


def descendants(pid: int) -> list[int]:
    """The ids of the processes that a process started, and those that they started."""
    children = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name, in parentheses, may hold anything.
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
            if parent == pid:
                children.append(int(entry.parent.name))
    return [*children, *(below for child in children for below in descendants(child))]


def run_processes(code: Process) -> list[int]:
    """The ids of the processes of runs, which the code server starts."""
    running = []
    for pid in descendants(code.pid):
        with suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                running.append(pid)
    return running
