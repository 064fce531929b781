"""A partner's months: from Graph to the normalised rows, and all that can go wrong on the way."""

import gzip
import json
import threading
from datetime import UTC, date, datetime
from decimal import Decimal

import duckdb
import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.azure import usage as azure_usage
from octo_pipeline.vendors.azure.client import authorization_url, csp_source, redeem, verify
from octo_pipeline.vendors.azure.csp import AzureCspDocument, AzureCspFolderSource
from octo_pipeline.vendors.landing import deliveries, newest_deliveries
from tests.emulators.azure import CLIENT, SECRET, TENANT, blob, login_session
from tests.support.partner_rows import PARTNER_PURCHASE, PARTNER_USAGE

MONTH = "2024-05"
NOW = datetime(2024, 5, 20, 6, tzinfo=UTC)
CURRENT = "unbilled/current/GBP"
DOCUMENT = {
    "vendor": "azure", "kind": "csp", "tenant_id": TENANT, "client_id": CLIENT, "client_secret_variable": "CSP_SECRET",
    "currencies": ["GBP"],
}  # fmt: skip
REPEATED = {
    "PartnerId": TENANT, "ChargeStartDate": "2024-05-01T00:00:00Z", "ChargeType": "New", "ProductName": "Tiered Block Blob",
    "SubscriptionDescription": "Azure plan", "MeterDescription": "Reads", "Subtotal": 1.49, "Currency": "GBP",
}  # fmt: skip
INVOICE = {"id": "G001", "billingPeriodStartDate": "2024-05-01T00:00:00Z"}


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def make(fake_azure, pauses):
    """A source over the fake, made as the program makes it; nobody waits in it."""

    def make(today=date(2024, 5, 20), environment=None, **changes):
        given = {name: changes.pop(name) for name in ("refresh_token", "save_refresh_token") if name in changes}
        source = csp_source(
            AzureCspDocument.model_validate(DOCUMENT | changes),
            {"CSP_SECRET": SECRET} if environment is None else environment,
            graph_url=f"{fake_azure.url}/graph",
            partner_center_url=f"{fake_azure.url}/partner",
            http_client=login_session(fake_azure.url),
            pause=pauses.append,
            **given,
        )
        return type(source)(source.billing, source.http, source.currencies, today=lambda: today)

    return make


def land(source, workspace, month=MONTH, at=NOW):
    (landed,) = source.land(workspace.lake.root, month, at)
    return landed


def refused(source, workspace, month=MONTH):
    """The sentence; and what was landed stays."""
    before = deliveries(workspace.lake.root)
    with pytest.raises(OctoError) as found:
        source.land(workspace.lake.root, month, datetime(2024, 5, 21, tzinfo=UTC))
    assert deliveries(workspace.lake.root) == before
    sentence = str(found.value)
    assert SECRET not in sentence
    assert "sas-" not in sentence
    assert "refresh-" not in sentence
    return sentence


def rows(workspace, columns, month=MONTH):
    materialise(workspace, CostLineItems(), month)
    with workspace.lake.connect() as connection:
        table = workspace.lake.scan("cost_line_items", [month], CostLineItems.columns)
        return connection.execute(f"SELECT {columns} FROM {table} ORDER BY ALL").fetchall()


# -- which exports make a month ---------------------------------------------------------------------------


def test_the_current_month_is_what_is_unbilled(fake_azure, make, workspace, pauses):
    fake_azure.usage(CURRENT, PARTNER_USAGE, PARTNER_USAGE | {"UsageDate": "2024-05-04T00:00:00Z", "Tags": ""})
    source = make()
    (offered,) = source.available(MONTH)
    landed = land(source, workspace)
    assert (offered.account, offered.version) == (TENANT, landed.delivery.version)
    assert (landed.is_new, landed.delivery.account, landed.delivery.month) == (True, TENANT, MONTH)
    assert not land(source, workspace).is_new
    assert pauses[:2] == [5.0, 11.0]  # as the answers asked, not as we like
    assert rows(
        workspace,
        "vendor, billing_account_id, sub_account_id, sub_account_name, usage_date, line_type, charge_category, service_code, "
        "service_name, charge_description, operation, usage_type, region_id, billing_currency, savings_kind, tags, "
        "consumed_quantity, billed_cost, effective_cost, list_cost, line_count",
    ) == [
        ("azure", TENANT, "aaaa-1", "one-prod", date(2024, 5, day), "New", "Usage", "Storage", "Tiered Block Blob",
         "Blob - Reads", "Microsoft.Storage", "Blob / Reads", "uksouth", "GBP", None, tags, 2, Decimal("1.5"),
         Decimal("1.5"), Decimal(1), 1)
        for day, tags in ((3, {"team": "web"}), (4, {}))
    ]  # fmt: skip


