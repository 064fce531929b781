"""Cost Management's files without a manifest: which count, whose they are, and what in them is refused."""

from datetime import UTC, datetime
from decimal import Decimal

import duckdb
import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.sources import folder_source
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.landing import deliveries
from tests.support.azure_exports import (
    AMORTISED,
    BOUGHT,
    COVERED,
    FOCUS,
    MONTH,
    UNUSED,
    USAGE,
    csv_bytes,
    day,
    export,
    write,
)

NOW = datetime(2024, 6, 10, tzinfo=UTC)
SUBSCRIPTION = "AAAAAAAA-0000-0000-0000-000000000001"
PAYG = {
    "SubscriptionGuid": SUBSCRIPTION, "ResourceGroup": "rg", "ResourceLocation": "EU West", "UsageDateTime": "2024-05-05",
    "MeterCategory": "Storage", "MeterSubcategory": "Standard", "MeterId": "m", "MeterName": "Disk", "UsageQuantity": "2",
    "ResourceRate": "0.5", "PreTaxCost": "1.0", "ConsumedService": "Microsoft.Storage", "InstanceId": "/subscriptions/x/1",
    "Tags": '{"team":"a"}', "OfferId": "MS-AZR-0003P", "Currency": "EUR", "UnitOfMeasure": "100 Hours",
}  # fmt: skip
LOCALISED = {
    "SubscriptionGuid": "Abonnement-GUID (SubscriptionGuid)",
    "UsageDateTime": "Datum (UsageDateTime)",
    "MeterCategory": "Kategorie der Verbrauchseinheit (MeterCategory)",
    "UsageQuantity": "使用量（UsageQuantity）",
    "PreTaxCost": "PreTaxCost (PreTaxCost)",
    "Currency": "Währung (Currency)",
    "Tags": "Tags (Tags)",
}


def land(tmp_path, workspace, files):
    (tmp_path / "loose").mkdir()
    return write(tmp_path / "loose", files).land(workspace.lake.root, MONTH, NOW)


def refusal(tmp_path, workspace, files):
    with pytest.raises(OctoError) as refused:
        land(tmp_path, workspace, files)
    assert deliveries(workspace.lake.root) == []
    return str(refused.value)


def line_items(workspace, columns):
    materialise(workspace, CostLineItems(), MONTH)
    with workspace.lake.connect() as con:
        table = workspace.lake.scan("cost_line_items", [MONTH], CostLineItems.columns)
        return con.execute(f"SELECT {columns} FROM {table} GROUP BY ALL ORDER BY ALL").fetchall()


def bill(workspace):
    return line_items(workspace, "sum(billed_cost), sum(line_count)")


def month_to_date(last, row=day):
    return csv_bytes(*(row(number) for number in range(1, last + 1)))


def focus_day(number):
    return FOCUS | {"ChargePeriodStart": f"2024-05-{number:02d}T00:00:00Z", "BilledCost": "1"}


# -- copies, refreshes and parts --------------------------------------------------------------------------


@pytest.mark.parametrize("row", [day, focus_day])
def test_of_month_to_date_files_the_last_counts(tmp_path, workspace, row):
    """Regression: 5, 10 and 31 days were added up to 46.00."""
    land(tmp_path, workspace, {f"daily_{last:02d}.csv": month_to_date(last, row) for last in (5, 10, 31)})
    assert bill(workspace) == [(Decimal(31), 31)]


def test_a_copy_counts_once(tmp_path, workspace):
    """As it is, in another order of rows, and in another order of columns."""
    rows = [day(number) for number in range(1, 4)]
    turned = [dict(reversed(row.items())) for row in rows]
    files = {"a.csv": csv_bytes(*rows), "a (1).csv": csv_bytes(*rows), "b.csv": csv_bytes(*reversed(rows)),
             "c.csv": csv_bytes(*turned)}  # fmt: skip
    land(tmp_path, workspace, files)
    assert bill(workspace) == [(Decimal(3), 3)]


