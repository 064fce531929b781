"""FOCUS files of anyone: which of them make a month, whose costs they are, and nothing bad gets in."""

import gzip
import json
import zipfile
from datetime import UTC, date, datetime
from decimal import Decimal

import duckdb
import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.sources import sources
from octo_pipeline.vendors.landing import deliveries
from tests.emulators.aws import upload
from tests.support.focus_files import MONTH, ROW, csv_text, line_items, write_csv

NOW = datetime(2024, 6, 1, tzinfo=UTC)

SNOWFLAKE = {
    "BilledCost": "1.5", "BillingAccountId": "ORG-ACME", "BillingCurrency": "USD", "BillingPeriodStart": "2024-03-01",
    "ChargeCategory": "Usage", "ChargePeriodStart": "2024-03-02T05:00:00Z", "EffectiveCost": "1.25", "ListCost": "2",
    "ProviderName": "Snowflake", "PublisherName": "Snowflake Inc.", "ServiceName": "Warehouse", "SkuId": "WH-XL",
    "ConsumedQuantity": "3", "RegionId": "eu-central-1", "Tags": '{"team": "data", "empty": ""}', "SubAccountId": "WAREHOUSE_1",
    "ResourceId": "w1",
}  # fmt: skip
ORACLE = SNOWFLAKE | {"ProviderName": "Oracle", "BillingAccountId": "2020", "SubAccountId": "ocid1.tenancy.oc1..a"}


def document(workspace, file="acme", **fields):
    """Write a source's document; its name is the file's unless it is given."""
    folder = workspace.settings.config / "sources"
    folder.mkdir(exist_ok=True)
    content = {"kind": "focus", "name": file} | fields
    (folder / f"{file}.json").write_text(json.dumps(content, default=str))


def land(workspace, month=MONTH, at=NOW):
    return [landed for source in sources(workspace, "focus") for landed in source.land(workspace.lake.root, month, at)]


def refused(workspace, month=MONTH):
    before = deliveries(workspace.lake.root)
    with pytest.raises(OctoError) as error:
        land(workspace, month, datetime(2024, 6, 2, tzinfo=UTC))
    assert deliveries(workspace.lake.root) == before
    return str(error.value)


@pytest.fixture
def folder(workspace, tmp_path):
    """The folder of the source acme."""
    path = tmp_path / "exports"
    path.mkdir()
    document(workspace, folder=path)
    return path


# -- whose costs they are ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "issuer", "vendor"),
    [
        ("AWS", "", "aws"), ("Amazon Web Services, Inc.", "", "aws"), ("Microsoft", "", "azure"), ("Microsoft Azure", "", "azure"),
        ("Google Cloud", "", "gcp"), ("Google Cloud Platform", "", "gcp"), ("Google", "", "gcp"), ("Oracle", "", "oci"),
        ("Oracle Cloud Infrastructure", "", "oci"), ("Snowflake", "", "snowflake"), ("Databricks, Inc.", "", "databricks-inc"),
        ("Red Hat", "Amazon Web Services EMEA SARL", "aws"), ("Googleplex Hosting", "", "googleplex-hosting"),
        ("Amazonia Cloud", "", "amazonia-cloud"), ("", "Oracle", "oci"), ("NULL", "MongoDB Atlas", "mongodb-atlas"),
        ("Ünïted Hosting 24", "", "ünïted-hosting-24"),
    ],
)  # fmt: skip
def test_the_provider_column_says_the_vendor(workspace, folder, provider, issuer, vendor):
    write_csv(folder / "a.csv", SNOWFLAKE | {"ProviderName": provider, "InvoiceIssuerName": issuer})
    land(workspace)

    assert line_items(workspace, "vendor, billing_account_id") == [(vendor, "ORG-ACME")]


def test_the_document_may_say_the_vendor(workspace, tmp_path):
    write_csv(tmp_path / "in" / "a.csv", SNOWFLAKE, ORACLE)
    document(workspace, folder=tmp_path / "in", vendor="house")
    land(workspace)

    assert line_items(workspace, "vendor, billing_account_id") == [("house", "2020"), ("house", "ORG-ACME")]


