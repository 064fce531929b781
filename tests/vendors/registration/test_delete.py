"""Removing an account: its deliveries, line items and restores go, other accounts' stay, history is never shortened."""

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Account, Decision, NewAccount
from octo_pipeline.services.accounts import delete, listed
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.graph import stale
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.aws import cur as aws_cur
from octo_pipeline.vendors.aws.sample import write_cur
from octo_pipeline.vendors.landing import deliveries
from octo_pipeline.workspace import Workspace

PAYER, LINKED, MONTHS = "999988887777", "111122223333", ["2024-01", "2024-02"]
ALLOCATOR = """{"startMonth": "2024-01", "criteria": [{"and": {"productCode": "AWSSupportEnterprise"}}],
"allocator": [{"type": "payer", "value": "999988887777", "formula": "cost*usage"}]}"""


@pytest.fixture
def payer(workspace: Workspace, tmp_path: Path) -> Account:
    """A registered payer with two months of costs, and one restored item in each."""
    (workspace.settings.config / "allocators" / "support.json").write_text(ALLOCATOR)
    workspace.registry.accounts.add([NewAccount("aws", PAYER, "Main", "payer", None, "an-external-id")], "ana")
    write_cur(tmp_path / "exports", months=MONTHS, accounts=4, lines=200)
    for month in MONTHS:
        path = tmp_path / "exports" / "aws"
        aws_cur.land_cur(workspace.lake.root, path, month=month, fetched_at=datetime(2024, 3, 1, tzinfo=UTC))
        for table in (CostLineItems(), MatchedItems()):
            materialise(workspace, table, month)
    workspace.registry.record_decisions(
        [
            Decision("restore", item, month, "fee", "finance", "billed twice", datetime(2024, 3, 2, tzinfo=UTC))
            for month in MONTHS
            for item in items(workspace, month)[:1]
        ]
        + [Decision("restore", "f" * 32, "2024-01", "fee", "finance", "of another payer", datetime.now(UTC))]
    )
    return workspace.registry.accounts.find(PAYER)


def items(workspace: Workspace, month: str) -> list[str]:
    with duckdb.connect() as connection:
        found = connection.execute(
            f"SELECT item_id FROM '{workspace.lake.path('matched_items', month)}' "
            "WHERE allocator_id IS NOT NULL ORDER BY item_id"
        ).fetchall()
    return [row[0] for row in found]


def rows(workspace: Workspace) -> list[int]:
    return [workspace.lake.rows("cost_line_items", month) for month in MONTHS]


def test_a_payer_goes_with_all_its_data(workspace: Workspace, payer: Account) -> None:
    assert listed(workspace)[0].last_delivery == datetime(2024, 3, 1, tzinfo=UTC)
    assert min(rows(workspace)) > 30

    *_, removed = delete(workspace, "ana", payer, keeps_data=False)

    assert (removed.deliveries, removed.months, removed.reapplied) == (2, tuple(MONTHS), 2)
    assert workspace.registry.accounts.all() == []
    assert deliveries(workspace.lake.root) == []
    assert rows(workspace) == [0, 0]
    # The restore of another payer's item stays, and so does every decision that was ever made.
    assert [one.item_id for one in workspace.registry.restored_items()] == ["f" * 32]
    assert [one.action for one in workspace.registry.decisions()] == ["restore"] * 3 + ["reapply"] * 2
    assert {one.reason for one in workspace.registry.decisions()[3:]} == {"the account was removed"}
    assert {(one.table, one.month) for one in stale(workspace, [MatchedItems()])} == {
        ("matched_items", month) for month in MONTHS
    }
    assert [event.action for event in workspace.registry.audit(3)] == ["remove_account", "reapply", "begin_removal"]


def test_data_is_kept_if_wanted(workspace: Workspace, payer: Account) -> None:
    before = rows(workspace)
    *_, removed = delete(workspace, "ana", payer, keeps_data=True)
    assert (removed.deliveries, removed.months, removed.reapplied) == (0, (), 0)
    assert workspace.registry.accounts.all() == []
    assert len(deliveries(workspace.lake.root)) == 2
    assert rows(workspace) == before
    assert len(workspace.registry.restored_items()) == 3
    assert workspace.registry.audit(1)[0].details["keeps_data"] is True


def test_a_removal_that_fails_can_be_repeated(
    workspace: Workspace, payer: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OctoError("the disk is full", code="lake-not-writable")

    with monkeypatch.context() as patched:
        patched.setattr("octo_pipeline.services.months.materialise", fail)
        with pytest.raises(OctoError, match="the disk is full"):
            list(delete(workspace, "ana", payer, keeps_data=False))
    (account,) = workspace.registry.accounts.all()
    assert not account.is_completed
    assert "is being removed" in str(account.problem)

    *_, removed = delete(workspace, "ana", account, keeps_data=False)
    assert (removed.deliveries, removed.months, removed.reapplied) == (0, tuple(MONTHS), 2)
    assert rows(workspace) == [0, 0]


def test_a_linked_accounts_costs_stay_in_its_payers_bill_and_its_restores_go(
    workspace: Workspace, payer: Account
) -> None:
    # The restored items are on the payer's own account; here another payer is registered for it.
    list(delete(workspace, "ana", payer, keeps_data=True))
    workspace.registry.accounts.add([NewAccount("aws", PAYER, None, "linked", LINKED)], "ana")
    before = rows(workspace)
    *_, removed = delete(workspace, "ana", workspace.registry.accounts.find(PAYER), keeps_data=False)
    assert removed.reapplied == 2
    assert [one.item_id for one in workspace.registry.restored_items()] == ["f" * 32]
    assert workspace.registry.accounts.all() == []
    assert (removed.deliveries, removed.months, rows(workspace)) == (0, (), before)
