"""Cost Management exports: every layout and format, which of them count, and nothing bad gets in."""

import csv
import gzip
import json
from datetime import UTC, datetime
from decimal import Decimal

import duckdb
import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.sources import folder_source
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.azure.blobs import FolderListing
from octo_pipeline.vendors.azure.client import export_source
from octo_pipeline.vendors.azure.exports import AzureExportDocument, AzureExportSource
from octo_pipeline.vendors.landing import deliveries
from tests.support.azure_exports import (
    AMORTISED,
    BOUGHT,
    COVERED,
    FOCUS,
    MONTH,
    RUN,
    UNUSED,
    USAGE,
    csv_bytes,
    export,
    manifest,
    write,
)

NOW = datetime(2024, 6, 1, tzinfo=UTC)


def land(source, workspace, at=NOW):
    return source.land(workspace.lake.root, MONTH, at)


def refused(source, workspace):
    before = deliveries(workspace.lake.root)
    with pytest.raises(OctoError) as found:
        source.land(workspace.lake.root, MONTH, datetime(2024, 6, 2, tzinfo=UTC))
    assert deliveries(workspace.lake.root) == before
    return str(found.value)


def rows(workspace, columns):
    materialise(workspace, CostLineItems(), MONTH)
    with workspace.lake.connect() as connection:
        table = workspace.lake.scan("cost_line_items", [MONTH], CostLineItems.columns)
        return connection.execute(f"SELECT {columns} FROM {table} ORDER BY ALL").fetchall()


# -- which files make a month -----------------------------------------------------------------------------


def test_a_container_behind_an_sas(azurite, workspace, tmp_path):
    """The names have what must be quoted; the blobs are listed, read and held against their MD5."""
    for name, content in export(USAGE, BOUGHT, run="exports/a name & more/20240501-20240531").items():
        azurite.put(name.replace(" ", "%20").replace("&", "%26"), content)
    given = {"vendor": "azure", "kind": "cost_management", "container": azurite.container, "prefix": "exports/",
             "sas_variable": "OCTO_SOURCE_EXPORT_SAS"}  # fmt: skip
    document = AzureExportDocument.model_validate(given)
    source = export_source(document, {"OCTO_SOURCE_EXPORT_SAS": f"?{azurite.sas()}"})
    (offered,) = source.available(MONTH)
    (landed,) = land(source, workspace)
    assert (offered.account, offered.version) == ("1234", landed.delivery.version)
    assert rows(workspace, "charge_category, sub_account_id, tags, billed_cost") == [
        ("Purchase", "bbbb-2", {}, Decimal(90)),
        ("Usage", "aaaa-1", {"team": "web"}, Decimal("1.5")),
    ]
    expired = export_source(document, {"OCTO_SOURCE_EXPORT_SAS": azurite.sas(minutes=-5)}, pause=lambda _: None)
    sentence = refused(expired, workspace)
    assert "does not allow listing it, or has expired (HTTP 403)" in sentence
    assert "sig=" not in sentence
    unreadable = export_source(document, {"OCTO_SOURCE_EXPORT_SAS": azurite.sas("l")}, pause=lambda _: None)
    assert "was refused (HTTP 403)" in refused(unreadable, workspace)
    nowhere = export_source(
        document.model_copy(update={"container": f"{azurite.container}x"}), {"OCTO_SOURCE_EXPORT_SAS": azurite.sas()}
    )
    assert "HTTP 40" in refused(nowhere, workspace)


def test_the_last_run_of_an_export_counts(tmp_path, workspace):
    first = write(tmp_path / "a", export(USAGE))
    (one,) = land(first, workspace)
    later = export(USAGE | {"Cost": "7"}, run=RUN.replace("001", "002"), submitted="2024-06-02T01:00:00Z")
    (two,) = land(write(tmp_path / "a", later), workspace, datetime(2024, 6, 2, tzinfo=UTC))
    assert (one.is_new, two.is_new) == (True, True)
    assert rows(workspace, "billed_cost") == [(Decimal(7),)]
    assert not land(first, workspace)[0].is_new
    assert first.available("2024-04") == []


def test_actual_and_amortised_make_one_truth(tmp_path, workspace):
    write(tmp_path / "a", export(USAGE, COVERED, BOUGHT))
    amortised = export(USAGE, AMORTISED, UNUSED, kind="AmortizedCost", run="exports/amortised/20240501-20240531")
    (landed,) = land(write(tmp_path / "a", amortised), workspace)
    assert len(landed.delivery.files) == 2
    found = rows(
        workspace,
        "line_type, charge_category, savings_kind, commitment_discount_type, billed_cost, effective_cost, list_cost",
    )
    assert found == [
        ("Purchase", "Purchase", None, "RI", Decimal(90), Decimal(0), Decimal(90)),
        ("UnusedReservation", "Usage", "unused", "RI", Decimal(0), Decimal(3), Decimal(0)),
        ("Usage", "Usage", "used", "RI", Decimal(0), Decimal(6), Decimal(10)),
        ("Usage", "Usage", None, "RI", Decimal(0), Decimal(0), Decimal(0)),
        ("Usage", "Usage", None, None, Decimal("1.5"), Decimal("1.5"), Decimal(2)),
    ]