def test_rows_without_a_provider_need_one_from_the_document(workspace, folder):
    write_csv(folder / "a.csv", SNOWFLAKE | {"ProviderName": ""})

    assert "a.csv" in refused(workspace)
    assert "name no provider. Set vendor in the source's document" in refused(workspace)


def test_a_row_with_all_it_has(workspace, folder):
    write_csv(folder / "a.csv", SNOWFLAKE, SNOWFLAKE | {"BillingCurrency": "EUR"})
    land(workspace)

    columns = (
        "vendor, sub_account_id, usage_date, line_type, charge_category, service_code, usage_type, region_id, tags, "
    )
    columns += "billing_currency, consumed_quantity, billed_cost, effective_cost, list_cost"
    row = ("snowflake", "WAREHOUSE_1", date(2024, 3, 2), "Usage", "Usage", "Warehouse", "WH-XL", "eu-central-1",
           {"team": "data"})  # fmt: skip
    amounts = (Decimal(3), Decimal("1.5"), Decimal("1.25"), Decimal(2))
    assert line_items(workspace, columns) == [(*row, "EUR", *amounts), (*row, "USD", *amounts)]


def test_the_columns_of_aws_are_those_of_its_report(workspace, folder):
    aws = ROW | {
        "ProviderName": "AWS", "BillingAccountId": "111111111111", "SubAccountId": "222222222222", "ServiceName": "Amazon EC2",
        "x_ServiceCode": "AmazonEC2", "x_UsageType": "BoxUsage:m5.large", "x_Operation": "RunInstances",
    }  # fmt: skip
    write_csv(folder / "a.csv", aws)
    land(workspace)

    assert line_items(workspace, "vendor, service_code, usage_type, operation, service_name") == [
        ("aws", "AmazonEC2", "BoxUsage:m5.large", "RunInstances", "Amazon EC2")
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"ProviderName": "Snowflake"},
        {"ServiceProviderName": "Snowflake", "HostProviderName": "AWS"},
        {"ProviderName": "", "ServiceProviderName": "Snowflake"},
        {"providername": "Snowflake"},
        {"provider_name": "Snowflake"},
    ],
)
def test_the_provider_is_found_under_the_names_of_all_versions(workspace, folder, row):
    write_csv(folder / "a.csv", {k: v for k, v in SNOWFLAKE.items() if k != "ProviderName"} | row)
    land(workspace)

    assert line_items(workspace, "vendor") == [("snowflake",)]


# -- forms ----------------------------------------------------------------------------------------------------


def test_parquet_with_doubles_maps_and_timestamps(workspace, folder):
    """As AWS exports FOCUS 1.2: costs are doubles, tags a map, times timestamps."""
    with duckdb.connect() as con:
        con.execute(
            "COPY (SELECT 0.1::DOUBLE AS BilledCost, '111111111111' AS BillingAccountId, 'USD' AS BillingCurrency, "
            "TIMESTAMP '2024-03-01' AS BillingPeriodStart, 'Usage' AS ChargeCategory, "
            "TIMESTAMPTZ '2024-03-31 23:30:00+00' AS ChargePeriodStart, 0.3::DOUBLE AS EffectiveCost, "
            "NULL::DOUBLE AS ListCost, 'AWS' AS ProviderName, 1e-12::DOUBLE AS ConsumedQuantity, "
            "map {'b': 'x', 'a': 'y'} AS Tags, 'i-9' AS InvoiceId FROM range(3)) "
            f"TO '{folder / 'part-0.snappy.parquet'}' (FORMAT parquet)"
        )
    land(workspace)

    assert line_items(workspace, "usage_date, tags, billed_cost, effective_cost, list_cost, line_count") == [
        (date(2024, 3, 31), {"a": "y", "b": "x"}, Decimal("0.3"), Decimal("0.9"), Decimal("0.3"), 3)
    ]


