"""What AWS's exports look like once people and tools have had them in hand: the right bill, or one sentence."""

import gzip
import json
import shutil
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.months import Failed, Landed, Landing, all_steps, make_months
from octo_pipeline.services.sources import sources
from octo_pipeline.settings import Settings
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.workspace import Workspace
from tests.support.reports import csv_text, legacy_manifest, write_csv, write_json, write_parquet

MONTH = "2024-03"
PAYER = "111122223333"

LINE = {
    "identity/LineItemId": "1",
    "identity/TimeInterval": "2024-03-03T00:00:00Z/2024-03-04T00:00:00Z",
    "bill/PayerAccountId": PAYER,
    "bill/BillingPeriodStartDate": "2024-03-01T00:00:00Z",
    "lineItem/UsageAccountId": "222233334444",
    "lineItem/LineItemType": "Usage",
    "lineItem/UsageStartDate": "2024-03-03T00:00:00Z",
    "lineItem/ProductCode": "AmazonEC2",
    "lineItem/CurrencyCode": "USD",
    "lineItem/UnblendedCost": "10.5",
}
COLUMNS = {
    "identity/LineItemId": "identity_line_item_id",
    "identity/TimeInterval": "identity_time_interval",
    "bill/PayerAccountId": "bill_payer_account_id",
    "bill/BillingPeriodStartDate": "bill_billing_period_start_date",
    "lineItem/UsageAccountId": "line_item_usage_account_id",
    "lineItem/LineItemType": "line_item_line_item_type",
    "lineItem/UsageStartDate": "line_item_usage_start_date",
    "lineItem/ProductCode": "line_item_product_code",
    "lineItem/CurrencyCode": "line_item_currency_code",
    "lineItem/UnblendedCost": "line_item_unblended_cost",
}


def line(number: int, cost: str, day: int = 3, **changes: str) -> dict[str, str]:
    start = f"2024-03-{day:02d}T00:00:00Z"
    interval = f"{start}/2024-03-{day + 1:02d}T00:00:00Z"
    return LINE | {
        "identity/LineItemId": f"li{number}",
        "identity/TimeInterval": interval,
        "lineItem/UsageStartDate": start,
        "lineItem/UnblendedCost": cost,
        **changes,
    }


FOUR = [line(0, "10.5", 3), line(1, "4.25", 4), line(2, "7.125", 5), line(3, "1.125", 6)]


def parquet_line(row: Mapping[str, str]) -> dict[str, str]:
    """The row in the names and types of CUR 2.0; values are SQL."""
    casts = {
        "bill/BillingPeriodStartDate": "TIMESTAMP",
        "lineItem/UsageStartDate": "TIMESTAMP",
        "lineItem/UnblendedCost": "DOUBLE",
    }
    return {
        COLUMNS[name]: f"'{value.removesuffix('Z')}'::{casts[name]}" if name in casts else f"'{value}'"
        for name, value in row.items()
    }


