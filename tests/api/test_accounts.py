"""Registered accounts over the API."""

from datetime import UTC, datetime
from types import SimpleNamespace

from octo_pipeline.registry.records import Actor, NewAccount


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
