"""Fingerprints: what is made again, what is not, and what `octo stale` lists."""

from decimal import Decimal

from octo_pipeline.lake.folder_store import LocalStore
from octo_pipeline.tables.graph import TABLES, stale
from octo_pipeline.tables.table import materialise
from octo_pipeline.workspace import Workspace
from tests.support.case import run
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.tables import ALLOCATION_TABLES
from tests.support.workspaces import workspace_in, write_allocators, write_lines

NEXT, LATER = "2024-02", "2024-03"
MONTHS = [MONTH, NEXT, LATER]
TWO_MONTHS = fee_allocator() | {"allocator": [{"type": "account", "value": "1", "months": 2, "formula": "cost"}]}
LINES = [*USAGE_OF_10_AND_30, FEE_OF_100, *(line_item("1", "5", billing_month=m) for m in (NEXT, LATER))]


def stale_months(workspace: Workspace) -> list[tuple[str, str]]:
    # The line items of these tests come from no delivery, so their own fingerprint is not asked for.
    fresh = Workspace(workspace.settings)
    return [(one.table, one.month) for one in stale(fresh, ALLOCATION_TABLES)]


def test_a_rerun_with_the_same_inputs_writes_nothing_and_says_so(tmp_path):
    workspace = run(workspace_in(tmp_path, LINES, [TWO_MONTHS]), MONTHS)
    files = {p: p.stat().st_ino for p in workspace.lake.root.rglob("*.parquet")}
    for table in ALLOCATION_TABLES:
        for month in MONTHS:
            assert materialise(Workspace(workspace.settings), table, month).outcome == "unchanged"
    assert {p: p.stat().st_ino for p in workspace.lake.root.rglob("*.parquet")} == files
    assert stale_months(workspace) == []


def test_restating_an_origin_month_makes_exactly_its_booking_months_stale(tmp_path):
    workspace = run(workspace_in(tmp_path, LINES, [TWO_MONTHS]), MONTHS)
    write_lines(workspace, tmp_path, [*USAGE_OF_10_AND_30, line_item("9", "300", "Fee", "Purchase"), *LINES[3:]])
    run(workspace, [MONTH])
    assert stale_months(workspace) == [("allocations", NEXT)]
    run(workspace, [NEXT])
    assert stale_months(workspace) == []


def test_a_restatement_that_changes_no_due_amount_leaves_later_months_alone(tmp_path):
    workspace = run(workspace_in(tmp_path, LINES, [TWO_MONTHS]), MONTHS)
    write_lines(workspace, tmp_path, [*LINES, line_item("2", "1", "Tax", "Tax")])
    run(workspace, [MONTH])
    assert stale_months(workspace) == []


def test_editing_an_allocator_makes_stale_only_the_months_it_holds_for(tmp_path):
    workspace = run(workspace_in(tmp_path, LINES, [TWO_MONTHS]), MONTHS)
    from_next = fee_allocator() | {"startMonth": NEXT, "criteria": [{"and": {"lineType": "Tax"}}]}
    write_allocators(workspace.settings.config, [TWO_MONTHS, from_next])
    assert stale_months(workspace) == [("matched_items", NEXT), ("matched_items", LATER)]


def test_a_decision_makes_stale_the_months_in_which_the_item_is_booked(tmp_path):
    from tests.support.workspaces import decision

    workspace = run(workspace_in(tmp_path, LINES, [TWO_MONTHS]), MONTHS)
    with workspace.lake.connect() as connection:
        item = connection.execute(
            f"SELECT item_id FROM '{workspace.lake.path('matched_items', MONTH)}' WHERE cost = 100"
        ).fetchone()[0]
    workspace.registry.record_decisions([decision("restore", item, MONTH)])
    assert stale_months(workspace) == [("allocations", MONTH), ("allocations", NEXT)]
    run(workspace, [MONTH, NEXT])
    with workspace.lake.connect() as connection:
        booked = connection.execute(
            f"SELECT sum(cost) FROM read_parquet('{workspace.lake.root}/allocations/*/*.parquet') WHERE kind <> 'item'"
        ).fetchone()[0]
    assert booked is None or booked == Decimal(0)


def test_stale_asks_every_table(tmp_path):
    workspace = run(workspace_in(tmp_path, LINES, [TWO_MONTHS]), MONTHS)
    assert {table.name for table in TABLES} == {
        "cost_line_items", "matched_items", "resolved_accounts", "usage_shares", "allocations",
        "account_costs", "cost_group_costs", "prepayments", "container_usage", "invoice_costs", "corrections",
    }  # fmt: skip
    assert {one.table for one in stale(Workspace(workspace.settings), TABLES)} == {"cost_line_items"}


def test_looking_for_what_is_stale_lists_each_table_once_however_many_months_there_are(tmp_path, monkeypatch):
    workspace = run(workspace_in(tmp_path, LINES, [TWO_MONTHS]), MONTHS)
    listed, files = [], LocalStore.files
    monkeypatch.setattr(LocalStore, "files", lambda *args: listed.append(str(args[1])) or files(*args))

    assert stale_months(workspace) == []

    of_tables = [folder for folder in listed if "/landing/" not in folder]
    assert len(of_tables) == len(set(of_tables)) > 1