def write(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    if path.name.endswith(".parquet"):
        return write_parquet(path, [parquet_line(row) for row in rows])
    return write_csv(path, csv_text(rows))


def export(root: Path, name: str, rows: Sequence[Mapping[str, str]], **manifest: object) -> Path:
    """A Data Export of CUR 2.0 with its manifest."""
    key = f"{name}/data/BILLING_PERIOD={MONTH}/{name}-00001.snappy.parquet"
    write_parquet(root / key, rows)
    arn = f"arn:aws:bcm-data-exports:us-east-1:{PAYER}:export/{name}-1"
    document = {
        "exportArn": arn,
        "executionId": "e1",
        "exportName": name,
        "dataFiles": [f"s3://bucket/{key}"],
    } | manifest
    return write_json(root / f"{name}/metadata/BILLING_PERIOD={MONTH}/{name}-Manifest.json", document)


def bill(workspace: Workspace, path: Path | None, month: str = MONTH) -> list[dict]:
    """The line items that a run makes of a folder, or of the configured sources; a failure is raised."""
    for event in make_months(workspace, [month], (Landing("aws", path), CostLineItems())):
        if isinstance(event, Failed):
            raise event.error
    with workspace.lake.connect() as con:
        items = con.execute(
            f"FROM {workspace.lake.scan('cost_line_items', [month], CostLineItems.columns)} ORDER BY ALL"
        )
        names = [column[0] for column in items.description]
        return [dict(zip(names, values, strict=True)) for values in items.fetchall()]


def total(items: Sequence[Mapping]) -> tuple[Decimal, int]:
    return sum((item["billed_cost"] for item in items), Decimal(0)), sum(item["line_count"] for item in items)


def refusal(workspace: Workspace, path: Path | None, month: str = MONTH) -> str:
    with pytest.raises(OctoError) as caught:
        bill(workspace, path, month)
    assert not (workspace.lake.root / "landing").exists() or not list(
        (workspace.lake.root / "landing").rglob("_delivery.json")
    )
    return str(caught.value)


def configure(workspace: Workspace, **documents: dict) -> None:
    for name, document in documents.items():
        write_json(
            workspace.settings.config / "sources" / f"{name}.json", {"vendor": "aws", "account": PAYER} | document
        )


# Copies and refreshes


@pytest.mark.parametrize(
    "files",
    [
        {"cur-2024-03-05.csv.gz": FOUR[:2], "cur-2024-03-07.csv.gz": FOUR},
        {"report-00001 (1).csv.gz": FOUR, "report-00001.csv.gz": FOUR[:3]},
        {"dump-0305.snappy.parquet": FOUR[:2], "dump-0307.snappy.parquet": FOUR},
        {"part.csv": FOUR, "copy.csv.gz": FOUR},
        {"a.csv": FOUR, "a.csv.gz": FOUR, "a.csv.zip": FOUR, "b.csv": FOUR[:1]},
        # Three dumps that grow, one beside a part that shares nothing.
        {"1.csv": FOUR[:1], "2.csv": FOUR[:2], "3.csv": FOUR[:3], "rest.csv": FOUR[3:]},
        # A refresh restated the cost of a line, and goes on.
        {"early.csv": [line(0, "9"), FOUR[1]], "late.csv": FOUR},
        # Exports without ids.
        {
            "early.csv": [{n: v for n, v in row.items() if "identity" not in n} for row in FOUR[:2]],
            "late.csv": [{n: v for n, v in row.items() if "identity" not in n} for row in FOUR],
        },
    ],
    ids=["dumps", "browser", "parquet", "packing", "four copies", "growing and a part", "restated", "without ids"],
)
def test_copies_and_refreshes_of_a_report_count_once(workspace, tmp_path, files):
    for name, rows in files.items():
        write(tmp_path / "in" / name, rows)
    assert total(bill(workspace, tmp_path / "in")) == (Decimal(23), 4)


def test_parts_of_a_report_are_added_up(workspace, tmp_path):
    for number, row in enumerate([*FOUR, line(9, "10.5", 3)]):
        write(tmp_path / "in" / f"{number}.csv", [row])
    assert total(bill(workspace, tmp_path / "in")) == (Decimal("33.5"), 5)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (FOUR, [line(0, "11"), *FOUR[1:]]),
        (FOUR[:3], FOUR[2:]),
        (FOUR, [row | {"identity/LineItemId": f"new{at}"} for at, row in enumerate(FOUR)]),
    ],
    ids=["restated to the same day", "windows that overlap", "ids made anew"],
)
def test_files_that_repeat_each_other_and_differ_are_refused_by_name(workspace, tmp_path, first, second):
    write(tmp_path / "in" / "one.csv", first)
    write(tmp_path / "in" / "two.csv", second)
    sentence = refusal(workspace, tmp_path / "in")
    assert "one.csv" in sentence
    assert "two.csv" in sentence


# Two reports of one payer


def legacy(root: Path, rows: Sequence[Mapping[str, str]]) -> None:
    key = "cur/legacy/20240301-20240401/legacy-1.csv.gz"
    write(root / key, rows)
    manifest = legacy_manifest([key], MONTH, reportName="legacy", account=PAYER)
    write_json(root / "cur/legacy/20240301-20240401/legacy-Manifest.json", manifest)


def test_a_legacy_report_beside_a_data_export_counts_once(workspace, tmp_path):
    legacy(tmp_path / "in", FOUR)
    export(tmp_path / "in", "cur2", [parquet_line(row) for row in FOUR])
    assert total(bill(workspace, tmp_path / "in")) == (Decimal(23), 4)


def test_two_exports_of_a_payer_that_differ_are_refused_by_both_names(workspace, tmp_path):
    export(tmp_path / "in/a", "full", [parquet_line(row) for row in FOUR])
    export(tmp_path / "in/b", "teama", [parquet_line(row) for row in FOUR[:1]])
    sentence = refusal(workspace, tmp_path / "in")
    assert "full (" in sentence
    assert "teama (" in sentence
    assert "23.00 USD on 1 account and 10.50 USD on 1 account" in sentence


