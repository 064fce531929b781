"""What a cost group document matches in a month, before it is saved."""

import json
from datetime import UTC, datetime

import duckdb
import pytest

from octo_pipeline.rules.cost_group import parse_cost_group
from octo_pipeline.services.cost_groups import preview_group
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.container_usage import ContainerUsage
from octo_pipeline.workspace import Workspace
from tests.support.case import make, publish, run
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator
from tests.support.workspaces import workspace_in

NOW = datetime(2024, 3, 1, tzinfo=UTC)


def previewed(workspace: Workspace, combinations: dict, **more):
    group = parse_cost_group(json.dumps({"id": "new", "combinations": combinations} | more), file="new.json")
    return preview_group(workspace, group, None, NOW)


def of_account(account: str) -> dict:
    return {"filters": [{"andFilters": {"account": account}}]}


@pytest.fixture
def month(tmp_path) -> Workspace:
    to_77 = fee_allocator(allocator=[{"type": "account", "value": "77", "formula": "cost"}])
    workspace = run(workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [to_77]), [MONTH])
    return make(workspace, AccountCosts(), [MONTH])


def test_an_account_that_a_filter_names_alone_belongs_to_it_if_something_is_booked_on_it(month):
    # Which vendor it is of is not known, since it has no line item.
    accounts = previewed(month, {"gcpOptions": of_account("77")}).accounts
    assert [(row["account"], row["vendor"], row["cost"]) for row in accounts.records()] == [
        ("77", None, "0.0000000000")
    ]
    # Account 1 is of another vendor, and nothing is booked on account 78.
    for account in ("1", "78"):
        assert not previewed(month, {"gcpOptions": of_account(account)}).accounts
    tagged = of_account("77") | {"tagFilters": [{"andFilters": {"team": "a"}}]}
    assert not previewed(month, {"gcpOptions": tagged}).accounts


def test_the_month_is_the_latest_if_the_lake_lacks_the_current_one(month):
    preview = previewed(month, {"awsOptions": of_account("1")})
    assert (preview.month, preview.totals.select("accounts", "cost_groups")) == (MONTH, [(1, 1)])


def test_a_family_of_containers_is_previewed_by_their_usage(month):
    usage = {
        "billing_month": f"'{MONTH}'",
        "vendor": "'aws'",
        "sub_account_id": "'1'",
        "billing_currency": "'USD'",
        "tags": "map {'aws:eks:namespace': 'shop'}",
        "split_cost": "2.5",
        "unused_cost": "0.5",
    }
    columns = ContainerUsage.columns.items()
    row = ", ".join(f"{usage.get(name, 'NULL')}::{kind} AS {name}" for name, kind in columns)
    with duckdb.connect() as connection:
        publish(month.lake, connection, ContainerUsage.name, MONTH, f"SELECT {row}")
    preview = previewed(Workspace(month.settings), {"awsOptions": {}}, by={"tag": "aws:eks:namespace"}, of="containers")
    assert preview.groups.select("cost_group_id", "accounts", "line_items", "cost") == [("new/shop", 1, 1, 3)]