def test_the_last_month_is_what_is_unbilled_until_its_invoice_comes(fake_azure, make, workspace):
    fake_azure.usage("unbilled/last/GBP", PARTNER_USAGE)
    june = date(2024, 6, 3)
    first = land(make(june), workspace)
    fake_azure.invoices = [INVOICE]
    fake_azure.usage("billed/G001", PARTNER_USAGE | {"BillingPreTaxTotal": 1.6})
    fake_azure.usage("reconciliation/G001", PARTNER_PURCHASE, REPEATED, PARTNER_PURCHASE | {"ReservationOrderId": None, "ChargeType":
                     "customerCredit", "CreditReasonCode": "outage", "Subtotal": -7.0, "SubscriptionDescription": "Azure plan"})  # fmt: skip
    second = land(make(june), workspace, at=datetime(2024, 6, 9, tzinfo=UTC))
    assert (second.is_new, second.delivery.version != first.delivery.version) == (True, True)
    assert newest_deliveries(workspace.lake.root, MONTH) == [second.delivery]
    assert rows(workspace, "charge_category, sub_account_id, commitment_discount_id, billed_cost") == [
        ("Credit", TENANT, None, Decimal(-7)),
        ("Purchase", TENANT, "order-1", Decimal(100)),
        ("Usage", "aaaa-1", None, Decimal("1.6")),
    ]


def test_all_invoices_of_the_month_count_and_no_other(fake_azure, make, workspace):
    other = {"id": "G003", "billingPeriodStartDate": "2024-04-01T00:00:00Z"}
    legacy = {"id": "D0001", "billingPeriodStartDate": "2024-05-01T00:00:00Z"}
    fake_azure.invoices = [INVOICE, INVOICE | {"id": "G002"}, other, legacy]
    for number, currency in (("G001", "GBP"), ("G002", "EUR")):
        fake_azure.usage(f"billed/{number}", PARTNER_USAGE | {"BillingCurrency": currency})
        fake_azure.usage(f"reconciliation/{number}", PARTNER_PURCHASE | {"Currency": currency})
    land(make(), workspace)
    assert rows(workspace, "billing_currency, sum(billed_cost) OVER (PARTITION BY billing_currency)")[::2] == [
        ("EUR", Decimal("101.5")),
        ("GBP", Decimal("101.5")),
    ]


def test_an_old_month_without_invoice_has_nothing_to_offer(fake_azure, make, workspace):
    fake_azure.usage(CURRENT, PARTNER_USAGE)
    land(make(), workspace)
    later = make(date(2024, 9, 1))
    assert later.available(MONTH) == []
    assert later.land(workspace.lake.root, MONTH, NOW) == []
    assert len(newest_deliveries(workspace.lake.root, MONTH)) == 1


def test_a_changed_export_is_a_new_version(fake_azure, make, workspace):
    fake_azure.usage(CURRENT, PARTNER_USAGE)
    first = land(make(), workspace)
    fake_azure.usage(CURRENT, PARTNER_USAGE, PARTNER_USAGE)
    second = land(make(), workspace, at=datetime(2024, 5, 21, tzinfo=UTC))
    assert second.is_new
    assert second.delivery.version != first.delivery.version
    assert rows(workspace, "billed_cost, line_count") == [(Decimal(3), 2)]


def test_amounts_keep_ten_places_whatever_their_size_and_spelling(fake_azure, make, workspace):
    text = json.dumps(PARTNER_USAGE).replace('"BillingPreTaxTotal": 1.5', '"BillingPreTaxTotal": 123456789.12345678905')
    camel = {name[0].lower() + name[1:]: value for name, value in PARTNER_USAGE.items()} | {
        "billingPreTaxTotal": "1E-10"
    }
    fake_azure.exports[CURRENT] = {
        "a.json.gz": gzip.compress(text.encode()),
        "b/c.json.gz": blob(camel | {"meterName": "BillingPreTaxTotal", "tags": '{"b":1,"a":"","b":2}'}),
    }
    land(make(), workspace)
    assert rows(workspace, "tags, billed_cost") == [
        ({"b": "1"}, Decimal("0.0000000001")),
        ({"team": "web"}, Decimal("123456789.1234567891")),
    ]


