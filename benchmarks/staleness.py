"""How long it takes to find what is out of date in a lake of ten years: `octo stale`, and how that grows with the months."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, growth, octo, timed
from octo_pipeline.lake.lake import PartitionMetadata
from octo_pipeline.model.months import add_months, month_range, months_between
from octo_pipeline.settings import Settings
from octo_pipeline.tables.graph import order, stale
from octo_pipeline.tables.table import Table, materialise
from octo_pipeline.vendors.aws.cur import land_cur
from octo_pipeline.vendors.aws.sample import write_cur
from octo_pipeline.workspace import Workspace

FIRST = "2015-01"
# A fee is spread over twelve months, so each month also reads what is due from the eleven before it.
_ALLOCATOR = {
    "category": "fee",
    "startMonth": FIRST,
    "criteria": [{"and": {"productCode": "re:^AWSSupport"}}],
    "allocator": [{"type": "payer", "value": "999988887777", "formula": "cost*usage", "months": "12"}],
}


def staleness(folder: Path, months: int, runs: int) -> Iterator[Row]:
    half, whole = (_lake(folder / str(count), count) for count in (months // 2, months))
    environment = {
        "OCTO_LAKE": str(whole.lake.root),
        "OCTO_CONFIG": str(whole.settings.config),
        "OCTO_START_MONTH": FIRST,
        "DAGSTER_HOME": "",
    }
    if "current" not in octo("stale", environment=environment):
        raise SystemExit("The copied months are out of date, so this would measure how long it takes to list them.")
    yield timed(
        f"octo stale, {months} months × {len(order())} tables",
        [lambda: octo("stale", environment=environment)] * runs,
        "≤ 0.5 s",
    )
    yield growth("finding what is out of date, months", *(lambda w=w: _look(w) for w in (half, whole)), runs)


def _look(workspace: Workspace) -> None:
    if stale(Workspace(workspace.settings)):
        raise SystemExit("The copied months are out of date.")


def _lake(folder: Path, count: int) -> Workspace:
    """A lake whose months are all landed: the first one is made, and the tables of the others are copies of its tables."""
    config = folder / "config"
    (config / "allocators").mkdir(parents=True)
    (config / "allocators" / "support.json").write_text(json.dumps(_ALLOCATOR))
    months = month_range(FIRST, add_months(FIRST, count - 1))
    workspace = Workspace(Settings(lake=folder / "lake", config=config, start_month=FIRST))
    write_cur(folder / "exports", months=months, accounts=3, lines=100)
    for month in months:
        land_cur(workspace.lake.root, folder / "exports" / "aws", month=month, fetched_at=datetime.now(UTC))
    for table in order():
        materialise(workspace, table, FIRST)
    for month in months[1:]:
        for table in order():
            _copy(workspace, table, month)
    return workspace


def _copy(workspace: Workspace, table: Table, month: str) -> None:
    lake = workspace.lake
    first = lake.metadata(table.name, FIRST)
    if first is None:
        raise SystemExit(f"{table.name} {FIRST} was not made.")
    metadata = PartitionMetadata(table.inputs(workspace, month), "bench", _moved(first.facts, month))
    with lake.connect() as connection, lake.stage(table.name, month) as staged:
        lake.copy(connection, f"FROM {lake.scan(table.name, [FIRST], table.columns)}", staged, metadata)
        lake.publish(staged, still_current=lambda: metadata.inputs)


def _moved(facts: dict[str, Any], month: str) -> dict[str, Any]:
    """The facts of the first month, moved to another month: whatever is due, is due that many months later."""
    if "due" not in facts:
        return facts
    later = months_between(FIRST, month)
    return facts | {"due": {add_months(due, later): digests for due, digests in facts["due"].items()}}
