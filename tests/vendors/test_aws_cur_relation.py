"""Reading landed reports: one relation whatever the spelling, the format and the month's columns."""

import json
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.vendors.aws.cur import land_cur
from octo_pipeline.vendors.aws.cur_columns import COLUMNS
from octo_pipeline.vendors.aws.cur_relations import (
    explain_failure,
    model_relations,
    relation_sql,
    relations,
    source_costs,
)
from octo_pipeline.vendors.aws.cur_reports import find_reports
from octo_pipeline.vendors.landing import land, newest_deliveries
from tests.support.reports import (
    ACCOUNT,
    NOW,
    PARQUET_ROW,
    PAYER,
    ROW,
    cost,
    csv_text,
    legacy_manifest,
    legacy_report,
    refused,
    source_file,
    write_csv,
    write_json,
    write_parquet,
    write_rows,
)

at = datetime.fromisoformat


@pytest.fixture
def con():
    with duckdb.connect() as connection:
        yield connection


@pytest.fixture
def lake(tmp_path):
    return tmp_path / "lake"


def read(con, lake, path, columns="*"):
    """Land what is at the path and read columns of it."""
    landed = land_cur(lake, path, fetched_at=NOW)
    sql = relation_sql(con, [one.delivery for one in landed])
    return con.execute(f"SELECT {columns} FROM ({sql})").fetchall()


def read_csv(con, lake, *rows, columns="*"):
    return read(con, lake, write_csv(lake.parent / "octo.csv", csv_text(rows)), columns)


def read_parquet(con, lake, *rows, columns="*"):
    return read(con, lake, write_parquet(lake.parent / "octo.parquet", rows), columns)


def described(con, sql):
    return {name: kind for name, kind, *_ in con.execute(f"DESCRIBE {sql}").fetchall()}


def test_no_deliveries_are_no_rows_of_the_same_columns(con):
    sql = relation_sql(con, [])
    assert described(con, sql) == COLUMNS
    assert con.execute(sql).fetchall() == []


@pytest.mark.parametrize("name", ["octo.csv", "octo.csv.gz", "octo.parquet"])
def test_names_and_types_are_the_same_in_all_formats(con, lake, name):
    landed = land_cur(lake, write_rows(lake.parent / name, ["1.5"]), fetched_at=NOW)
    sql = relation_sql(con, [landed[0].delivery])
    assert described(con, sql) == COLUMNS
    (row,) = con.execute(
        "SELECT bill_payer_account_id, line_item_usage_account_id, line_item_usage_start_date, "
        f"line_item_unblended_cost, product_region, reservation_effective_cost, tags_json FROM ({sql})"
    ).fetchall()
    assert row == (PAYER, ACCOUNT, at("2024-01-15 13:00:00"), Decimal("1.5"), None, None, "{}")


SPELLINGS = {
    "legacy CSV": {
        "bill/InvoiceId": "bill_invoice_id",
        "bill/BillingEntity": "bill_billing_entity",
        "lineItem/Operation": "line_item_operation",
        "lineItem/UsageType": "line_item_usage_type",
        "product/ProductName": "product_product_name",
        "product/region": "product_region",
        "pricing/OfferingClass": "pricing_offering_class",
        "reservation/ReservationARN": "reservation_reservation_arn",
        "savingsPlan/SavingsPlanARN": "savings_plan_savings_plan_arn",
        "savingsPlan/OfferingType": "savings_plan_offering_type",
    },
    "other CSV": {
        "product/regionCode": "product_region",
        "savingsPlan/SavingsPlanArn": "savings_plan_savings_plan_arn",
        "LINEITEM/OPERATION": "line_item_operation",
        "line item/usage type": "line_item_usage_type",
    },
    "Athena": {
        "reservation_reservation_a_r_n": "reservation_reservation_arn",
        "savings_plan_savings_plan_a_r_n": "savings_plan_savings_plan_arn",
        "product_region": "product_region",
        "line_item_line_item_description": "line_item_line_item_description",
    },
    "CUR 2.0": {
        "line_item_usage_account_name": "line_item_usage_account_name",
        "product_region_code": "product_region",
        "reservation_reservation_arn": "reservation_reservation_arn",
        "savings_plan_savings_plan_arn": "savings_plan_savings_plan_arn",
    },
}