# -- what goes wrong --------------------------------------------------------------------------------------


@pytest.fixture
def landed(fake_azure, make, workspace):
    """A good delivery is there, and the export has changed since."""
    fake_azure.usage(CURRENT, PARTNER_USAGE)
    land(make(), workspace)
    fake_azure.usage(CURRENT, PARTNER_USAGE, PARTNER_USAGE)
    return make()


def test_an_operation_that_fails(fake_azure, landed, workspace):
    fake_azure.failed = {"code": "InternalServerError", "message": "Export failed."}
    sentence = refused(landed, workspace)
    assert sentence == (
        f"Azure partner tenant {TENANT}: could not export the unbilled usage of the current period in GBP: the operation "
        "failed (InternalServerError Export failed.). Nothing was landed; earlier deliveries stay."
    )


def test_an_operation_that_never_ends(fake_azure, landed, workspace, pauses):
    fake_azure.running = 10**6
    assert "the operation did not end within 3600 s" in refused(landed, workspace)
    assert sum(pauses) < 3700


def test_throttling_that_ends_and_throttling_that_does_not(fake_azure, landed, workspace, pauses):
    fake_azure.throttled = 10**6
    assert "is throttling requests (HTTP 429) after 5 tries" in refused(landed, workspace)
    assert len(pauses[-4:]) == 4
    assert all(7 <= pause < 10.75 for pause in pauses[-4:])
    fake_azure.throttled = 4
    assert land(landed, workspace).is_new


def test_an_sas_that_expires_is_renewed_once(fake_azure, landed, workspace):
    fake_azure.expired = {"sas-1"}
    assert land(landed, workspace).is_new
    assert ("GET", "/graph/v1.0/reports/partners/billing/manifests/dW5iaWxsZWQvY3VycmVudC9HQlA=") in fake_azure.asked


def test_an_sas_that_is_refused_again(fake_azure, landed, workspace):
    fake_azure.expired = {"sas-1", "sas-2", "sas-3"}
    sentence = refused(landed, workspace)
    assert "was refused (HTTP 403), and so was a new one" in sentence
    assert sum("manifests" in path for _, path in fake_azure.asked) == 1


def test_a_blob_that_breaks_off_is_gone_on_with(fake_azure, landed, workspace):
    fake_azure.cut = 2
    delivery = land(landed, workspace).delivery
    with duckdb.connect() as con:
        found = azure_usage.relations(con, [delivery])["azure_csp_usage"]
        assert con.execute(f"SELECT count(*) FROM ({found})").fetchall() == [(2,)]


def test_a_blob_that_is_cut_off_for_good(fake_azure, landed, workspace):
    fake_azure.cut = 10**6
    assert "part-0.json.gz was cut off 5 times" in refused(landed, workspace)


def test_a_blob_with_another_checksum(fake_azure, landed, workspace):
    fake_azure.wrong_md5 = True
    assert "has a different checksum (MD5) than the storage announced" in refused(landed, workspace)


def test_a_blob_that_is_no_whole_gzip(fake_azure, landed, workspace):
    fake_azure.exports[CURRENT]["part-0.json.gz"] = fake_azure.exports[CURRENT]["part-0.json.gz"][:-12]
    assert "is damaged or cut off" in refused(landed, workspace)


def test_another_number_of_blobs(fake_azure, landed, workspace):
    fake_azure.extra_blobs = 1
    assert "a manifest that announces 2 blobs but lists 1" in refused(landed, workspace)


@pytest.mark.parametrize("empty", [{}, {"part-0.json.gz": blob()}])
def test_an_empty_answer_where_there_were_rows(fake_azure, landed, workspace, empty):
    fake_azure.exports[CURRENT] = empty
    assert f"Azure {TENANT} no longer has usage rows for {MONTH}, but 1 were landed on 2024-05-20" in refused(
        landed, workspace
    )
    assert rows(workspace, "billed_cost") == [(Decimal("1.5"),)]


def test_a_list_of_invoices_that_lost_the_months(fake_azure, make, workspace):
    """Regression: the month went back to what was unbilled, without its purchases."""
    fake_azure.invoices = [INVOICE]
    fake_azure.usage("billed/G001", PARTNER_USAGE)
    fake_azure.usage("reconciliation/G001", PARTNER_PURCHASE)
    fake_azure.usage("unbilled/last/GBP", PARTNER_USAGE)
    source = make(today=date(2024, 6, 9))
    land(source, workspace)
    fake_azure.invoices = []
    assert "no longer has reconciliation rows for 2024-05" in refused(source, workspace)