def test_packed_files_of_several_forms_are_added_up(workspace, folder):
    (folder / "a.csv.gz").write_bytes(gzip.compress(csv_text(SNOWFLAKE).encode()))
    with zipfile.ZipFile(folder / "b.zip", "w") as archive:
        archive.writestr("b.csv", csv_text(SNOWFLAKE | {"ResourceId": "w2"}))
    write_csv(folder / "2024" / "03" / "c.csv", SNOWFLAKE | {"ResourceId": "w3"})
    (folder / "d.csv").write_bytes(csv_text(SNOWFLAKE | {"ResourceId": "w4"}).replace("\n", "\r\n", 1).encode())
    land(workspace)

    assert line_items(workspace, "billed_cost, line_count") == [(Decimal(6), 4)]


def test_tags_as_a_list_of_pairs(workspace, folder):
    with duckdb.connect() as con:
        con.execute(
            "COPY (SELECT 1.5::DECIMAL(38,18) AS BilledCost, 'a' AS BillingAccountId, 'USD' AS BillingCurrency, "
            "DATE '2024-03-01' AS BillingPeriodStart, 'Tax' AS ChargeCategory, DATE '2024-03-01' AS ChargePeriodStart, "
            "'Databricks' AS ProviderName, [{'key': 'b', 'value': '2'}, {'key': 'a', 'value': '1'}] AS Tags) "
            f"TO '{folder / 'a.parquet'}' (FORMAT parquet)"
        )
    land(workspace)

    assert line_items(workspace, "vendor, charge_category, tags, effective_cost") == [
        ("databricks", "Tax", {"a": "1", "b": "2"}, Decimal("1.5"))
    ]


def test_what_tools_leave_behind_and_other_data_sets_are_passed_over(workspace, folder):
    write_csv(folder / "a.csv", SNOWFLAKE)
    write_csv(folder / "._a.csv", {"Junk": "1"})
    write_csv(folder / ".tmp" / "b.csv", SNOWFLAKE | {"ResourceId": "w2"})
    write_csv(folder / "_temporary" / "c.csv", SNOWFLAKE | {"ResourceId": "w3"})
    (folder / "_SUCCESS").write_text("")
    (folder / "metadata.json").write_text("{}")
    (folder / "README.md").write_text("about")
    write_csv(folder / "commitments.csv", {"ContractCommitmentId": "c", "BillingCurrency": "USD"})
    write_csv(folder / "periods.csv", {"BillingPeriodStatus": "Open", "BillingPeriodStart": "2024-03-01"})
    invoice = {"InvoiceDetailId": "1", "InvoiceIssueStatus": "Issued", "BilledCost": "99", "ChargeCategory": "Usage"}
    write_csv(folder / "invoices.csv", invoice)
    land(workspace)

    assert line_items(workspace, "sum(billed_cost)") == [(Decimal("1.5"),)]


@pytest.mark.parametrize(
    "name", ["a.xlsx", "b.tsv", "c.jsonl", "d.json.gz", "e.avro", "f.orc", "g.tar.gz", "h.csv.zst", "i.gz"]
)
def test_a_form_that_is_not_read_is_refused_by_name(workspace, folder, name):
    write_csv(folder / "a.csv", SNOWFLAKE)
    (folder / name).write_bytes(b"data")

    assert f"has {name}, which is not read" in refused(workspace)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"lineItem/UnblendedCost": "1", "bill/PayerAccountId": "1"}], "a.csv of .* is not a FOCUS file"),
        (
            [{k: v for k, v in SNOWFLAKE.items() if k != "BillingCurrency"}],
            "a.csv of .* has no column billing_currency",
        ),
        (
            [SNOWFLAKE, SNOWFLAKE | {"BilledCost": "1,5"}],
            "a.csv of .*, line 3: BilledCost is '1,5', which is not an amount",
        ),
        ([SNOWFLAKE | {"BilledCost": ""}], "line 2: BilledCost is empty, no row can do without it"),
        ([SNOWFLAKE | {"Tags": "team=data"}], "line 2: Tags is 'team=data', which is not a JSON object"),
        (
            [SNOWFLAKE | {"BillingAccountId": "1.23457E+11"}],
            "BillingAccountId is '1.23457E[+]11', to which a spreadsheet",
        ),
        ([SNOWFLAKE | {"BillingPeriodStart": "March"}], "line 2: BillingPeriodStart is 'March', which is not a date"),
    ],
)
def test_what_cannot_be_read_is_refused_by_file_and_line(workspace, folder, rows, sentence):
    write_csv(folder / "a.csv", *rows)
    with pytest.raises(OctoError, match=sentence):
        land(workspace)
    assert deliveries(workspace.lake.root) == []