@pytest.mark.parametrize("report", SPELLINGS)
def test_spellings(con, lake, report):
    names = SPELLINGS[report]
    if "CSV" in report:
        values = {spelled: f" the {name} " for spelled, name in names.items()}
        found = read_csv(con, lake, ROW | values, columns=", ".join(names.values()))
    else:
        values = {spelled: f"' the {name} '" for spelled, name in names.items()}
        found = read_parquet(con, lake, PARQUET_ROW | values, columns=", ".join(names.values()))
    assert found == [tuple(f"the {name}" for name in names.values())]


AMOUNTS = {
    "lineItem/UsageAmount": "line_item_usage_amount",
    "pricing/publicOnDemandCost": "pricing_public_on_demand_cost",
    "reservation/EffectiveCost": "reservation_effective_cost",
    "reservation/UnusedRecurringFee": "reservation_unused_recurring_fee",
    "reservation/UnusedAmortizedUpfrontFeeForBillingPeriod": (
        "reservation_unused_amortized_upfront_fee_for_billing_period"
    ),
    "savingsPlan/SavingsPlanEffectiveCost": "savings_plan_savings_plan_effective_cost",
    "savingsPlan/TotalCommitmentToDate": "savings_plan_total_commitment_to_date",
    "savingsPlan/UsedCommitment": "savings_plan_used_commitment",
}


def test_every_amount_is_read(con, lake):
    values = {spelled: f"{number}.0000000001" for number, spelled in enumerate(AMOUNTS, 1)}
    (found,) = read_csv(con, lake, ROW | values, columns=", ".join(AMOUNTS.values()))
    assert found == tuple(Decimal(value) for value in values.values())


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0.1234567890", "0.1234567890"),
        ("0.00000000005", "0.0000000001"),
        ("0.00000000004999", "0"),
        ("1.5E-7", "0.00000015"),
        ("-3.25e+2", "-325"),
        (" 12 ", "12"),
        ("9999999999999999999999999999.9999999999", "9999999999999999999999999999.9999999999"),
        ("0.1234567890123456789012345678901234567890", "0.1234567890"),
    ],
)
def test_text_becomes_an_amount_without_a_float(con, lake, text, amount):
    found = read_csv(con, lake, cost(text), columns="line_item_unblended_cost")
    assert found == [(Decimal(amount),)]


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        ("0.1::DOUBLE", "0.1"),
        ("7::INTEGER", "7"),
        ("1.00000000015::DECIMAL(20,15)", "1.0000000002"),
        ("'2.5'", "2.5"),
        ("0.25::FLOAT", "0.25"),
    ],
)
def test_numbers_become_amounts(con, lake, value, amount):
    row = PARQUET_ROW | {"line_item_unblended_cost": value}
    assert read_parquet(con, lake, row, columns="line_item_unblended_cost") == [(Decimal(amount),)]


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2024-01-15T13:00:00Z", at("2024-01-15 13:00:00")),
        ("2024-01-15T13:00:00.500Z", at("2024-01-15 13:00:00.500000")),
        ("2024-01-15 13:00:00+00:00", at("2024-01-15 13:00:00")),
        ("2024-01-15 13:00:00", at("2024-01-15 13:00:00")),
        ("2024-01-15", at("2024-01-15 00:00:00")),
        # Regression: DuckDB's cast to TIMESTAMP drops the offset.
        ("2024-01-15T01:00:00+02:00", at("2024-01-14 23:00:00")),
        ("2024-01-15T20:00:00-0530", at("2024-01-16 01:30:00")),
    ],
)
def test_dates_are_utc_whatever_the_session_says(con, lake, text, instant):
    con.execute("SET TimeZone = 'America/New_York'")
    row = ROW | {"lineItem/UsageStartDate": text}
    assert read_csv(con, lake, row, columns="line_item_usage_start_date") == [(instant,)]