def test_a_list_of_invoices_that_lost_one_of_two(fake_azure, make, workspace):
    """Regression: the other invoice still had rows, so the smaller month was accepted."""
    fake_azure.invoices = [INVOICE, INVOICE | {"id": "G002"}]
    for number in ("G001", "G002"):
        fake_azure.usage(f"billed/{number}", PARTNER_USAGE)
        fake_azure.usage(f"reconciliation/{number}", PARTNER_PURCHASE)
    source = make(today=date(2024, 6, 9))
    land(source, workspace)
    fake_azure.invoices = [INVOICE]
    sentence = refused(source, workspace)
    assert "no longer lists reconciliation" in sentence
    assert "G002 for 2024-05" in sentence


def test_an_invoice_with_usage_whose_daily_usage_is_empty(fake_azure, make, workspace):
    fake_azure.invoices = [INVOICE]
    fake_azure.usage("billed/G001")
    fake_azure.usage("reconciliation/G001", PARTNER_PURCHASE, REPEATED)
    assert f"the invoices of {MONTH} have 1 lines of usage, but their daily usage has no rows" in refused(
        make(), workspace
    )
    fake_azure.usage("reconciliation/G001", PARTNER_PURCHASE)
    land(make(), workspace)
    assert rows(workspace, "charge_category, billed_cost") == [("Purchase", Decimal(100))]


def test_a_month_that_was_always_empty(fake_azure, make, workspace):
    fake_azure.usage(CURRENT)
    assert make().land(workspace.lake.root, MONTH, NOW) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"BillingPreTaxTotal": "a lot"}, "line 2: BillingPreTaxTotal is 'a lot', which is not an amount"),
        ({"BillingPreTaxTotal": None}, "line 2: BillingPreTaxTotal is empty, no row can do without it"),
        ({"UsageDate": "yesterday"}, "line 2: UsageDate is 'yesterday', which is not a date"),
        ({"Tags": "{"}, "line 2: Tags is '{', which is not a JSON object"),
        ({"PartnerId": "another"}, f"line 2: partner_id is 'another', but the export is of {TENANT}"),
        ({"Quantity": {"Quantity": 3}}, "line 2: Quantity is '{\"Quantity\":3}', which is not an amount"),
    ],
)
def test_a_bad_value(fake_azure, landed, workspace, change, sentence):
    fake_azure.usage(CURRENT, PARTNER_USAGE, PARTNER_USAGE | change)
    assert sentence in refused(landed, workspace)


def test_a_line_that_is_no_json(fake_azure, landed, workspace):
    fake_azure.exports[CURRENT] = {"x.json.gz": gzip.compress(json.dumps(PARTNER_USAGE).encode() + b"\n{oops\n")}
    assert "x.json.gz of partner billing of" in (sentence := refused(landed, workspace))
    assert "line 2: the line is not a JSON object" in sentence


def test_an_export_without_costs(fake_azure, landed, workspace):
    fake_azure.usage(CURRENT, {"PartnerId": TENANT, "UsageDate": "2024-05-01"})
    assert "has no column billing_pre_tax_total, billing_currency" in refused(landed, workspace)


def test_no_permission(fake_azure, landed, workspace):
    fake_azure.forbidden = True
    assert "lacks PartnerBilling.Read.All, an admin's consent to it, or a billing role" in refused(landed, workspace)


def test_nobody_answers(fake_azure, make, workspace, pauses):
    source = make()
    source.billing._invoices = "http://127.0.0.1:9/partner/v1/invoices"
    source.billing._call = lambda method, url, json=None: source.http.request(method, url, json=json)
    assert refused(source, workspace).startswith(
        "http://127.0.0.1:9/partner/v1/invoices cannot be reached (ConnectionError) after 5 tries"
    )


# -- signing in -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"environment": {"CSP_SECRET": "wrong"}}, None, "the client secret is wrong"),
        (
            {"environment": {"CSP_SECRET": SECRET}},
            "AADSTS700016: no such app",
            "the application is not known in this tenant",
        ),
        ({}, "AADSTS65001: not consented", "nobody has consented to the application's permissions"),
        ({}, "AADSTS1234567: news", "it was refused (invalid_grant, AADSTS1234567)"),
        ({"tenant_id": TENANT.replace("0b", "1b")}, None, "check the tenant id"),
    ],
)
def test_a_sign_in_that_is_refused(fake_azure, make, workspace, changes, error, sentence):
    fake_azure.login_error = error
    said = refused(make(**changes), workspace)
    assert "could not sign in" in said
    assert sentence in said


