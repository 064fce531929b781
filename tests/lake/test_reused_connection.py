"""A connection that is opened once and used again: what is made in it stays, in a folder and in a bucket."""

import duckdb
import pytest

from octo_pipeline.lake import instances
from octo_pipeline.lake.lake import Lake, PartitionMetadata
from octo_pipeline.lake.root import lake_root

MONTH = "2024-01"


def _publish(lake: Lake, value: int) -> None:
    metadata = PartitionMetadata({"value": str(value)}, "a run")
    with lake.connect() as connection, lake.stage("values", MONTH) as staged:
        lake.copy(connection, f"SELECT {value} AS value", staged, metadata)
        lake.publish(staged, still_current=lambda: metadata.inputs)


def _reads_twice(lake: Lake) -> list[object]:
    _publish(lake, 7)
    opened = lake.open(threads=1)
    with lake.connect(threads=1, opened=opened) as connection:
        connection.execute(f"CREATE TEMP TABLE kept AS FROM {lake.scan('values', [MONTH], {'value': 'INTEGER'})}")
    _publish(lake, 8)
    with lake.connect(threads=1, opened=opened) as connection:
        scanned = lake.scan("values", [MONTH], {"value": "INTEGER"})
        values = connection.execute(f"SELECT value FROM kept UNION ALL FROM {scanned}").fetchall()
    opened.close()
    return values


def test_its_tables_stay_and_the_lake_is_read_as_it_is(tmp_path):
    assert _reads_twice(Lake(tmp_path)) == [(7,), (8,)]


def test_it_reads_a_bucket(s3_server, tmp_path, monkeypatch):
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    root = lake_root(f"s3://{s3_server.bucket()}/lake", tmp_path)
    assert _reads_twice(Lake(root)) == [(7,), (8,)]


def test_after_a_failure_that_an_instance_does_not_survive_the_next_one_is_new(tmp_path):
    lake = Lake(tmp_path)
    opened = lake.open(threads=1)
    broken = list(instances._instances.values())[-1]
    with pytest.raises(duckdb.FatalException), lake.connect(threads=1, opened=opened):
        raise duckdb.FatalException("the instance refuses everything")
    assert broken not in instances._instances.values()