def test_parquet_dates_with_a_time_zone_are_utc(con, lake):
    con.execute("SET TimeZone = 'America/New_York'")
    row = PARQUET_ROW | {
        "line_item_usage_start_date": "TIMESTAMPTZ '2024-01-15 13:00:00+00'",
        "bill_billing_period_start_date": "DATE '2024-01-01'",
    }
    columns = "line_item_usage_start_date, bill_billing_period_start_date"
    assert read_parquet(con, lake, row, columns=columns) == [(at("2024-01-15 13:00:00"), at("2024-01-01 00:00:00"))]


def test_none_is_a_word_where_it_can_be_one(con, lake):
    texts = dict.fromkeys(["lineItem/Operation", "product/ProductName", "resourceTags/user:Team"], "None")
    not_texts = ["bill/InvoiceId", "product/region", "reservation/ReservationARN", "pricing/OfferingClass"]
    row = ROW | texts | dict.fromkeys([*AMOUNTS, *not_texts], "None")
    (found,) = read_csv(con, lake, row)
    values = dict(zip(COLUMNS, found, strict=True))
    assert (values["line_item_operation"], values["product_product_name"]) == ("None", "None")
    assert values["tags_json"] == '{"Team":"None"}'
    nulls = [*AMOUNTS.values(), "bill_invoice_id", "product_region", "reservation_reservation_arn"]
    assert [values[name] for name in [*nulls, "pricing_offering_class"]] == [None] * 12


def test_account_ids_that_were_stored_as_numbers_get_their_zeros_back(con, lake):
    row = PARQUET_ROW | {
        "bill_payer_account_id": "12345678::BIGINT",
        "line_item_usage_account_id": "99::DOUBLE",
    }
    columns = "bill_payer_account_id, line_item_usage_account_id"
    assert read_parquet(con, lake, row, columns=columns) == [("000012345678", "000000000099")]


def test_a_row_without_usage_account_is_allowed(con, lake):
    row = ROW | {"lineItem/UsageAccountId": ""}
    assert read_csv(con, lake, row, columns="line_item_usage_account_id") == [(None,)]


def test_tags_of_legacy_csv(con, lake):
    tags = {
        "resourceTags/user:b": " two ",
        "resourceTags/user:B": "capital",
        "resourceTags/user:a b": 'a "quoted" \\ value',
        "resourceTags/aws:createdBy": "Root",
        "resourceTags/user:blank": "  ",
        "resourceTags/user:empty": "",
        "resourceTags/user:été": "é\nü",
    }
    (found,) = read_csv(con, lake, ROW | tags, columns="tags_json")
    expected = {
        "B": "capital",
        "a b": 'a "quoted" \\ value',
        "aws:createdBy": "Root",
        "b": " two ",
        "blank": "  ",
        "été": "é\nü",
    }
    assert json.loads(found[0]) == expected
    assert found[0] == json.dumps(expected, ensure_ascii=False, separators=(",", ":"))


def test_tags_of_legacy_parquet(con, lake):
    tags = {
        "resource_tags_user_team": "'platform'",
        "resource_tags_aws_created_by": "'me'",
        "resource_tags_user_code": "7::INTEGER",
        "resource_tags_user_none": "NULL::VARCHAR",
        "resource_tags_user_env": "''",
    }
    found = read_parquet(con, lake, PARQUET_ROW | tags, columns="tags_json")
    assert found == [('{"aws_created_by":"me","code":"7","team":"platform"}',)]


def test_of_tag_columns_with_one_key_the_last_that_is_filled_wins(con, lake):
    tags = {
        "resourceTags/user:team": "first",
        "resourceTags/user_team": "second",
        "resource_tags_user_team": "",
    }
    assert read_csv(con, lake, ROW | tags, columns="tags_json") == [('{"team":"second"}',)]


