"""Months that are made in parts: the same rows as of one part, and nothing is lost between parts or there twice."""

import json
import uuid
from dataclasses import replace

import duckdb
import pytest

from octo_pipeline.allocation.proofs import ProofError
from octo_pipeline.engine.local import ProcessEngine
from octo_pipeline.tables import allocations, cost_group_costs, item_parts, matched_items
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.tables.item_parts import ItemRange, booked_parts, items_of, parts_of_month
from octo_pipeline.tables.table import materialise
from octo_pipeline.workspace import Workspace
from tests.support.case import run
from tests.support.chaos import ChaosEngine
from tests.support.payer_months import CountingEngine, publish_payers
from tests.support.small_month import MONTH, fee_allocator, line_item
from tests.support.workspaces import decision, exact_rows, workspace_in

NEXT = "2024-02"
TO_1_AND_2 = fee_allocator()["allocator"]
RULES = [
    fee_allocator(),
    fee_allocator(criteria=[{"and": {"lineType": "Yearly"}}], allocator=[{**entry, "months": "3"} for entry in TO_1_AND_2]),
    fee_allocator("cost/(usage-usage)", criteria=[{"and": {"lineType": "Tax"}}]),
    fee_allocator(category="account", criteria=[{"and": {"productCode": "Shared"}}]),
    fee_allocator(category="account", criteria=[{"and": {"operation": "Unused"}}]),
    fee_allocator(category="savings", criteria=[{"and": {"account": "re:."}}]),
    fee_allocator(category="balance", criteria=[{"and": {"account": "2"}}], allocator=[
        {"type": "account", "value": "3", "formula": "cost*0.3"}, {"type": "group", "value": "team", "formula": "cost*0.1"},
    ]),
]  # fmt: skip


def commitment(account: str, kind: str, cost: str, **more):
    """A line of a commitment that was used or stayed unused."""
    line = line_item(
        account, cost, commitment_discount_type="SP", commitment_discount_id="arn", savings_kind=kind, **more
    )
    return replace(line, list_cost=line.list_cost * 2)


def lines_of(month: str) -> list:
    """Fees, usage that rules take, instalments, and savings whose cost moves otherwise."""
    usage = [line_item("1", "10"), line_item("2", "30"), line_item("3", "5")]
    shared = [line_item("9", f"{n}.7", service_code="Shared", usage_type=f"type {n}") for n in range(1, 20)]
    fees = [line_item("9", f"{n}.1", "Fee", "Purchase", charge_description=f"fee {n}") for n in range(1, 12)]
    spread = [line_item("8", f"{n}", "Yearly", "Purchase", charge_description=f"fee {n}") for n in (100, 7, 0.01)]
    failing = [line_item("8", "3", "Tax", "Tax")]
    savings = [
        line
        for account in ("4", "5", "6")
        for line in (commitment(account, "used", "2"), commitment(account, "unused", "1.5", operation="Unused"))
    ]
    return [replace(line, billing_month=month) for line in (*usage, *shared, *fees, *spread, *failing, *savings)]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    """Two months, of each of which some items are restored."""
    tmp_path = tmp_path_factory.mktemp("parts")
    workspace = workspace_in(tmp_path, [*lines_of(MONTH), *lines_of(NEXT)], RULES)
    document = {"id": "team", "combinations": {"awsOptions": {"filters": [{"andFilters": {"account": "re:[1-4]"}}]}}}
    (tmp_path / "config" / "cost_groups" / "team.json").write_text(json.dumps(document))
    run(workspace, [MONTH, NEXT])
    rows = exact_rows(workspace)
    restored = [row[0] for row in rows if row[3] == "item" and row[2] == "checked_allocated" and row[11] is None][::9]
    origins = {row[0]: row[1] for row in rows if row[3] == "item"}
    workspace.registry.record_decisions([decision("restore", item, origins[item]) for item in restored])
    return again(workspace)


def again(workspace: Workspace) -> Workspace:
    """Make what depends on the parts again."""
    workspace = replace(workspace)
    for month in (MONTH, NEXT):
        for table in (Allocations(), AccountCosts(), CostGroupCosts()):
            workspace.lake.remove(table.name, month)
            materialise(workspace, table, month)
    return workspace


