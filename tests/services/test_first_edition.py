"""A lake whose months were made by the first edition, which knew one measure: it is read until it is made again."""

import json
from decimal import Decimal

import duckdb
import pytest

from octo_pipeline.allocation.splits import BOOKED_COLUMNS
from octo_pipeline.lake.lake import copy_options
from octo_pipeline.services.allocations import Filters, fetched, listed_allocations
from octo_pipeline.services.checks import CHECKS
from octo_pipeline.services.costs import account_costs
from octo_pipeline.services.questions import asking
from octo_pipeline.services.report import report_of
from octo_pipeline.services.report_page import write_report
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.resolved_accounts import ResolvedAccounts
from octo_pipeline.tables.usage_shares import UsageShares
from octo_pipeline.workspace import Workspace
from tests.support.case import make, run
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.workspaces import workspace_in

NEXT = "2024-02"
# What the second edition added, and the name that the owner had.
_BEFORE = {
    MatchedItems.name: "* exclude (effective_cost, moving_item_ids)",
    Allocations.name: f"* exclude (effective_cost, {', '.join(Allocations.columns.keys() - BOOKED_COLUMNS.keys())})",
    AccountCosts.name: "owner_id as account, * exclude (owner_type, owner_id, effective_out, effective_in, "
    "step_out, step_in, step_effective_out, step_effective_in, columns('base_.*'))",
    CostGroupCosts.name: "* exclude (effective_cost, base_currency, base_cost, base_effective_cost)",
    ResolvedAccounts.name: "* exclude (own_account_id, own_group_id)",
    UsageShares.name: "* exclude (own_account_id, own_group_id)",
}


def make_old(workspace: Workspace, month: str) -> None:
    """Rewrite the month's partitions as the first edition would have written them."""
    for table, columns in _BEFORE.items():
        path = workspace.lake.path(table, month)
        metadata = workspace.lake.metadata(table, month)
        with duckdb.connect() as connection:
            if "columns(" in columns:
                names = [n for n in connection.sql(f"from '{path}'").columns if n.startswith("base_")]
                columns = columns.replace("columns('base_.*')", ", ".join(names))
            connection.execute(f"create table rows as select {columns} from '{path}'")
            connection.execute(f"copy rows to '{path}' ({copy_options(metadata.to_json())})")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    """A fee over two months; the first month was made by the first edition, the second by this one."""
    spread = fee_allocator() | {"allocator": [{"type": "account", "value": "1", "formula": "cost", "months": 2}]}
    lines = [*USAGE_OF_10_AND_30, FEE_OF_100, line_item("1", "4", billing_month=NEXT)]
    workspace = workspace_in(tmp_path_factory.mktemp("lake"), lines, [spread])
    group = {"id": "all", "combinations": {"awsOptions": {"filters": [{"andFilters": {"account": "re:."}}]}}}
    (workspace.settings.config / "cost_groups" / "all.json").write_text(json.dumps(group))
    for month in (MONTH, NEXT):
        made = make(make(run(workspace, [month]), AccountCosts(), [month]), CostGroupCosts(), [month])
        if month == MONTH:
            make_old(made, MONTH)
    return Workspace(workspace.settings)


def test_a_lake_of_the_first_edition_is_read(workspace, tmp_path):
    listed = fetched(workspace, listed_allocations(workspace, MONTH, Filters(category="fee")))
    assert listed.select("kind", "cost", "effective_cost") == [("item", 100, 100), ("split", 50, 50)]
    # The later month books what is due of the old item, in both measures.
    booked = fetched(workspace, listed_allocations(workspace, NEXT))
    assert booked.select("kind", "cost", "effective_cost") == [("split", 50, 50)]
    assert account_costs(workspace, MONTH).select("owner_type", "owner_id", "final_cost", "effective_in") == [
        ("account", "1", 60, None),
        ("account", "2", 30, None),
        ("account", "9", 0, None),
    ]
    changes = {row[0]: row[-1] for row in report_of(workspace, NEXT).accounts}
    assert changes == {"1": Decimal(54 - 60)}, "compared with what the account paid before, under its former column"
    assert report_of(workspace, MONTH).bills[0].final == 90
    assert write_report(report_of(workspace, MONTH), tmp_path / "report.html").exists()
    assert [c.name for m in (MONTH, NEXT) for c in CHECKS if not c.run(workspace, m).passed] == []


def test_questions_in_sql_see_both_editions(workspace):
    with asking(workspace) as connection:
        query = "select month, owner_type, owner_id, billed, effective_out from account_costs order by all"
        assert connection.execute(query).fetchall() == [
            (MONTH, "account", "1", 10, None),
            (MONTH, "account", "2", 30, None),
            (MONTH, "account", "9", 100, None),
            (NEXT, "account", "1", 4, 0),
        ]
        query = "select booking_month, sum(cost), sum(effective_cost) from allocations where kind = 'split' group by 1"
        assert sorted(connection.execute(query).fetchall()) == [(MONTH, 50, 50), (NEXT, 50, 50)]