MAPS = [
    ({"user_team": "platform", "user_env": "prod"}, '{"env":"prod","team":"platform"}'),
    ({"user_env": "prod", "user_team": "platform"}, '{"env":"prod","team":"platform"}'),
    ({"user:team": " platform ", "user_env": ""}, '{"team":" platform "}'),
    ({"aws_created_by": "me", "aws:x": "y"}, '{"aws:x":"y","aws_created_by":"me"}'),
    ({"user_team": "z first", "team": "a second", "user:team": ""}, '{"team":"a second"}'),
    ({"user_a b": "1", "user_a": "2", 'user_"q"': "\\"}, '{"\\"q\\"":"\\\\","a":"2","a b":"1"}'),
    ({}, "{}"),
]


def sql_map(tags):
    keys = ", ".join("'" + key + "'" for key in tags)
    values = ", ".join("'" + value + "'" for value in tags.values())
    return f"map([{keys}]::VARCHAR[], [{values}]::VARCHAR[])"


@pytest.mark.parametrize(("tags", "expected"), MAPS)
def test_tags_of_cur_2_are_the_same_from_map_and_json(con, lake, tags, expected):
    parquet = read_parquet(con, lake, PARQUET_ROW | {"resource_tags": sql_map(tags)}, columns="tags_json")
    assert parquet == [(expected,)]
    text = read_csv(con, lake, ROW | {"resource_tags": json.dumps(tags)}, columns="tags_json")
    assert text == [(expected,)]


def test_tags_and_product_of_cur_2_that_are_null(con, lake):
    null = "NULL::MAP(VARCHAR, VARCHAR)"
    row = PARQUET_ROW | {"resource_tags": null, "product": null}
    columns = "tags_json, product_product_name, product_region"
    assert read_parquet(con, lake, row, columns=columns) == [("{}", None, None)]
    row = ROW | {"resource_tags": "", "product": "None"}
    assert read_csv(con, lake, row, columns=columns) == [("{}", None, None)]


def test_product_of_cur_2(con, lake):
    product = {"product_name": "Amazon EC2", "region": "eu-west-1"}
    columns = "product_product_name, product_region"
    expected = [("Amazon EC2", "eu-west-1")]
    assert read_parquet(con, lake, PARQUET_ROW | {"product": sql_map(product)}, columns=columns) == expected
    assert read_csv(con, lake, ROW | {"product": json.dumps(product)}, columns=columns) == expected
    row = PARQUET_ROW | {"product": sql_map(product), "product_region_code": "'us-east-1'"}
    assert read_parquet(con, lake, row, columns=columns) == [("Amazon EC2", "us-east-1")]


def test_maps_that_were_rewritten_as_structs(con, lake):
    row = PARQUET_ROW | {
        "resource_tags": "{'user_team': 'x', 'user_env': NULL}",
        "product": "{'product_name': 'EC2'}",
    }
    found = read_parquet(con, lake, row, columns="tags_json, product_product_name")
    assert found == [('{"team":"x"}', "EC2")]


def test_files_of_one_report_may_differ_in_columns(con, lake, tmp_path):
    reports = tmp_path / "reports"
    keys = [f"cur/20240101-20240201/octo-{number}.csv" for number in (1, 2, 3)]
    shuffled = dict(reversed((ROW | {"lineItem/UnblendedCost": "2"}).items()))
    rows = [ROW, shuffled, ROW | {"product/region": "eu-west-1", "lineItem/UnblendedCost": "4"}]
    for key, row in zip(keys, rows, strict=True):
        write_csv(reports / key, csv_text([row]))
    write_json(reports / "cur/20240101-20240201/octo-Manifest.json", legacy_manifest(keys))
    found = read(con, lake, reports, "line_item_unblended_cost, product_region, line_item_usage_account_id")
    assert sorted(found) == [(Decimal("1.5"), None, ACCOUNT), (2, None, ACCOUNT), (4, "eu-west-1", ACCOUNT)]


