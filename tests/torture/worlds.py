"""Installations to be broken: a lake, its exports and its configuration, and `octo` in real processes over them.

Here belongs how a process is started, hurt and looked at. What must hold of the lake then is the tests' matter.

A process is forked from a server that has the program's modules loaded, so that one costs a second or two, not
eight; from the fork on it is a process of its own that runs `main` as a user's shell would.
"""

import itertools
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import duckdb

from octo_pipeline.lake.lake import read_metadata
from octo_pipeline.model.vendors import VENDORS
from octo_pipeline.registry.records import Actor
from octo_pipeline.registry.store import Registry
from octo_pipeline.services.access import os_user
from octo_pipeline.services.landing import land_month
from octo_pipeline.services.sources import sources
from octo_pipeline.settings import Settings
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.aws.sample import write_cur
from octo_pipeline.vendors.azure.sample import write_csp
from octo_pipeline.vendors.gcp.sample import write_billing_export
from octo_pipeline.vendors.landing import deliveries, verify
from octo_pipeline.workspace import Workspace
from tests.torture.chance import pick

ROOT = Path(__file__).parents[2]
# What is booked in a month depends on the month before it; the short form does without.
MONTHS = ["2024-01", "2024-02"][: pick(1, 2)]
_LONGEST_SECONDS = 240
_processes = multiprocessing.get_context("forkserver")
# Importing starts no thread, so that a fork has all that its parent has.
_processes.set_forkserver_preload(
    [
        "octo_pipeline.definitions",
        "octo_pipeline.cli.main",
        "octo_pipeline.cli.progress",
        "octo_pipeline.registry.database",
        "dagster._core.storage.event_log",
        "pandas",
    ]
)

# What changes the file system, by the name of its audit event; a kill comes just before one of these.
_STEPS = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "fcntl.flock"}


class State(NamedTuple):
    """What a partition says it was made from, and a digest of its rows."""

    fingerprint: str
    rows: str


Snapshot = dict[tuple[str, str], State]


class Ended(NamedTuple):
    """How a process ended: its exit code, negative for a signal, and all it said."""

    code: int
    said: str


def as_it_is() -> None:
    """No hindrance."""


