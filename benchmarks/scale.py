"""A month by one process, by two, by a Spark cluster, and by one that loses a worker: ``.emulators/spark/bin/python -m benchmarks.scale``.

Needs what `make spark` needs. All on one machine, so the clock says little: read the processor time, of the tasks and of
everything together, Java included. What counts is in the last column: whether every table has the same rows.
"""

import argparse
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from octo_pipeline.engine.engine import Engine
from octo_pipeline.engine.local import ProcessEngine
from octo_pipeline.engine.spark import SparkEngine
from octo_pipeline.engine.worker import greet
from octo_pipeline.settings import Settings
from octo_pipeline.tables import item_parts, matched_items, parts
from octo_pipeline.tables.graph import order
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.aws.cur import land_cur
from octo_pipeline.vendors.aws.sample import write_cur
from octo_pipeline.workspace import Workspace
from tests.emulators.postgresql import free_port
from tests.emulators.spark import Cluster, descendants, options

MONTH = "2024-01"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """What a run took.

    Attributes:
        start: seconds of processor time until the cluster had run its first tasks; None without one.
        wall: seconds by the clock, without that.
        tasks: seconds of processor time of the tasks that ended; None if all was one process.
        whole: of everything, the cluster's Java included; None if a part of it is gone.
        digests: (rows, digest) by table.
    """

    what: str
    start: float | None
    wall: float
    tasks: float | None
    whole: float | None
    digests: dict[str, tuple[int, str]]


def prepared(folder: Path, lines: int) -> Settings:
    """A landed month of one payer with 400 accounts in eight files, and rules that share a third of it."""
    config = folder / "config"
    for name in ("allocators", "cost_groups"):
        (config / name).mkdir(parents=True)
    for number, rule in enumerate(_rules()):
        (config / "allocators" / f"a{number}.json").write_text(json.dumps(rule))
    exports = folder / "exports"
    write_cur(exports, months=[MONTH], accounts=400, lines=lines, files=8)
    workspace = Workspace(Settings(lake=str(folder / "landed"), config=config))
    land_cur(workspace.lake.root, exports, month=MONTH, fetched_at=datetime.now(UTC))
    return workspace.settings


def _rules() -> Iterator[dict[str, object]]:
    """Support, and what four services cost, on all accounts of the payer by their usage."""
    everybody = [{"type": "payer", "value": "999988887777", "formula": "cost*usage"}]
    common = {"startMonth": MONTH, "allocator": everybody}
    yield {"category": "fee", "criteria": [{"and": {"productCode": "re:^AWSSupport"}}]} | common
    for service in ("AmazonS3", "AWSELB", "AmazonCloudWatch", "AWSLambda"):
        yield {"category": "account", "criteria": [{"and": {"productCode": service}}]} | common


def run(what: str, settings: Settings, lake: Path, engine: Engine | None) -> Run:
    """Make all tables of the month in a lake of its own."""
    landing = lake / "landing"
    lake.mkdir()
    landing.symlink_to(Path(settings.lake) / "landing")
    workspace = Workspace(settings.model_copy(update={"lake": str(lake)}), own_engine=engine)
    start = None
    if isinstance(engine, SparkEngine):
        # Java takes as long to start for a month of any size.
        before = everything()
        engine.map(greet, [{}] * 4)
        start, engine.seconds = everything() - before, 0.0
    before, began = everything(), time.perf_counter()
    for table in order():
        materialise(workspace, table, MONTH)
    wall, after = time.perf_counter() - began, everything()
    return Run(what, start, wall, getattr(engine, "seconds", None), after - before, _digests(workspace))


def _digests(workspace: Workspace) -> dict[str, tuple[int, str]]:
    digests = {}
    for table in order():
        with workspace.lake.connect() as connection:
            relation = workspace.lake.scan(table.name, [MONTH], table.columns)
            rows = connection.execute(
                f"SELECT count(*), concat(bit_xor(hash(t)), ' ', sum(hash(t)::HUGEINT)) FROM {relation} AS t"
            ).fetchone()
        digests[table.name] = rows
    return digests