def test_focus_counts_alone_and_other_exports_are_passed_over(tmp_path, workspace):
    unused = FOCUS | {"CommitmentDiscountId": "p", "CommitmentDiscountType": "Savings Plan", "CommitmentDiscountStatus":
                      "Unused", "BilledCost": "0", "EffectiveCost": "4", "ListCost": "0"}  # fmt: skip
    write(tmp_path / "a", export(USAGE))
    write(tmp_path / "a", export({"Price": "1"}, kind="PriceSheet", run="exports/prices/20240501-20240531"))
    focus = export(FOCUS, unused, kind="FocusCost", run="exports/focus/20240501-20240531")
    land(write(tmp_path / "a", focus), workspace)
    assert rows(
        workspace,
        "billing_account_id, sub_account_id, service_code, charge_category, savings_kind, billed_cost, effective_cost, list_cost",
    ) == [
        ("1234", "aaaa-1", "Storage Accounts", "Usage", "unused", Decimal(0), Decimal(4), Decimal(0)),
        ("1234", "aaaa-1", "Storage Accounts", "Usage", None, Decimal("1.5"), Decimal("1.25"), Decimal(2)),
    ]


def test_parquet_gzip_and_the_spelling_of_mca(tmp_path, workspace):
    run = "daily/20240501-20240531"
    mca = {"billingAccountId": "1234", "billingPeriodStartDate": "2024-05-01", "SubscriptionId": "aaaa-1", "date": "2024-05-03",
           "chargeType": "Usage", "costInBillingCurrency": "1.5", "billingCurrency": "EUR", "paygCostInBillingCurrency": "3",
           "tags": '{"team":"web"}'}  # fmt: skip
    packed = gzip.compress(csv_bytes(mca))
    plain = csv_bytes(mca | {"date": "2024-05-05"})
    with duckdb.connect() as con:
        con.execute(
            f"COPY (SELECT '1234' AS billingAccountId, DATE '2024-05-04' AS date, 'Usage' AS chargeType, MAP {{'b': '2', 'a': '1'}} "
            f"AS tags, 2.5::DECIMAL(20,4) AS costInBillingCurrency, 'EUR' AS billingCurrency) TO '{tmp_path / 'x.parquet'}'"
        )
    parquet = (tmp_path / "x.parquet").read_bytes()
    blobs = {f"{run}/part ?0.csv.gz": packed, f"{run}/part_1.parquet": parquet, f"{run}/part_2.csv": plain}
    listed = [(name, content, 1) for name, content in blobs.items()]
    # Copied without the container's root folder, which the manifest's names begin with.
    named = json.loads(manifest(listed))
    for one in named["blobs"]:
        one["blobName"] = f"root/{one['blobName']}"
    land(write(tmp_path / "a", {**blobs, f"{run}/manifest.json": json.dumps(named).encode()}), workspace)
    assert rows(workspace, "usage_date::VARCHAR, sub_account_id, tags, billed_cost, list_cost") == [
        ("2024-05-03", "aaaa-1", {"team": "web"}, Decimal("1.5"), Decimal(3)),
        ("2024-05-04", "1234", {"a": "1", "b": "2"}, Decimal("2.5"), Decimal("2.5")),
        ("2024-05-05", "aaaa-1", {"team": "web"}, Decimal("1.5"), Decimal(3)),
    ]


def test_the_scope_of_an_export_is_its_account(tmp_path, workspace):
    for name in ("one", "two"):
        write(tmp_path / "a", export(USAGE, run=f"{name}/20240501-20240531", scope=f"/subscriptions/{name}"))
    landed = land(AzureExportSource(FolderListing(tmp_path / "a")), workspace)
    assert [one.delivery.account for one in landed] == ["one", "two"]
    assert rows(workspace, "billing_account_id, line_count") == [("1234", 2)]


# -- what goes wrong --------------------------------------------------------------------------------------


def test_a_bad_payer_stops_no_other(tmp_path, workspace):
    write(tmp_path / "a", export(USAGE | {"Cost": "much"}, run="one/20240501-20240531", scope="/subscriptions/one"))
    source = write(tmp_path / "a", export(USAGE, run="two/20240501-20240531", scope="/subscriptions/two"))
    with pytest.raises(OctoError, match="line 2: Cost is 'much', which is not an amount"):
        land(source, workspace)
    assert [one.account for one in deliveries(workspace.lake.root)] == ["two"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"blobCount": 2}, "announces 2 blobs but lists 1"),
        ({"blobs": [{"blobName": "gone.csv", "dataRowCount": 1}]}, "lists gone.csv, which does not exist"),
        ({"exportConfig": {}}, "cannot be read as the manifest of a Cost Management export (KeyError: 'type')"),
        ({"runInfo": {"startDate": "soon"}}, "the start 'soon' is not a date"),
    ],
)
def test_a_manifest_that_is_not_right(tmp_path, workspace, changes, sentence):
    assert sentence in refused(write(tmp_path / "a", export(USAGE, **changes)), workspace)


