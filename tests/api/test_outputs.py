"""What leaves the lake over the API: the journal and explanations."""

import csv
import gzip
import io
from decimal import Decimal

import pyarrow.parquet as pq

from tests.support.small_month import MONTH


def test_an_explanation_adds_up(api):
    explained = api.ask("GET", f"/explanations?owner=2&month={MONTH}&against={MONTH}")
    assert explained.status_code == 200, explained.text
    assert explained.json()["owner"] == {"kind": "account", "id": "2"}
    for change in explained.json()["changes"]:
        differences = sum(Decimal(cause["difference"]) for cause in change["causes"])
        assert differences == Decimal(change["cost_after"]) - Decimal(change["cost_before"]) == 0
    before = api.ask("GET", f"/explanations?owner=2&month={MONTH}").json()
    assert (before["code"], before["place"]) == ("month-not-made", "2023-12")


def test_a_journal_without_cost_centres_says_what_is_missing(api):
    answer = api.ask("GET", f"/months/{MONTH}/journal")
    assert (answer.status_code, answer.json()["code"]) == (422, "cost-centres-missing")


def test_a_month_is_sent_as_focus(api, tmp_path):
    app = api.client.app
    app.state.settings = app.state.settings.model_copy(update={"temp": tmp_path})
    answer = api.ask("GET", f"/months/{MONTH}/focus")
    assert answer.status_code == 200, answer.text
    table = pq.read_table(io.BytesIO(answer.content))
    assert sum(table["BilledCost"].to_pylist()) == 140
    older = api.ask("GET", f"/months/{MONTH}/focus?version=1.2&file=csv.gz")
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(older.content).decode())))
    assert sum(Decimal(row["BilledCost"]) for row in rows) == 140
    assert "ProviderName" in rows[0]
    assert "ProviderName" not in table.column_names
    assert api.ask("GET", "/months/1999-01/focus").json()["code"] == "month-not-made"
    assert list(tmp_path.iterdir()) == []


def test_statements_are_listed_and_sent_as_pages(api):
    statements = {s["subject"]: s for s in api.get(f"/months/{MONTH}/statements?by=account")}
    assert statements["account/2"]["sections"][0]["total"] == "105.00"
    page = api.ask("GET", f"/months/{MONTH}/statements/account/2?by=account&page=html")
    assert "105.00" in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src")
    pdf = api.ask("GET", f"/months/{MONTH}/statements/2?by=account")
    assert (pdf.headers["content-type"], pdf.content[:5]) == ("application/pdf", b"%PDF-")
    lines = api.ask("GET", f"/months/{MONTH}/statements/2?by=account&page=csv").text.splitlines()
    assert f"{MONTH},Account,2,2,USD,To pay,,,105.00" in lines
    whole = api.ask("GET", f"/months/{MONTH}/statements.zip?by=account")
    assert (whole.headers["content-type"], whole.content[:2]) == ("application/zip", b"PK")
    sending = api.ask("POST", f"/months/{MONTH}/send-statements", "admin")
    assert (sending.status_code, sending.json()["code"]) == (422, "mail-server-not-set")
    assert api.ask("GET", f"/months/{MONTH}/statements/nobody?by=account").status_code == 404