def test_the_report_that_a_document_names_counts(workspace, tmp_path):
    export(tmp_path / "in/a", "full", [parquet_line(row) for row in FOUR])
    export(tmp_path / "in/b", "teama", [parquet_line(row) for row in FOUR[:1]])
    configure(workspace, payer={"folder": str(tmp_path / "in"), "report": "full"})
    assert total(bill(workspace, None)) == (Decimal(23), 4)


def test_two_sources_of_a_payer_that_differ_are_refused_and_the_last_good_delivery_stays(workspace, tmp_path):
    export(tmp_path / "a", "full", [parquet_line(row) for row in FOUR])
    configure(workspace, one={"folder": str(tmp_path / "a")})
    assert total(bill(workspace, None)) == (Decimal(23), 4)
    export(tmp_path / "b", "teama", [parquet_line(row) for row in FOUR[:1]])
    configure(workspace, two={"folder": str(tmp_path / "b")})
    (landed, *_) = [
        e for e in make_months(workspace, [MONTH], (Landing("aws"), CostLineItems())) if isinstance(e, Landed)
    ]
    assert "full (" in str(landed.unanswered[0])
    assert "teama (" in str(landed.unanswered[0])
    assert total(bill(workspace, None)) == (Decimal(23), 4)


# Tags and maps

TAGGED = {"resource_tags": "MAP {'user_team': 'a', 'aws_created_by': 'me'}"}
EXPECTED_TAGS = {"aws_created_by": "me", "team": "a"}


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("MAP {'user_team': 'a', 'aws_created_by': 'me'}", EXPECTED_TAGS),
        ("[{'key': 'user_team', 'value': 'a'}, {'key': 'aws_created_by', 'value': 'me'}]", EXPECTED_TAGS),
        ("[{'Key': 'user_team', 'Value': 'a'}, {'Key': 'aws_created_by', 'Value': 'me'}]", EXPECTED_TAGS),
        ("[{'key': 'user_team', 'value': 'b'}, {'key': 'user_team', 'value': 'a'}]", {"team": "a"}),
        ("""'{"user_team": "a", "aws_created_by": "me"}'""", EXPECTED_TAGS),
        ("""'[{"key": "user_team", "value": "a"}]'""", {"team": "a"}),
        ("{'user_team': 'a', 'aws_created_by': 'me'}", EXPECTED_TAGS),
        ("MAP {'user_size': 7}", {"size": "7"}),
        ("NULL::STRUCT(key VARCHAR, value VARCHAR)[]", {}),
        ("''", {}),
    ],
    ids=[
        "map",
        "pairs",
        "pairs in capitals",
        "pairs of one key",
        "JSON",
        "JSON pairs",
        "struct",
        "numbers",
        "null",
        "empty",
    ],
)
def test_tags_are_read_in_every_form(workspace, tmp_path, tags, expected):
    write_parquet(tmp_path / "in.parquet", [parquet_line(LINE) | {"resource_tags": tags}])
    (item,) = bill(workspace, tmp_path / "in.parquet")
    assert item["tags"] == expected


@pytest.mark.parametrize("tags", ["7", "['a', 'b']", "DATE '2024-03-01'"])
def test_tags_of_a_type_that_holds_none_are_refused_before_anything_is_landed(workspace, tmp_path, tags):
    write_parquet(tmp_path / "in.parquet", [parquet_line(LINE) | {"resource_tags": tags}])
    sentence = refusal(workspace, tmp_path / "in.parquet")
    assert "in.parquet" in sentence
    assert "resource_tags is" in sentence


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {"tags": "MAP {'resourceTags/user:team': 'a', 'accountTag/cost-center': '42'}"},
            {"accountTag/cost-center": "42", "team": "a"},
        ),
        (
            {"tags": "MAP {'iamPrincipal/team': 'x', 'userAttribute/team': 'y', 'resourceTags/user:team': 'a'}"},
            {"iamPrincipal/team": "x", "team": "a", "userAttribute/team": "y"},
        ),
        (
            TAGGED | {"tags": "MAP {'resourceTags/user:team': 'a', 'accountTag/x': 'y'}"},
            EXPECTED_TAGS | {"accountTag/x": "y"},
        ),
        ({"tags": "[{'key': 'resourceTags/aws:createdBy', 'value': 'me'}]"}, {"aws:createdBy": "me"}),
    ],
    ids=["accounts", "principals", "beside resource tags", "pairs"],
)
def test_the_column_of_all_tags_is_read(workspace, tmp_path, columns, expected):
    export(tmp_path / "in", "cur2", [parquet_line(LINE) | columns])
    (item,) = bill(workspace, tmp_path / "in")
    assert item["tags"] == expected


