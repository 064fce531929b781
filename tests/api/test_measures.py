"""/metrics, the dashboard that reads it, and the lines of the log."""

import json
import logging
import re
from pathlib import Path

import dagster as dg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from octo_pipeline.api import measures
from octo_pipeline.automation.seconds import seconds_by_table
from octo_pipeline.cli.logs import configure_logs
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Actor
from octo_pipeline.services.decide import decide, find_items
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.workspace import Workspace
from tests.support.api import Api

DASHBOARD = Path(__file__).parent.parent.parent / "deploy" / "grafana-dashboard.json"


def measured(api: Api) -> dict[str, dict[tuple[str, ...], float]]:
    """Metric -> values of its labels -> its value."""
    answer = api.client.get("/metrics", headers={"Authorization": f"Bearer {api.tokens['viewer']}"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    values: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            values.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return values


def test_a_limited_viewer_is_refused(own_api):
    """Its sums are about everybody."""
    users = own_api.workspace.registry.users
    users.add("mia", "viewer", Actor("tester"), ["shop"])
    token = users.make_token("mia", "tests", Actor("tester"))
    answer = own_api.client.get("/metrics", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["code"]) == (403, "reader-limited")
    assert "octo_billed_amount" not in answer.text


def test_the_state_of_the_installation_is_measured(own_api):
    values = measured(own_api)
    assert values["octo_months"] == {("open",): 1}
    assert values["octo_lake_readable"] == {(): 1}
    # Its line items were published by themselves, so it is stale: nothing was delivered.
    assert values["octo_stale_months"] == {(): 1}
    assert values["octo_billed_amount"] == {("USD",): 140}
    assert values["octo_unallocated_amount"] == {("USD",): 0}
    assert values["octo_unallocated_items"] == {("USD",): 0}
    assert "octo_late_accounts" not in values

    workspace = Workspace(own_api.workspace.settings)
    items = find_items(workspace, allocator="a0", month="2024-01")
    list(decide(workspace, "restore", items, reason="a test", actor=Actor("tester")))
    values = measured(own_api)
    assert values["octo_unallocated_amount"] == {("USD",): 100}
    assert values["octo_unallocated_items"] == {("USD",): 1}


def test_requests_are_measured_by_route_and_not_by_what_callers_write(own_api):
    own_api.ask("GET", "/months")
    own_api.ask("GET", "/months/2024-01/checks")
    own_api.ask("GET", "/months/2024-02/checks")
    own_api.ask("GET", "/months", role=None)
    own_api.ask("GET", "/nothing/of/ours")
    own_api.ask("BREW", "/months")
    counts = measured(own_api)["octo_http_requests_total"]
    assert counts["GET", "/api/v1/months", "200"] == 1
    assert counts["GET", "/api/v1/months", "401"] == 1
    assert counts["GET", "/api/v1/months/{month}/checks", "200"] == 1
    assert counts["GET", "/api/v1/months/{month}/checks", "404"] == 1
    assert counts["GET", "other", "404"] == 1
    assert sum(count for (method, *_), count in counts.items() if method == "other") == 1
    assert not any("2024" in label for labels in counts for label in labels)


def test_metrics_are_for_viewers_with_a_token(own_api):
    assert own_api.client.get("/metrics").status_code == 401
    wrong = own_api.client.get("/metrics", headers={"Authorization": "Bearer octo_x"})
    assert wrong.status_code == 401


def test_a_lake_that_cannot_be_read_is_a_measure_and_no_error(own_api, monkeypatch):
    def refuse(_: Workspace) -> None:
        raise OctoError("The lake is away.", code="lake-file-unreadable")

    monkeypatch.setattr(measures, "observed", refuse)
    values = measured(own_api)
    assert values["octo_lake_readable"] == {(): 0}
    assert "octo_months" not in values


def test_the_seconds_of_tables_are_those_that_dagster_recorded_last(own_api, tmp_path, monkeypatch):
    assert seconds_by_table(["allocations"]) == {}
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as instance:
        for seconds in (1.5, 0.25):
            event = dg.AssetMaterialization("allocations", partition="2024-01", metadata={"seconds": seconds})
            instance.report_runless_asset_event(event)
    assert seconds_by_table(["allocations", "matched_items"]) == {"allocations": 0.25}
    assert measured(own_api)["octo_table_seconds"] == {("allocations",): 0.25}


def test_each_metric_of_the_dashboard_exists(own_api, monkeypatch):
    monkeypatch.setattr(measures, "observed", lambda _: OBSERVED)
    monkeypatch.setattr("octo_pipeline.automation.seconds.seconds_by_table", lambda tables: dict.fromkeys(tables, 1.0))
    own_api.client.app.state.operations.start("run", Actor("tester"), lambda: [])
    own_api.ask("GET", "/months")
    values = measured(own_api)
    assert values["octo_table_seconds"].keys() == {(table.name,) for table in TABLES}
    expressions = [
        target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]
    ]
    named = {name for expression in expressions for name in re.findall(r"octo_\w+", expression)}
    assert len(named) == 11
    assert named <= values.keys()


OBSERVED = measures.Observed(
    months={"open": 1},
    stale_months=0,
    late_accounts={"aws": 1},
    newest_month="2024-01",
    billed={"USD": 140},
    unallocated={"USD": (1, 2)},
)


@pytest.fixture
def logged(capsys):
    """Returns what was written to stderr; afterwards logs go where they went."""
    root, own = logging.getLogger(), logging.getLogger("octo_pipeline")
    handlers, levels = root.handlers[:], (root.level, own.level)
    yield lambda: capsys.readouterr().err
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])


def test_the_log_is_a_json_object_a_line_with_one_for_each_request(api, logged):
    configure_logs("json")
    api.ask("GET", "/months")
    (line,) = map(json.loads, logged().splitlines())
    facts = {name: line[name] for name in ("level", "logger", "method", "route", "status")}
    assert facts == {
        "level": "INFO",
        "logger": "octo_pipeline.api.measures",
        "method": "GET",
        "route": "/api/v1/months",
        "status": 200,
    }
    assert line["seconds"] >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", line["time"])
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("octo_pipeline.x").exception("It went\nwrong.")
    broken = json.loads(logged())
    assert broken["message"] == "It went\nwrong."
    assert "ValueError: broken" in broken["exc_info"]


def test_the_log_for_people_has_sentences_and_no_requests(api, logged):
    configure_logs("text")
    api.ask("GET", "/months")
    assert logged() == ""
    logging.getLogger("octo_pipeline.x").warning("The lake is away.")
    assert logged() == "WARNING octo_pipeline.x: The lake is away.\n"