def test_a_secret_that_is_not_set(make):
    with pytest.raises(OctoError, match="needs the secret in the environment variable CSP_SECRET, which is not set"):
        make(environment={})


def test_the_application_alone_asks_for_a_token_of_each_service_once(fake_azure, make, workspace):
    fake_azure.usage(CURRENT, PARTNER_USAGE)
    source = make()
    source.available(MONTH)
    land(source, workspace)
    assert [(grant["grant_type"], grant["scope"]) for grant in fake_azure.grants] == [
        ("client_credentials", "https://api.partnercenter.microsoft.com/.default"),
        ("client_credentials", "https://graph.microsoft.com/.default"),
    ]


def test_a_refresh_token_rotates_and_the_next_one_is_saved(fake_azure, make, workspace):
    fake_azure.usage(CURRENT, PARTNER_USAGE)
    saved = []
    land(make(sign_in="user", refresh_token="refresh-0", save_refresh_token=saved.append), workspace)
    assert saved == ["refresh-1", "refresh-2"]
    assert [grant["refresh_token"] for grant in fake_azure.grants] == ["refresh-0", "refresh-1"]
    land(make(sign_in="user", refresh_token=saved[-1], save_refresh_token=saved.append), workspace)
    source = make(sign_in="user", refresh_token="refresh-0", save_refresh_token=saved.append)
    assert "the sign-in has expired because it was not used for 90 days; sign in again" in refused(source, workspace)