def test_a_copy_in_another_format_counts_once(tmp_path, workspace):
    land_folder = tmp_path / "loose"
    land_folder.mkdir()
    (land_folder / "actual.csv").write_bytes(month_to_date(3))
    with duckdb.connect() as con:
        con.execute(
            f"COPY (SELECT * REPLACE (Cost::DECIMAL(20,4) AS Cost, strptime(Date, '%m/%d/%Y')::DATE AS Date) FROM "
            f"read_csv('{land_folder / 'actual.csv'}', all_varchar = true)) TO '{land_folder / 'actual.parquet'}'"
        )
    folder_source("azure", land_folder).land(workspace.lake.root, MONTH, NOW)
    assert bill(workspace) == [(Decimal(3), 3)]


def test_parts_are_added_up(tmp_path, workspace):
    """Disjoint days, and rows of one day that differ in nothing but the resource."""
    files = {
        "part_0.csv": csv_bytes(day(1, ResourceId="/vm/1"), day(2, ResourceId="/vm/1")),
        "part_1.csv": csv_bytes(day(1, ResourceId="/vm/2"), day(2, ResourceId="/vm/2")),
        "part_2.csv": csv_bytes(day(3, ResourceId="/vm/1")),
    }
    land(tmp_path, workspace, files)
    assert bill(workspace) == [(Decimal(5), 5)]


def test_refreshes_that_differ_are_refused_by_name(tmp_path, workspace):
    restated = csv_bytes(*(day(number) for number in range(1, 5)), day(5, Cost="3.00"), day(6))
    assert "a.csv and b.csv" in refusal(tmp_path, workspace, {"a.csv": month_to_date(5), "b.csv": restated})


def test_actual_and_amortised_are_told_apart_by_their_rows(tmp_path, workspace):
    """Neither name says what it is; unused commitments are in an amortised export alone."""
    files = {"export_1.csv": csv_bytes(USAGE, COVERED, BOUGHT), "export_2.csv": csv_bytes(USAGE, AMORTISED, UNUSED)}
    land(tmp_path, workspace, files)
    assert line_items(workspace, "sum(billed_cost), sum(effective_cost)") == [(Decimal("91.5"), Decimal("10.5"))]


def test_an_older_focus_file_does_not_take_the_place_of_actual_cost(tmp_path, workspace):
    land(tmp_path, workspace, {"focus.csv": month_to_date(5, focus_day), "actual.csv": month_to_date(31)})
    assert bill(workspace) == [(Decimal(31), 31)]


# -- whose bill -------------------------------------------------------------------------------------------


def test_pay_as_you_go_is_billed_to_its_subscription(tmp_path, workspace):
    """Regression: refused for its lack of a BillingAccountId, which such an export cannot have."""
    land(tmp_path, workspace, {"export.csv": csv_bytes(PAYG, PAYG | {"UsageDateTime": "2024-05-06"})})
    expected = [(SUBSCRIPTION.lower(), SUBSCRIPTION.lower(), Decimal(2), Decimal(4), {"team": "a"})]
    columns = "billing_account_id, sub_account_id, sum(billed_cost), sum(consumed_quantity), tags"
    assert line_items(workspace, columns) == expected


def test_subscriptions_of_pay_as_you_go_are_payers_of_their_own(tmp_path, workspace):
    """In one file, in several, and each in both."""
    other = PAYG | {"SubscriptionGuid": "bbbb-2"}
    files = {
        "a.csv": csv_bytes(PAYG, other, other | {"UsageDateTime": "2024-05-09"}),
        "b.csv": csv_bytes(PAYG | {"UsageDateTime": "2024-05-10", "PreTaxCost": "7"}),
    }
    landed = land(tmp_path, workspace, files)
    assert [one.delivery.account for one in landed] == [SUBSCRIPTION.lower(), "bbbb-2"]
    assert line_items(workspace, "billing_account_id, sum(billed_cost), sum(line_count)") == [
        (SUBSCRIPTION.lower(), Decimal(8), 2),
        ("bbbb-2", Decimal(2), 2),
    ]