# Account ids


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("222233334444.0", "222233334444"),
        ("222233334444.", "222233334444"),
        ('="222233334444"', "222233334444"),
        ("'222233334444", "222233334444"),
        ("12345678901", "012345678901"),
        ("12345678901.0", "012345678901"),
        ("2222-3333-4444", "222233334444"),
        ("222,233,334,444", "222233334444"),
        ("2.22233334444E+11", "222233334444"),
        ("\u00a0222233334444\t", "222233334444"),
        ("", PAYER),
    ],
)
def test_an_account_id_that_can_be_mended_is(workspace, tmp_path, written, expected):
    write(tmp_path / "in.csv", [LINE | {"lineItem/UsageAccountId": written}])
    (item,) = bill(workspace, tmp_path / "in.csv")
    assert item["sub_account_id"] == expected


@pytest.mark.parametrize("column", ["lineItem/UsageAccountId", "bill/PayerAccountId"])
@pytest.mark.parametrize("written", ["2.22233E+11", "2,22E+11", "222233334444.5", "abc", "22223333444455", "0.0"])
def test_an_account_id_that_lost_digits_is_refused(workspace, tmp_path, column, written):
    write(tmp_path / "cur.csv", [LINE, LINE | {column: written}])
    sentence = refusal(workspace, tmp_path / "cur.csv")
    assert f"cur.csv, line 3: {column} is '{written}', which is not an account id" in sentence


def test_account_ids_that_were_stored_as_numbers(workspace, tmp_path):
    rows = [
        parquet_line(LINE)
        | {"bill_payer_account_id": "111122223333.0::DOUBLE", "line_item_usage_account_id": "12345678901::BIGINT"}
    ]
    write_parquet(tmp_path / "in.parquet", rows)
    (item,) = bill(workspace, tmp_path / "in.parquet")
    assert (item["billing_account_id"], item["sub_account_id"]) == (PAYER, "012345678901")


# Columns of commitments

COMMITMENTS = {
    "DiscountedUsage": ("reservation_reservation_a_r_n", "reservation_effective_cost"),
    "RIFee": (
        "reservation_reservation_a_r_n",
        "reservation_unused_amortized_upfront_fee_for_billing_period",
        "reservation_unused_recurring_fee",
    ),
    "SavingsPlanCoveredUsage": ("savings_plan_savings_plan_a_r_n", "savings_plan_savings_plan_effective_cost"),
    "SavingsPlanRecurringFee": (
        "savings_plan_savings_plan_a_r_n",
        "savings_plan_total_commitment_to_date",
        "savings_plan_used_commitment",
    ),
}


@pytest.mark.parametrize(("line_type", "missing"), [(t, name) for t, names in COMMITMENTS.items() for name in names])
def test_a_line_of_a_commitment_without_its_columns_is_refused(workspace, tmp_path, line_type, missing):
    values = {name: "1.0::DOUBLE" if "a_r_n" not in name else "'arn:x'" for name in COMMITMENTS[line_type]}
    row = parquet_line(LINE | {"lineItem/LineItemType": line_type}) | values
    write_parquet(tmp_path / "whole.parquet", [row])
    (item,) = bill(workspace, tmp_path / "whole.parquet")
    assert item["effective_cost"] in (1, 0, 2)
    write_parquet(tmp_path / "in/cur.parquet", [{n: v for n, v in row.items() if n != missing}])
    shutil.rmtree(workspace.lake.root / "landing")
    sentence = refusal(workspace, tmp_path / "in")
    assert f"is '{line_type}', but the file has no column" in sentence


def test_a_report_without_commitments_needs_no_columns_of_them(workspace, tmp_path):
    write(tmp_path / "in.csv", FOUR)
    assert total(bill(workspace, tmp_path / "in.csv")) == (Decimal(23), 4)


# Other exports beside the report


