"""The billed and the amortised cost of an item, side by side: each is split by itself, and a row has both."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from octo_pipeline.allocation import splits
from octo_pipeline.allocation.shares import USAGE_SHARE_COLUMNS
from octo_pipeline.model.sql import rows_sql
from octo_pipeline.services.decide import find_items
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.graph import stale
from octo_pipeline.workspace import Workspace
from tests.support.case import run
from tests.support.oracle import Line
from tests.support.small_month import MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.tables import ALLOCATION_TABLES
from tests.support.workspaces import decision, workspace_in

NEXT = "2024-02"
UNUSED = {"commitment_discount_type": "RI", "commitment_discount_id": "r1", "savings_kind": "unused"}
SAVINGS = {"category": "savings", "startMonth": MONTH, "criteria": [{"and": {"type": "RI"}}]}


def ri_fee(billed: str, effective: str, **more: str) -> Line:
    """The fee of a reservation on account 9."""
    fee = line_item("9", billed, "Fee", "Purchase", **(UNUSED | more))
    return replace(fee, effective_cost=Decimal(effective))


def to_account(account: str, formula: str = "cost", months: int = 1) -> list[dict]:
    return [{"type": "account", "value": account, "formula": formula, "months": months}]


def made(folder: Path, lines: list[Line], documents: list[dict], months: tuple[str, ...] = (MONTH,)) -> Workspace:
    return run(workspace_in(folder, [*USAGE_OF_10_AND_30, *lines], documents), list(months))


def rows(workspace: Workspace, columns: str, condition: str = "true", month: str = MONTH) -> list[tuple]:
    with workspace.lake.connect() as connection:
        explained = explained_allocations(workspace, [month])
        return connection.execute(f"SELECT {columns} FROM ({explained}) WHERE {condition} ORDER BY ALL").fetchall()


def test_each_measure_is_split_and_rounded_by_itself(tmp_path):
    thirds = fee_allocator("cost/3") | {"allocator": [e for a in "123" for e in to_account(a, "cost/3")]}
    workspace = made(tmp_path, [ri_fee("100", "0.0000000001")], [thirds])
    # A third of the smallest amount is nothing, so all of it is left over; the billed cost is only rounded.
    assert rows(workspace, "kind, target_account, cost, effective_cost", "kind <> 'item' AND category = 'fee'") == [
        ("remainder", "9", 0, Decimal("0.0000000001")),
        ("split", "1", Decimal("33.3333333334"), 0),
        ("split", "2", Decimal("33.3333333333"), 0),
        ("split", "3", Decimal("33.3333333333"), 0),
    ]


def test_a_threshold_is_met_in_each_measure_by_itself(tmp_path):
    documents = [fee_allocator() | {"allocator": to_account("1", "cost > 50 ? cost : cost/2")}]
    workspace = made(tmp_path, [ri_fee("100", "20")], documents)
    columns = "kind, target_account, tranche_cost, tranche_effective_cost, cost, effective_cost"
    assert rows(workspace, columns, "kind <> 'item' AND category = 'fee'") == [
        ("remainder", "9", 100, 20, 0, 10),
        ("split", "1", 100, 20, 100, 10),
    ]


@pytest.mark.parametrize(
    ("billed", "effective", "reason"),
    [("9", "0", "formula_failed (effective)"), ("0", "9", "formula_failed"), ("0", "0", "formula_failed")],
)
def test_an_item_whose_formula_fails_in_one_measure_fails_in_both(tmp_path, billed, effective, reason):
    workspace = made(tmp_path, [ri_fee(billed, effective)], [fee_allocator("1/cost")])
    columns = "kind, status, reason, cost, effective_cost"
    assert rows(workspace, columns, "category = 'fee'") == [
        ("item", "unchecked_allocated", reason, Decimal(billed), Decimal(effective))
    ]


def test_an_instalment_that_fails_in_one_measure_stays_whole_on_its_own_account(tmp_path):
    documents = [fee_allocator() | {"allocator": to_account("1", "cost/(cost - 2)", months=2)}]
    workspace = made(tmp_path, [ri_fee("9", "4")], documents)
    assert rows(workspace, "kind, status, reason, target_account, cost, effective_cost", "category = 'fee'") == [
        ("item", "checked_allocated", None, None, 9, 4),
        ("remainder", "checked_splitted", "formula_failed (effective)", "9", Decimal("4.5"), 2),
    ]


def test_usage_is_an_item_if_it_has_a_cost_in_either_measure(tmp_path):
    covered = replace(line_item("8", "0"), effective_cost=Decimal(60))
    nothing = line_item("8", "0", charge_description="free")
    document = {"category": "account", "startMonth": MONTH, "criteria": [{"and": {"account": "8"}}]}
    workspace = made(tmp_path, [covered, nothing], [document | {"allocator": to_account("1")}])
    assert rows(workspace, "kind, charge_description, cost, effective_cost") == [
        ("item", "x", 0, 60),
        ("split", "x", 0, 60),
    ]


def test_the_unused_part_of_a_commitment_is_nobodys_usage(tmp_path):
    unused = line_item("1", "20", "UnusedReservation", charge_description="unused", **UNUSED)
    workspace = made(tmp_path, [unused, line_item("9", "4", "Fee", "Purchase")], [fee_allocator()])
    assert rows(workspace, "target_account, usage_share, cost", "kind = 'split'") == [("1", 0.25, 1), ("2", 0.75, 3)]


def test_what_moved_as_a_cost_does_not_move_as_a_saving(tmp_path):
    documents = [fee_allocator(), SAVINGS | {"allocator": to_account("1")}, SAVINGS | {"allocator": to_account("2")}]
    workspace = made(tmp_path, [ri_fee("9", "4")], documents)
    columns = "kind, status, reason, target_account, cost, effective_cost"
    assert rows(workspace, columns, "category = 'savings'") == [
        ("item", "unchecked_allocated", "moved_as_cost", None, -4, 0)
    ]

    ((fee,),) = rows(workspace, "item_id", "category = 'fee' AND kind = 'item'")
    workspace.registry.record_decisions([decision("restore", fee, MONTH)])
    assert rows(run(workspace, [MONTH]), columns, "category = 'savings'") == [
        ("item", "checked_allocated", None, None, -4, 0),
        ("split", "checked_splitted", None, "1", -4, 0),
    ]


def test_usage_that_moves_keeps_the_saving_of_its_unused_part_where_it_is(tmp_path):
    unused = line_item("8", "4", "UnusedReservation", **UNUSED)
    usage = {"category": "account", "startMonth": MONTH, "criteria": [{"and": {"account": "8"}}]}
    documents = [usage | {"allocator": to_account("1")}, SAVINGS | {"allocator": to_account("2")}]
    workspace = made(tmp_path, [unused], documents)
    assert rows(workspace, "status, reason, cost", "category = 'savings'") == [
        ("unchecked_allocated", "moved_as_cost", -4)
    ]


def test_a_fee_that_fails_moves_no_cost_in_later_months_either(tmp_path):
    failing = fee_allocator("1/(usage - usage)")
    spread = SAVINGS | {"allocator": to_account("2", months=2)}
    lines = [ri_fee("9", "4"), line_item("1", "10", billing_month=NEXT), line_item("2", "30", billing_month=NEXT)]
    workspace = made(tmp_path, lines, [failing, spread], (MONTH, NEXT))
    for month in (MONTH, NEXT):
        assert rows(workspace, "target_account, cost", "category = 'savings' AND kind = 'split'", month) == [("2", -2)]

    # The later month depends on what failed in the earlier one.
    ((saving,),) = rows(workspace, "item_id", "category = 'savings' AND kind = 'item'")
    path = workspace.settings.config / "allocators" / "a0.json"
    path.write_text(path.read_text().replace("1/(usage - usage)", "cost"))
    fixed = run(workspace, [MONTH])
    changed = {(p.table, p.month): p.changed for p in stale(fixed, ALLOCATION_TABLES)}
    assert f"allocations/{MONTH}/failed" in changed["allocations", NEXT]
    assert rows(run(fixed, [NEXT]), "cost", f"item_id = '{saving}'", NEXT) == []


def test_a_decision_on_a_fee_is_about_the_months_of_the_saving_that_it_holds_back(tmp_path):
    spread = SAVINGS | {"allocator": to_account("2", months=2)}
    workspace = made(tmp_path, [ri_fee("9", "4"), line_item("1", "1", billing_month=NEXT)], [fee_allocator(), spread], (MONTH, NEXT))  # fmt: skip
    (item,) = find_items(workspace, allocator="a0", month=MONTH)
    assert sorted(item.months) == [MONTH, NEXT]


def test_a_formula_is_evaluated_for_the_amortised_cost_only_where_it_differs():
    items = [("a", "fee", 5, 5), ("b", "fee", 5, 4), ("c", "savings", 5, 0)]
    matched = " UNION ALL ".join(
        f"SELECT '{item}' AS item_id, '{category}' AS category, '{MONTH}' AS origin_month, {cost}::DECIMAL(38,10) AS cost, "
        f"{effective}::DECIMAL(38,10) AS effective_cost, 'v' AS allocator_version, '9' AS sub_account_id, "
        f"'{MONTH}' AS first_booking_month, 1 AS tranche_count, NULL::VARCHAR[] AS moving_item_ids"
        for item, category, cost, effective in items
    )
    share = {"allocator_version": "v", "entry_index": 0, "entry_months": 1, "account_id": "1", "account_rank": 1}
    share |= {"accounts": 1, "formula": "cost", "usage_share": 1.0, "group_usage_share": 1.0}
    shares = rows_sql(USAGE_SHARE_COLUMNS, [tuple(share.get(name) for name in USAGE_SHARE_COLUMNS)])

    class Pinned:
        version, default_account, default_group, has_owner = "v", None, None, False

    with duckdb.connect() as connection:
        query = splits.allocations_sql(
            connection, f"({matched})", f"({shares})", "(SELECT '' AS item_id WHERE false)", MONTH, [Pinned()]
        )
        assert connection.table("splits_amounts").aggregate("count(*)").fetchall() == [(4,)]
        rows = connection.execute(
            f"SELECT item_id, cost, effective_cost FROM ({query}) WHERE kind = 'split' ORDER BY ALL"
        )
        assert rows.fetchall() == [("a", 5, 5), ("b", 5, 4), ("c", 5, 0)]
