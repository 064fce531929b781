"""Closed months that are compared in parts: the same corrections as of one part, and no part is lost."""

from dataclasses import replace

import duckdb
import pytest

from octo_pipeline.allocation.proofs import ProofError
from octo_pipeline.engine.local import ProcessEngine
from octo_pipeline.model.sql import Relation
from octo_pipeline.tables import corrections
from octo_pipeline.tables.corrections import Corrections
from octo_pipeline.tables.table import materialise
from octo_pipeline.workspace import Workspace
from tests.support.case import run
from tests.support.chaos import ChaosEngine
from tests.support.closing import close_months
from tests.support.small_month import MONTH, fee_allocator, line_item
from tests.support.workspaces import workspace_in, write_lines

NEXT, LAST = "2024-02", "2024-03"
TO_1_AND_2 = fee_allocator()["allocator"]
RULES = [
    fee_allocator(),
    fee_allocator(criteria=[{"and": {"lineType": "Yearly"}}], allocator=[{**entry, "months": "3"} for entry in TO_1_AND_2]),
    fee_allocator(category="balance", criteria=[{"and": {"account": "2"}}], allocator=[
        {"type": "account", "value": "3", "formula": "cost*0.3"}, {"type": "account", "value": "1", "formula": "cost*0.1"},
    ]),
]  # fmt: skip


def lines_of(month: str, usage: str, fees: range) -> list:
    lines = [
        *[line_item(account, usage if account == "1" else "30") for account in "123"],
        *[line_item("9", f"{n}.1", "Fee", "Purchase", charge_description=f"fee {n}") for n in fees],
        *[line_item("8", f"{n}", "Yearly", "Purchase", charge_description=f"fee {n}") for n in (100, 7)],
    ]
    return [replace(line, billing_month=month) for line in lines]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    """Two closed months, both delivered again and the first twice, and an open one that corrects them."""
    tmp_path = tmp_path_factory.mktemp("corrected")
    months = [*lines_of(MONTH, "10", range(9)), *lines_of(NEXT, "10", range(9)), *lines_of(LAST, "10", range(3))]
    workspace = run(workspace_in(tmp_path, months, RULES), [MONTH, NEXT, LAST])
    close_months(workspace, [MONTH])
    write_lines(workspace, tmp_path, lines_of(MONTH, "20", range(1, 9)))
    workspace = run(replace(workspace), [MONTH, NEXT])
    close_months(workspace, [NEXT])
    write_lines(workspace, tmp_path, [*lines_of(MONTH, "30", range(1, 10)), *lines_of(NEXT, "30", range(9))])
    return run(replace(workspace), [MONTH, NEXT, LAST])


def made_again(workspace: Workspace) -> list:
    """Rows, facts and fingerprint of the corrections."""
    workspace = replace(workspace)
    workspace.lake.remove(Corrections.name, LAST)
    materialise(workspace, Corrections(), LAST)
    metadata = workspace.lake.metadata(Corrections.name, LAST)
    facts = {name: fact for name, fact in metadata.facts.items() if not name.startswith("parts")}
    with duckdb.connect() as connection:
        rows = connection.execute(f"FROM '{workspace.lake.path(Corrections.name, LAST)}' ORDER BY ALL").fetchall()
    return [metadata.fingerprint, facts, rows]


def test_corrections_in_parts_are_those_of_one_part(workspace, monkeypatch):
    whole = made_again(workspace)
    months, kinds = {row[0] for row in whole[2]}, {(row[3], row[5]) for row in whole[2]}
    assert months == {MONTH, NEXT}
    assert {("fee", "item"), ("fee", "split"), ("balance", "item"), ("balance", "split"), ("usage", "item")} <= kinds
    monkeypatch.setattr(corrections, "ROWS_PER_PART", 8)

    assert made_again(workspace) == whole

    lake = workspace.lake
    kept = lake.parts(Corrections.name, LAST)
    assert len(kept) > 8
    # A damaged part never stops a month, and nothing is left of a month that is made as one again.
    names = sorted(kept)
    kept[names[0]].write_bytes(kept[names[1]].read_bytes())
    assert made_again(workspace) == whole
    monkeypatch.undo()
    assert made_again(workspace) == whole
    assert lake.parts(Corrections.name, LAST) == {}


@pytest.mark.slow
def test_tasks_that_run_twice_or_are_killed_make_the_same_corrections(workspace, monkeypatch):
    whole = made_again(workspace)
    monkeypatch.setattr(corrections, "ROWS_PER_PART", 8)
    with ProcessEngine(2) as processes:
        engine = ChaosEngine(processes)
        assert made_again(replace(workspace, own_engine=engine)) == whole
        assert engine.killed


def test_a_part_that_is_lost_is_refused(workspace, monkeypatch):
    monkeypatch.setattr(corrections, "ROWS_PER_PART", 8)
    made_parts = corrections.made_parts
    monkeypatch.setattr(corrections, "made_parts", lambda *args: made_parts(*args)[1:])
    workspace.lake.remove(Corrections.name, LAST)
    with pytest.raises(
        ProofError, match="what is booked for each closed month, with its corrections, is what is known"
    ):
        materialise(replace(workspace), Corrections(), LAST)
    assert workspace.lake.metadata(Corrections.name, LAST) is None


def test_a_part_that_lacks_a_correction_is_refused_before_it_is_kept(workspace, monkeypatch):
    monkeypatch.setattr(corrections, "ROWS_PER_PART", 8)
    nothing = Relation("(SELECT '' AS item_id)")
    monkeypatch.setattr(corrections.corrections, "create_changed_items", lambda *args, **relations: nothing)
    workspace.lake.remove(Corrections.name, LAST)
    workspace.lake.drop_parts(Corrections.name, LAST, but=[])
    with pytest.raises(
        ProofError, match="what is booked for each closed month, with its corrections, is what is known"
    ):
        materialise(replace(workspace), Corrections(), LAST)
    assert workspace.lake.parts(Corrections.name, LAST) == {}