def focus_rows() -> list[dict[str, str]]:
    return [{"BilledCost": "1.0", "BillingAccountId": f"'{PAYER}'", "ChargePeriodStart": "TIMESTAMP '2024-03-01'"}]


@pytest.mark.parametrize("columns", [None, [{"name": "BilledCost", "type": "double"}, {"name": "BillingAccountId"}]])
def test_a_focus_export_beside_a_report_is_passed_over_with_a_line(workspace, tmp_path, columns):
    export(tmp_path / "in", "cur2", [parquet_line(row) for row in FOUR])
    export(tmp_path / "in", "cid-focus", focus_rows(), **({"columns": columns} if columns else {}))
    events = list(make_months(workspace, [MONTH], (Landing("aws", tmp_path / "in"), CostLineItems())))
    (landed,) = [event for event in events if isinstance(event, Landed)]
    assert not any(isinstance(event, Failed) for event in events)
    assert len(landed.passed_over) == 1
    assert "cid-focus-Manifest.json is a FOCUS export" in landed.passed_over[0]
    assert "of kind focus" in landed.passed_over[0]
    assert total(bill(workspace, tmp_path / "in")) == (Decimal(23), 4)


def test_a_focus_export_alone_says_how_it_is_read(workspace, tmp_path):
    export(tmp_path / "in", "cid-focus", focus_rows())
    assert "is a FOCUS export" in refusal(workspace, tmp_path / "in")


def test_recommendations_beside_a_report_are_passed_over(workspace, tmp_path):
    export(tmp_path / "in/cur2", "cur2", [parquet_line(row) for row in FOUR])
    key = "coh/data/date=2024-03-05/coh-00001.snappy.parquet"
    write_parquet(tmp_path / "in" / key, [{"recommendation_id": "'r1'", "estimated_monthly_savings": "5.0"}])
    document = {
        "exportArn": f"arn:aws:bcm-data-exports:us-east-1:{PAYER}:export/coh-1",
        "executionId": "e",
        "dataFiles": [key],
    }
    write_json(tmp_path / "in/coh/metadata/date=2024-03-05/coh-Manifest.json", document)
    write_json(tmp_path / "in/cur2/cur2-RedshiftManifest.json", {"entries": [{"url": "s3://x"}]})
    assert total(bill(workspace, tmp_path / "in")) == (Decimal(23), 4)
    # A month without a report does not fail, and is not published as one without costs.
    configure(workspace, payer={"folder": str(tmp_path / "in")})
    events = list(make_months(workspace, ["2024-02"]))
    assert not any(isinstance(event, Failed) for event in events)
    assert workspace.lake.months("cost_line_items") == [MONTH]


# Months


@pytest.mark.parametrize("kind", ["file", "folder", "without a period", "export"])
def test_exports_of_another_month_than_is_named_are_refused(workspace, tmp_path, kind):
    rows = [{name: value.replace("2024-03", "2024-02") for name, value in row.items()} for row in FOUR]
    path = tmp_path / "in"
    if kind == "without a period":
        rows = [{name: value for name, value in row.items() if "BillingPeriod" not in name} for row in rows]
    if kind == "export":
        legacy_key = "cur/x/20240201-20240301/x-1.csv.gz"
        write(path / legacy_key, rows)
        write_json(
            path / "cur/x/20240201-20240301/x-Manifest.json",
            legacy_manifest([legacy_key], "2024-02", reportName="x", account=PAYER),
        )
    else:
        write(path / "cur.csv", rows)
    named = path / "cur.csv" if kind == "file" else path
    assert f"{named} has exports of 2024-02, not of 2024-03" in refusal(workspace, named)
    assert total(bill(workspace, named, "2024-02")) == (Decimal(23), 4)


def test_a_report_without_a_billing_period_is_of_the_month_of_its_usage(workspace, tmp_path):
    write(
        tmp_path / "in.csv",
        [{name: value for name, value in row.items() if "BillingPeriod" not in name} for row in FOUR],
    )
    items = bill(workspace, tmp_path / "in.csv")
    assert {item["billing_month"] for item in items} == {MONTH}


# Names of files


