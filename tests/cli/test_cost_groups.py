"""`octo cost-groups`: what a group costs, by section and by a column; preview, add and remove."""

import json
import os
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from octo_pipeline.cli.main import app
from octo_pipeline.settings import Settings
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.workspace import Workspace
from tests.support.case import make, run
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.workspaces import administered, workspace_in


@pytest.fixture
def octo(tmp_path, monkeypatch):
    lines = [*USAGE_OF_10_AND_30, FEE_OF_100, line_item("2", "5", service_code="AmazonS3")]
    lines.append(replace(line_item("3", "7", service_code="VM", vendor="azure"), effective_cost=Decimal(0)))
    settings = workspace_in(tmp_path, lines, [fee_allocator("cost*0.4")]).settings
    group = {"combinations": {"awsOptions": {"filters": [{"andFilters": {"account": "re:^[12]$"}}]}}}
    (settings.config / "cost_groups" / "shop.json").write_text(json.dumps(group))
    paid_before = {"combinations": {"azureOptions": {"filters": [{"andFilters": {"account": "3"}}]}}}
    (settings.config / "cost_groups" / "paid-before.json").write_text(json.dumps(paid_before))
    family = {"by": {"account": True}, "combinations": {"awsOptions": {}}}
    (settings.config / "cost_groups" / "each.json").write_text(json.dumps(family))
    workspace = run(Workspace(settings), [MONTH])
    make(make(workspace, AccountCosts(), [MONTH]), CostGroupCosts(), [MONTH])
    monkeypatch.setenv("OCTO_LAKE", str(settings.lake))
    monkeypatch.setenv("OCTO_CONFIG", str(settings.config))

    def call(*arguments: str, group: str = "shop") -> str:
        result = CliRunner().invoke(app, ["cost-groups", "show", group, "--month", MONTH, *arguments])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    return call


def test_sections_have_subtotals_that_machines_do_not_get(octo):
    lines = [" ".join(line.split()) for line in octo().splitlines()]
    assert "2024-01 direct subtotal USD 45.00" in lines
    assert "2024-01 fee subtotal USD 80.00" in lines
    assert "Cost 125.00 USD (direct, account and fee); savings, not included: 0.00 USD." in lines
    assert "subtotal" not in octo("-o", "json") + octo("-o", "csv")
    paid_before = [" ".join(line.split()) for line in octo(group="paid-before").splitlines()]
    assert "2024-01 direct subtotal USD 7.00 0.00" in paid_before  # an amount, even if it is nothing


def test_costs_are_summed_up_by_a_column(octo):
    by_account = json.loads(octo("--by", "account", "-o", "json"))
    assert [(row["account"], row["direct"], row["fee"], row["cost"]) for row in by_account] == [
        ("2", "35.0000000000", "40.0000000000", "75.0000000000"),
        ("1", "10.0000000000", "40.0000000000", "50.0000000000"),
    ]
    by_service = json.loads(octo("--by", "service", "-o", "json"))
    assert {row["service_code"]: row["cost"] for row in by_service} == {
        "AmazonEC2": "120.0000000000",
        "AmazonS3": "5.0000000000",
    }
    assert [row["month"] for row in json.loads(octo("--by", "month", "-o", "json"))] == [MONTH]
    table = [" ".join(line.split()) for line in octo("--by", "vendor").splitlines()]
    assert "vendor direct usage fee cost savings" in table
    assert "aws 45.00 0.00 80.00 125.00 0.00 USD" in table
    assert "Cost 125.00 USD (direct, account and fee); savings, not included: 0.00 USD." in table


def test_a_family_is_shown_group_by_group(octo):
    """Regression: the table of a family was empty, since its rows have the ids of its groups."""
    lines = [" ".join(line.split()) for line in octo(group="each").splitlines()]
    assert "Family each, 2024-01" in lines
    by_group = json.loads(octo("-o", "json", group="each"))
    assert {row["cost_group_id"]: row["cost"] for row in by_group} == {
        "each/1": "50.0000000000",
        "each/2": "75.0000000000",
        "each/9": "20.0000000000",
    }
    assert "The groups of a family share nothing, so they add up." in lines
    assert {row["cost_group_id"] for row in json.loads(octo("--by", "group", "-o", "json"))} == {"shop"}


def test_a_group_without_costs_is_a_sentence(octo, tmp_path):
    path = tmp_path / "config" / "cost_groups" / "later.json"
    path.write_text(json.dumps({"combinations": {"awsOptions": {"filters": [{"andFilters": {"account": "7"}}]}}}))
    assert octo(group="later") == (
        f"later has no costs in {MONTH}. If it is new or was changed, run the month again; `octo stale` lists what is out of "
        "date.\n"
    )


def test_a_family_names_the_vendors_that_it_matches_whole(octo):
    result = CliRunner().invoke(app, ["cost-groups", "list", "-o", "json"])
    assert {group["id"]: group["vendors"] for group in json.loads(result.output)} == {
        "each": "aws",
        "paid-before": "azure",
        "shop": "aws",
    }


@pytest.fixture
def invoke(octo, monkeypatch):
    administered(Workspace(Settings(lake=os.environ["OCTO_LAKE"], config=os.environ["OCTO_CONFIG"])))

    def call(*arguments: str, code: int = 0, **more) -> str:
        result = CliRunner().invoke(app, ["cost-groups", *arguments], **more)
        assert result.exit_code == code, (result.output, result.exception)
        return " ".join(result.output.split()) if code == 0 else str(result.exception)

    return call


def test_a_group_is_previewed_added_replaced_and_removed(invoke, tmp_path):
    file = tmp_path / "new.json"
    both = {"combinations": {"azureOptions": {"filters": [{"andFilters": {"account": "3"}}]}}}
    file.write_text(json.dumps(both))
    sentence = "Cost group new in 2024-01: matches 1 account with 1 line item of 7.00 USD (amortised 0.00 USD)."
    assert sentence in invoke("preview", str(file))
    preview = json.loads(invoke("preview", "-", "--month", MONTH, "-o", "json", input=file.read_text()))
    assert (preview["id"], [row["account"] for row in preview["accounts"]]) == ("stdin", ["3"])
    target = Path(os.environ["OCTO_CONFIG"]) / "cost_groups" / "new.json"
    invoke("add", str(file), input="n\n", code=1)
    assert not target.exists()
    added = invoke("add", str(file), input="y\n")
    assert sentence in added
    assert json.loads(target.read_text()) == {"id": "new"} | both
    assert "already has the cost group 'new'" in invoke("add", str(file), "--yes", code=1)
    file.write_text(json.dumps(both | {"name": "New"}))
    invoke("add", str(file), "--replace", "--yes")
    assert json.loads(target.read_text())["name"] == "New"
    allocator = fee_allocator(allocator=[{"type": "group", "value": "new"}])
    rule = Path(os.environ["OCTO_CONFIG"]) / "allocators" / "to-new.json"
    rule.write_text(json.dumps(allocator))
    assert "is named by to-new (allocator[0].value)" in invoke("remove", "new", "--yes", code=1)
    rule.write_text(json.dumps(allocator | {"allocator": [{"type": "group", "value": "re:^n"}]}))
    assert "to-new matches it: allocator[0].value is re:^n." in invoke("remove", "new", "--yes")
    assert not target.exists()
    assert "There is no cost group new." in invoke("remove", "new", "--yes", code=1)