def test_threads_share_one_refresh(fake_azure, make):
    saved = []
    source = make(sign_in="user", refresh_token="refresh-0", save_refresh_token=saved.append)
    threads = [threading.Thread(target=source.billing.invoices, args=(MONTH,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert saved == ["refresh-1"]


def test_a_user_must_have_signed_in(make):
    with pytest.raises(OctoError, match="nobody has signed in yet"):
        make(sign_in="user")


def test_the_sign_in_in_the_browser(fake_azure):
    document = AzureCspDocument.model_validate(DOCUMENT | {"sign_in": "user"})
    given = {"http_client": login_session(fake_azure.url)}
    begun = authorization_url(document, SECRET, redirect_uri="https://octo.example/back", **given)
    assert begun.url.startswith(f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/authorize?")
    assert f"state={begun.state}" in begun.url
    assert "code_challenge_method=S256" in begun.url
    assert "redirect_uri=https%3A%2F%2Focto.example%2Fback" in begun.url
    with pytest.raises(OctoError, match="does not belong to this sign-in"):
        redeem(document, SECRET, begun, {"code": "c0de", "state": "forged"}, **given)
    response, verifier = {"code": "c0de", "state": begun.state}, begun.flow["code_verifier"]
    assert redeem(document, SECRET, begun, response, **given) == "refresh-0"
    assert fake_azure.grants[-1]["code_verifier"] == verifier
    with pytest.raises(OctoError, match="it was used before"):
        redeem(document, SECRET, begun, response, **given)
    fake_azure.login_error = "AADSTS70008: code expired"
    begun = authorization_url(document, SECRET, redirect_uri="https://octo.example/back", **given)
    with pytest.raises(OctoError, match="the sign-in or its code has expired; sign in again"):
        redeem(document, SECRET, begun, {"code": "c0de", "state": begun.state}, **given)


def test_verifying_asks_both_services(fake_azure, make):
    verify(make())
    assert [path for _, path in fake_azure.asked if "/login/" not in path] == [
        "/partner/v1/invoices",
        "/graph/v1.0/reports/partners/billing/usage/unbilled/export",
    ]
    fake_azure.forbidden = True
    with pytest.raises(OctoError, match=r"PartnerBilling\.Read\.All"):
        verify(make())


def test_a_token_goes_to_no_other_address(make):
    with pytest.raises(OctoError, match=r"leads to https://evil\.example/x, which is not one of its services"):
        make().billing._call("GET", "https://evil.example/x?a=b")


@pytest.mark.parametrize(
    "change",
    [
        {"tenant_id": "me"},
        {"client_secret": "x"},
        {"currencies": []},
        {"client_secret_variable": "not a name"},
        {"kind": "x"},
    ],
)
def test_a_document_that_is_wrong(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        AzureCspDocument.model_validate(DOCUMENT | change)


# -- from a folder ----------------------------------------------------------------------------------------


def write_export(folder, name, *lines, etag="e1", **changes):
    target = folder / TENANT / MONTH / name
    target.mkdir(parents=True)
    (target / "part-0.json.gz").write_bytes(blob(*lines))
    manifest = {"eTag": etag, "blobCount": 1, "blobs": [{"name": "part-0.json.gz"}]} | changes
    (target / "manifest.json").write_text(json.dumps(manifest))


def test_a_folder_in_which_billed_supersedes_unbilled(tmp_path, workspace):
    folder = tmp_path / "csp"
    write_export(folder, "usage-unbilled-GBP", PARTNER_USAGE | {"BillingPreTaxTotal": 9})
    source = AzureCspFolderSource(folder)
    land(source, workspace)
    assert rows(workspace, "billed_cost") == [(Decimal(9),)]
    write_export(folder, "usage-billed-G001", PARTNER_USAGE)
    write_export(folder, "reconciliation-billed-G001", PARTNER_PURCHASE, REPEATED)
    landed = land(source, workspace, at=datetime(2024, 6, 9, tzinfo=UTC))
    assert [one.version for one in source.available(MONTH)] == [landed.delivery.version]
    assert source.available("2024-04") == []
    assert rows(workspace, "charge_category, billed_cost") == [("Purchase", Decimal(100)), ("Usage", Decimal("1.5"))]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"blobs": [{"name": "gone.json.gz"}]}, "lists gone.json.gz, which is not beside it"),
        ({"blobCount": 3}, "announces 3 blobs but lists 1"),
        ({"blobs": [{}]}, "a manifest that cannot be read"),
    ],
)
def test_a_folder_that_is_not_whole(tmp_path, workspace, changes, sentence):
    write_export(tmp_path / "csp", "usage-billed-G001", PARTNER_USAGE, **changes)
    assert sentence in refused(AzureCspFolderSource(tmp_path / "csp"), workspace)


def test_a_manifest_that_is_nested_too_deep(tmp_path, workspace):
    """Regression: it was a traceback."""
    write_export(tmp_path / "csp", "usage-billed-G001", PARTNER_USAGE)
    next((tmp_path / "csp").rglob("manifest.json")).write_text("[" * 100_000)
    assert "is not JSON" in refused(AzureCspFolderSource(tmp_path / "csp"), workspace)


def test_a_blob_that_is_one_endless_line(tmp_path, workspace):
    """Regression: it was read into memory whole, a thousand times the size of the file."""
    write_export(tmp_path / "csp", "usage-billed-G001", PARTNER_USAGE)
    with gzip.open(next((tmp_path / "csp").rglob("*.json.gz")), "wb") as stream:
        stream.write(b"0" * (20 << 20))
    assert "has a line of more than 16 MiB" in refused(AzureCspFolderSource(tmp_path / "csp"), workspace)


def test_a_link_that_leads_out_is_refused(tmp_path, workspace):
    """Regression: whatever it led to was read."""
    write_export(tmp_path / "csp", "usage-billed-G001", PARTNER_USAGE)
    data = next((tmp_path / "csp").rglob("*.json.gz"))
    data.rename(tmp_path / "elsewhere")
    data.symlink_to(tmp_path / "elsewhere")
    assert "is a link that leads out of" in refused(AzureCspFolderSource(tmp_path / "csp"), workspace)
    (tmp_path / "elsewhere").unlink()
    data.unlink()
    data.symlink_to(data.with_name("gone"))
    assert f"{data} cannot be read" in refused(AzureCspFolderSource(tmp_path / "csp"), workspace)


def test_a_landed_file_that_was_changed_is_named(tmp_path, workspace):
    write_export(tmp_path / "csp", "usage-billed-G001", PARTNER_USAGE)
    delivery = land(AzureCspFolderSource(tmp_path / "csp"), workspace).delivery
    (path,) = delivery.file_paths
    with duckdb.connect() as con:
        assert azure_usage.explain_failure(con, [delivery]) is None
        content = path.read_bytes()
        path.write_bytes(content[:-8] + b"\0" * 8)
        assert "is damaged or cut off" in str(azure_usage.explain_failure(con, [delivery]))
        path.write_bytes(content[:-1])
        with pytest.raises(OctoError, match="was cut off or changed"):
            azure_usage.relations(con, [delivery])
