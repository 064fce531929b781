"""Alerts against a webhook on loopback: what is posted, in which shape, and what is never told."""

import dagster as dg
import pytest

from octo_pipeline.automation.alerts import alert_on_failed_checks, alert_on_failed_runs, post
from tests.support.reports import refused
from tests.support.webhook import SECRET


def test_without_a_webhook_nothing_is_posted():
    assert post("title", ["line"]) is False


def test_slack_and_teams_get_what_they_take(webhook, monkeypatch):
    posted, _ = webhook
    assert post("A title", ["one", "two"])
    assert posted[-1] == {"text": "*A title*\none\ntwo"}
    monkeypatch.setenv("OCTO_ALERT_FORMAT", "teams")
    post("A title", ["one", "two"])
    card = posted[-1]["attachments"][0]["content"]
    assert (card["type"], [block["text"] for block in card["body"]]) == ("AdaptiveCard", ["A title", "one\ntwo"])


def test_a_busy_webhook_is_asked_again_and_one_that_refuses_is_not(webhook):
    posted, statuses = webhook
    statuses[:] = [503, 429, 200]
    assert post("A title", [])
    assert len(posted) == 3
    statuses[:] = [404]
    with refused("could not be posted: OCTO_ALERT_WEBHOOK answered 404") as _:
        post("A title", [])
    assert len(posted) == 4


def test_the_address_is_never_told(monkeypatch):
    monkeypatch.setenv("OCTO_ALERT_WEBHOOK", f"http://127.0.0.1:1/{SECRET}")
    with pytest.raises(Exception, match="could not be posted") as caught:
        post("A title", [])
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None


@dg.asset(name="bill", check_specs=[dg.AssetCheckSpec("adds_up", asset="bill")])
def bill() -> dg.MaterializeResult:
    check = dg.AssetCheckResult(passed=False, description="12.00 USD are missing. Land the month again.")
    return dg.MaterializeResult(check_results=[check])


@dg.op
def fails() -> None:
    raise dg.Failure("2024-05 not published: the file is cut off.")


@dg.job
def failing() -> None:
    fails()


def test_a_failed_run_is_posted_with_its_sentence(webhook):
    posted, _ = webhook
    with dg.instance_for_test() as instance:
        result = failing.execute_in_process(
            instance=instance, raise_on_error=False, tags={"dagster/partition": "2024-05"}
        )
        context = dg.build_run_status_sensor_context(
            "alert_on_failed_runs", result.get_run_failure_event(), instance, result.dagster_run
        ).for_run_failure()
        alert_on_failed_runs(context)
    assert posted[-1] == {"text": "*failing 2024-05 failed*\nfails: 2024-05 not published: the file is cut off."}


def test_a_failed_check_of_a_run_that_succeeded_is_posted(webhook):
    posted, _ = webhook
    with dg.instance_for_test() as instance:
        result = dg.materialize([bill], instance=instance, tags={"dagster/partition": "2024-05"})
        context = dg.build_run_status_sensor_context(
            "alert_on_failed_checks", result.get_run_success_event(), instance, result.dagster_run
        )
        alert_on_failed_checks(context)
    (text,) = [one["text"] for one in posted]
    assert "1 failed check" in text
    assert "bill adds_up: 12.00 USD are missing. Land the month again." in text
