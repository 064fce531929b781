"""FOCUS of small months: who gets what, what it adds up to, and that a file appears only when it is proved."""

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from octo_pipeline.allocation.proofs import ProofError
from octo_pipeline.model.errors import OctoError
from octo_pipeline.outputs.focus.columns import standard_columns, written_columns
from octo_pipeline.outputs.focus.export import export_focus
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.workspace import Workspace
from tests.support.case import make, run
from tests.support.closing import close_months
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.workspaces import workspace_in, write_lines

NEXT, THIRD = "2024-02", "2024-03"
ALLOCATED = (
    "AllocatedMethodDetails",
    "AllocatedMethodId",
    "AllocatedResourceId",
    "AllocatedResourceName",
    "AllocatedTags",
)


def made(folder: Path, lines, documents, months=(MONTH,), groups=()) -> Workspace:
    workspace = workspace_in(folder, list(lines), list(documents))
    for group in groups:
        path = workspace.settings.config / "cost_groups" / f"{group['id']}.json"
        path.write_text(json.dumps(group))
    return make(run(workspace, list(months)), AccountCosts(), list(months))


def written(workspace: Workspace, months, folder: Path, version="1.4", name="focus.parquet"):
    """The rows of an export, as dictionaries."""
    file = folder / name
    export_focus(workspace, list(months), file, version)
    reader = "read_parquet" if name.endswith("parquet") else "read_csv"
    with duckdb.connect() as connection:
        result = connection.execute(f"SELECT * FROM {reader}('{file}') ORDER BY ALL")
        names = [column[0] for column in result.description]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def ratios(row) -> list[Decimal]:
    """The ratios of a row, with all of their digits."""
    elements = json.loads(row["AllocatedMethodDetails"], parse_float=Decimal)["Elements"]
    return [element["AllocatedRatio"] for element in elements]


def test_a_distributed_charge_is_replaced_by_who_gets_it(tmp_path):
    named = replace(line_item("2", "30"), sub_account_name="Search")
    workspace = made(tmp_path, [line_item("1", "10"), named, FEE_OF_100], [fee_allocator()])

    rows = written(workspace, [MONTH], tmp_path)

    by_kind = {(row["x_Kind"], row["x_FinalSubAccountId"]): row for row in rows}
    assert {key: row["BilledCost"] for key, row in by_kind.items()} == {
        ("charge", "1"): 10,
        ("charge", "2"): 30,
        ("split", "1"): 25,
        ("split", "2"): 75,
    }
    split = by_kind["split", "2"]
    # What it is stays as it was billed; who gets it is told beside it.
    assert (split["SubAccountId"], split["ChargeCategory"], split["ServiceName"]) == ("9", "Purchase", "AmazonEC2")
    assert (split["AllocatedResourceId"], split["AllocatedResourceName"]) == ("2", "Search")
    [version] = {row["AllocatedMethodId"] for row in rows if row["x_Kind"] == "split"}
    assert version.startswith("a0@")
    assert json.loads(split["AllocatedMethodDetails"]) == {
        "Elements": [{"AllocatedRatio": 0.75, "UsageUnit": "USD", "UsageQuantity": 30.0}]
    }
    assert by_kind["charge", "1"]["AllocatedMethodId"] is None
    assert (str(split["ChargePeriodStart"]), str(split["ChargePeriodEnd"])) == (
        "2024-01-01 00:00:00",
        "2024-02-01 00:00:00",
    )


def test_ratios_add_up_to_1_over_all_instalments(tmp_path):
    thirds = fee_allocator("cost/3") | {
        "allocator": [
            {"type": "account", "value": account, "formula": "cost/3", "months": 3} for account in ("1", "2", "3")
        ]
    }
    lines = [
        line_item("1", "1"),
        replace(FEE_OF_100, billed_cost=Decimal("-100.0000000001"), effective_cost=Decimal("7.0000000001")),
        line_item("1", "1", billing_month=NEXT),
        line_item("1", "1", billing_month=THIRD),
    ]
    months = [MONTH, NEXT, THIRD]
    workspace = made(tmp_path, lines, [thirds], months)

    rows = [row for row in written(workspace, months, tmp_path) if row["x_OriginChargeId"]]

    assert len(rows) == 9
    assert sum(ratio for row in rows for ratio in ratios(row)) == 1
    assert sum(row["x_EffectiveRatio"] for row in rows) == 1
    assert sum(row["BilledCost"] for row in rows) == Decimal("-100.0000000001")
    assert {row["x_TrancheIndex"] for row in rows} == {0, 1, 2}
    # Each is booked in its month and was billed in the first.
    assert {str(row["BillingPeriodStart"])[:7] for row in rows} == set(months)
    assert {str(row["ChargePeriodStart"])[:7] for row in rows} == {MONTH}