def processor_seconds(*processes: int) -> float:
    """What processes and those that they waited for have taken."""
    ticks = 0
    for process in processes:
        try:
            stat = Path(f"/proc/{process}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += sum(map(int, stat.rpartition(")")[2].split()[11:15]))
    return ticks / _TICKS


def everything() -> float:
    """What this process and those that it started have taken: the cluster is one of them."""
    return processor_seconds(os.getpid(), *descendants(os.getpid()))


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A master and two workers of one core each."""
    with tempfile.TemporaryDirectory(prefix="octo-spark-") as folder:
        cluster = Cluster(Path(folder))
        try:
            for number in range(2):
                cluster.start_worker(number)
            cluster.wait()
            yield cluster
        finally:
            cluster.stop()


@contextmanager
def losing_a_worker(cluster: Cluster, lake: Path) -> Iterator[None]:
    """Kill a worker with all that it runs as soon as two landed files are mapped."""
    ended = threading.Event()

    def kill() -> None:
        while len(list(lake.glob(".parts/mapped_charges/*/*.parquet"))) < 2:
            if ended.wait(0.02):
                return
        cluster.kill_worker(1)

    killer = threading.Thread(target=kill)
    killer.start()
    yield
    ended.set()
    killer.join()
    assert 1 not in cluster.workers, "the month was made before the worker could be killed"


def runs(folder: Path, lines: int, picture: Path | None) -> Iterator[Run]:
    # Spark's own pages are for this machine only.
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    settings = prepared(folder, lines)
    yield run("one process, 2 threads", settings, folder / "one", None)
    # As a payer and a month of a hundred times these lines would be cut.
    parts.TASK_BYTES = sum(file.stat().st_size for file in folder.glob("landed/landing/**/*.parquet")) // 7
    matched_items.LINES_PER_PART = max(lines // 200, 1)
    item_parts.SPLITS_PER_PART = max(lines // 2, 1)
    with ProcessEngine(2) as processes:
        yield run("2 processes, the same tasks", settings, folder / "two", processes)
    for lake, title in (("spark", "Spark, 2 workers of one core"), ("killed", "Spark, a worker killed in the middle")):
        with cluster() as spark:
            shown = {"ui_enabled": "true", "ui_port": str(free_port())} if picture is not None else {}
            engine = SparkEngine(spark.url, options(**shown))
            losing = losing_a_worker(spark, folder / lake) if lake == "killed" else nullcontext()
            with losing:
                made = run(title, settings, folder / lake, engine)
            if picture is not None and lake == "killed":
                _take(picture, engine.options["spark.ui.port"])
            engine.close()
            yield made if lake == "spark" else replace(made, whole=None)


def _take(picture: Path, port: str) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 760})
        page.goto(f"http://127.0.0.1:{port}/stages/")
        # Where the program is on this machine is nobody's concern.
        page.evaluate(
            "root => [...document.links].filter(a => a.textContent.includes(root))"
            ".forEach(a => { a.textContent = a.textContent.replace(root, '') })",
            f"{Path(__file__).parents[1]}/",
        )
        page.screenshot(path=picture)
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=500_000)
    parser.add_argument("--picture", type=Path, help="where to put a picture of Spark's page after a worker was killed")
    arguments = parser.parse_args()
    console, table = Console(width=140), RichTable(title=f"a month of {arguments.lines:,} usage lines")
    for name in ("run", "by the clock", "of the tasks", "of everything", "to start", "rows"):
        table.add_column(name, justify="left" if name in ("run", "rows") else "right")
    first: Run | None = None
    with tempfile.TemporaryDirectory(prefix="octo-scale-") as folder:
        for made in runs(Path(folder), arguments.lines, arguments.picture):
            first = first or made
            others = [name for name, digest in made.digests.items() if digest != first.digests[name]]
            rows = f"{sum(rows for rows, _ in made.digests.values()):,}"
            same = f"others in {', '.join(others)}" if others else f"the same {rows}"
            cells = (
                f"{made.wall:.1f} s",
                *(f"{s:.1f} s" if s is not None else "" for s in (made.tasks, made.whole, made.start)),
            )
            # Each row as soon as it is there: the whole table takes minutes.
            console.print(" | ".join((made.what, *cells, same)))
            table.add_row(made.what, *cells, same)
    console.print(table)


if __name__ == "__main__":
    main()