def test_several_payers_in_several_formats_are_one_relation(con, lake, tmp_path):
    land_cur(lake, write_rows(tmp_path / "a.csv", ["1"]), fetched_at=NOW)
    other = PARQUET_ROW | {"bill_payer_account_id": "'999999999999'"}
    land_cur(lake, write_parquet(tmp_path / "b.parquet", [other, other]), fetched_at=NOW)
    sql = relation_sql(con, newest_deliveries(lake, "2024-01"))
    query = f"SELECT bill_payer_account_id, sum(line_item_unblended_cost) FROM ({sql}) GROUP BY ALL ORDER BY 1"
    assert con.execute(query).fetchall() == [(PAYER, 1), ("999999999999", 3)]


def test_only_the_newest_refresh_counts(con, lake, tmp_path):
    legacy_report(tmp_path / "reports", ["1", "2"])
    land_cur(lake, tmp_path / "reports", fetched_at=NOW)
    legacy_report(tmp_path / "reports", ["4"], assemblyId="next")
    land_cur(lake, tmp_path / "reports", fetched_at=NOW + timedelta(hours=8))
    sql = relation_sql(con, newest_deliveries(lake, "2024-01"))
    assert con.execute(f"SELECT sum(line_item_unblended_cost) FROM ({sql})").fetchall() == [(4,)]


def test_of_parquet_only_what_is_needed_is_read(con, lake):
    extra = PARQUET_ROW | {
        "resource_tags_user_team": "'x'",
        "product_region": "'eu-west-1'",
        "identity_time": "'x'",
    }
    landed = land_cur(lake, write_parquet(lake.parent / "octo.parquet", [extra]), fetched_at=NOW)
    sql = relation_sql(con, [landed[0].delivery])
    plan = con.execute(f"EXPLAIN SELECT sum(line_item_unblended_cost) FROM ({sql})").fetchall()[0][1]
    assert "line_item_unblended_cost" in plan
    for other in ("tags", "product", "identity", "payer"):
        assert other not in plan


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
@pytest.mark.parametrize("folder", ["lake", "a [lake]* it's ?"])
def test_paths_with_signs_that_duckdb_takes_for_patterns(con, tmp_path, folder, suffix):
    """Regression: as patterns, each of these names means another file of the same report too, or instead."""
    reports = tmp_path / "reports"
    for name, amount in {"part [1]": "1", "part 1": "2", "part ?": "4", "part *": "8"}.items():
        write_rows(reports / f"{name}.{suffix}", [amount])
    found = read(con, tmp_path / folder, reports, "line_item_unblended_cost")
    assert sorted(found) == [(1,), (2,), (4,), (8,)]


def test_files_that_are_packed_and_files_that_are_not(con, lake, tmp_path):
    for name, amount in {"a.csv": "1", "b?.csv.gz": "2", "c.csv.zip": "4"}.items():
        write_rows(tmp_path / "reports" / name, [amount])
    found = read(con, lake, tmp_path / "reports", "line_item_unblended_cost")
    assert sorted(found) == [(1,), (2,), (4,)]


def test_a_large_csv_with_line_breaks_in_its_values(con, lake):
    """DuckDB reads plain CSV of some MB in parallel; a break within quotes must not end a row."""
    rows = [ROW | {"identity/LineItemId": f"{number}\nand more\r\n" + "x" * 400} for number in range(20_000)]
    found = read_csv(con, lake, *rows, columns="count(*), sum(line_item_unblended_cost)")
    assert found == [(20_000, 30_000)]


