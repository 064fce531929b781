"""Balances: what owners have in the end is handed on, step by step (allocation.md §17)."""

from decimal import Decimal
from pathlib import Path

import pytest

from octo_pipeline.allocation import balances
from octo_pipeline.allocation.proofs import ProofError
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.graph import stale
from octo_pipeline.workspace import Workspace
from tests.support.case import run
from tests.support.oracle import Line
from tests.support.small_month import MONTH, fee_allocator, line_item
from tests.support.tables import ALLOCATION_TABLES
from tests.support.workspaces import run_check, workspace_in, write_allocators

NEXT = "2024-02"


def step(number: int, account: str, *entries: dict, **more: object) -> dict:
    """A rule that takes the balances of the accounts that a condition holds for."""
    return {
        "category": "balance",
        "step": number,
        "startMonth": MONTH,
        "criteria": [{"and": {"account": account}}],
        "allocator": list(entries),
    } | more


def to(account: str, formula: str = "cost") -> dict:
    return {"type": "account", "value": account, "formula": formula}


def made(folder: Path, lines: list[Line], documents: list[dict], months: tuple[str, ...] = (MONTH,)) -> Workspace:
    return run(workspace_in(folder, lines, documents), list(months))


def rows(workspace: Workspace, columns: str, condition: str = "true", month: str = MONTH) -> list[tuple]:
    """Rows of balances, in order."""
    with workspace.lake.connect() as connection:
        explained = explained_allocations(workspace, [month])
        query = f"SELECT {columns} FROM ({explained}) WHERE category = 'balance' AND {condition} ORDER BY ALL"
        return connection.execute(query).fetchall()


BOOKED = "step, kind, coalesce(source_account, source_group), coalesce(target_account, target_group), cost"


def test_a_step_sees_what_earlier_steps_and_all_fees_and_usage_have_booked(tmp_path):
    lines = [line_item("platform", "60"), line_item("shop", "20"), line_item("9", "40", "Fee", "Purchase")]
    fee = fee_allocator() | {"allocator": [to("platform")]}
    platform = step(1, "platform", to("shop", "cost*0.75"), to("search", "cost*0.25"))
    products = step(2, "re:^(shop|search)$", to("customer"))

    workspace = made(tmp_path, lines, [fee, platform, products])

    # The platform has 60 of its own and the fee of 40; the shop 20 and three quarters of that.
    assert rows(workspace, BOOKED, "kind <> 'item'") == [
        (1, "split", "platform", "search", 25),
        (1, "split", "platform", "shop", 75),
        (2, "split", "search", "customer", 25),
        (2, "split", "shop", "customer", 95),
    ]
    assert rows(workspace, "step, source_account, cost, allocator_id", "kind = 'item'") == [
        (1, "platform", 100, "a1"),
        (2, "search", 25, "a2"),
        (2, "shop", 95, "a2"),
    ]


def test_all_items_of_a_step_see_the_balances_before_it(tmp_path):
    lines = [line_item("1", "10"), line_item("2", "30")]
    workspace = made(tmp_path, lines, [step(1, "1", to("2")), step(1, "2", to("1"))])
    assert rows(workspace, BOOKED, "kind <> 'item'") == [(1, "split", "1", "2", 10), (1, "split", "2", "1", 30)]


def test_a_mark_up_of_the_owner_makes_the_remainder_negative(tmp_path):
    lines = [line_item("1", "100"), line_item("2", "200"), line_item("margin", "7")]
    owner = {"type": "owner", "formula": "cost*1.03"}
    mark_up = step(9, "!re:^(margin)?$", owner, defaultAccount="margin")

    workspace = made(tmp_path, lines, [mark_up])

    assert rows(workspace, BOOKED, "kind <> 'item'") == [
        (9, "remainder", "1", "margin", -3),
        (9, "remainder", "2", "margin", -6),
        (9, "split", "1", "1", 103),
        (9, "split", "2", "2", 206),
    ]
    assert not run_check("no_over_allocation", workspace, MONTH).passed


def test_the_first_rule_of_a_step_takes_a_balance_and_the_next_step_takes_the_rest(tmp_path):
    lines = [line_item("1", "8")]
    half = step(1, "1", to("2", "cost/2"), priority="-1")
    workspace = made(tmp_path, lines, [step(1, "1", to("3")), half, step(2, "1", to("4"))])
    # What a rule leaves over is the owner's again, and the balance of the next step.
    assert rows(workspace, BOOKED, "kind <> 'item'") == [
        (1, "remainder", "1", "1", 4),
        (1, "split", "1", "2", 4),
        (2, "split", "1", "4", 4),
    ]
    conflict = run_check("no_conflicts_in_steps", workspace, MONTH)
    assert not conflict.passed
    assert conflict.details == (("a1", "a0", "USD", 1, 8),)