def everything(workspace: Workspace) -> list:
    """Rows, facts and fingerprints."""
    made = []
    with duckdb.connect() as connection:
        for month in (MONTH, NEXT):
            for table in ("allocations", "account_costs", "cost_group_costs"):
                metadata = workspace.lake.metadata(table, month)
                facts = {name: fact for name, fact in metadata.facts.items() if not name.startswith("parts")}
                rows = connection.execute(f"FROM '{workspace.lake.path(table, month)}' ORDER BY ALL").fetchall()
                made += [metadata.fingerprint, facts, rows]
    return made


def test_a_month_in_parts_has_the_rows_of_one_part(workspace, monkeypatch):
    whole = everything(workspace)
    assert {row[2] for row in whole[2] if row[3] == "item"} == {"checked_allocated", "unchecked_allocated"}
    assert {"moved_as_cost", "restored", "formula_failed"} <= {row[4] for row in whole[2]}
    monkeypatch.setattr(item_parts, "SPLITS_PER_PART", 20)

    in_parts = again(workspace)

    # That of the balances has no items.
    parts = booked_parts(in_parts.lake.metadata("allocations", NEXT))
    assert len(parts) > 2
    assert parts[-1].items == ()
    assert everything(in_parts) == whole


@pytest.mark.slow
def test_tasks_that_run_twice_or_are_killed_make_the_same_month(workspace, monkeypatch):
    whole = everything(workspace)
    monkeypatch.setattr(item_parts, "SPLITS_PER_PART", 30)
    with ProcessEngine(2) as processes:
        engine = ChaosEngine(processes)
        assert everything(again(replace(workspace, own_engine=engine))) == whole
        assert engine.killed


def test_items_that_name_each_other_are_in_one_part(workspace, monkeypatch):
    monkeypatch.setattr(item_parts, "SPLITS_PER_PART", 1)
    lake = workspace.lake
    with lake.connect() as connection:
        parts = parts_of_month(connection, lake, NEXT)
        ids = [connection.execute(f"SELECT item_id FROM {items_of(lake, part)}").fetchall() for part in parts]
        naming = connection.execute(
            "SELECT item_id, unnest(moving_item_ids) FROM "
            f"{lake.scan('matched_items', [MONTH, NEXT], {'item_id': 'VARCHAR', 'moving_item_ids': 'VARCHAR[]'})}"
        ).fetchall()
    numbers = {item: number for number, part in enumerate(ids) for (item,) in part}
    assert sum(map(len, ids)) == len(numbers) == lake.rows("matched_items", MONTH) + lake.rows("matched_items", NEXT)
    assert naming
    assert all(numbers[item] == numbers[moving] for item, moving in naming)
    assert len(set(numbers.values())) > 20


def test_a_month_of_a_usual_size_is_one_part_and_no_query_is_asked(workspace):
    with workspace.lake.connect() as connection:
        parts = parts_of_month(connection, workspace.lake, NEXT)
    rows = {month: workspace.lake.rows("matched_items", month) for month in (MONTH, NEXT)}
    assert parts == [(ItemRange(MONTH, 0, rows[MONTH]), ItemRange(NEXT, 0, rows[NEXT]))]


@pytest.mark.parametrize(
    "wrong",
    [lambda parts: parts[1:], lambda parts: [*parts, (parts[0][0]._replace(number=0, parts=1),)]],
    ids=["lost", "twice"],
)
def test_a_part_that_is_lost_or_there_twice_is_refused(workspace, monkeypatch, wrong):
    monkeypatch.setattr(item_parts, "SPLITS_PER_PART", 20)
    monkeypatch.setattr(allocations, "parts_of_month", lambda *args: wrong(parts_of_month(*args)))
    before = workspace.lake.metadata("allocations", MONTH)
    workspace.registry.record_decisions([decision("restore", uuid.uuid4().hex, MONTH)])
    with pytest.raises(ProofError, match="the parts that the month is made in have each item once"):
        materialise(replace(workspace), Allocations(), MONTH)
    assert workspace.lake.metadata("allocations", MONTH) == before


PAYERS = [f"{number:012}" for number in range(1, 5)]


def lines_of_payers(changed: str | None = None) -> dict[str, list]:
    """Line items of several payers; one of them with another cost."""
    return {
        payer: [
            replace(line, billing_account_id=payer, billed_cost=line.billed_cost + (payer == changed))
            for line in lines_of(MONTH)
        ]
        for payer in PAYERS
    }


