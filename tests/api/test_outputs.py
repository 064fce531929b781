"""What leaves the lake over the API: the journal and explanations."""

from decimal import Decimal

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
    assert answer.status_code in (404, 422)
    assert "cost" in answer.json()["detail"]