def kill_at_step(number: int, counted: Path) -> None:
    """Kill this process before its file-system step of that number; the count goes to a file as it grows."""
    steps = itertools.count(1)
    out = os.open(counted, os.O_CREAT | os.O_WRONLY)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in _STEPS or (event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wxa+")):
            now = next(steps)
            os.pwrite(out, f"{now:08d}".encode(), 0)
            if now == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def no_file_longer_than(size: int) -> None:
    """Let the kernel fail every write beyond a size, as a full disk does in the middle of a file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def from_the_time(instant: datetime) -> None:
    """Set this process's clock, as far as months and partitions are read from it; it goes on from there."""
    import dagster._time as dagster_time

    from octo_pipeline.services import landing, months

    clock, shift = time.time, instant.timestamp() - time.time()

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.fromtimestamp(clock() + shift, tz)

    time.time = lambda: clock() + shift
    dagster_time.datetime = landing.datetime = months.datetime = Shifted


def _octo(arguments: tuple[str, ...], environment: dict[str, str], said: Connection, hurt: Callable[[], None]) -> None:
    os.setsid()
    os.dup2(said.fileno(), 1)
    os.dup2(said.fileno(), 2)
    said.close()
    os.environ.clear()
    os.environ.update(environment)
    from octo_pipeline.cli.main import main

    sys.argv = ["octo", *arguments]
    hurt()
    main()


def _listen(pipe: Connection, said: bytearray) -> None:
    with pipe:
        while heard := os.read(pipe.fileno(), 1 << 16):
            said += heard


@dataclass
class Running:
    """A process of `octo` that was started, and the thread that collects what it says."""

    process: multiprocessing.context.ForkServerProcess
    _listener: threading.Thread
    _said: bytearray

    def kill(self) -> None:
        """End it as the kernel does, with whatever it started."""
        try:
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        except ProcessLookupError:
            self.process.kill()

    def ended(self) -> Ended:
        """Wait for its end.

        Raises:
            AssertionError: it hangs.
        """
        self.process.join(_LONGEST_SECONDS)
        if self.process.exitcode is None:
            self.kill()
            raise AssertionError(f"still running after {_LONGEST_SECONDS} s: {self._said.decode()}")
        self._listener.join(_LONGEST_SECONDS)
        return Ended(self.process.exitcode, self._said.decode())


@dataclass
class World:
    """One installation in a folder."""

    folder: Path
    lake: Path = field(init=False)
    exports: Path = field(init=False)
    steps: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lake = self.folder / "lake"
        self.exports = self.folder / "exports"
        self.steps = self.folder / "steps"

    def deliver(self, months: list[str], seed: int, *, lines: int = 100) -> None:
        """Put other exports of these months where the vendors would."""
        self.restate(months, seed, lines=lines)
        write_csp(self.exports, months=months, lines=200, seed=seed)
        write_billing_export(self.exports, months=months, lines=200, seed=seed)

    def restate(self, months: list[str], seed: int, *, lines: int = 100) -> None:
        """As `deliver`, but only AWS has something new."""
        for month in months:
            write_cur(self.exports, months=[month], accounts=3 + seed % 3, lines=lines, seed=seed)

    def make_administrator(self) -> None:
        """Let who runs the tests change something."""
        registry = Registry(f"sqlite:///{self.lake}/registry.sqlite")
        registry.users.add(os_user(), "admin", Actor("tester"))

    def copy(self, folder: Path) -> "World":
        """The same installation in another folder."""
        shutil.copytree(self.folder, folder)
        return World(folder)

    @property
    def environment(self) -> dict[str, str]:
        """What its processes see."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OCTO_", "DAGSTER_HOME"))}
        return kept | {
            "OCTO_LAKE": str(self.lake),
            "OCTO_CONFIG": str(ROOT / "allocator_configs"),
            "OCTO_AWS_EXPORTS": str(self.exports / "aws"),
            "OCTO_AZURE_EXPORTS": str(self.exports / "azure"),
            "OCTO_GCP_EXPORTS": str(self.exports / "gcp"),
        }

    def start(self, *arguments: str, hurt: Callable[[], None] = as_it_is, **changes: str) -> Running:
        """Start `octo`; `hurt` is called in its process before anything else."""
        # A pipe takes what a file does not that may not grow.
        ours, theirs = _processes.Pipe(duplex=False)
        process = _processes.Process(target=_octo, args=(arguments, self.environment | changes, theirs, hurt))
        process.start()
        theirs.close()
        said = bytearray()
        listener = threading.Thread(target=_listen, args=(ours, said), daemon=True)
        listener.start()
        return Running(process, listener, said)

    def octo(self, *arguments: str, hurt: Callable[[], None] = as_it_is, **changes: str) -> Ended:
        """Run `octo` to its end."""
        return self.start(*arguments, hurt=hurt, **changes).ended()

    def run(self, months: list[str] | None = None) -> Ended:
        """Run months, which must succeed."""
        wanted = months or MONTHS
        ended = self.octo("run", "--from", wanted[0], "--to", wanted[-1])
        assert ended.code == 0, ended.said
        return ended

    @property
    def workspace(self) -> Workspace:
        """The installation as this process sees it."""
        return Workspace(
            Settings(
                lake=str(self.lake),
                config=ROOT / "allocator_configs",
                aws_exports=self.exports / "aws",
                azure_exports=self.exports / "azure",
                gcp_exports=self.exports / "gcp",
            )
        )

    def make(self, months: list[str]) -> None:
        """Land and make these months in this process.

        Raises:
            AssertionError: a source could not be landed.
        """
        for month in months:
            for vendor in VENDORS:
                landed = land_month(self.workspace, vendor, sources(self.workspace, vendor), month)
                assert landed.failures == ()
            workspace = self.workspace
            for table in TABLES:
                materialise(workspace, table, month)

    def made_anew(self, lake: Path, months: list[str]) -> Snapshot:
        """What a fresh lake has of the exports as they are now, with the decisions of this one."""
        fresh = World(self.folder)
        fresh.lake = lake
        lake.mkdir()
        if (self.lake / "registry.sqlite").exists():
            shutil.copy(self.lake / "registry.sqlite", lake)
        fresh.make(months)
        return fresh.snapshot()

    def snapshot(self) -> Snapshot:
        """Every partition as a reader finds it now."""
        files = sorted(self.lake.glob("[!.]*/month=*/data.parquet"))
        return {key(file): state for file in files if (state := read_state(file)) is not None}

    def check_landed(self) -> None:
        """Read every delivery to its end.

        Raises:
            OctoError: one is not what was landed.
        """
        for delivery in deliveries(self.lake):
            verify(delivery)

    def leftovers(self) -> list[str]:
        """What is left of half-made work."""
        return sorted(path.name for path in (self.lake / ".staging").glob("*"))


def key(file: Path) -> tuple[str, str]:
    """Table and month of a partition's file."""
    return file.parent.parent.name, file.parent.name.removeprefix("month=")


def read_state(file: Path) -> State | None:
    """Read a partition through one open file, so that its replacement meanwhile is no matter; None if it is gone.

    Raises:
        OctoError: it is not of this project.
        duckdb.Error: it is no whole Parquet file.
    """
    try:
        opened = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        path = Path(f"/proc/self/fd/{opened}") if sys.platform == "linux" else file
        with duckdb.connect() as connection:
            rows = connection.execute(
                f"SELECT md5(coalesce(string_agg(t::VARCHAR, chr(10) ORDER BY t::VARCHAR), '')) FROM read_parquet('{path}') AS t"
            ).fetchone()
        assert rows is not None
        return State(read_metadata(path, str(file)).fingerprint, rows[0])
    finally:
        os.close(opened)


def said_in_a_sentence(ended: Ended) -> bool:
    """Whether a process that failed told a person why, and nothing else."""
    return ended.code == 1 and "octo: " in ended.said and "Traceback" not in ended.said


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for it.

    Raises:
        AssertionError: in vain.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
