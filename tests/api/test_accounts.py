"""Registered accounts over the API."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

from octo_pipeline.registry.records import Actor, NewAccount
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.workspace import Workspace
from tests.support.case import make, run
from tests.support.small_month import MONTH, line_item
from tests.support.workspaces import write_lines


def test_an_account_is_listed_and_found_with_its_states_and_last_delivery(own_api, monkeypatch):
    accounts = own_api.workspace.registry.accounts
    accounts.add([NewAccount("aws", "111122223333", "production", kind="payer")], Actor("tester"))
    at = datetime(2024, 2, 3, tzinfo=UTC)
    delivery = SimpleNamespace(vendor="aws", account="111122223333", fetched_at=at)
    monkeypatch.setattr("octo_pipeline.services.accounts.deliveries", lambda _: [delivery])
    (listed,) = own_api.get("/accounts")["items"]
    account = own_api.get("/accounts/production")
    assert listed == account
    assert [account[name] for name in ("payer_id", "API", "PAYER", "CUR", "status")] == [
        "111122223333", "open", "", "open", "open",
    ]  # fmt: skip
    assert account["last_delivery"] == "2024-02-03T00:00:00+00:00"


def test_the_costs_of_an_account_over_months_say_how_they_changed(own_api):
    workspace = own_api.workspace
    lines = [line_item("1", "10"), line_item("2", "30")]
    lines += [replace(line, billing_month="2024-02", billed_cost=line.billed_cost * 2) for line in lines]
    write_lines(workspace, workspace.settings.config.parent, lines)
    months = [MONTH, "2024-02"]
    make(run(Workspace(workspace.settings), months), AccountCosts(), months)
    rows = own_api.get(f"/accounts/1/costs?month=2024-02&from={MONTH}")["items"]
    assert [(row["month"], row["billed"], row["final_cost"], row["change"]) for row in rows] == [
        (MONTH, "10.0000000000", "10.0000000000", None),
        ("2024-02", "20.0000000000", "20.0000000000", "10.0000000000"),
    ]
    for path, status, code in (
        (f"/accounts/nobody/costs?month={MONTH}", 404, "account-without-costs"),
        (f"/accounts/%3cscript%3e%1b%00/costs?month={MONTH}", 422, "nul-character"),
        (f"/accounts/{'x' * 60_000}/costs?month={MONTH}", 404, "account-without-costs"),
        (f"/accounts/1/costs?month={MONTH}&from=2024-02", 422, "months-reversed"),
        ("/accounts/1/costs?month=1999-01", 404, "month-not-made"),
        ("/accounts/1/costs", 422, "request-wrong"),
    ):
        answer = own_api.ask("GET", path)
        assert (answer.status_code, answer.json()["code"]) == (status, code), path[:80]