def test_quirks_of_generated_reports(con, lake, tmp_path):
    """As koku-nise writes them: 13-digit accounts, few columns in the manifest, None, offsets, CRLF."""
    values = ROW | {
        "bill/PayerAccountId": "3963497482179",
        "lineItem/UsageAccountId": "0389901194200",
        "lineItem/UsageStartDate": "2024-01-01 00:00:00+00:00",
        "lineItem/UnblendedCost": "0.007266646945064377",
        "savingsPlan/SavingsPlanEffectiveCost": "None",
        "savingsPlan/SavingsPlanRate": "None",
        "costCategory/Charge type": "",
        "product/region": "sa-east-1",
    }
    key = "cur/octo/20240101-20240201/fa83/January-2024-octo-1.csv.gz"
    write_csv(tmp_path / key, csv_text([dict(sorted(values.items()))]).replace("\n", "\r\n"))
    manifest = legacy_manifest([key], account="3963497482179")
    for folder in ("20240101-20240201", "20240101-20240201/fa83"):
        write_json(tmp_path / "cur/octo" / folder / "octo-Manifest.json", manifest)
    columns = (
        "bill_payer_account_id, line_item_usage_account_id, line_item_usage_start_date, "
        "line_item_unblended_cost, savings_plan_savings_plan_effective_cost, product_region"
    )
    assert read(con, lake, tmp_path / "cur", columns) == [
        (
            "3963497482179",
            "0389901194200",
            at("2024-01-01 00:00:00"),
            Decimal("0.0072666469"),
            None,
            "sa-east-1",
        )
    ]


REAL_MONTHS = {
    "2018-10": (119_307, "4064.4831315379", "149.7754", "232.2538", "48.9956"),
    "2018-11": (124_340, "3505.3269681268", "147.3840", "231.4004", "43.2164"),
}


def test_real_months(con, lake, shared_data):
    landed = land_cur(lake, shared_data / "aws", fetched_at=NOW)
    assert {one.delivery.month: one.delivery.account for one in landed} == dict.fromkeys(REAL_MONTHS, "836060457634")
    for month, (rows, billed, fees, used, unused) in REAL_MONTHS.items():
        sql = relation_sql(con, newest_deliveries(lake, month))
        found = con.execute(
            "SELECT count(*), sum(line_item_unblended_cost), "
            "sum(line_item_unblended_cost) FILTER (line_item_line_item_type = 'RIFee'), "
            "sum(reservation_effective_cost), sum(reservation_unused_recurring_fee "
            "+ reservation_unused_amortized_upfront_fee_for_billing_period) "
            f"FILTER (line_item_line_item_type = 'RIFee') FROM ({sql})"
        ).fetchall()[0]
        assert found[:2] == (rows, Decimal(billed))
        for value, expected in zip(found[2:], (fees, used, unused), strict=True):
            assert abs(value - Decimal(expected)) < Decimal("0.0001")
        keys = con.execute(f"SELECT DISTINCT unnest(json_keys(tags_json)) FROM ({sql})").fetchall()
        assert {"cost_center", "department", "environment", "name", "workload"} <= {key for (key,) in keys}


def test_real_months_of_other_columns_are_one_relation(con, lake, shared_data):
    landed = land_cur(lake, shared_data / "aws", fetched_at=NOW)
    sql = relation_sql(con, [one.delivery for one in landed])
    expected = sum(Decimal(billed) for _, billed, *_ in REAL_MONTHS.values())
    assert con.execute(f"SELECT sum(line_item_unblended_cost) FROM ({sql})").fetchall() == [(expected,)]


# What went wrong after landing, or was landed without looking into it.


def landed_blindly(lake: Path, name: str, data: bytes):
    return land(
        lake,
        vendor="aws",
        account=PAYER,
        month="2024-01",
        version="v1",
        format="csv",
        report="octo",
        source="a bucket",
        files=[source_file(name, data)],
        fetched_at=NOW,
    ).delivery


def explained(con, deliveries):
    """The sentence for the failure of reading everything, which must fail."""
    sql = relation_sql(con, deliveries)
    with pytest.raises(duckdb.Error):
        con.execute(f"SELECT bit_xor(hash(rows)) FROM ({sql}) AS rows").fetchall()
    found = explain_failure(con, deliveries)
    assert isinstance(found, OctoError)
    return str(found)


def test_a_failure_names_line_and_column(con, lake):
    text = csv_text([ROW | {"lineItem/LineItemDescription": "two\nlines"}, cost("x" * 100), cost("y")])
    delivery = landed_blindly(lake, "octo.csv", text.encode())
    sentence = explained(con, [delivery])
    assert f"{delivery.file_paths[0]}, line 4: lineItem/UnblendedCost is '{'x' * 50}" in sentence
    assert "x…', which is not an amount" in sentence
    assert "x" * 100 not in sentence