def test_pay_as_you_go_with_a_manifest_is_billed_to_its_scope(tmp_path, workspace):
    scope = f"/subscriptions/{SUBSCRIPTION}"
    source = write(tmp_path / "exports", export(PAYG, kind="Usage", scope=scope))
    (landed,) = source.land(workspace.lake.root, MONTH, NOW)
    assert landed.delivery.account == SUBSCRIPTION
    assert line_items(workspace, "billing_account_id, sub_account_id, sum(billed_cost)") == [
        (SUBSCRIPTION.lower(), SUBSCRIPTION.lower(), Decimal(1))
    ]


def test_a_partners_customer(tmp_path, workspace):
    """camelCase, a column for the billing account that is empty, and a period."""
    row = {
        "billingAccountId": "", "billingAccountName": "", "partnerName": "P", "customerTenantId": "t", "customerName": "C",
        "billingPeriodStartDate": "2024-05-01", "date": "2024-05-05", "subscriptionId": "AAAA-1", "subscriptionName": "one",
        "meterCategory": "Virtual Network", "meterName": "IP", "quantity": "3", "chargeType": "Usage", "billingCurrency":
        "EUR", "costInBillingCurrency": "0.012", "payGPrice": "0.004", "pricingModel": "OnDemand", "tags": "",
    }  # fmt: skip
    scope = "/providers/Microsoft.Billing/billingAccounts/p:1/customers/cccc"
    write(tmp_path / "exports", export(row, scope=scope)).land(workspace.lake.root, MONTH, NOW)
    assert line_items(workspace, "billing_account_id, sub_account_id, sum(billed_cost), sum(list_cost)") == [
        ("cccc", "aaaa-1", Decimal("0.012"), Decimal("0.012"))
    ]


def test_localised_names_count_by_what_stands_in_brackets(tmp_path, workspace):
    row = {LOCALISED.get(name, name): value for name, value in PAYG.items()}
    land(tmp_path, workspace, {"export.csv": csv_bytes(row)})
    assert line_items(workspace, "service_code, tags, sum(billed_cost), sum(consumed_quantity)") == [
        ("Storage", {"team": "a"}, Decimal(1), Decimal(2))
    ]


@pytest.mark.parametrize(
    "names",
    [
        {"PreTaxCost": "Kosten", "Currency": "Währung", "UsageDateTime": "Datum"},
        {name: f"col{number}" for number, name in enumerate(PAYG)},
        {"PreTaxCost": "Coût avant impôt"},
    ],
)
def test_a_header_that_is_localised_is_refused_as_that(tmp_path, workspace, names):
    row = {names.get(name, name): value for name, value in PAYG.items()}
    sentence = refusal(tmp_path, workspace, {"export.csv": csv_bytes(row)})
    assert "has names that no export in English has" in sentence
    assert "If it is localised, export it with English column names" in sentence


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"a.csv": csv_bytes(PAYG), "b.csv": csv_bytes(USAGE)}, "several billing accounts (1234, aaaaaaaa-0000"),
        ({"a.csv": csv_bytes(PAYG | {"SubscriptionGuid": ""})}, "a.csv of"),
        ({"a.csv": csv_bytes(USAGE, USAGE | {"BillingAccountId": ""})}, "line 3: billing_account_id is empty, but"),
    ],
)
def test_rows_whose_payer_is_not_known(tmp_path, workspace, files, sentence):
    assert sentence in refusal(tmp_path, workspace, files)


# -- dates that a spreadsheet wrote -----------------------------------------------------------------------

DAY_FIRST = {
    "an end of the 31st": [
        USAGE | {"BillingPeriodStartDate": "01/05/2024", "BillingPeriodEndDate": "31/05/2024", "Date": "05/05/2024"}
    ],
    "days in a period month first": [day(1, Date="06/05/2024"), day(1, Date="07/05/2024")],
    "days and periods": [
        day(1, BillingPeriodStartDate="01/05/2024", Date="06/05/2024"),
        day(1, BillingPeriodStartDate="01/05/2024", Date="01/05/2024"),
    ],
    "the first of the month alone": [day(1, BillingPeriodStartDate="01/05/2024", Date="01/05/2024")],
    "days without a period": [
        {name: value for name, value in day(1, Date=f"{number:02d}/05/2024").items() if "Period" not in name}
        for number in (3, 4)
    ],
    "one of the 13th": [day(1), day(1, Date="13/05/2024")],
    "with a time": [day(1, Date="06/05/2024 00:00:00")],
    "with dots": [day(1, Date="06.05.2024")],
    "with a year of two digits": [day(1, Date="06/05/24")],
}


