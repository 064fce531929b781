"""Months that close where the lake is in a bucket: nothing is renamed there, and there are no locks."""

import pytest

from octo_pipeline.registry.records import Actor
from octo_pipeline.services import periods
from octo_pipeline.services.months import Failed, make_months
from octo_pipeline.settings import Settings
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.graph import order
from octo_pipeline.workspace import Workspace
from tests.support.closing import close_months
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.workspaces import write_allocators, write_lines

pytestmark = pytest.mark.slow
NEXT = "2024-02"
FINANCE = Actor("finance")


def made(settings: Settings) -> Workspace:
    tables = [table for table in order() if table.name not in ("cost_line_items", "container_usage")]
    events = list(make_months(Workspace(settings), [MONTH, NEXT], tables))
    assert not [event.error for event in events if isinstance(event, Failed)]
    return Workspace(settings)


def final_costs(workspace: Workspace, month: str) -> dict[str, int]:
    with workspace.lake.connect() as connection:
        costs = workspace.lake.scan(AccountCosts.name, [month], AccountCosts.columns)
        rows = connection.execute(f"SELECT owner_id, final_cost FROM {costs} WHERE final_cost <> 0").fetchall()
    return {account: int(cost) for account, cost in rows}


def test_a_month_is_closed_corrected_reopened_and_made_final(s3_server, tmp_path, monkeypatch: pytest.MonkeyPatch):
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("allocators", "cost_groups"):
        (tmp_path / "config" / name).mkdir(parents=True)
    write_allocators(tmp_path / "config", [fee_allocator()])
    settings = Settings(
        lake=f"s3://{s3_server.bucket()}/lake",
        config=tmp_path / "config",
        temp=tmp_path / "temp",
        database_url=f"sqlite:///{tmp_path / 'registry.sqlite'}",
    )
    of_february = line_item("1", "5", billing_month=NEXT)
    write_lines(Workspace(settings), tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100, of_february])
    workspace = made(settings)
    close_months(workspace, [MONTH])
    closed = final_costs(workspace, MONTH)

    write_lines(Workspace(settings), tmp_path, [*USAGE_OF_10_AND_30, line_item("9", "120", "Fee", "Purchase")])
    workspace = made(settings)
    assert final_costs(workspace, MONTH) == closed == {"1": 10 + 25, "2": 30 + 75}
    assert final_costs(workspace, NEXT) == {"1": 5 + 5, "2": 15}
    cause, rows = periods.drift(workspace, MONTH)
    assert cause == "delivery"
    assert {(owner, int(change)) for owner, change in rows.select("owner", "difference")} == {
        ("1", 5),
        ("2", 15),
        # Its bill, and what is handed on of it.
        ("9", 20),
        ("9", -20),
    }

    periods.reopen(Workspace(settings), MONTH, FINANCE, reason="a test")
    workspace = made(settings)
    assert final_costs(workspace, MONTH) == {"1": 10 + 30, "2": 30 + 90}
    assert final_costs(workspace, NEXT) == {"1": 5}
    assert workspace.lake.folders("closings", f"month={MONTH}") == []

    close_months(workspace, [MONTH])
    periods.finalise(Workspace(settings), MONTH, FINANCE)
    workspace = Workspace(settings)
    assert workspace.periods[MONTH].state == "final"
    assert workspace.lake.folders("closings", f"month={MONTH}") == [workspace.periods[MONTH].closing.closing]
