"""Restore, re-apply, and the story of an item, on a small month."""

import json
from decimal import Decimal

import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.decide import choose_items, decide, decided_costs, find_items, left_out_sentence, story
from octo_pipeline.tables.table import Materialised
from octo_pipeline.workspace import Workspace
from tests.support.case import run
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.workspaces import exact_rows, run_check, workspace_in

NEXT = "2024-02"


@pytest.fixture
def spread(tmp_path) -> Workspace:
    """A fee of 100 over two months and two accounts, 1:3 in the first month."""
    document = fee_allocator() | {"id": "fees", "name": "Fees"}
    for entry in document["allocator"]:
        entry["months"] = 2
    lines = [
        *USAGE_OF_10_AND_30,
        FEE_OF_100,
        line_item("1", "5", billing_month=NEXT),
        line_item("2", "5", billing_month=NEXT),
    ]
    return run(workspace_in(tmp_path, lines, [document]), [MONTH, NEXT])


def booked(workspace: Workspace) -> list[tuple[str, Decimal]]:
    return sorted((row[5], row[9]) for row in exact_rows(workspace) if row[3] != "item")


def test_restoring_an_item_undoes_it_in_every_month_and_reapplying_brings_it_back(spread):
    before = exact_rows(spread)
    assert booked(spread) == [("1", Decimal("12.5")), ("1", Decimal(25)), ("2", Decimal(25)), ("2", Decimal("37.5"))]
    (item,) = find_items(spread, allocator="fees", month=MONTH)
    assert set(item.months) == {MONTH, NEXT}
    made = list(decide(spread, "restore", [item], reason="billed to the wrong team", actor="tester"))
    assert {
        (m.table, m.month, m.outcome) for m in made if isinstance(m, Materialised) and m.table == "allocations"
    } == {
        ("allocations", MONTH, "published"),
        ("allocations", NEXT, "published"),
    }
    assert booked(spread) == []
    assert [(row[2], row[4]) for row in exact_rows(spread)] == [("unchecked_allocated", "restored")]
    assert "because billed to the wrong team" in story(spread, item.item_id)[-1]

    list(decide(spread, "reapply", [item], reason="it was right", actor="tester"))
    assert exact_rows(spread) == before


def test_a_restored_item_cannot_be_restored_twice(spread):
    items = find_items(spread, allocator="fees", month=MONTH)
    list(decide(spread, "restore", items, reason="once", actor="tester"))
    with pytest.raises(OctoError, match="restored"):
        decide(spread, "restore", items, reason="twice", actor="tester")


def test_a_decision_on_a_rule_leaves_out_what_is_decided_on_already(tmp_path):
    lines = [*USAGE_OF_10_AND_30, FEE_OF_100, line_item("8", "7", "Fee", "Purchase")]
    workspace = run(workspace_in(tmp_path, lines, [fee_allocator() | {"id": "fees"}]), [MONTH])
    rule = {"allocator": "fees", "month": MONTH}
    (one,) = find_items(workspace, **rule, account="9")
    list(decide(workspace, "restore", [one], reason="once", actor="tester"))

    rest = choose_items(workspace, "restore", **rule)
    assert ([item.item_id for item in rest.left_out], len(rest.items)) == ([one.item_id], 1)
    assert decided_costs(workspace, rest.items).rows == (("USD", 1, Decimal(7), Decimal(7)),)
    assert left_out_sentence("restore", 1) == "1 item is left out, because it is restored already."
    assert choose_items(workspace, "reapply", **rule).items == [one]
    # Who names an item is told who decided on it.
    assert choose_items(workspace, "restore", item=one.item_id).items == [one]

    list(decide(workspace, "restore", rest.items, reason="the others", actor="tester"))
    with pytest.raises(OctoError, match="All of these items are restored already"):
        decide(workspace, "restore", choose_items(workspace, "restore", **rule).items, reason="x", actor="tester")
    both = choose_items(workspace, "reapply", **rule)
    assert (len(both.items), both.left_out) == (2, [])
    list(decide(workspace, "reapply", both.items, reason="all", actor="tester"))
    assert workspace.registry.restored_items() == ()


def test_items_are_found_by_the_beginning_of_their_id_and_by_account(spread):
    (item,) = find_items(spread, allocator="fees", month=MONTH, account="9")
    assert find_items(spread, item=item.item_id[:10]) == [item]
    with pytest.raises(OctoError, match="There are no distributed items of fees in 2024-01 on 8"):
        find_items(spread, allocator="fees", month=MONTH, account="8")
    with pytest.raises(OctoError, match="No distributed item has an id that begins with zzz"):
        find_items(spread, item="zzz")


def test_the_story_of_an_item(spread):
    (item,) = find_items(spread, allocator="fees", month=MONTH)
    said = story(spread, item.item_id)
    assert said[0] == (
        f"Item {item.item_id}: a fee item of 2024-01, x, 100.0000000000 USD, on account 9 of payer 999999999999 (aws)."
    )
    assert said[1].startswith("The rule fees (version ")
    assert said[1].endswith("takes it: line_type is 'Fee', which fits 'Fee'.")
    assert said[2] == (
        "It is spread over 2 months from 2024-01. Each month splits its instalment by its own accounts and usage."
    )
    assert "In 2024-01, instalment 1 of 2 is due: 50.0000000000 USD." in said
    assert (
        "  2 (by name, entry 2): usage 30.00 USD is a share of 0.750000; cost*usage gives 37.5000000000 USD, "
        "including rounding."
    ) in said
    assert "In 2024-02, instalment 2 of 2 is due: 50.0000000000 USD." in said


def test_the_story_of_an_item_on_cost_groups_its_owner_and_without_usage(tmp_path):
    entries = [
        {"type": "group", "value": "teams/", "formula": "cost*0.5"},
        {"type": "owner", "formula": "cost*0.2"},
    ]
    workspace = workspace_in(
        tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [fee_allocator(allocator=entries, defaultGroup="teams/x")]
    )
    family = {"by": {"tag": "team"}, "combinations": {"awsOptions": {}}}
    (workspace.settings.config / "cost_groups" / "teams.json").write_text(json.dumps(family))
    workspace = run(workspace, [MONTH])
    item_id = next(row[0] for row in exact_rows(workspace) if row[3] == "item")
    assert story(workspace, item_id)[2:6] == [
        "In 2024-01, instalment 1 of 1 is due: 100.0000000000 USD.",
        "  9 (the item's own account, entry 2): cost*0.2 gives 20.0000000000 USD, including rounding.",
        "  cost group teams/ (group teams/, entry 1): cost*0.5 gives 50.0000000000 USD, including rounding.",
        "  cost group teams/x: remainder 30.0000000000 USD, what the splits left over.",
    ]
    assert run_check("values_resolve", workspace, MONTH).passed