def test_a_failure_of_a_shifted_row_names_its_line(con, lake):
    lines = csv_text([ROW, ROW]).splitlines()
    delivery = landed_blindly(lake, "octo.csv", "\n".join([*lines, lines[1] + ",x,y"]).encode())
    assert f"{delivery.file_paths[0]}, line 4: the row has 13 fields, the header has 11" in explained(con, [delivery])


def test_a_failure_in_parquet_names_row_and_row_group(con, lake, tmp_path):
    rows = [PARQUET_ROW, PARQUET_ROW | {"line_item_unblended_cost": "'inf'::DOUBLE"}]
    path = write_parquet(tmp_path / "octo.parquet", rows)
    delivery = landed_blindly(lake, "octo.parquet", path.read_bytes())
    sentence = explained(con, [delivery])
    assert f"{delivery.file_paths[0]}, row 2 (row group 1): line_item_unblended_cost is 'inf'" in sentence


def test_a_landed_file_that_changed_since(con, lake, tmp_path):
    path = write_rows(tmp_path / "octo.parquet", ["1"] * 3)
    delivery = land_cur(lake, path, fetched_at=NOW)[0].delivery
    landed = delivery.file_paths[0]
    data = bytearray(landed.read_bytes())
    data[4:200] = bytes(196)
    landed.write_bytes(bytes(data))
    found = explained(con, [delivery])
    assert f"{landed} " in found
    assert "is damaged or not what its name says" in found or "is not what was landed" in found
    landed.write_bytes(bytes(data[:-1]))
    with refused(f"{landed} was cut off or changed", "land the report of 2024-01 again"):
        relation_sql(con, [delivery])
    assert f"{landed} was cut off" in str(explain_failure(con, [delivery]))
    landed.unlink()
    with refused(f"{landed} is gone since it was landed"):
        relation_sql(con, [delivery])


def test_files_in_order_explain_no_failure(con, lake, tmp_path):
    delivery = land_cur(lake, write_rows(tmp_path / "a.csv", ["1"]), fetched_at=NOW)[0].delivery
    assert explain_failure(con, [delivery]) is None


def test_a_landed_file_without_a_required_column(con, lake):
    delivery = landed_blindly(lake, "octo.csv", b"a,b\n1,2\n")
    with refused(f"{delivery.file_paths[0]} has no column bill_payer_account_id, line_item_usage_account_id"):
        relation_sql(con, [delivery])


def test_finding_reports_needs_no_lake(tmp_path):
    (report,) = find_reports(write_rows(tmp_path / "octo.csv", ["1"]))
    assert (report.report, report.source) == ("octo", str(tmp_path / "octo.csv"))


def test_the_proof_reads_sums_of_parquet_lines_that_are_what_the_lines_bill(con, lake, tmp_path):
    lines = [
        PARQUET_ROW | {"line_item_unblended_cost": f"{cost}::DOUBLE", "line_item_operation": f"'{operation}'"}
        for operation in ("RunInstances", " RunInstances", "EKSPod-EC2 ", "")
        for cost in (0.1, 0.2, -0.3, 7)
    ]
    write_parquet(tmp_path / "octo.parquet", lines)
    deliveries = [delivery.delivery for delivery in land_cur(lake, tmp_path / "octo.parquet", fetched_at=NOW)]
    delivered = relations(con, deliveries)
    costs = [source_costs(of) for of in (delivered, model_relations(con, deliveries, delivered))]

    of_lines, of_sums = (
        con.execute(
            f"SELECT * EXCLUDE (cost, line_count), sum(cost), sum(line_count) FROM ({sql}) GROUP BY ALL"
        ).fetchall()
        for sql in costs
    )
    assert of_sums == of_lines
    assert of_sums[0][-2:] == (Decimal(21), 12)
    assert [len(con.execute(sql).fetchall()) for sql in costs] == [12, 3]
