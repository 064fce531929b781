"""Accounts: the list, what one costs and why, and the registration of an AWS payer and a linked account to its end."""

import re
from functools import partial
from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest

from octo_pipeline.registry.records import Actor, NewAccount
from octo_pipeline.vendors.aws import registration as aws
from octo_pipeline.vendors.azure import client as azure_client
from tests.emulators.aws_accounts import PRINCIPAL, TEMPLATE_URL, aws_accounts
from tests.emulators.azure import CLIENT, SECRET, TENANT, login_session
from tests.support.aws_registration import CUR_BUCKET, SAMPLE_PAYER, deliver_report
from tests.support.small_month import MONTH

__all__ = ["aws_accounts"]

HOSTILE = '"><script>alert(1)</script>\u202e'
PARTNER = "11111111-2222-3333-4444-555555555555"
AZURE = {
    "partner_id": "1234567", "tenant_id": PARTNER, "name": "Reseller", "currencies": "GBP, EUR",
    "center_application": PARTNER, "center_secret": "the center's key", "api_application": PARTNER, "api_secret": "the api's key",
}  # fmt: skip
GCP = {"account_id": "0D1DR5-ADE21G-RF09W1", "project": "host", "dataset": "exports", "region": "EU", "name": ""}


@pytest.fixture
def installation(monkeypatch, made_month, tmp_path, request):
    """A console whose installation may make launch links."""
    monkeypatch.setenv("OCTO_AWS_PRINCIPAL", PRINCIPAL)
    monkeypatch.setenv("OCTO_AWS_TEMPLATE_URL", TEMPLATE_URL)
    monkeypatch.setenv("OCTO_GCP_SERVICE_ACCOUNT", "octo@company.iam.gserviceaccount.com")
    return request.getfixturevalue("own_console")


def launch_link(page: str) -> str:
    (link,) = re.findall(r'href="(https://console\.aws[^"]+)" target="_blank" rel="noopener noreferrer"', page)
    return unescape(link)


def steps(console, account: str) -> str:
    """The states of an account on its page."""
    return " ".join(
        re.findall(
            r'<span class="tag [a-z]+">((?:API|PAYER|CUR)[^<]*)', console.page(f"/accounts/aws/{account}", "admin")
        )
    )


def test_accounts_with_costs_are_listed_though_nobody_registered_them(console):
    text = console.text(f"/accounts?month={MONTH}")
    assert "not registered" in text and "Register an account" not in text
    assert "Register an account" in console.text("/accounts", "admin")
    page = console.page("/accounts")
    assert 'href="/accounts/aws/1"' in page and 'href="/accounts/aws/2"' in page
    found = console.page("/accounts?text=1&vendor=aws&sort=name")
    assert 'href="/accounts/aws/1"' in found and 'href="/accounts/aws/2"' not in found
    assert "No account is like that." in console.text("/accounts?state=open")


def test_an_account_shows_what_it_costs_and_why_that_changed(console):
    text = console.text(f"/accounts/aws/1?month={MONTH}")
    assert "Billed 10.00" in text and "Booked on it by rules 25.00" in text and "Pays 35.00" in text
    assert "There is no other month to compare with." in text
    asked = console.text(f"/accounts/aws/1?month={MONTH}&against=2023-12")
    assert "The lake has no account costs of 2023-12." in asked
    assert console.get("/accounts/aws/nobody").status_code == 404
    assert console.get(f"/accounts/-/{HOSTILE}").status_code == 404


@pytest.mark.slow
def test_a_payer_and_a_linked_account_from_the_first_step_to_the_last(installation, aws_accounts, tmp_path):
    (linked,) = aws_accounts.organization(SAMPLE_PAYER, "Workload")
    path = f"/accounts/aws/{SAMPLE_PAYER}"
    answer = installation.post("/accounts/register/aws", "admin", {"account_id": SAMPLE_PAYER, "name": "Main"})
    assert (answer.status_code, answer.headers["location"]) == (303, path)

    page = installation.page(path, "admin")
    link = launch_link(page)
    account = installation.workspace.registry.accounts.find("Main")
    assert account.external_id in page and PRINCIPAL in page
    # Confirmed before the stack is there: it says what failed, and the link stays.
    assert installation.post(f"{path}/confirm", "admin").status_code == 303
    text = installation.text(path, "admin")
    assert "octo-pipeline-api-access-" in text and "Put it right there and press Confirm again." in text
    assert "asks again by itself every hour" in text
    assert steps(installation, SAMPLE_PAYER) == "API open"

    aws_accounts.open(link, SAMPLE_PAYER)
    installation.post(f"{path}/confirm", "admin")
    assert steps(installation, SAMPLE_PAYER) == "API CUR open"
    report = {"report": "octo-sample", "kind": "cur", "bucket": CUR_BUCKET, "prefix": "cur", "region": "us-east-1", "makes_report": "yes", "makes_bucket": "yes"}  # fmt: skip
    refused = installation.post(f"{path}/report", "admin", report | {"bucket": "No Bucket"})
    assert refused.status_code == 422
    assert "The bucket &#39;No Bucket&#39; is not valid" in refused.text and 'value="No Bucket"' in refused.text
    assert installation.post(f"{path}/report", "admin", report).status_code == 303
    aws_accounts.open(launch_link(installation.page(path, "admin")), SAMPLE_PAYER)
    installation.post(f"{path}/confirm", "admin")
    assert "there is no Cost and Usage Report below" in installation.text(path, "admin")
    deliver_report(aws_accounts, tmp_path / "exports")
    installation.post(f"{path}/confirm", "admin")
    assert steps(installation, SAMPLE_PAYER) == "API CUR"

    installation.post("/accounts/register/aws", "admin", {"account_id": linked, "name": ""})
    aws_accounts.open(launch_link(installation.page(f"/accounts/aws/{linked}", "admin")), linked)
    installation.post(f"/accounts/aws/{linked}/confirm", "admin")
    assert steps(installation, linked) == "API PAYER"
    text = installation.text("/accounts?state=completed")
    assert f"{SAMPLE_PAYER} Main aws payer API Completed" in text and f"linked of {SAMPLE_PAYER}" in text