def test_a_folder_without_files_or_that_is_not_there_is_refused(workspace, folder):
    assert "has no FOCUS file" in refused(workspace)
    folder.rmdir()
    assert "does not exist" in refused(workspace)


def test_a_file_that_is_cut_off_is_refused(workspace, folder):
    (folder / "a.csv.gz").write_bytes(gzip.compress(csv_text(*[SNOWFLAKE] * 50).encode())[:-9])

    assert "a.csv.gz" in refused(workspace)


@pytest.mark.parametrize("name", ["export.txt", "focus.json", "data"])
def test_a_file_of_another_name_with_costs_is_not_looked_past(workspace, folder, name):
    write_csv(folder / "a.csv", SNOWFLAKE)
    (folder / name).write_text(csv_text(SNOWFLAKE | {"ResourceId": "w2"}))

    assert f"has {name}, which is not read" in refused(workspace)


# -- months, parts, copies and refreshes --------------------------------------------------------------------------


def test_each_row_goes_to_its_own_billing_period(workspace, folder):
    late = SNOWFLAKE | {
        "BillingPeriodStart": "2024-04-01",
        "ChargePeriodStart": "2024-03-31T00:00:00Z",
        "BilledCost": "4",
    }
    write_csv(folder / "quarter.csv", SNOWFLAKE, late)
    land(workspace)
    land(workspace, "2024-04")

    assert line_items(workspace, "usage_date, billed_cost") == [(date(2024, 3, 2), Decimal("1.5"))]
    assert line_items(workspace, "usage_date, billed_cost", "2024-04") == [(date(2024, 3, 31), Decimal(4))]
    assert land(workspace, "2024-05") == []


def test_without_billing_periods_the_charge_says_the_month(workspace, folder):
    write_csv(folder / "a.csv", {k: v for k, v in SNOWFLAKE.items() if k != "BillingPeriodStart"})
    land(workspace)

    assert line_items(workspace, "billed_cost") == [(Decimal("1.5"),)]


def days(first, last, **changes):
    return [
        SNOWFLAKE | {"ChargePeriodStart": f"2024-03-{day:02}T00:00:00Z", "BilledCost": f"{day}"} | changes
        for day in range(first, last + 1)
    ]


def test_parts_are_added_up_and_copies_and_refreshes_count_once(workspace, folder):
    write_csv(folder / "to-10.csv", *days(1, 10))
    write_csv(folder / "to-20.csv", *days(1, 20))
    write_csv(folder / "copy of to-20.csv", *days(1, 20))
    write_csv(folder / "from-21.csv", *days(21, 31))
    (landed,) = land(workspace)

    assert line_items(workspace, "sum(billed_cost), sum(line_count)") == [(Decimal(496), 31)]
    assert len(landed.delivery.files) == 2


def test_hours_of_one_day_with_equal_costs_are_parts(workspace, folder):
    hours = [SNOWFLAKE | {"ChargePeriodStart": f"2024-03-02T{hour:02}:00:00Z"} for hour in range(24)]
    write_csv(folder / "morning.csv", *hours[:12])
    write_csv(folder / "evening.csv", *hours[12:])
    land(workspace)

    assert line_items(workspace, "billed_cost, line_count") == [(Decimal(36), 24)]


