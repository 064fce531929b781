"""What a run costs however little there is to do: whole commands in processes of their own, on tiny months."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.measure import Row, Seconds, compared, measured, octo, python
from octo_pipeline.model.months import month_range
from octo_pipeline.vendors.aws.sample import write_cur

FIRST, LAST = "2023-01", "2024-12"
_ALLOCATOR = {
    "category": "fee",
    "startMonth": FIRST,
    "criteria": [{"and": {"productCode": "re:^AWSSupport"}}],
    "allocator": [{"type": "payer", "value": "999988887777", "formula": "cost*usage"}],
}
_PROFILE = 'empty:\n  target: dev\n  outputs:\n    dev:\n      type: duckdb\n      path: ":memory:"\n'


def processes(folder: Path, runs: int) -> Iterator[Row]:
    home = folder / "processes"
    write_cur(home / "exports", months=month_range(FIRST, LAST), accounts=4, lines=500)
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
    yield compared("the whole graph of a tiny month", graph, import_and_dbt, runs, "≤ 1.8")

    octo("run", "--month", FIRST, environment=environment)
    yield compared(
        "octo allocators simulate",
        lambda: octo("allocators", "simulate", str(allocator), "--month", FIRST, environment=environment),
        lambda: python("-c", "import duckdb, pydantic"),
        max(runs, 3),
        "≤ 4",
    )
    helps = min((measured(lambda: octo("--help", environment=environment)) for _ in range(max(runs, 3))), key=_cpu)
    yield Row("octo --help, processor time", f"{helps.cpu:.2f} s", "", helps.cpu, None, "< 0.3 s")
    yield from _backfill(home, empty)
    yield _rerun(home / "lake-backfill", _environment(home, "lake-backfill"))


def _backfill(home: Path, empty: Path) -> Iterator[Row]:
    months = month_range(FIRST, LAST)
    one = measured(lambda: octo("backfill", "--from", FIRST, "--to", FIRST, environment=_environment(home, "lake-one")))
    all_of_them = measured(
        lambda: octo("backfill", "--from", FIRST, "--to", LAST, environment=_environment(home, "lake-backfill"))
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
        "≤ 0.5",
    )


def _rerun(lake: Path, environment: Mapping[str, str]) -> Row:
    def state() -> dict[Path, tuple[int, int]]:
        files = [p for p in lake.rglob("*") if p.is_file() and p.suffix in {".parquet", ".json"}]
        return {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in files}

    before = state()
    took = measured(lambda: octo("run", "--month", LAST, environment=environment))
    after = state()
    changed = sum(before.get(p) != after.get(p) for p in before.keys() | after.keys())
    return Row("a rerun that changes nothing: files written", str(changed), "", changed, took.cpu, "0")


def _cpu(seconds: Seconds) -> float:
    return seconds.cpu


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