def test_a_vendor_that_has_no_registration_has_no_form(console):
    assert console.get("/accounts/register/oracle", "admin").status_code == 404
    assert console.post("/accounts/register/oracle", "admin", {"account_id": "1"}).status_code == 404


def test_all_linked_accounts_of_a_payer_are_registered_at_once(installation, aws_accounts):
    first, second = aws_accounts.organization(SAMPLE_PAYER, "One", "Two")
    workspace = installation.workspace
    payer = aws.register(workspace, Actor("ana"), SAMPLE_PAYER, "Main")
    path = f"/accounts/aws/{SAMPLE_PAYER}"
    assert installation.post(f"{path}/linked", "admin").status_code == 422
    aws_accounts.open(launch_link(installation.page(path, "admin")), SAMPLE_PAYER)
    aws.confirm(workspace, Actor("ana"), payer)
    page = installation.post(f"{path}/linked", "admin")
    assert page.status_code == 200 and first in page.text and second in page.text
    aws_accounts.open(launch_link(page.text), SAMPLE_PAYER)
    installation.post(f"/accounts/aws/{first}/confirm", "admin")
    assert steps(installation, first) == "API PAYER"


@pytest.mark.parametrize(
    ("form", "field", "problem"),
    [
        ({"account_id": "12", "name": "x"}, "account_id", "an AWS account id has 12 digits"),
        ({"account_id": "111111111111", "payer": "111111111111"}, "payer", "cannot be its own payer"),
        ({"account_id": "222222222222", "name": HOSTILE * 20}, "", "at most 256"),
    ],
)
def test_what_is_wrong_stands_at_its_field(installation, form, field, problem):
    answer = installation.post("/accounts/register/aws", "admin", form)
    assert answer.status_code == 422 and problem in answer.text
    assert not field or f'id="{field}-problem"' in answer.text
    assert "<script>alert" not in answer.text
    assert installation.workspace.registry.accounts.all() == []


def test_an_account_is_registered_once_however_often_the_button_is_pressed(installation):
    form = {"account_id": "111111111111", "name": "a"}
    assert installation.post("/accounts/register/aws", "admin", form).status_code == 303
    answer = installation.post("/accounts/register/aws", "admin", form)
    assert answer.status_code == 422 and "has been registered" in answer.text
    assert len(installation.workspace.registry.accounts.all()) == 1


def test_without_the_settings_it_says_which_are_missing(own_console):
    answer = own_console.post("/accounts/register/aws", "admin", {"account_id": "111111111111"})
    assert answer.status_code == 422 and "The setting aws_principal must be" in answer.text
    answer = own_console.post("/accounts/register/gcp", "admin", GCP)
    assert answer.status_code == 422 and "The setting gcp_service_account must be" in answer.text


def test_a_partner_is_registered_and_its_keys_are_never_shown(installation):
    answer = installation.post("/accounts/register/azure", "admin", AZURE)
    path = f"/accounts/azure/{PARTNER}"
    assert answer.headers["location"] == path
    page = installation.page(path, "admin")
    assert "Partner ID 1234567" in page and "http://localhost:8400" in page
    assert "the center" not in page
    refused = installation.post("/accounts/register/azure", "admin", AZURE | {"partner_id": "x"})
    assert 'id="partner_id-problem"' in refused.text and "the center" not in refused.text
    # Nothing began here, so an address that comes back belongs to nobody.
    back = installation.post(f"{path}/sign-in/finish", "admin", {"address": "http://localhost:8400/?code=1&state=2"})
    assert back.status_code == 303


@pytest.fixture
def microsoft(fake_azure, monkeypatch):
    """The emulator in Microsoft's place."""
    session = login_session(fake_azure.url)
    addresses = {"graph_url": f"{fake_azure.url}/graph", "partner_center_url": f"{fake_azure.url}/partner"}
    for name, more in (("authorization_url", {}), ("redeem", {}), ("csp_source", addresses)):
        monkeypatch.setattr(azure_client, name, partial(getattr(azure_client, name), http_client=session, **more))


