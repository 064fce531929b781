"""Regression: decisions that were recorded before items were told apart by their seller lost their items."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from octo_pipeline.cli.main import app
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Account, Decision, NewAccount
from octo_pipeline.rules.allocator import parse_allocator
from octo_pipeline.services.accounts import delete
from octo_pipeline.services.decide import decide, find_items, story
from octo_pipeline.services.simulate import simulate
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.graph import stale
from octo_pipeline.workspace import Workspace
from tests.support.case import run
from tests.support.oracle import Line
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.workspaces import administered, workspace_in, write_lines

NEXT = "2024-02"
ALLOCATORS = [
    fee_allocator(
        id="fees",
        allocator=[{"type": "account", "value": account, "formula": "cost*usage", "months": 2} for account in "12"],
    ),
    fee_allocator(id="usage", category="account", criteria=[{"and": {"account": "2"}}]),
]
USAGE_OF_NEXT = [line_item("1", "5", billing_month=NEXT), line_item("2", "5", billing_month=NEXT)]


def sold(line: Line, *sellers: str | None) -> list[Line]:
    return [replace(line, publisher_name=seller) for seller in sellers]


@pytest.fixture
def upgraded(tmp_path: Path):
    """Makes a month without sellers, restores its fee or usage of account 2, and makes it again with sellers."""

    def upgrade(allocator: str, sellers: Sequence[str | None]) -> tuple[Workspace, str]:
        workspace = workspace_in(tmp_path, [*USAGE_OF_10_AND_30, *USAGE_OF_NEXT, FEE_OF_100], ALLOCATORS)
        workspace = run(workspace, [MONTH, NEXT])
        (item,) = find_items(workspace, allocator=allocator, month=MONTH)
        list(decide(workspace, "restore", [item], reason="billed to the wrong team", actor="ana"))
        lines = [
            *sold(USAGE_OF_10_AND_30[0], *sellers),
            *sold(USAGE_OF_10_AND_30[1], *sellers),
            *sold(FEE_OF_100, *sellers),
        ]
        write_lines(workspace, tmp_path, [*lines, *USAGE_OF_NEXT])
        return run(workspace, [MONTH, NEXT]), item.item_id

    return upgrade


def statuses(workspace: Workspace, category: str) -> set[tuple[str, str | None, str | None]]:
    """Status, reason and seller of the items of a category in their month."""
    with workspace.lake.connect() as connection:
        rows = connection.execute(
            "SELECT status, reason, publisher_name "
            f"FROM '{workspace.lake.path('allocations', MONTH)}' JOIN '{workspace.lake.path('matched_items', MONTH)}' "
            f"USING (item_id) WHERE kind = 'item' AND category = '{category}'"
        ).fetchall()
    return set(rows)


def booked(workspace: Workspace, category: str) -> int:
    """The number of splits and remainders of a category in both months."""
    with workspace.lake.connect() as connection:
        rows = connection.execute(
            f"SELECT count(*) FROM read_parquet('{workspace.lake.root}/allocations/*/*.parquet') "
            f"JOIN '{workspace.lake.path('matched_items', MONTH)}' USING (item_id) "
            f"WHERE kind <> 'item' AND category = '{category}'"
        ).fetchall()
    return int(rows[0][0])


@pytest.mark.parametrize(("allocator", "category"), [("fees", "fee"), ("usage", "account")])
@pytest.mark.parametrize("sellers", [("AWS",), ("AWS", "Acme"), (None, "Acme")])
def test_a_restored_item_stays_restored_in_all_that_it_became(upgraded, allocator, category, sellers):
    workspace, _ = upgraded(allocator, sellers)

    assert statuses(workspace, category) == {("unchecked_allocated", "restored", seller) for seller in sellers}
    assert booked(workspace, category) == 0
    other = "account" if category == "fee" else "fee"
    assert statuses(workspace, other) == {("checked_allocated", None, seller) for seller in sellers}
    assert stale(workspace, [Allocations()]) == []


@pytest.mark.parametrize("sellers", [("AWS",), ("AWS", "Acme"), (None, "Acme")])
def test_a_simulation_knows_the_restored_items(upgraded, sellers):
    workspace, _ = upgraded("fees", sellers)
    candidate = parse_allocator(json.dumps(fee_allocator(id="new")), file="new.json")

    simulation = simulate(workspace, candidate, MONTH)

    assert len(simulation.bookings) == 0
    are = "is restored and stays" if len(sellers) == 1 else "are restored and stay"
    assert f"{len(sellers)} of the items it matches {are} undistributed until re-applied." in simulation.warnings
    assert statuses(run(workspace, [MONTH, NEXT]), "fee") == {
        ("unchecked_allocated", "restored", seller) for seller in sellers
    }


@pytest.mark.parametrize("sellers", [("AWS",), ("AWS", "Acme"), (None, "Acme")])
def test_the_former_id_names_all_that_the_item_became(upgraded, sellers):
    workspace, former_id = upgraded("fees", sellers)
    items = find_items(workspace, item=former_id[:12])
    assert [item.months for item in items] == [items[0].months] * len(sellers)
    with pytest.raises(OctoError, match="leave it out"):
        decide(workspace, "restore", items, reason="again", actor="ana")

    list(decide(workspace, "reapply", items, reason="it was right", actor="ana"))

    assert statuses(workspace, "fee") == {("checked_allocated", None, seller) for seller in sellers}
    assert booked(workspace, "fee") == 4 * len(sellers)
    assert workspace.registry.restored_items() == ()
    list(decide(workspace, "restore", find_items(workspace, item=former_id), reason="no", actor="ana"))
    assert statuses(workspace, "fee") == {("unchecked_allocated", "restored", seller) for seller in sellers}


def test_one_of_the_items_is_re_applied_and_the_others_stay_restored(upgraded):
    workspace, former_id = upgraded("fees", ("AWS", "Acme"))
    [item] = [
        item for item in find_items(workspace, item=former_id) if "Acme" in " ".join(facts(workspace, item.item_id))
    ]

    list(decide(workspace, "reapply", find_items(workspace, item=item.item_id), reason="Acme was right", actor="ben"))

    assert statuses(workspace, "fee") == {
        ("checked_allocated", None, "Acme"),
        ("unchecked_allocated", "restored", "AWS"),
    }
    assert [(d.action, d.item_id == former_id) for d in workspace.registry.decisions()] == [
        ("restore", True), ("reapply", True), ("restore", False),
    ]  # fmt: skip
    assert [sentence.partition(" UTC, ")[2] for sentence in story(workspace, item.item_id)[-2:]] == [
        "ana: restore, because billed to the wrong team",
        "ben: reapply, because Acme was right",
    ]


def facts(workspace: Workspace, item_id: str) -> tuple[str, ...]:
    with workspace.lake.connect() as connection:
        return connection.execute(
            f"SELECT publisher_name FROM '{workspace.lake.path('matched_items', MONTH)}' WHERE item_id = '{item_id}'"
        ).fetchall()[0]


def test_an_item_that_kept_its_id_is_re_applied_together_with_the_others(upgraded):
    workspace, former_id = upgraded("fees", (None, "Acme"))
    items = find_items(workspace, item=former_id)
    [renamed] = [item for item in items if item.item_id != former_id]

    with pytest.raises(OctoError, match=f"restored together with item {former_id}"):
        decide(workspace, "reapply", [renamed], reason="Acme was right", actor="ben")


def test_the_command_line_takes_the_former_id(upgraded, monkeypatch):
    workspace, former_id = upgraded("fees", ("AWS", "Acme"))
    administered(workspace)
    monkeypatch.setenv("OCTO_LAKE", str(workspace.settings.lake))
    monkeypatch.setenv("OCTO_CONFIG", str(workspace.settings.config))
    octo = CliRunner()

    shown = octo.invoke(app, ["allocations", "show", former_id])
    reapplied = octo.invoke(app, ["allocations", "reapply", former_id, "--reason", "it was right", "--yes"])
    listed = octo.invoke(app, ["allocations", "list", "--month", MONTH, "--category", "fee", "--output", "csv"])

    assert shown.exit_code == 1
    assert "is several items since sellers are told apart" in str(shown.exception)
    assert reapplied.stdout.splitlines()[0] == "2 items: reapply recorded."
    assert listed.stdout.count("checked_allocated") == 2


def test_removing_an_account_takes_the_decision_on_its_items_back(upgraded):
    workspace, _ = upgraded("fees", ("AWS", "Acme"))
    registry = workspace.registry
    registry.record_decisions(
        [Decision("restore", "f" * 32, MONTH, "fee", "ana", "of another payer", datetime.now(UTC))]
    )
    registry.accounts.add([NewAccount("aws", "999999999999", "Main", "payer", None, "an-external-id")], "ana")
    account: Account | None = registry.accounts.find("999999999999")
    assert account is not None

    *_, removed = delete(workspace, "ana", account, keeps_data=False)

    assert removed.reapplied == 1
    assert [item.item_id for item in registry.restored_items()] == ["f" * 32]