@pytest.mark.parametrize("loose", [True, False])
@pytest.mark.parametrize("rows", DAY_FIRST.values(), ids=DAY_FIRST)
def test_dates_with_the_day_before_the_month_are_refused(tmp_path, workspace, rows, loose):
    """Regression: they landed in other months, or the file was passed over as one of another month."""
    (tmp_path / "loose").mkdir()
    files = {"actual.csv": csv_bytes(*rows)} if loose else export(*rows)
    source = write(tmp_path / "loose", files)
    with pytest.raises(OctoError, match=r", line [23]: .*(day before the month|which is not a date)"):
        source.land(workspace.lake.root, MONTH, NOW)
    assert deliveries(workspace.lake.root) == []


@pytest.mark.parametrize(
    "rows",
    [
        [day(5), day(6)],
        [day(1, Date="2024-05-06", BillingPeriodStartDate="2024-05-01"), day(1, Date="2024-04-30")],
        [day(1, Date="05/03/2024 00:00:00")],
        [day(1, Date="5/3/2024", BillingPeriodStartDate="5/1/2024")],
        # What was used late in a month can be billed in the next.
        [day(1, Date="04/05/2024"), day(20)],
        [day(1, Date="2024/05/03")],
    ],
)
def test_dates_as_azure_writes_them_are_read(tmp_path, workspace, rows):
    land(tmp_path, workspace, {"actual.csv": csv_bytes(*rows)})
    assert bill(workspace) == [(Decimal(len(rows)), len(rows))]


# -- other files ------------------------------------------------------------------------------------------


def test_files_that_copies_leave_are_passed_over(tmp_path, workspace):
    """Regression: the source was refused for ._actual.csv, which macOS writes beside each file."""
    junk = b"\x00\x05\x16\x07\x00junk"
    files = {"actual.csv": csv_bytes(USAGE), "._actual.csv": junk, ".DS_Store": junk, ".~lock.actual.csv#": junk}
    land(tmp_path, workspace, files)
    assert bill(workspace) == [(Decimal("1.5"), 1)]


def test_hidden_folders_are_passed_over(tmp_path, workspace):
    blobs = export(USAGE)
    files = dict(blobs)
    for name, content in blobs.items():
        folder, _, last = name.rpartition("/")
        files |= {f"{folder}/._{last}": b"junk", f".snapshot/{name}": content, f"__MACOSX/{folder}/._{last}": b"junk"}
    write(tmp_path / "exports", files).land(workspace.lake.root, MONTH, NOW)
    assert bill(workspace) == [(Decimal("1.5"), 1)]


@pytest.mark.parametrize("name", ["costs.xlsx", "costs.csv.zip", "costs.json", "costs.parquet.gz", "costs.tsv"])
def test_data_in_a_form_that_is_not_read_is_named(tmp_path, workspace, name):
    files = {"actual.csv": csv_bytes(USAGE), name: b"data"}
    assert f"has {name}, which is not read" in refusal(tmp_path, workspace, files)


def test_exports_without_costs_are_passed_over(tmp_path, workspace):
    prices = {
        "enrollmentNumber": "1",
        "MeterId": "m",
        "unitPrice": "2",
        "includedQuantity": "0",
        "offerId": "o",
        "currencyCode": "EUR",
    }
    reserved = {"ReservationId": "r", "UsageDate": "05/01/2024", "ReservedHours": "24", "UsedHours": "20"}
    files = {"actual.csv": csv_bytes(USAGE), "prices.csv": csv_bytes(prices), "details.csv": csv_bytes(reserved),
             "readme.txt": b"what this is"}  # fmt: skip
    land(tmp_path, workspace, files)
    assert bill(workspace) == [(Decimal("1.5"), 1)]