@pytest.mark.parametrize(
    "name", ["CUR.CSV", "Report.CSV.GZ", "cur", "report-00001", "CUR.PARQUET", "cur.001", "REPORT.ZIP"]
)
def test_files_are_read_by_what_they_hold(workspace, tmp_path, name):
    original = {
        "Report.CSV.GZ": "x.csv.gz",
        "report-00001": "x.csv.gz",
        "CUR.PARQUET": "x.parquet",
        "cur.001": "x.parquet",
    }
    made = write(tmp_path / original.get(name, "x.csv.zip" if name.endswith("ZIP") else "x.csv"), FOUR)
    (tmp_path / "in").mkdir()
    made.rename(tmp_path / "in" / name)
    (tmp_path / "in/README").write_text("What is here, and why: two words, or three.\n")
    assert total(bill(workspace, tmp_path / "in")) == (Decimal(23), 4)
    assert total(bill(workspace, tmp_path / "in" / name)) == (Decimal(23), 4)


def test_a_packed_file_that_a_browser_unpacked_is_read(workspace, tmp_path):
    write_csv(tmp_path / "in/a.csv", csv_text(FOUR)).rename(tmp_path / "in/a.csv.gz")
    (tmp_path / "in/b.csv").write_bytes(gzip.compress(csv_text(FOUR[:2]).encode()))
    assert total(bill(workspace, tmp_path / "in")) == (Decimal(23), 4)


@pytest.mark.parametrize("name", ["cur.csv.bz2", "cur.xlsx", "cur.orc"])
def test_a_file_of_a_form_that_is_not_read_is_named(workspace, tmp_path, name):
    write(tmp_path / "in/a.csv", FOUR)
    (tmp_path / "in" / name).write_bytes(b"BZh9")
    assert f"has {name}, which is not read" in refusal(workspace, tmp_path / "in")


# Net costs, months of a source, domains


def net_rows(**columns: str) -> list[dict[str, str]]:
    usage = parquet_line(LINE) | {"line_item_net_unblended_cost": "9.45::DOUBLE"}
    discount = parquet_line(LINE | {"lineItem/LineItemType": "EdpDiscount", "lineItem/UnblendedCost": "-1.05"})
    return [usage | columns, discount | {"line_item_net_unblended_cost": "NULL::DOUBLE"} | columns]


def test_net_costs_lie_on_the_usage_that_a_discount_reduces(workspace, tmp_path):
    export(tmp_path / "in", "cur2", net_rows())
    gross = bill(workspace, tmp_path / "in")
    configure(workspace, payer={"folder": str(tmp_path / "in"), "costs": "net"})
    net = bill(workspace, None)
    by_type = [
        {item["line_type"]: (item["billed_cost"], item["effective_cost"]) for item in items} for items in (gross, net)
    ]
    usage, discount = Decimal("10.5"), Decimal("-1.05")
    assert by_type[0] == {"Usage": (usage, usage), "EdpDiscount": (discount, discount)}
    assert by_type[1] == {"Usage": (Decimal("9.45"),) * 2, "EdpDiscount": (Decimal(0),) * 2}
    assert total(gross)[0] == total(net)[0]


def test_net_costs_of_commitments_are_amortised_after_discounts(workspace, tmp_path):
    """A reservation, a tenth off: its fee of 9 is amortised to 6 of use and 3 of nothing, after discounts 5.4 and 2.7."""
    arn = "arn:aws:ec2:us-east-1:111122223333:reserved-instances/r1"
    none = dict.fromkeys(
        (
            "reservation_effective_cost",
            "reservation_net_effective_cost",
            "reservation_unused_amortized_upfront_fee_for_billing_period",
            "reservation_net_unused_amortized_upfront_fee_for_billing_period",
            "reservation_unused_recurring_fee",
            "reservation_net_unused_recurring_fee",
        ),
        "0::DOUBLE",
    ) | {"reservation_reservation_arn": f"'{arn}'"}
    use = parquet_line(LINE | {"lineItem/LineItemType": "DiscountedUsage", "lineItem/UnblendedCost": "0"}) | none
    use |= {"reservation_effective_cost": "6::DOUBLE", "reservation_net_effective_cost": "5.4::DOUBLE"}
    fee = parquet_line(LINE | {"lineItem/LineItemType": "RIFee", "lineItem/UnblendedCost": "9"}) | none
    fee |= {
        "reservation_unused_amortized_upfront_fee_for_billing_period": "1::DOUBLE",
        "reservation_net_unused_amortized_upfront_fee_for_billing_period": "0.9::DOUBLE",
        "reservation_unused_recurring_fee": "2::DOUBLE",
        "reservation_net_unused_recurring_fee": "1.8::DOUBLE",
    }
    rows = [
        use | {"line_item_net_unblended_cost": "0::DOUBLE"},
        fee | {"line_item_net_unblended_cost": "8.1::DOUBLE"},
    ]
    export(tmp_path / "in", "cur2", rows)
    configure(workspace, payer={"folder": str(tmp_path / "in"), "costs": "net"})
    costs = {item["line_type"]: (item["billed_cost"], item["effective_cost"]) for item in bill(workspace, None)}
    assert costs == {
        "DiscountedUsage": (Decimal(0), Decimal("5.4")),
        "RIFee": (Decimal("8.1"), Decimal("2.7")),
    }


