"""A month in a bucket that tasks make: its parts are kept and joined there, and its rows are those of one process."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from octo_pipeline.engine.engine import Engine, Payload, Task
from octo_pipeline.lake import lake as lake_module
from octo_pipeline.lake import s3_blocks
from octo_pipeline.lake.lake import Lake
from octo_pipeline.lake.root import lake_root
from octo_pipeline.settings import Settings
from octo_pipeline.tables import parts
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.aws.cur import land_cur
from octo_pipeline.vendors.aws.sample import write_cur
from octo_pipeline.vendors.landing import newest_deliveries
from octo_pipeline.workspace import Workspace
from tests.support.reports import NOW

MONTH = "2024-01"


class InTurn:
    """An engine that the month does not take for the process itself."""

    def map(self, task: Task, payloads: Sequence[Payload]) -> list[Payload]:
        return [json.loads(json.dumps(task(json.loads(json.dumps(payload))))) for payload in payloads]


def month_in(lake: str, folder: Path, engine: Engine | None = None) -> tuple[Workspace, list[tuple]]:
    workspace = Workspace(
        Settings(lake=lake, config=folder, temp=folder / "temp", database_url=f"sqlite:///{folder}/registry.sqlite"),
        own_engine=engine,
    )
    land_cur(workspace.lake.root, folder / "exports", month=MONTH, fetched_at=NOW)
    materialise(workspace, CostLineItems(), MONTH)
    made = workspace.lake
    with made.connect() as connection:
        relation = made.scan(CostLineItems.name, [MONTH], CostLineItems.columns)
        return workspace, connection.execute(f"FROM {relation} ORDER BY ALL").fetchall()


@pytest.mark.slow
def test_tasks_make_a_month_in_a_bucket(s3_server, tmp_path, monkeypatch):
    """The parts are removed once when they are about to be joined: a cache may be deleted at any time."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    write_cur(tmp_path / "exports", months=[MONTH], accounts=9, lines=400, files=2)
    one_process, whole = month_in(str(tmp_path / "lake"), tmp_path)
    (delivery,) = newest_deliveries(one_process.lake.root, MONTH)
    # So small that there are three parts and that they are copied in the bucket.
    monkeypatch.setattr(parts, "TASK_BYTES", -(-sum(file.size for file in delivery.files) // 3))
    monkeypatch.setattr(lake_module, "_ROWS_OF_A_GROUP", 1)
    monkeypatch.setattr(s3_blocks, "_SMALLEST", 3_000)
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 3_000)
    # A client takes as long as all that a task does with so few lines.
    monkeypatch.setattr("octo_pipeline.workspace.lake_root", cache(lake_root))
    publish, times = Lake.publish, []

    def without_parts(lake: Lake, *arguments, **named) -> bool:
        times.append(len(lake.parts(CostLineItems.name, MONTH)))
        if len(times) == 1:
            lake.drop_parts(CostLineItems.name, MONTH, but=[])
        return publish(lake, *arguments, **named)

    monkeypatch.setattr(Lake, "publish", without_parts)
    workspace, in_bucket = month_in(f"s3://{s3_server.bucket()}/lake", tmp_path, InTurn())
    lake = workspace.lake
    kept = lake.parts(CostLineItems.name, MONTH)
    assert [name for name, _ in lake.metadata(CostLineItems.name, MONTH).facts["parts"]] == list(kept)
    assert (times, len(kept)) == ([3, 3], 3)
    assert in_bucket == whole
