"""Registering accounts over the API: each vendor's steps as one resource, and nothing secret in any answer."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from octo_pipeline.api.app import create_app
from octo_pipeline.model.errors import OctoError
from octo_pipeline.vendors.azure import client as resource
from octo_pipeline.vendors.azure import registration as azure
from octo_pipeline.workspace import Workspace
from tests.emulators.aws_accounts import AwsAccounts
from tests.support.aws_registration import SAMPLE_PAYER, deliver_report

TENANT, APPLICATION = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"
SECRET = "hunter2-and-more"
PARTNER = {
    "vendor": "azure",
    "partner_id": "1234567",
    "tenant_id": TENANT,
    "center_application": APPLICATION,
    "center_secret": SECRET,
    "api_application": APPLICATION,
    "api_secret": SECRET,
}
BILLING = {"vendor": "gcp", "id": "0D1DR5-ADE21G-RF09W1", "project": "exports", "dataset": "billing", "region": "EU"}
HOSTILE = "<script>\x1b[31m\u202e=1+1"

Ask = Callable[..., Response]


@pytest.fixture
def ask(workspace: Workspace) -> Ask:
    token = workspace.registry.users.make_token("ana", "tests", "ana")
    client = TestClient(create_app(workspace.settings), raise_server_exceptions=False)

    def call(method: str, path: str, body: Any = None) -> Response:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        # Escaped, so that halves of surrogate pairs can be sent, too.
        content = None if body is None else json.dumps(body)
        return client.request(method, f"/api/v1/accounts{path}", headers=headers, content=content)

    return call


def next_of(answer: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [step for step in answer["next"] if step["kind"] == kind]


def test_a_payer_is_registered_step_by_step(ask: Ask, aws_accounts: AwsAccounts, tmp_path: Path) -> None:
    aws_accounts.organization(SAMPLE_PAYER)
    registered = ask("POST", "", {"vendor": "aws", "id": SAMPLE_PAYER, "name": HOSTILE})
    assert registered.status_code == 201
    account = registered.json()
    assert (account["name"], account["steps"], account["status"]) == (HOSTILE, {"API": None}, "open")
    (link,) = next_of(account, "link")
    assert {"ExternalId", "stackName", "templateURL"} <= link["values"].keys()
    assert [step["action"]["action"] for step in next_of(account, "action")] == ["accounts confirm"]

    failed = ask("POST", f"/{SAMPLE_PAYER}/confirm").json()
    assert "AWS does not let this machine's credentials assume" in failed["problem"]
    assert next_of(failed, "link") == [link]
    aws_accounts.open(link["text"], SAMPLE_PAYER)
    confirmed = ask("POST", f"/{SAMPLE_PAYER}/confirm").json()
    assert (confirmed["kind"], confirmed["API"], confirmed["CUR"]) == ("payer", "Completed", "open")
    report = {"report": "octo-sample", "prefix": "cur"}
    set_up = ask("PATCH", f"/{SAMPLE_PAYER}", {"name": None, "report": report}).json()
    assert set_up["name"] is None
    aws_accounts.open(next_of(set_up, "link")[0]["text"], SAMPLE_PAYER)
    deliver_report(aws_accounts, tmp_path / "exports")
    done = ask("POST", f"/{SAMPLE_PAYER}/confirm").json()
    assert (done["status"], done["problem"], done["next"]) == ("Completed", None, [])
    assert all(done["steps"].values())
    assert ask("GET", f"/{SAMPLE_PAYER}/registration").json() == done


def test_a_partner_signs_in_and_its_secrets_are_never_told(
    ask: Ask, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [ask("POST", "", PARTNER)]
    assert answers[0].status_code == 201
    assert [step["action"]["action"] for step in next_of(answers[0].json(), "action")] == [
        "accounts sign-in",
        "accounts confirm",
    ]
    answers.append(ask("POST", f"/{TENANT}/sign-in/end", {"address": f"http://localhost:8400/?code={SECRET}"}))
    assert (answers[-1].status_code, answers[-1].json()["code"]) == (409, "sign-in-not-begun")

    sign_in = resource.SignIn("https://login.example.com/authorize?state=s", {"state": "s"})
    monkeypatch.setattr(resource, "authorization_url", lambda *_, **__: sign_in)
    redeemed = []

    def redeem(document: object, secret: str, begun: object, response: dict[str, str]) -> str:
        redeemed.append((secret, begun, response))
        return SECRET

    monkeypatch.setattr(resource, "redeem", redeem)
    now = datetime.now(UTC)
    monkeypatch.setattr(
        azure,
        "confirm",
        lambda registrar, actor, account: registrar.registry.accounts.change(
            account, actor, "confirm_account", api_confirmed_at=now
        ),
    )
    answers.append(ask("POST", f"/{TENANT}/sign-in"))
    assert answers[-1].json() == {"link": sign_in.url}
    answers.append(ask("POST", f"/{TENANT}/sign-in/end", {"address": f"http://localhost:8400/?code={SECRET}&state=s"}))
    assert answers[-1].json()["status"] == "Completed"
    assert redeemed == [(SECRET, sign_in, {"code": SECRET, "state": "s"})]
    answers.append(ask("PATCH", f"/{TENANT}", {"secrets": {"center_secret": SECRET, "api_secret": SECRET}}))
    assert answers[-1].json()["status"] == "open"
    # What is wrong is said without what was sent.
    answers.append(ask("POST", "", PARTNER | {"tenant_id": 5}))
    answers.append(ask("POST", "", PARTNER | {"center_secret": [SECRET]}))
    answers.append(ask("POST", "", PARTNER | {"partner_id": "no", "more": SECRET}))
    answers.append(ask("POST", f"/{TENANT}/sign-in/end", {"address": [SECRET]}))
    assert [answer.status_code for answer in answers[-4:]] == [422] * 4
    answers += [ask("GET", ""), ask("GET", f"/{TENANT}"), ask("GET", f"/{TENANT}/registration")]
    for answer in answers:
        assert SECRET not in answer.text, answer.text
    assert SECRET not in str(workspace.registry.audit())


def test_a_billing_account_says_which_roles_to_grant(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    account = ask("POST", "", BILLING).json()
    commands = [step["text"] for step in next_of(account, "command")]
    assert [command.partition(" --role=")[2] for command in commands] == [
        "roles/bigquery.jobUser",
        "roles/bigquery.readSessionUser",
    ]
    assert all(command.startswith("gcloud projects add-iam-policy-binding exports") for command in commands)
    moved = ask("PATCH", f"/{BILLING['id']}", {"export": {"project": "other", "dataset": "billing", "region": "EU"}})
    assert "other.billing" in next_of(moved.json(), "sentence")[0]["text"]
    foreign = ask("PATCH", f"/{BILLING['id']}", {"has_new_access": True})
    assert (foreign.status_code, foreign.json()["code"]) == (422, "settings-of-another-vendor")
    again = ask("POST", "", BILLING)
    assert (again.status_code, again.json()["code"]) == (409, "account-already-registered")


def test_a_removal_is_previewed_and_then_done_as_an_operation(ask: Ask, workspace: Workspace) -> None:
    ask("POST", "", BILLING)
    preview = ask("GET", f"/{BILLING['id']}/removal").json()
    assert {name: preview[name] for name in ("deliveries", "months", "reapplied", "kept_months")} == {
        "deliveries": 0,
        "months": [],
        "reapplied": 0,
        "kept_months": [],
    }
    assert "service account" in preview["left_behind"][0]
    removal = ask("DELETE", f"/{BILLING['id']}")
    assert (removal.status_code, removal.json()["left_behind"]) == (202, preview["left_behind"])
    assert "/operations/" in removal.headers["location"]
    for _ in range(100):
        if ask("GET", f"/{BILLING['id']}").status_code == 404:
            break
    with pytest.raises(OctoError, match="is registered"):
        workspace.registry.accounts.find(BILLING["id"])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"vendor": "oci", "id": "1"},
        {"vendor": "aws", "id": "1" * 65536},
        {"vendor": "aws", "id": HOSTILE},
        {"vendor": "aws", "id": SAMPLE_PAYER, "report": {"kind": "x"}},
        {"vendor": "aws", "id": SAMPLE_PAYER, "report": {"bucket": HOSTILE}},
        BILLING | {"project": "\x00"},
        BILLING | {"name": "\ud800"},
    ],
)
def test_what_is_wrong_registers_nothing(ask: Ask, workspace: Workspace, body: dict[str, Any]) -> None:
    answer = ask("POST", "", body)
    assert answer.status_code == 422
    assert len(answer.content) < 4_000
    assert workspace.registry.accounts.all() == []