def test_a_manifest_that_is_nested_too_deep(tmp_path, workspace):
    """Regression: it was a traceback."""
    source = write(tmp_path / "a", export(USAGE))
    next((tmp_path / "a").rglob("manifest.json")).write_text("[" * 100_000)
    assert "cannot be read as the manifest of a Cost Management export" in refused(source, workspace)


@pytest.mark.parametrize(
    ("field", "wrong", "sentence"),
    [("byteCount", 5, "its size is"), ("dataRowCount", 9, "announced with 9 rows but has 1")],
)
def test_a_blob_that_is_not_what_was_announced(tmp_path, workspace, field, wrong, sentence):
    blobs = export(USAGE)
    document = json.loads(blobs[f"{RUN}/manifest.json"])
    document["blobs"][0][field] = wrong
    blobs[f"{RUN}/manifest.json"] = json.dumps(document).encode()
    assert sentence in refused(write(tmp_path / "a", blobs), workspace)


def test_an_export_that_is_empty_where_there_were_rows(tmp_path, workspace):
    land(write(tmp_path / "a", export(USAGE)), workspace)
    header = csv_bytes(USAGE).splitlines(keepends=True)[0]
    name = f"{RUN}/part_0_0001.csv"
    blobs = {name: header, f"{RUN}/manifest.json": manifest([(name, header, 0)], submitted="2024-06-02T00:00:00Z")}
    assert "Azure 1234 no longer has actual rows for 2024-05, but 1 were landed" in refused(
        write(tmp_path / "a", blobs), workspace
    )


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "has no manifest.json of a Cost Management export, and no data files"),
        ({"a.csv": csv_bytes(USAGE), "b.csv": csv_bytes(USAGE | {"BillingAccountId": "9"})}, "several billing accounts (1234, 9)"),
        ({"a.csv": csv_bytes(USAGE, USAGE | {"BillingPeriodStartDate": "06/01/2024"})}, "several billing periods (2024-05, 2024-06)"),
        ({"a.csv": csv_bytes({"Cost": "1"})}, "a.csv of"),
    ],
)  # fmt: skip
def test_loose_files_that_make_no_month(tmp_path, workspace, files, sentence):
    (tmp_path / "a").mkdir()
    assert sentence in refused(write(tmp_path / "a", files), workspace)


@pytest.mark.parametrize(
    "change",
    [{"folder": None}, {"container": "https://x/y", "sas_variable": "S"}, {"sas_variable": "S"}, {"sas": "secret"}],
)
def test_a_document_that_is_wrong(change):
    given = {"vendor": "azure", "kind": "cost_management", "folder": "/exports"}
    AzureExportDocument.model_validate(given)
    with pytest.raises(ValueError, match=r"either folder or container|goes with container|Extra inputs"):
        AzureExportDocument.model_validate(given | change)


# -- real data --------------------------------------------------------------------------------------------


def real_sum(path):
    with path.open(encoding="utf-8-sig", newline="") as stream:
        costs = [Decimal(row["Cost"]).quantize(Decimal("1e-10")) for row in csv.DictReader(stream)]
    return len(costs), sum(costs)


@pytest.mark.parametrize(
    ("name", "lines", "billed", "savings"),
    [
        ("EA_ActualCost_Small.csv", 11, "8.5450077867", []),
        ("EA_AmortizedCost_Small.csv", 28, "16.2969321366", [("SP", "used", Decimal("0.0073475941"))]),
    ],
)
def test_a_real_enterprise_agreement(shared_data, workspace, name, lines, billed, savings):
    path = shared_data / "azure" / name
    (landed,) = folder_source("azure", path).land(workspace.lake.root, "2023-09", NOW)
    assert landed.delivery.account == "8611537"
    materialise(workspace, CostLineItems(), "2023-09")
    with workspace.lake.connect() as con:
        table = workspace.lake.scan("cost_line_items", ["2023-09"], CostLineItems.columns)
        total = con.execute(f"SELECT sum(line_count), sum(billed_cost), sum(effective_cost) FROM {table}").fetchone()
        saved = con.execute(
            f"SELECT commitment_discount_type, savings_kind, sum(list_cost - effective_cost) FROM {table} "
            "WHERE savings_kind IS NOT NULL GROUP BY ALL"
        ).fetchall()
        keys = con.execute(f"SELECT DISTINCT unnest(map_keys(tags)) AS key FROM {table}").fetchall()
    assert total == (lines, Decimal(billed), Decimal(billed)) == (*real_sum(path), total[2])
    assert saved == savings
    assert {"CostCenter", "env", "org"} <= {key for (key,) in keys}