def test_a_refresh_that_fills_in_invoices_tags_and_amortised_costs_counts_once(workspace, folder):
    write_csv(folder / "draft.csv", *days(1, 20, EffectiveCost="0", InvoiceId="", Tags="{}"))
    write_csv(folder / "final.csv", *days(1, 31, EffectiveCost="5", InvoiceId="i-1"))
    land(workspace)

    assert line_items(workspace, "sum(billed_cost), sum(effective_cost)") == [(Decimal(496), Decimal(155))]


def test_a_refresh_that_restates_amounts_is_refused_by_name(workspace, folder):
    write_csv(folder / "first.csv", *days(1, 20))
    write_csv(folder / "second.csv", *days(1, 19), *days(20, 21, BilledCost="99"))

    sentence = refused(workspace)
    assert "first.csv" in sentence
    assert "second.csv" in sentence
    assert "different refreshes of one export" in sentence


def test_a_refresh_of_an_open_period_replaces_it_and_a_correction_is_added(workspace, folder):
    write_csv(folder / "a.csv", SNOWFLAKE)
    (first,) = land(workspace)
    write_csv(folder / "a.csv", SNOWFLAKE | {"BilledCost": "20"})
    (second,) = land(workspace, at=datetime(2024, 6, 2, tzinfo=UTC))
    assert second.is_new
    assert first.delivery.account == second.delivery.account == "acme"
    assert line_items(workspace, "billed_cost") == [(Decimal(20),)]

    write_csv(folder / "b.csv", SNOWFLAKE | {"BilledCost": "-5", "EffectiveCost": "-5", "ChargeClass": "Correction"})
    land(workspace, at=datetime(2024, 6, 3, tzinfo=UTC))
    assert line_items(workspace, "line_type, billed_cost") == [
        ("Usage", Decimal(20)),
        ("Usage Correction", Decimal(-5)),
    ]
    assert not land(workspace)[0].is_new


def test_a_month_that_lost_its_rows_keeps_them(workspace, folder):
    write_csv(folder / "a.csv", SNOWFLAKE)
    land(workspace)
    write_csv(folder / "a.csv", SNOWFLAKE | {"BillingPeriodStart": "2024-05-01"})

    assert "has no rows of 2024-03 any more" in refused(workspace)
    assert line_items(workspace, "billed_cost") == [(Decimal("1.5"),)]


# -- manifests ------------------------------------------------------------------------------------------------


def aws_export(folder, listed, *, period=MONTH, name="focus"):
    manifest = folder / name / "metadata" / f"BILLING_PERIOD={period}" / f"{name}-Manifest.json"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    keys = [f"s3://bucket/prefix/{name}/data/BILLING_PERIOD={period}/{file}" for file in listed]
    manifest.write_text(json.dumps({"executionId": "1", "dataFiles": keys}))
    return folder / name / "data" / f"BILLING_PERIOD={period}"


def test_the_manifest_of_aws_says_which_files_count(workspace, folder):
    data = aws_export(folder, ["focus-00001.csv"])
    write_csv(data / "focus-00001.csv", SNOWFLAKE)
    # A surplus file of an earlier, longer refresh.
    write_csv(data / "focus-00002.csv", SNOWFLAKE | {"ResourceId": "w2"})
    write_csv(
        aws_export(folder, ["a.csv"], period="2024-04") / "a.csv", SNOWFLAKE | {"BillingPeriodStart": "2024-04-01"}
    )
    write_csv(folder / "loose.csv", SNOWFLAKE | {"ResourceId": "w3", "BilledCost": "7"})
    land(workspace)

    assert line_items(workspace, "sum(billed_cost)") == [(Decimal("8.5"),)]


def test_a_listed_file_that_is_missing_is_refused(workspace, folder):
    write_csv(aws_export(folder, ["a.csv", "b.csv"]) / "a.csv", SNOWFLAKE)

    assert "lists s3://bucket/prefix/focus/data/BILLING_PERIOD=2024-03/b.csv, which is there no times" in refused(
        workspace
    )


