"""Months, decisions and operations over the API."""

import json
from threading import Event, Timer

from octo_pipeline.api.operations import Operations
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Actor
from octo_pipeline.services.months import MonthDone
from tests.support.small_month import MONTH


def events_of(api, operation_id: str) -> list[str]:
    """The server-sent events of an operation, to its end."""
    lines = api.ask("GET", f"/operations/{operation_id}/events").text.split("\n\n")
    assert lines[-2].startswith("event: done\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2] if line.startswith("data: ")]


def test_an_item_is_restored_and_re_applied(own_api):
    item = own_api.get(f"/allocations?month={MONTH}&status=checked_splitted")["items"][0]["item_id"]
    assert any("a0" in sentence for sentence in own_api.get(f"/allocations/{item}")["sentences"])
    answer = own_api.ask("POST", "/allocations/restore", "editor", json={"item": item[:8], "reason": "ours alone"})
    assert answer.status_code == 202
    assert answer.json()["items"] == [item]
    assert f"allocations {MONTH}: published" in events_of(own_api, answer.json()["id"])
    operation = own_api.ask("GET", answer.headers["location"].partition("/api/v1")[2]).json()
    assert (operation["state"], operation["actor"], operation["problem"]) == ("succeeded", "the-editor", None)
    (row,) = own_api.get(f"/allocations?month={MONTH}&category=fee&status=unchecked_allocated")["items"]
    assert row["reason"] == "restored"
    again = own_api.ask("POST", "/allocations/restore", "editor", json={"item": item, "reason": "twice"})
    assert (again.status_code, again.json()["code"]) == (409, "decision-contradicts")
    rule = {"allocator": "a0", "month": MONTH, "reason": "all of them"}
    none_left = own_api.ask("POST", "/allocations/restore", "editor", json=rule)
    assert (none_left.status_code, none_left.json()["code"]) == (409, "decision-contradicts")
    assert "All of these items are restored already" in none_left.json()["detail"]
    answer = own_api.ask("POST", "/allocations/reapply", "editor", json={"item": item, "reason": "shared after all"})
    events_of(own_api, answer.json()["id"])
    assert own_api.get(f"/allocations?month={MONTH}&status=checked_splitted")["items"]


def test_what_a_decision_lacks_is_said(api):
    for body, status in (
        ({"item": "x"}, 422),
        ({"reason": "r"}, 422),
        ({"reason": "r", "allocator": "a0"}, 422),
        ({"reason": "r", "allocator": "a0", "month": "2024-13"}, 422),
        ({"reason": "r", "item": "ffff"}, 404),
        ({"reason": "r", "item": "ffff", "more": 1}, 422),
    ):
        assert api.ask("POST", "/allocations/restore", "editor", json=body).status_code == status, body


def test_a_month_is_closed_and_reopened_by_administrators(own_api, monkeypatch):
    not_whole = own_api.ask("POST", f"/months/{MONTH}/close", "admin", json={"reason": "invoiced"})
    assert (not_whole.status_code, not_whole.json()["code"]) == (404, "month-not-made")
    refused = own_api.ask("POST", f"/months/{MONTH}/reopen", "admin", json={"reason": "x"})
    assert (refused.status_code, refused.json()["code"]) == (409, "period-state")
    # The line items of these tests are published by themselves, so nothing can be said of how ready the month is.
    monkeypatch.setattr("octo_pipeline.services.periods.readiness", lambda *_, **__: ["A payer has no invoice."])
    assert own_api.get(f"/months/{MONTH}/readiness")["reasons"] == ["A payer has no invoice."]
    not_ready = own_api.ask("POST", f"/months/{MONTH}/close", "admin", json={})
    assert (not_ready.status_code, not_ready.json()["code"]) == (409, "period-not-ready")
    closed = own_api.ask("POST", f"/months/{MONTH}/close", "admin", json={"reason": "invoiced"})
    assert closed.json() == {"month": MONTH, "state": "closed", "proposal": ""}
    (month,) = own_api.get("/months")["items"]
    assert (month["decided_by"], month["reason"]) == ("the-admin", "invoiced")
    assert own_api.get(f"/months/{MONTH}/drift")["differences"] == []
    twice = own_api.ask("POST", f"/months/{MONTH}/reopen", "admin", json={})
    assert (twice.status_code, twice.json()["code"]) == (422, "period-reason-missing")
    reopened = own_api.ask("POST", f"/months/{MONTH}/reopen", "admin", json={"reason": "wrong"})
    assert reopened.json()["state"] == "reopened"


def test_the_result_of_a_month(api):
    summary = api.get(f"/months/{MONTH}/summary")
    assert [row["billed"] for row in summary["bill"]] == ["140.0000000000"]
    costs = {row["owner_id"]: row["final_cost"] for row in api.get(f"/months/{MONTH}/account-costs")["items"]}
    assert costs == {"1": "35.0000000000", "2": "105.0000000000", "9": "0.0000000000"}
    assert {check["check"] for check in api.get(f"/months/{MONTH}/checks")} >= {"targets_known"}
    by_service = api.get(f"/cost-groups/shop/costs?month={MONTH}&by=service")["items"]
    assert [(row["service_code"], row["cost"]) for row in by_service] == [("AmazonEC2", "35.0000000000")]
    for path in ("/months/2020-01/summary", "/months/2020-01/account-costs", "/months/2020-01/checks"):
        assert api.ask("GET", path).json()["code"] == "month-not-made"


def test_a_month_is_run_as_an_operation(own_api):
    answer = own_api.ask("POST", "/months/1999-01/run", "editor")
    assert answer.json()["code"] == "month-outside-lake"
    answer = own_api.ask("POST", "/months/2024-02/run", "editor")
    events_of(own_api, answer.json()["id"])
    operation = own_api.get(f"/operations/{answer.json()['id']}")
    nothing = "Nothing of 2024-02 is landed, and no source offers any of it."
    assert (operation["state"], operation["problem"]) == ("failed", f"2024-02 was not published: {nothing}")
    assert operation["events"][-1] == "2024-02: 0 published, 0 unchanged"
    assert f"cost_line_items 2024-02: {nothing}" in operation["events"]
    assert "allocations 2024-02: not made, because what it reads failed" in operation["events"]
    assert own_api.ask("GET", "/operations/none").json()["code"] == "operation-unknown"


def test_work_that_fails_unexpectedly_is_logged_and_said(api, caplog):
    def work():
        yield MonthDone("2024-01", 1, 2, ())
        raise RuntimeError("a fault")

    operations = Operations(api.workspace.settings)
    operation = operations.start("run", Actor("mia"), work)
    while not operation.is_done:
        operations.wait_for_news(operation, 1, 1)
    assert (operation.state, operation.events) == ("failed", ["2024-01: 1 published, 2 unchanged"])
    assert operation.problem == "Something unexpected went wrong; the server's log says what."
    assert "RuntimeError: a fault" in caplog.text


def test_work_names_no_folder_of_the_server(api):
    settings = api.workspace.settings

    def work():
        yield f"read {settings.config}/allocators/a0.json"
        raise OctoError(f"{settings.lake}/landing cannot be written.", code="lake-not-writable")

    operations = Operations(settings)
    operation = operations.start("run", Actor("mia"), work)
    while not operation.is_done:
        operations.wait_for_news(operation, 1, 1)
    assert operation.events == ["read configuration/allocators/a0.json"]
    assert operation.problem == "lake/landing cannot be written."


def test_work_that_waits_is_dropped_when_the_server_stops(own_api):
    release, done = Event(), []

    def work():
        release.wait(30)
        done.append("work")
        yield "done"

    operations = own_api.client.app.state.operations
    with own_api.client:
        running = operations.start("run", Actor("mia"), work)
        while running.state == "waiting":
            operations.wait_for_news(running, 0, 0.01)
        waiting = operations.start("run", Actor("mia"), work)
        Timer(0.1, release.set).start()
    assert (running.state, waiting.state, done) == ("succeeded", "waiting", ["work"])


def test_metrics_are_put_and_read(own_api):
    csv = "month,account,quantity\n2024-01,1,3\n"
    assert own_api.ask("PUT", "/metrics/seats", "editor", content=csv).json()["months"] == ["2024-01"]
    assert own_api.get("/metrics/seats")["items"][0]["id"] == "1"
    assert own_api.ask("PUT", "/metrics/seats", "editor", content="month\n").status_code == 422
    assert own_api.ask("PUT", "/metrics/..%2fx", "editor", content=csv).status_code in (404, 422)


def test_a_month_is_run_by_dagster_where_its_address_is_set(own_api, monkeypatch):
    class Run:
        link = "http://dagster.internal/runs/r1"

        def follow(self):
            yield "The run r1 is started."
            yield "The run r1 is success."

    launched = []

    def launch(url: str, month: str, actor: str) -> Run:
        launched.append((url, month, actor))
        return Run()

    monkeypatch.setattr("octo_pipeline.api.work.launch_month", launch)
    settings = own_api.workspace.settings.model_copy(update={"dagster_url": "http://dagster.internal"})
    own_api.client.app.state.settings = settings
    answer = own_api.ask("POST", f"/months/{MONTH}/run", "editor")
    assert (answer.status_code, answer.json()["link"]) == (202, Run.link)
    events = own_api.ask("GET", f"/operations/{answer.json()['id']}/events").text
    assert "The run r1 is success." in events
    assert '"state": "succeeded"' in events
    assert launched == [("http://dagster.internal", MONTH, "the-editor")]
