"""Lists: pages, order, formats, and what is hostile in them."""

import csv
import io
import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openpyxl import load_workbook

from octo_pipeline.api.listing import MEDIA_TYPES, XLSX
from tests.support.small_month import MONTH

PATH = f"/allocations?month={MONTH}"


def test_a_page_has_amounts_with_all_of_their_digits(api):
    page = api.get(f"{PATH}&status=checked_splitted")
    assert [(row["target_account"], row["cost"]) for row in page["items"] if row["kind"] == "split"] == [
        ("1", "25.0000000000"),
        ("2", "75.0000000000"),
    ]
    assert page["next"] is None


def test_pages_put_together_are_the_list(api):
    whole = api.get(PATH)["items"]
    assert len(whole) > 2
    for sort in ("", "&sort=cost", "&sort=-target_account"):
        rows, cursor = [], None
        while True:
            page = api.get(f"{PATH}&limit=1{sort}{f'&cursor={cursor}' if cursor else ''}")
            rows += page["items"]
            assert len(page["items"]) == 1
            cursor = page["next"]
            if cursor is None:
                break
        assert len(rows) == len(whole)
        assert sorted(map(str, rows)) == sorted(map(str, whole))
        if not sort:
            assert rows == whole
    costs = [Decimal(row["cost"]) for row in api.get(f"{PATH}&sort=-cost")["items"]]
    assert costs == sorted(costs, reverse=True)


@pytest.mark.parametrize(
    "filters", ["allocator=a0", "category=fee&status=checked_splitted", "account=1", "text=X", "service=AmazonEC2"]
)
def test_filters_take_rows_away(api, filters):
    whole, some = api.get(PATH)["items"], api.get(f"{PATH}&{filters}")["items"]
    assert some
    assert all(row in whole for row in some)
    assert api.get(f"{PATH}&text=nowhere-in-it")["items"] == []


def test_the_formats_have_the_same_rows(api):
    expected = api.get(PATH)["items"]
    assert set(MEDIA_TYPES) == {
        "application/json", "application/x-ndjson", "text/csv", "application/vnd.apache.parquet",
        "application/vnd.apache.arrow.stream", XLSX,
    }  # fmt: skip

    def answer(media_type: str) -> bytes:
        sent = api.ask("GET", PATH, headers={"Accept": media_type})
        assert sent.status_code == 200
        assert sent.headers["content-type"].partition(";")[0] == media_type
        return sent.content

    assert [json.loads(line) for line in answer("application/x-ndjson").splitlines()] == expected
    rows = list(csv.DictReader(io.StringIO(answer("text/csv").decode())))
    assert [row["cost"] for row in rows] == [row["cost"] for row in expected]
    header, *lines = load_workbook(io.BytesIO(answer(XLSX))).active.values
    assert [Decimal(line[header.index("cost")]) for line in lines] == [Decimal(row["cost"]) for row in expected]
    for table in (
        pq.read_table(io.BytesIO(answer("application/vnd.apache.parquet"))),
        pa.ipc.open_stream(answer("application/vnd.apache.arrow.stream")).read_all(),
    ):
        assert [f"{cost:f}" for cost in table["cost"].to_pylist()] == [row["cost"] for row in expected]
        assert str(table.schema.field("cost").type) == "decimal128(38, 10)"


def test_no_file_is_left(api, tmp_path):
    temporary = replace_settings(api, tmp_path)
    for media_type in MEDIA_TYPES:
        assert api.ask("GET", PATH, headers={"Accept": media_type}).status_code == 200
    assert list(temporary.iterdir()) == []


def replace_settings(api, folder):
    app = api.client.app
    app.state.settings = app.state.settings.model_copy(update={"temp": folder})
    return folder


@pytest.mark.parametrize(
    ("accept", "status", "media_type"),
    [
        ("*/*", 200, "application/json"),
        ("text/*", 200, "text/csv"),
        ("text/html, application/json;q=0.5", 200, "application/json"),
        ("text/csv;q=0.1, application/x-ndjson;q=0.9", 200, "application/x-ndjson"),
        ("text/csv;q=high, application/json", 200, "application/json"),
        ("image/png", 406, "application/problem+json"),
        (",;=,", 406, "application/problem+json"),
    ],
)
def test_the_format_is_negotiated(api, accept, status, media_type):
    answer = api.ask("GET", PATH, headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (status, media_type)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ("&cursor=x", "cursor-wrong"),
        ("&cursor=%00", "cursor-wrong"),
        ("&cursor=W10", "cursor-wrong"),
        ("&cursor=" + "W1s" * 30, "cursor-wrong"),
        ("&sort=nothing", "sort-column-unknown"),
        ('&sort="; drop table x', "sort-column-unknown"),
        ("&limit=0", "request-wrong"),
        ("&limit=1001", "request-wrong"),
        ("&status=splitted", "request-wrong"),
        ("&account=%00", "nul-character"),
    ],
)
def test_what_cannot_be_asked_is_a_problem(api, more, code):
    answer = api.ask("GET", PATH + more)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_cursor_of_another_state_is_refused(own_api):
    cursor = own_api.get(f"{PATH}&limit=1")["next"]
    item = own_api.get(f"{PATH}&status=checked_splitted")["items"][0]["item_id"]
    started = own_api.ask("POST", "/allocations/restore", "editor", json={"item": item, "reason": "a test"})
    wait_for(own_api, started.json()["id"])
    answer = own_api.ask("GET", f"{PATH}&limit=1&cursor={cursor}")
    assert (answer.status_code, answer.json()["code"]) == (409, "list-changed")


def wait_for(api, operation_id: str) -> dict:
    """The operation once it is done; its events end then."""
    events = api.ask("GET", f"/operations/{operation_id}/events").text
    assert "event: done" in events
    return api.get(f"/operations/{operation_id}")


def test_texts_of_csv_never_become_formulas(api, tmp_path):
    users = api.workspace.registry.users
    users.add("=1+1", "viewer", users.all()[0].name)
    rows = csv.DictReader(io.StringIO(api.ask("GET", "/users", headers={"Accept": "text/csv"}).text))
    assert "'=1+1" in [row["name"] for row in rows]
    rows = csv.DictReader(io.StringIO(api.ask("GET", "/users?raw=true", headers={"Accept": "text/csv"}).text))
    assert "=1+1" in [row["name"] for row in rows]
    users.remove("=1+1", users.all()[0].name)
