"""The data of a month: deliveries, sources, metrics, rates, charges by hand."""

import json
from datetime import UTC, datetime

import pytest

from octo_pipeline.console.routes.month import _FIXES
from octo_pipeline.registry.records import Actor
from octo_pipeline.services.checks import CHECKS
from octo_pipeline.services.rates import missing_rates
from octo_pipeline.vendors.downloads import DeliveredFile
from octo_pipeline.vendors.landing import Delivery, delivery_path, publish, staging
from octo_pipeline.workspace import Workspace
from tests.support.small_month import MONTH

CSV = "month,account,quantity\n2024-01,1,12\n2024-01,2,8\n"


def deliver(workspace, account: str, version: str, minute: int, **more) -> None:
    root = workspace.lake.root
    values = {"vendor": "aws", "source": f"s3://bills/{account}", "report": "cur", **more}
    delivery = Delivery(
        account=account, month=MONTH, version=version, format="csv", files=(DeliveredFile("a.csv", 3, "0" * 64),),
        fetched_at=datetime(2024, 2, 1, 0, minute, tzinfo=UTC),
        path=delivery_path(root, vendor=values["vendor"], account=account, month=MONTH, version=version), **values,
    )  # fmt: skip
    with staging(root) as folder:
        (folder / "a.csv").write_text("a,b")
        publish(root, folder, delivery)


def test_deliveries_say_which_counts_and_what_is_late(own_console):
    workspace = own_console.workspace
    deliver(workspace, "111122223333", "first", 1)
    deliver(workspace, "111122223333", "second", 2)
    deliver(workspace, "444455556666", "third", 3)
    (workspace.settings.config / "sources").mkdir()
    document = {"vendor": "aws", "account": "444455556666", "bucket": "bills", "use": False}
    (workspace.settings.config / "sources" / "old.json").write_text(json.dumps(document))
    text = own_console.text(f"/data?month={MONTH}")
    assert "111122223333 aws counts 2024-02-01 00:02 second 1 3 B 111122223333 aws does not count" in text
    assert "444455556666 aws does not count 2024-02-01 00:03 third" in text
    assert "The aws account 111122223333 delivered 2024-01 last on 2024-02-01, before" in text
    assert "old.json (444455556666, bills) aws not used" in text


def test_a_source_that_is_wrong_is_a_row(own_console):
    workspace = own_console.workspace
    (workspace.settings.config / "sources").mkdir()
    (workspace.settings.config / "sources" / "aws.json").write_text('{"vendor": "aws", "bucket": 7}')
    text = own_console.text("/data")
    assert "aws.json" in text and "problem" in text


def test_rates_that_are_missing_or_of_an_earlier_month(own_console):
    workspace = own_console.workspace
    (workspace.settings.config / "exchange_rates.csv").write_text("month,currency,rate\n2023-12,EUR,1.0842\n")
    assert "EUR 1.0842 USD 2023-12" in own_console.text(f"/data?month={MONTH}")
    other = Workspace(workspace.settings.model_copy(update={"base_currency": "JPY"}))
    assert missing_rates(workspace, MONTH) == []
    assert missing_rates(other, MONTH) == ["USD"]


@pytest.mark.parametrize("metric_id", ["%00", "a" * 5_000, ".hidden"])
def test_what_can_be_no_metric_is_not_there(console, metric_id):
    assert console.get(f"/data/metrics/{metric_id}").status_code == 404


def test_an_editor_saves_and_replaces_a_metric(own_console):
    form = {"new": "yes", "id": "headcount", "csv": CSV, "version": ""}
    assert own_console.post("/data/metrics", "viewer", form).status_code == 403
    answer = own_console.post("/data/metrics", "editor", form)
    assert answer.headers["location"] == "/data/metrics/headcount"
    assert "headcount 2024-01 2 20.00" in own_console.text("/data")
    page = own_console.page("/data/metrics/headcount", "editor")
    assert "2024-01,2,8" in page
    version = page.partition('name="version" value="')[2].partition('"')[0]
    # Two windows: the second is told, and what it typed is there.
    changed = {"id": "headcount", "csv": CSV.replace(",8", ",9"), "version": version}
    assert own_console.post("/data/metrics", "editor", changed).status_code == 303
    second = own_console.post("/data/metrics", "editor", changed | {"csv": CSV.replace(",8", ",7")})
    assert second.status_code == 409
    assert "Somebody changed or removed headcount" in second.text and "2024-01,2,7" in second.text
    # A new one does not replace one that there is.
    assert own_console.post("/data/metrics", "editor", form).status_code == 409
    assert "2024-01,2,9" in own_console.page("/data/metrics/headcount", "editor")


def test_a_metric_can_be_sent_as_a_file(own_console):
    form = {"new": "yes", "id": "seats", "csv": "nothing", "version": ""}
    answer = own_console.post("/data/metrics", "editor", form, files={"file": ("seats.csv", CSV.encode(), "text/csv")})
    assert answer.status_code == 303
    assert own_console.workspace.registry.audit(1)[0].actor == Actor("the-editor")


@pytest.mark.parametrize(
    ("metric_id", "csv", "problem"),
    [
        ("headcount", "month,account,quantity\n2024-13,1,x\n", "line 2"),
        ("headcount", "", "header"),
        ("../../etc/x", CSV, "An id has letters"),
        ("", CSV, "An id has letters"),
        ("<script>", CSV, "An id has letters"),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_what_was_typed_stays(console, metric_id, csv, problem):
    answer = console.post("/data/metrics", "editor", {"new": "yes", "id": metric_id, "csv": csv, "version": ""})
    assert answer.status_code == 422
    assert problem in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert "<script>" not in answer.text.partition("<main")[2]
    assert csv.splitlines()[-1:] == [] or csv.splitlines()[-1] in answer.text
    assert not (console.workspace.settings.config / "metrics").exists()


def test_a_read_only_configuration_says_so(own_console, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    form = {"new": "yes", "id": "headcount", "csv": CSV, "version": ""}
    answer = own_console.post("/data/metrics", "editor", form)
    assert answer.status_code == 409
    assert "is read-only here" in answer.text and "2024-01,2,8" in answer.text


def test_a_metric_that_there_is_not(console):
    assert console.get("/data/metrics/nothing").status_code == 404


def test_what_helps_against_checks_leads_to_pages_that_there_are(console):
    assert set(_FIXES) <= {check.name for check in CHECKS}
    for fix in _FIXES.values():
        if fix.section:
            assert f'id="{fix.section}"' in console.page(fix.path)