def azure_run(folder, run, first, last, submitted, *rows, kind="FocusCost"):
    at = folder / "exports" / "daily" / "20240301-20240331" / run
    path = write_csv(at / "part_0.csv", *rows)
    manifest = {
        "blobCount": 1, "blobs": [{"blobName": f"exports/daily/20240301-20240331/{run}/part_0.csv", "byteCount": path.stat().st_size}],
        "exportConfig": {"type": kind, "resourceId": "/providers/Microsoft.Billing/billingAccounts/1/providers/x"},
        "runInfo": {"startDate": f"{first}T00:00:00", "endDate": f"{last}T00:00:00", "submittedTime": submitted},
    }  # fmt: skip
    (at / "manifest.json").write_text(json.dumps(manifest))


def test_a_later_run_of_some_days_takes_only_these_days(workspace, folder):
    azure_run(folder, "r1", "2024-03-01", "2024-03-31", "2024-04-02", *days(1, 31))
    azure_run(folder, "r2", "2024-03-30", "2024-03-31", "2024-04-05", *days(30, 31, BilledCost="100"))
    azure_run(folder, "r0", "2024-03-01", "2024-03-15", "2024-03-16", *days(1, 15, BilledCost="1000"))
    azure_run(folder, "r3", "2024-03-01", "2024-03-31", "2024-04-09", {"UnitPrice": "1"}, kind="PriceSheet")
    # A run that is still being written has no manifest.
    write_csv(folder / "exports" / "daily" / "20240301-20240331" / "r4" / "part_0.csv", *days(1, 3))
    land(workspace)

    assert line_items(workspace, "sum(billed_cost), sum(line_count)") == [(Decimal(435 + 200), 31)]


def test_files_beside_a_manifest_are_not_looked_past(workspace, folder):
    """The source points to the export's own folder, where somebody has put another file."""
    azure_run(folder, "r1", "2024-03-01", "2024-03-31", "2024-04-02", *days(1, 31))
    export = folder / "exports" / "daily"
    write_csv(export / "more.csv", SNOWFLAKE | {"ResourceId": "w2", "BilledCost": "4"})
    document(workspace, folder=export)
    land(workspace)

    assert line_items(workspace, "sum(billed_cost)") == [(Decimal(500),)]


def test_a_manifest_that_is_malformed_is_refused(workspace, folder):
    azure_run(folder, "r1", "2024-03-01", "2024-03-31", "2024-04-02", *days(1, 31))
    (folder / "exports/daily/20240301-20240331/r1/manifest.json").write_text('{"exportConfig": {}}')

    assert "r1/manifest.json is not a manifest that can be understood" in refused(workspace)


# -- buckets and containers -------------------------------------------------------------------------------------


def test_a_bucket(workspace, tmp_path, aws):
    write_csv(tmp_path / "out" / "2024" / "03" / "a.csv", SNOWFLAKE)
    (tmp_path / "out" / "2024" / "03" / "b.csv.gz").write_bytes(gzip.compress(csv_text(ORACLE).encode()))
    write_csv(tmp_path / "out" / "._a.csv", {"Junk": "1"})
    upload(aws, tmp_path / "out", "saas/focus/")
    document(workspace, bucket="s3://company-cur/saas/focus")
    (source,) = sources(workspace, "focus")
    (offered,) = source.available(MONTH)
    (landed,) = land(workspace)

    assert (offered.account, offered.version) == ("acme", landed.delivery.version)
    assert landed.delivery.source == "s3://company-cur/saas/focus/"
    assert line_items(workspace, "vendor, billed_cost") == [("oci", Decimal("1.5")), ("snowflake", Decimal("1.5"))]
    document(workspace, bucket="s3://no-such-bucket/saas")
    assert "no-such-bucket" in refused(workspace)


