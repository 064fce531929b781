"""What a run costs however little there is to do: whole commands in processes of their own, on tiny months."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.measure import Row, compared, measured, octo, python
from octo_pipeline.model.months import add_months, month_range
from octo_pipeline.vendors.aws.sample import write_cur

FIRST = "2023-01"
_ALLOCATOR = {
    "category": "fee",
    "startMonth": FIRST,
    "criteria": [{"and": {"productCode": "re:^AWSSupport"}}],
    "allocator": [{"type": "payer", "value": "999988887777", "formula": "cost*usage"}],
}
# What a run's process does before its first step.
_DAGSTER_START = """
from dagster import DagsterInstance
from octo_pipeline.definitions import defs
defs.resolve_job_def("monthly_allocation")
DagsterInstance.get().get_runs_count()
"""
_PROFILE = 'empty:\n  target: dev\n  outputs:\n    dev:\n      type: duckdb\n      path: ":memory:"\n'


def processes(folder: Path, count: int, runs: int) -> Iterator[Row]:
    home = folder / "processes"
    months = month_range(FIRST, add_months(FIRST, count - 1))
    write_cur(home / "exports", months=months, accounts=4, lines=500)
    (home / "config" / "allocators").mkdir(parents=True)
    (home / "config" / "cost_groups").mkdir()
    allocator = home / "config" / "allocators" / "support.json"
    allocator.write_text(json.dumps(_ALLOCATOR))
    environment = _environment(home, "lake")
    empty = _empty_project(home / "empty")

    def graph() -> None:
        octo("run", "--month", FIRST, environment=_environment(home, f"lake-{len(list(home.iterdir()))}"))

    def import_and_dbt() -> None:
        python("-c", "import dagster")
        _dbt_run(empty)

    graph()
    yield compared("the whole graph of a tiny month", graph, import_and_dbt, runs, "≤ 0.8")

    octo("run", "--month", FIRST, environment=environment)
    yield compared(
        "octo allocators simulate",
        lambda: octo("allocators", "simulate", str(allocator), "--month", FIRST, environment=environment),
        lambda: python("-c", "import duckdb, pydantic"),
        runs,
        "≤ 4",
    )
    (home / "dagster").mkdir()
    (home / "dagster" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    of_dagster = environment | {"DAGSTER_HOME": str(home / "dagster")}
    # The first one makes the database of runs.
    python("-c", _DAGSTER_START, environment=of_dagster)
    yield _least(
        "a Dagster run's start, processor time",
        lambda: python("-c", _DAGSTER_START, environment=of_dagster),
        runs,
        "≤ 2.2 s",
    )
    yield _least("octo --help, processor time", lambda: octo("--help", environment=environment), runs, "< 0.3 s")
    yield from _backfill(home, empty, months)
    yield _rerun(home / "lake-backfill", _environment(home, "lake-backfill"), months[-1])


def _least(what: str, work: Callable[[], object], runs: int, target: str) -> Row:
    """The least processor time that it took, which is what a quiet machine would take."""
    least = min(measured(work).cpu for _ in range(runs))
    return Row(what, f"{least:.2f} s", "", least, None, target)


def _backfill(home: Path, empty: Path, months: Sequence[str]) -> Iterator[Row]:
    one = measured(lambda: octo("backfill", "--from", FIRST, "--to", FIRST, environment=_environment(home, "lake-one")))
    all_of_them = measured(
        lambda: octo("backfill", "--from", FIRST, "--to", months[-1], environment=_environment(home, "lake-backfill"))
    )
    dbt = measured(lambda: _dbt_run(empty))
    more = len(months) - 1
    wall, cpu = (all_of_them.wall - one.wall) / more, (all_of_them.cpu - one.cpu) / more
    yield Row(
        f"backfill of {len(months)} tiny months: each after the first, against one dbt run",
        f"{wall:.2f} s",
        f"{dbt.wall:.2f} s",
        wall / dbt.wall,
        cpu / dbt.cpu,
        "≤ 0.35",
    )


def _rerun(lake: Path, environment: Mapping[str, str], month: str) -> Row:
    def state() -> dict[Path, tuple[int, int]]:
        files = [p for p in lake.rglob("*") if p.is_file() and p.suffix in {".parquet", ".json"}]
        return {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in files}

    before = state()
    took = measured(lambda: octo("run", "--month", month, environment=environment))
    after = state()
    changed = sum(before.get(p) != after.get(p) for p in before.keys() | after.keys())
    return Row("a rerun that changes nothing: files written", str(changed), "", changed, took.cpu, "0")


def _environment(home: Path, lake: str) -> dict[str, str]:
    return {
        "OCTO_LAKE": str(home / lake),
        "OCTO_CONFIG": str(home / "config"),
        "OCTO_AWS_EXPORTS": str(home / "exports" / "aws"),
        "OCTO_START_MONTH": FIRST,
        "DAGSTER_HOME": "",
    }


def _empty_project(folder: Path) -> Path:
    (folder / "models").mkdir(parents=True)
    (folder / "dbt_project.yml").write_text(
        "name: empty\nprofile: empty\nversion: '1.0'\nconfig-version: 2\nflags:\n  send_anonymous_usage_stats: false\n"
    )
    (folder / "profiles.yml").write_text(_PROFILE)
    return folder


def _dbt_run(project: Path) -> None:
    program = "from dbt.cli.main import cli; cli()"
    python("-c", program, "run", "--project-dir", ".", "--profiles-dir", ".", folder=project)