def test_a_partner_signs_in_and_is_completed(installation, microsoft):
    form = AZURE | {"tenant_id": TENANT, "center_application": CLIENT, "api_application": CLIENT}
    form |= {"center_secret": SECRET, "api_secret": SECRET}
    installation.post("/accounts/register/azure", "admin", form)
    path = f"/accounts/azure/{TENANT}"
    installation.post(f"{path}/confirm", "admin")
    assert "press Confirm again" in installation.text(path, "admin")

    page = installation.post(f"{path}/sign-in", "admin").text
    (link,) = re.findall(r'href="(https?://[^"]+)" target="_blank"', page)
    (state,) = parse_qs(urlsplit(unescape(link)).query)["state"]
    finish = f"{path}/sign-in/finish"
    refused = installation.post(finish, "admin", {"address": "http://localhost:8400/?code=stolen&state=another"})
    assert refused.status_code == 422 and 'id="address-problem"' in refused.text and "stolen" not in refused.text
    refused = installation.post(finish, "admin", {"address": "http://localhost:8400/"})
    assert "That address has no authorization code." in refused.text
    address = f"http://localhost:8400/?code=the-code-of-the-sign-in&state={state}"
    assert installation.post(finish, "admin", {"address": address}).headers["location"] == f"{path}#registration"
    assert installation.workspace.registry.accounts.find(TENANT).is_completed
    assert "API Completed" in installation.text(path)
    # The code is used up.
    again = installation.post(finish, "admin", {"address": address})
    assert again.status_code == 303 and installation.workspace.registry.accounts.find(TENANT).is_completed


def test_a_billing_account_shows_what_to_grant_and_where(installation):
    installation.post("/accounts/register/gcp", "admin", GCP)
    page = installation.page(f"/accounts/gcp/{GCP['account_id']}", "admin")
    assert "octo@company.iam.gserviceaccount.com" in page and "roles/bigquery.jobUser" in page
    path = f"/accounts/gcp/{GCP['account_id']}/export"
    assert installation.post(path, "admin", GCP | {"region": "the moon"}).status_code == 422
    assert installation.post(path, "admin", GCP | {"region": "US"}).status_code == 303
    assert installation.workspace.registry.accounts.find(GCP["account_id"]).settings["export"]["region"] == "US"


def test_a_name_is_changed_and_one_that_is_taken_is_refused(own_console):
    accounts = own_console.workspace.registry.accounts
    accounts.add([NewAccount("aws", "111111111111", "a"), NewAccount("aws", "222222222222", "b")], Actor("ana"))
    assert own_console.post("/accounts/aws/111111111111/name", "admin", {"name": HOSTILE}).status_code == 303
    assert accounts.find("111111111111").name == HOSTILE.strip()
    for path in ("/accounts", "/accounts/aws/111111111111", "/accounts/aws/111111111111/remove"):
        assert "<script>alert" not in own_console.page(path, "admin")
    refused = own_console.post("/accounts/aws/222222222222/name", "admin", {"name": HOSTILE})
    assert refused.status_code == 422 and 'id="name-problem"' in refused.text
    # The month would be chosen for the address of the form.
    assert 'id="month"' not in refused.text and 'id="month"' in own_console.page("/accounts", "admin")


def test_an_account_is_deleted_after_it_is_shown_what_goes(own_console):
    accounts = own_console.workspace.registry.accounts
    accounts.add([NewAccount("aws", "111111111111", "a")], Actor("ana"))
    text = own_console.text("/accounts/aws/111111111111/remove", "admin")
    assert "0 landed deliveries" in text and "Its registration and its secrets." in text
    assert [account.account_id for account in accounts.all()] == ["111111111111"]
    answer = own_console.post("/accounts/aws/111111111111/remove", "admin", {"data": "remove"})
    operation = answer.headers["location"].rpartition("/")[2]
    operations = own_console.client("admin").app.state.operations
    work = operations.get(operation)
    operations.wait_for_news(work, 99, 30)
    assert work.state == "succeeded", work.problem
    assert accounts.all() == []


def test_only_administrators_change_accounts(own_console):
    own_console.workspace.registry.accounts.add([NewAccount("aws", "111111111111", "a")], Actor("ana"))
    for role in ("viewer", "editor"):
        page = own_console.page("/accounts/aws/111111111111", role)
        assert '<form method="post"' not in page.partition('<main id="content"')[2]
        for path in ("/accounts/register", "/accounts/register/aws", "/accounts/aws/111111111111/remove"):
            assert own_console.get(path, role).status_code == 403
        for action in ("confirm", "name", "remove", "report", "payer", "access", "linked"):
            assert own_console.post(f"/accounts/aws/111111111111/{action}", role, {"name": "b"}).status_code == 403
    assert own_console.workspace.registry.accounts.find("111111111111").name == "a"