@pytest.mark.parametrize("currency", ["JPY", "KWD"])
def test_what_can_be_added_up_adds_up_to_the_origin_charge(tmp_path, currency):
    fee = replace(FEE_OF_100, billed_cost=Decimal(-7), effective_cost=Decimal("0.0000000001"), list_cost=Decimal(13))
    lines = [replace(line, billing_currency=currency) for line in (*USAGE_OF_10_AND_30, fee)]
    workspace = made(tmp_path, lines, [fee_allocator("cost/3")])

    rows = [row for row in written(workspace, [MONTH], tmp_path) if row["x_Kind"] != "charge"]

    assert [row["x_Kind"] for row in rows].count("remainder") == 1
    sums = {
        name: sum(row[name] for row in rows) for name in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")
    }
    assert sums == {
        "BilledCost": -7,
        "EffectiveCost": Decimal("0.0000000001"),
        "ListCost": 13,
        "ContractedCost": -7,
    }


def test_two_entries_of_an_account_are_one_row(tmp_path):
    twice = fee_allocator() | {
        "allocator": [
            {"type": "account", "value": "1", "formula": "cost*0.25"},
            {"type": "account", "value": "1", "formula": "cost*0.75"},
        ]
    }
    workspace = made(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [twice])

    [row] = [row for row in written(workspace, [MONTH], tmp_path) if row["x_Kind"] == "split"]

    assert (row["BilledCost"], ratios(row)) == (100, [Decimal("0.25"), Decimal("0.75")])


def test_a_group_of_a_family_by_tag_gets_the_tag(tmp_path):
    teams = {
        "id": "teams",
        "name": "Teams",
        "by": {"tag": "team"},
        "combinations": {"awsOptions": {}},
    }
    to_groups = fee_allocator() | {"allocator": [{"type": "group", "value": "re:^teams/"}]}
    lines = [line_item("1", "10", tags={"team": "shop"}), line_item("2", "30"), FEE_OF_100]
    workspace = made(tmp_path, lines, [to_groups], groups=[teams])

    splits = [row for row in written(workspace, [MONTH], tmp_path) if row["x_Kind"] == "split"]

    assert [(row["AllocatedResourceId"], row["AllocatedTags"], row["x_TargetGroupId"]) for row in splits] == [
        ("teams/shop", '{"team":"shop"}', "teams/shop"),
        ("teams/", None, "teams/"),
    ]
    assert {row["x_FinalSubAccountId"] for row in splits} == {None}


def test_steps_add_up_to_0(tmp_path):
    step = {
        "startMonth": MONTH,
        "category": "balance",
        "criteria": [{"and": {"account": "1"}}],
        "allocator": [{"type": "account", "value": "2", "formula": "cost*0.9"}],
    }
    workspace = made(tmp_path, USAGE_OF_10_AND_30, [step])

    rows = [row for row in written(workspace, [MONTH], tmp_path) if row["x_Step"]]

    assert sorted((row["x_Kind"], row["x_FinalSubAccountId"], row["BilledCost"]) for row in rows) == [
        ("remainder", "1", 1),
        ("split", "2", 9),
        ("step_out", "1", -10),
    ]
    assert {(row["ChargeCategory"], row["SubAccountId"]) for row in rows} == {("Adjustment", "1")}


def test_a_commitment_is_bought_without_and_amortised_with_an_effective_cost(tmp_path):
    recurring = line_item(
        "9",
        "100",
        "RIFee",
        "Purchase",
        commitment_discount_type="RI",
        commitment_discount_id="r1",
        savings_kind="unused",
    )
    workspace = made(tmp_path, [*USAGE_OF_10_AND_30, replace(recurring, effective_cost=Decimal(30))], [])

    rows = [row for row in written(workspace, [MONTH], tmp_path) if row["CommitmentDiscountId"]]

    columns = ("ChargeCategory", "BilledCost", "EffectiveCost", "CommitmentDiscountStatus", "PricingCategory")
    assert sorted(tuple(row[name] for name in columns) for row in rows) == [
        ("Purchase", 100, 0, None, "Standard"),
        ("Usage", 0, 30, "Unused", "Committed"),
    ]