def test_net_costs_of_a_report_without_them_are_refused(workspace, tmp_path):
    write(tmp_path / "in/a.csv", FOUR)
    configure(workspace, payer={"folder": str(tmp_path / "in"), "costs": "net"})
    assert "has no column line_item_net_unblended_cost" in refusal(workspace, None)


def test_a_payer_has_a_history_of_sources(workspace, tmp_path):
    earlier = [{name: value.replace("2024-03", "2024-02") for name, value in row.items()} for row in FOUR[:1]]
    write(tmp_path / "old/feb.csv", earlier)
    write(tmp_path / "old/march.csv", FOUR[:2])
    write(tmp_path / "new/march.csv", FOUR)
    configure(
        workspace,
        old={"folder": str(tmp_path / "old"), "to": "2024-02"},
        new={"folder": str(tmp_path / "new"), "from": "2024-03", "domain": "BILLABLE"},
    )
    assert total(bill(workspace, None, "2024-02")) == (Decimal("10.5"), 1)
    assert total(bill(workspace, None)) == (Decimal(23), 4)
    assert len({source.name for source in sources(workspace, "aws")}) == 2


def test_estimates_and_what_is_invoiced_are_not_mixed(workspace, tmp_path):
    arn = "arn:aws:billing::111122223333:billingview/billing-group-1"
    export(tmp_path / "a", "estimates", [parquet_line(row) for row in FOUR], billingViewArn=arn)
    export(tmp_path / "b", "invoiced", [parquet_line(row) for row in FOUR])
    configure(
        workspace,
        a={"folder": str(tmp_path / "a")},
        b={"folder": str(tmp_path / "b"), "domain": "BILLABLE"},
    )
    assert "these must not be mixed" in str(list_failures(workspace)[0])
    (workspace.settings.config / "sources/b.json").unlink()
    assert total(bill(workspace, None)) == (Decimal(23), 4)
    (details,) = [
        json.loads(path.read_text())["details"] for path in (workspace.lake.root / "landing").rglob("_delivery.json")
    ]
    assert details["domain"] == "PRO_FORMA"


def test_a_document_that_contradicts_the_export_is_refused(workspace, tmp_path):
    arn = "arn:aws:billing::111122223333:billingview/primary"
    export(tmp_path / "a", "cur2", [parquet_line(row) for row in FOUR], billingViewArn=arn)
    configure(workspace, a={"folder": str(tmp_path / "a"), "domain": "PRO_FORMA"})
    assert "of the domain BILLABLE, but its source's document says PRO_FORMA" in refusal(workspace, None)


def test_estimates_have_no_invoices(workspace, tmp_path):
    write(tmp_path / "in/a.csv", [row | {"bill/InvoiceId": "17"} for row in FOUR])
    configure(workspace, a={"folder": str(tmp_path / "in"), "domain": "PRO_FORMA"})
    assert "bill_invoice_id is '17'" in refusal(workspace, None)


def list_failures(workspace):
    events = make_months(workspace, [MONTH], (Landing("aws"), CostLineItems()))
    return [error for event in events if isinstance(event, Landed) for error in event.unanswered]


def test_a_configuration_with_sources_alone_is_one_without_rules(tmp_path):
    (tmp_path / "config/sources").mkdir(parents=True)
    workspace = Workspace(Settings(lake=tmp_path / "lake", config=tmp_path / "config"))
    path = write(tmp_path / "in.csv", FOUR)
    events = list(make_months(workspace, [MONTH], all_steps({"aws": path})))
    assert [event for event in events if isinstance(event, Failed)] == []
    with duckdb.connect() as con:
        query = f"SELECT sum(final_cost) FROM '{tmp_path}/lake/account_costs/month={MONTH}/data.parquet'"
        assert con.execute(query).fetchone() == (Decimal(23),)
