"""Sources, deliveries, charges by hand and exchange rates over the API."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace

from octo_pipeline.services import deliveries as services
from tests.support.small_month import MONTH

HEADER = "month,account,description,amount,currency,seller"
HOSTILE = "<script>\x1b[31m\u202e"


def csv(*rows: str) -> bytes:
    return "\n".join([HEADER, *rows, ""]).encode()


def put(api, content: bytes, mode: str = "merge", role: str = "editor"):
    return api.ask("PUT", f"/charges/{MONTH}?mode={mode}", role, content=content)


def test_charges_are_previewed_imported_and_listed_and_their_delivery_with_them(own_api):
    first = csv(f"{MONTH},1,{HOSTILE},100.00,USD,A partner")
    preview = own_api.ask("POST", f"/charges/{MONTH}/preview", content=first).json()
    assert [(row["change"], row["description"], row["amount"]) for row in preview] == [("new", HOSTILE, "100.00")]
    assert own_api.get(f"/charges/{MONTH}")["items"] == []
    assert put(own_api, first).json() == preview
    changed = put(own_api, csv(f"{MONTH},1,Training,5,USD,A partner"), "replace-month").json()
    assert sorted(row["change"] for row in changed) == ["new", "removed"]
    assert [row["description"] for row in own_api.get(f"/charges/{MONTH}")["items"]] == ["Training"]
    assert [e["actor"] for e in own_api.ask("GET", "/audit", "admin").json()[:2]] == ["the-editor"] * 2

    old, new = own_api.get(f"/deliveries?month={MONTH}")["items"]
    assert (old["vendor"], old["counts"], new["counts"], old["files"]) == ("manual", False, True, 1)
    delivery = own_api.get(f"/deliveries/{new['version'][:12]}")
    assert (delivery["version"], delivery["files"][0]["name"]) == (new["version"], "charges.csv")
    assert own_api.ask("POST", f"/deliveries/{new['version']}/verify").json() == delivery
    gone = own_api.ask("POST", f"/deliveries/{new['version']}/reland", "admin")
    assert gone.status_code == 202
    assert own_api.ask("DELETE", f"/deliveries/{new['version']}", "admin").status_code == 204
    assert [row["version"] for row in own_api.get("/deliveries")["items"]] == [old["version"]]
    assert own_api.ask("GET", f"/deliveries/{new['version']}").json()["code"] == "delivery-version-not-one"


def test_a_wrong_file_of_charges_names_its_line(own_api):
    for content, message in (
        (csv(f"{MONTH},1,x,abc,USD,A"), "line 2"),
        (csv("2024-02,1,x,1,USD,A"), "line 2"),
        (b"\xff\xfe", "UTF-8"),
        (b"nothing", "charges.csv"),
        (csv(f"{MONTH},1,x,1,USD,A", f"{MONTH},1,x,1,USD,A"), "lines 2 and 3"),
    ):
        answer = put(own_api, content)
        assert (answer.status_code, message in answer.json()["detail"]) == (422, True), answer.text
    assert own_api.ask("PUT", f"/charges/{MONTH}", "editor", content=csv()).status_code == 422  # which mode is not said
    assert own_api.get("/deliveries")["items"] == []


def test_a_source_says_what_it_delivered_and_never_a_secret(own_api, monkeypatch):
    folder = own_api.workspace.settings.config / "sources"
    folder.mkdir()
    (folder / "unused.json").write_text(
        json.dumps({"vendor": "aws", "account": "111122223333", "use": False, "x": "hush"})
    )
    (folder / "wrong.json").write_text(json.dumps({"vendor": "gcp", "client_secret": "hush"}))
    offered = {"azure": [SimpleNamespace(name="azure folder", account="t1"), SimpleNamespace(name="new", account="t2")]}
    real = services.sources
    monkeypatch.setattr(services, "sources", lambda workspace, vendor: offered.get(vendor) or real(workspace, vendor))
    landed = SimpleNamespace(vendor="azure", account="t1", month=MONTH, fetched_at=datetime(2024, 2, 3, tzinfo=UTC))
    monkeypatch.setattr(services, "deliveries", lambda *_, **__: [landed])
    answer = own_api.ask("GET", "/sources")
    rows = {row["name"]: row for row in answer.json()["items"]}
    assert rows["azure folder"]["last_month"] == MONTH
    assert rows["azure folder"]["late"].startswith("It delivered 2024-01 last and nothing of ")
    assert rows["new"]["late"] == "It has delivered nothing yet."
    (unused,) = [row for row in rows.values() if not row["is_used"]]
    assert "unused.json (111122223333)" in unused["name"]
    (wrong,) = [row for row in rows.values() if row["problem"]]
    assert "wrong.json" in wrong["problem"]
    assert "hush" not in answer.text


def test_what_is_late_is_said_from_the_day_it_is():
    def late(now: str, *landed: tuple[str, str]) -> str | None:
        made = [
            SimpleNamespace(month=month, fetched_at=datetime.fromisoformat(f"{day}T00:00:00+00:00"))
            for month, day in landed
        ]
        moment = datetime.fromisoformat(f"{now}T12:00:00+00:00")
        return services._late("aws", made, max(made, key=lambda delivery: delivery.month), moment)

    january = ("2024-01", "2024-01-31")
    assert late("2024-02-02", january) is None
    assert late("2024-02-05", january) == "It delivered nothing of 2024-02 yet."
    both = (january, ("2024-02", "2024-02-05"))
    assert late("2024-02-08", *both) is None
    assert late("2024-02-12", *both) == "It delivered 2024-01 last on 2024-01-31, before its closing day 2024-02-08."
    assert late("2024-02-12", *both, ("2024-01", "2024-02-09")) is None
    assert late("2024-03-01", january) == "It delivered 2024-01 last and nothing of 2024-02."


def test_rates_are_told_with_all_of_their_digits(own_api):
    rates = "month,currency,rate\n2023-12,EUR,1.05\n2024-01,EUR,1.123456789012\n2024-01,GBP,1.3\n2024-02,EUR,1.2\n"
    (own_api.workspace.settings.config / "exchange_rates.csv").write_text(rates)
    assert [(row["month"], row["currency"]) for row in own_api.get("/rates")["items"]] == [
        ("2023-12", "EUR"), ("2024-01", "EUR"), ("2024-01", "GBP"), ("2024-02", "EUR"),
    ]  # fmt: skip
    counting = own_api.get("/rates?month=2024-02")["items"]
    assert [(row["month"], row["currency"], row["rate"]) for row in counting] == [
        ("2024-01", "GBP", "1.3"),
        ("2024-02", "EUR", "1.2"),
    ]
    assert own_api.get(f"/rates?month={MONTH}")["items"][0]["rate"] == "1.123456789012"