def test_a_container(workspace, azurite, monkeypatch):
    azurite.put("focus/2024/a.csv", csv_text(SNOWFLAKE).encode())
    azurite.put("focus/2024/b.csv", csv_text(ORACLE).encode())
    azurite.put("other/c.csv", b"Junk\n1\n")
    document(workspace, container=azurite.container, prefix="focus", sas_variable="OCTO_SOURCE_FOCUS_SAS")
    with pytest.raises(OctoError, match="needs the secret in the environment variable OCTO_SOURCE_FOCUS_SAS"):
        land(workspace)
    monkeypatch.setenv("OCTO_SOURCE_FOCUS_SAS", azurite.sas())
    land(workspace)

    assert line_items(workspace, "vendor, billed_cost") == [("oci", Decimal("1.5")), ("snowflake", Decimal("1.5"))]


# -- documents ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "give one of folder, bucket and container"),
        ({"folder": "/a", "bucket": "company"}, "give one of folder, bucket and container"),
        ({"folder": "/a", "vendor": "Big Vendor"}, "vendor: String should match pattern"),
        ({"folder": "/a", "vendor": "focus"}, "vendor cannot be focus or manual"),
        ({"container": "https://x.blob.core.windows.net/c"}, "sas_variable goes with container"),
        ({"folder": "/a", "accounts": "1"}, "accounts: Extra inputs are not permitted"),
        ({"folder": "/a", "use": "no"}, 'use must be true or false, not "no"'),
        ({"folder": "/a", "name": "../up"}, "name: String should match pattern"),
        ({"folder": "/a", "kind": "focsu"}, 'vendor must be one of aws, azure, gcp, not null. .*"kind": "focus"'),
        ({"folder": "/a", "kind": "cur", "vendor": "oci"}, 'vendor must be one of aws, azure, gcp, not "oci"'),
    ],
)
def test_a_document_that_is_wrong_is_refused_by_field(workspace, fields, sentence):
    document(workspace, **fields)
    with pytest.raises(OctoError, match=rf"acme\.json: .*{sentence}"):
        sources(workspace, "focus")


def test_two_documents_of_one_name_are_refused(workspace, tmp_path):
    document(workspace, "one", name="same", folder=tmp_path / "one")
    document(workspace, "two", name="same", folder=tmp_path / "two")
    with pytest.raises(OctoError, match=r"have the same name\. Give each document its own name"):
        sources(workspace, "focus")


def test_a_document_without_a_name_takes_it_from_the_place(workspace, tmp_path):
    write_csv(tmp_path / "in" / "a.csv", SNOWFLAKE)
    document(workspace, folder=tmp_path / "in")
    path = workspace.settings.config / "sources" / "acme.json"
    path.write_text(json.dumps({"kind": "focus", "folder": str(tmp_path / "in")}))
    (landed,) = land(workspace)

    assert landed.delivery.account.startswith("in-")


# -- the official sample ----------------------------------------------------------------------------------------


def test_the_official_sample(workspace, shared_data):
    """Three providers and two billing periods in one file, with the word NULL for what is not there."""
    document(workspace, folder=shared_data / "focus")
    land(workspace, "2024-09")
    land(workspace, "2024-10")

    assert vendor_sums(workspace, "2024-09") == [
        ("aws", 942, Decimal("18.0066386184"), Decimal(13)),
        ("azure", 51, Decimal("1.9765141858"), Decimal("1.9765141858")),
        ("oci", 6, Decimal("0.2970739247"), Decimal(0)),
    ]
    assert vendor_sums(workspace, "2024-10") == [("oci", 1, Decimal("0.24"), Decimal(0))]


def vendor_sums(workspace, month):
    sums: dict[str, list] = {}
    for vendor, *values in line_items(workspace, "vendor, line_count, billed_cost, effective_cost", month):
        sums[vendor] = [a + b for a, b in zip(sums.get(vendor, (0, 0, 0)), values, strict=True)]
    return sorted((vendor, *values) for vendor, values in sums.items())