def test_a_closed_month_stays_and_its_corrections_are_in_the_open_one(tmp_path):
    lines = [*USAGE_OF_10_AND_30, FEE_OF_100, line_item("1", "1", billing_month=NEXT)]
    workspace = made(tmp_path, lines, [fee_allocator()], [MONTH, NEXT])
    close_months(workspace, [MONTH])
    restated = [line_item("1", "12"), line_item("2", "30"), replace(FEE_OF_100, billed_cost=Decimal(140))]
    write_lines(workspace, tmp_path, restated)
    workspace = make(run(workspace, [MONTH, NEXT]), AccountCosts(), [NEXT])

    [closed, open_month] = export_focus(workspace, [MONTH, NEXT], tmp_path / "both.parquet", "1.4")
    rows = written(workspace, [MONTH, NEXT], tmp_path)

    assert (closed.is_as_kept, open_month.is_as_kept) == (True, False)
    assert closed.totals.column("billed_cost") == [140]
    corrected = [row for row in rows if row["ChargeClass"] == "Correction"]
    # Of the closed month: 2 of usage, 40 more of the fee, shared by the same rule.
    assert sum(row["BilledCost"] for row in corrected) == 42
    assert {(str(row["BillingPeriodStart"])[:7], str(row["ChargePeriodStart"])[:7]) for row in corrected} == {
        (NEXT, MONTH)
    }
    assert {row["x_CorrectedMonth"] for row in corrected} == {MONTH}
    assert {row["ChargeCategory"] for row in corrected} == {"Usage", "Purchase"}


def test_columns_are_those_of_the_standard_and_our_own(tmp_path):
    workspace = made(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [fee_allocator()])
    columns = {version: list(written(workspace, [MONTH], tmp_path, version)[0]) for version in ("1.2", "1.4")}

    assert {version: [n for n in names if not n.startswith("x_")] for version, names in columns.items()} == {
        version: list(standard_columns(version)) for version in ("1.2", "1.4")
    }
    assert (len(standard_columns("1.2")), len(standard_columns("1.4"))) == (57, 65)
    assert set(ALLOCATED) <= set(columns["1.4"])
    assert {f"x_{name}" for name in ALLOCATED} <= set(columns["1.2"])
    # Version 1.4 no longer has who provides and who publishes.
    assert {"ProviderName", "PublisherName"} <= set(columns["1.2"])
    assert "ProviderName" not in columns["1.4"]
    assert list(written_columns("1.4")) == columns["1.4"]


def test_csv_has_dates_of_the_standard_and_the_same_amounts(tmp_path):
    workspace = made(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [fee_allocator()])
    export_focus(workspace, [MONTH], tmp_path / "focus.csv.gz", "1.2")

    with duckdb.connect() as connection:
        rows = connection.execute(
            f"SELECT BillingPeriodStart, sum(BilledCost::DECIMAL(38,10)) "
            f"FROM read_csv('{tmp_path / 'focus.csv.gz'}', all_varchar = true) GROUP BY ALL"
        ).fetchall()
    assert rows == [("2024-01-01T00:00:00Z", 140)]


def test_a_file_that_is_not_proved_does_not_appear(tmp_path):
    workspace = made(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [fee_allocator()])
    target = tmp_path / "out" / "focus.parquet"
    target.parent.mkdir()
    write_lines(workspace, tmp_path, [line_item("1", "11"), line_item("2", "30"), FEE_OF_100])

    with pytest.raises(
        ProofError, match=r"account 1: 1\.0000000000 and effective 1\.0000000000 USD too much"
    ) as raised:
        export_focus(workspace, [MONTH], target, "1.4")

    assert "run 2024-01 again" in str(raised.value)
    assert list(target.parent.iterdir()) == []


def test_a_failed_export_leaves_the_former_file(tmp_path):
    workspace = made(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [fee_allocator()])
    target = tmp_path / "focus.parquet"
    export_focus(workspace, [MONTH], target, "1.4")
    before = target.read_bytes()
    write_lines(workspace, tmp_path, [line_item("1", "11"), line_item("2", "30"), FEE_OF_100])

    with pytest.raises(ProofError):
        export_focus(workspace, [MONTH], target, "1.4")

    assert target.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "month", "code"),
    [("focus.xlsx", MONTH, "focus-ending-unknown"), ("focus.parquet", NEXT, "month-not-made")],
)
def test_what_cannot_be_exported_is_refused(tmp_path, name, month, code):
    workspace = made(tmp_path, USAGE_OF_10_AND_30, [])

    with pytest.raises(OctoError) as raised:
        export_focus(workspace, [month], tmp_path / name, "1.4")

    assert raised.value.code == code


def test_a_folder_has_the_data_sets_of_1_4(tmp_path):
    invoiced = [replace(line, vendor="aws") for line in USAGE_OF_10_AND_30]
    workspace = made(tmp_path, invoiced, [])
    close_months(workspace, [MONTH])

    export_focus(Workspace(workspace.settings), [MONTH], tmp_path / "out", "1.4")

    with duckdb.connect() as connection:
        [period] = connection.execute(
            f"SELECT BillingPeriodStatus, InvoiceIssuerName FROM '{tmp_path}/out/billing_period/*/focus.parquet'"
        ).fetchall()
    assert period == ("Closed", "AWS")
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.parquet")}
    assert files == {
        f"{name}/billing_period={MONTH}/focus.parquet"
        for name in ("cost_and_usage", "billing_period", "invoice_detail")
    }