def test_only_the_parts_of_a_payer_that_changed_are_made_again(tmp_path, monkeypatch):
    # Fixed targets: nobody's share depends on what another payer uses.
    fixed = [{"type": "account", "value": str(n), "formula": "cost*0.5"} for n in (1, 2)]
    rules = [
        rule | {"allocator": [{**entry, "formula": "cost*0.3"} for entry in rule["allocator"]]} for rule in RULES[:2]
    ]
    rules += [fee_allocator(category="account", criteria=[{"and": {"productCode": "Shared"}}], allocator=fixed)]
    workspace = workspace_in(tmp_path, [], rules)
    document = {"id": "team", "combinations": {"awsOptions": {"filters": [{"andFilters": {"account": "re:[1-4]"}}]}}}
    (tmp_path / "config" / "cost_groups" / "team.json").write_text(json.dumps(document))
    monkeypatch.setattr(matched_items, "LINES_PER_PART", 20)
    monkeypatch.setattr(item_parts, "SPLITS_PER_PART", 320)
    monkeypatch.setattr(cost_group_costs, "LINES_PER_PART", 20)
    publish_payers(workspace, tmp_path, lines_of_payers())
    names = ("matched_items", "allocations", "account_costs", "cost_group_costs")

    def made() -> tuple[dict[str, int], dict[str, list]]:
        engine = CountingEngine()
        current = Workspace(workspace.settings, own_engine=engine)
        for table in TABLES:
            if table.group in ("allocation", "marts"):
                materialise(current, table, MONTH)
        with duckdb.connect() as connection:
            rows = {
                name: connection.execute(f"FROM '{workspace.lake.path(name, MONTH)}' ORDER BY ALL").fetchall()
                for name in names
            }
        facts = {name: workspace.lake.metadata(name, MONTH).facts for name in names}
        return dict(engine.tasks), {
            name: [rows[name], {k: v for k, v in facts[name].items() if "part" not in k}] for name in names
        }

    # Cost groups filter what is booked and line items apart.
    all_parts = dict.fromkeys(names, len(PAYERS)) | {"cost_group_costs": 2 * len(PAYERS)}
    assert made()[0] == all_parts
    publish_payers(workspace, tmp_path, lines_of_payers(changed=PAYERS[3]))
    assert made()[0] == dict.fromkeys(names, 1) | {"cost_group_costs": 2}
    # Of an item that is restored, the line items are the same, but they are counted again.
    with duckdb.connect() as connection:
        items = f"'{workspace.lake.path('matched_items', MONTH)}'"
        item = connection.execute(f"SELECT min(item_id) FROM {items} WHERE category = 'account'").fetchone()[0]
    workspace.registry.record_decisions([decision("restore", item, MONTH)])
    tasks, refreshed = made()
    assert tasks == {"allocations": 1, "account_costs": 1, "cost_group_costs": 2}
    # What is kept is what the month is made of.
    assert len([part for part in workspace.lake.parts("allocations", MONTH) if "." not in part]) == len(PAYERS)

    # A cache may be damaged or gone.
    parts = workspace.lake.parts("allocations", MONTH)
    names_of_parts = sorted(name for name in parts if "." not in name)
    workspace.lake.remove("allocations", MONTH)
    parts[names_of_parts[0]].write_bytes(parts[names_of_parts[1]].read_bytes())
    assert made() == ({"allocations": len(PAYERS)}, refreshed)
    for name in names:
        workspace.lake.remove(name, MONTH)
        for part in workspace.lake.parts(name, MONTH).values():
            part.unlink()
    assert made() == (all_parts, refreshed)

    for name in names:
        workspace.lake.remove(name, MONTH)
    monkeypatch.setattr(matched_items, "LINES_PER_PART", 10_000)
    monkeypatch.setattr(item_parts, "SPLITS_PER_PART", 8_000_000)
    # Filtered line items count also where everything is booked at once; what told their tasks what is booked goes in the end.
    assert made() == ({}, refreshed)
    kept = workspace.lake.parts("cost_group_costs", MONTH)
    assert {name.partition(".")[2] for name in kept} == {"", "filtered"}
    assert workspace.lake.parts("allocations", MONTH) == {}

    workspace.lake.remove("cost_group_costs", MONTH)
    monkeypatch.setattr(cost_group_costs, "LINES_PER_PART", 10_000)
    assert made() == ({}, refreshed)
