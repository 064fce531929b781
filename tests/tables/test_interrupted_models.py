"""An interrupt while a model's query is at work, as Dagster raises it in the process of a run that somebody terminates."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from octo_pipeline.services.months import Landing, make_months
from octo_pipeline.settings import Settings
from octo_pipeline.tables import cost_line_items
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.vendors.aws.sample import write_cur
from octo_pipeline.workspace import Workspace

MONTH = "2024-01"
# Keeps the engine busy for about ten seconds.
LONG = "(SELECT sum(hash(range)) FROM range(15000000000)) IS NOT NULL"


class TerminatedError(BaseException):
    """An exception that DuckDB does not know."""


@pytest.fixture
def terminating() -> Iterator[None]:
    """A process whose handler of interrupts raises an exception of its own."""

    def terminate(*_: object) -> None:
        raise TerminatedError

    before = signal.signal(signal.SIGINT, terminate)
    yield
    assert signal.signal(signal.SIGINT, before) is terminate


def test_a_query_stops_for_an_interrupt_that_duckdb_does_not_know(tmp_path, monkeypatch, terminating):
    """Regression: dbt waited for the end of the query, so a run that was terminated in Dagster's UI went on for hours."""
    write_cur(tmp_path / "exports", months=[MONTH], accounts=3, lines=100)
    (tmp_path / "config").mkdir()
    workspace = Workspace(Settings(lake=tmp_path / "lake", config=tmp_path / "config"))
    staged_files = []
    run_model = cost_line_items.run_model

    def slowly(connection, staged, metadata, relations, columns):
        staged_files.append(staged.path)
        relations = {name: f"SELECT * FROM ({query}) WHERE {LONG}" for name, query in relations.items()}
        threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
        run_model(connection, staged, metadata, relations, columns)

    monkeypatch.setattr(cost_line_items, "run_model", slowly)
    steps = [Landing("aws", tmp_path / "exports" / "aws"), CostLineItems()]
    with pytest.raises(TerminatedError):
        list(make_months(workspace, [MONTH], steps))
    (staged_file,) = staged_files
    # The query did not come to its end, and is not at work any more.
    assert not staged_file.exists()
    assert workspace.lake.fingerprint("cost_line_items", MONTH) is None
