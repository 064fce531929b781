"""Connections to the instances that a process shares: what takes time to start is shared, and nothing that they make."""

import os

import duckdb
import pytest

from octo_pipeline.lake import instances
from octo_pipeline.lake.instances import shared_connection
from octo_pipeline.lake.lake import Lake


@pytest.fixture(autouse=True)
def _no_instance_yet():
    instances._instances.clear()
    yield
    instances._instances.clear()


def test_an_instance_is_started_once_for_all_connections_to_a_lake(tmp_path, monkeypatch):
    """Regression: starting one took ten milliseconds for each of thirty questions about a month without news."""
    started = []
    start = instances._started
    monkeypatch.setattr(instances, "_started", lambda config: started.append(config) or start(config))
    for _ in range(3):
        with Lake(tmp_path).connect() as connection, Lake(tmp_path).connect():
            assert connection.execute("SELECT current_setting('preserve_insertion_order')").fetchone() == (False,)
    assert len(started) == 1


def test_a_connection_outlives_the_place_of_its_instance(tmp_path):
    """Regression: a third lake of a process closed the connections to the first one that were in use."""
    with Lake(tmp_path / "0").connect() as connection:
        for number in range(1, 5):
            with Lake(tmp_path / str(number)).connect():
                pass
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_lake_with_other_settings_has_another_instance(tmp_path):
    limits = []
    for limit in ("1GiB", "2GiB"):
        with Lake(tmp_path, memory_limit=limit).connect() as connection:
            limits += connection.execute("SELECT current_setting('memory_limit')").fetchone()
    assert limits == ["1.0 GiB", "2.0 GiB"]


def test_what_a_connection_makes_is_its_own_and_ends_with_it():
    with shared_connection({}) as one, shared_connection({}) as other:
        one.execute("CREATE TEMP TABLE t AS SELECT 1")
        one.execute("SET TimeZone = 'America/New_York'")
        with pytest.raises(duckdb.CatalogException):
            other.execute("FROM t")
        assert other.execute("SELECT current_setting('TimeZone')").fetchone() != ("America/New_York",)
    with shared_connection({}) as later, pytest.raises(duckdb.CatalogException):
        later.execute("FROM t")


def test_statements_of_somebody_else_have_an_instance_of_their_own(tmp_path):
    with shared_connection({"preserve_insertion_order": "false"}) as ours, Lake(tmp_path).connect(only=[]) as theirs:
        theirs.execute("CREATE TABLE t AS SELECT 1")
        with pytest.raises(duckdb.CatalogException):
            ours.execute("FROM t")
        assert ours.execute("SELECT current_setting('enable_external_access')").fetchone() == (True,)


def test_a_file_that_is_replaced_by_one_of_the_same_size_and_time_is_read_again(tmp_path):
    file = tmp_path / "t.parquet"

    def write(value: int) -> None:
        duckdb.sql(f"COPY (SELECT {value} AS value) TO '{file}'")
        os.utime(file, (1, 1))

    for value in (1, 2):
        write(value)
        with shared_connection({}) as connection:
            assert connection.execute(f"FROM '{file}'").fetchone() == (value,)


def test_after_a_failure_that_an_instance_does_not_survive_there_is_a_new_one():
    with shared_connection({}) as held:
        with pytest.raises(duckdb.FatalException), shared_connection({}):
            raise duckdb.FatalException("the instance refuses everything")
        held.execute("CREATE TABLE in_the_old_one AS SELECT 1")
        with shared_connection({}) as connection, pytest.raises(duckdb.CatalogException):
            connection.execute("FROM in_the_old_one")