def test_payer_and_vendor_are_any_of_the_owners_and_nobody_has_none(tmp_path):
    lines = [
        line_item("1", "1", billing_account_id="p"),
        line_item("1", "1", billing_account_id="q"),
        line_item("2", "3", billing_account_id="q", vendor="gcp"),
        line_item("9", "5", "Fee", "Purchase", billing_account_id="q"),
    ]
    fee = fee_allocator() | {"allocator": [to("3")]}
    rules = [
        step(number, "", to("4"), criteria=[{"and": criteria}])
        for number, criteria in enumerate(
            [{"payer": "p"}, {"payer": "!re:^p$", "account": "1"}, {"vendor": ""}, {"vendor": "gcp", "payer": "q"}], 1
        )
    ]
    for rule in rules:
        # Each step finds what the one before gave back.
        rule["allocator"] = [{"type": "owner", "formula": "cost"}]

    workspace = made(tmp_path, lines, [fee, *rules])

    assert rows(workspace, "step, source_account, cost", "kind = 'item'") == [
        (1, "1", 2),
        (2, "1", 2),
        (3, "3", 5),
        (4, "2", 3),
    ]


def test_an_owner_without_a_balance_is_no_item_but_one_with_an_amortised_balance_is(tmp_path):
    unused = line_item("2", "0")
    lines = [line_item("1", "5"), line_item("1", "-5", charge_description="y"), unused]
    lines[2] = type(unused)(**{**vars(unused), "effective_cost": Decimal(4)})
    workspace = made(tmp_path, lines, [step(1, "re:^[12]$", to("3"))])
    assert rows(workspace, "kind, source_account, target_account, cost, effective_cost") == [
        ("item", "2", None, 0, 4),
        ("split", "2", "3", 0, 4),
    ]


@pytest.mark.parametrize("measure", ["cost", "effective_cost"])
def test_a_balance_that_its_owner_does_not_have_is_not_published(tmp_path, monkeypatch, measure):
    honest = balances.book_steps

    def inflated(connection, *args):
        rows = honest(connection, *args)
        connection.execute(f"UPDATE {rows} SET {measure} = {measure} + 1")
        return rows

    monkeypatch.setattr(balances, "book_steps", inflated)
    with pytest.raises(ProofError, match="each balance is what its owner was billed and booked before its step"):
        made(tmp_path, [line_item("1", "5")], [step(1, "1", to("2"))])


def test_the_window_of_a_rule_is_of_months_of_the_balance(tmp_path):
    lines = [line_item("1", "5"), line_item("1", "6", billing_month=NEXT)]
    workspace = made(tmp_path, lines, [step(1, "1", to("2"), startMonth=NEXT)], (MONTH, NEXT))
    assert rows(workspace, "kind, cost") == []
    assert rows(workspace, "kind, cost", month=NEXT) == [("item", 6), ("split", 6)]


def test_a_balance_whose_formula_fails_stays_and_the_next_step_takes_it(tmp_path):
    lines = [line_item("1", "5")]
    workspace = made(tmp_path, lines, [step(1, "1", to("2", "cost/usage")), step(2, "1", to("3"))])
    assert rows(workspace, "step, kind, status, reason, cost") == [
        (1, "item", "unchecked_allocated", "formula_failed", 5),
        (2, "item", "checked_allocated", None, 5),
        (2, "split", "checked_splitted", None, 5),
    ]
    assert not run_check("formulas_hold", workspace, MONTH).passed


def test_what_is_weighed_is_usage_and_never_a_balance(tmp_path):
    lines = [line_item("1", "8"), line_item("2", "10"), line_item("3", "30"), line_item("9", "90", "Fee", "Purchase")]
    fee = fee_allocator() | {"allocator": [to("2")]}
    workspace = made(tmp_path, lines, [fee, step(1, "1", to("2", "cost*usage"), to("3", "cost*usage"))])
    # Account 2 has a balance of 100, but a quarter of the usage.
    assert rows(workspace, "target_account, usage_share, cost", "kind = 'split'") == [("2", 0.25, 2), ("3", 0.75, 6)]


def test_an_edited_rule_makes_its_month_again_and_a_late_line_item_as_well(tmp_path):
    workspace = made(tmp_path, [line_item("1", "5")], [step(1, "1", to("2"))])
    before = rows(workspace, "*")
    write_allocators(workspace.settings.config, [step(1, "1", to("3"))])
    edited = Workspace(workspace.settings)
    assert {(p.table, *p.changed) for p in stale(edited, ALLOCATION_TABLES)} == {("matched_items", "allocators")}
    run(edited, [MONTH])
    assert rows(workspace, "target_account", "kind = 'split'") == [("3",)]

    write_allocators(workspace.settings.config, [step(1, "1", to("2"))])
    run(workspace, [MONTH])
    assert rows(workspace, "*") == before
