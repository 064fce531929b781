"""The list of a month's allocations, the stories of items, and deciding on them."""

import csv
import io
import json
from decimal import Decimal

import pytest
from openpyxl import load_workbook

from octo_pipeline.api.listing import MEDIA_TYPES
from octo_pipeline.console.routes import allocations as page
from octo_pipeline.registry.records import Actor, Caller
from octo_pipeline.services import allocations
from octo_pipeline.services.allocations import (
    Filters,
    allocation_totals,
    fetched,
    large_page,
    large_totals,
    listed_allocations,
)
from octo_pipeline.services.decide import closed_sentence, find_items
from octo_pipeline.workspace import Workspace
from tests.support.case import run
from tests.support.small_month import MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.workspaces import workspace_in

PATH = f"/allocations?month={MONTH}"


def item_of(console) -> str:
    (item,) = find_items(console.workspace, allocator="a0", month=MONTH)
    return item.item_id


def done(console, answer) -> str:
    """Wait for the work that a decision started; the text of its page."""
    path = answer.headers["location"]
    client = console.client("editor")
    operation = client.app.state.operations.get(path.partition("?")[0].rsplit("/", 1)[1])
    client.app.state.operations.close()
    assert operation.is_done
    return client.get(path).text


def test_the_list_has_items_with_their_splits_below_and_what_they_add_up_to(console):
    text = console.text(PATH)
    assert "Checked Allocated 100.00 1 row" not in text
    assert "USD" in text
    assert "Checked Splitted fee" not in text.partition("Booked on")[0]
    table = text.rpartition("Currency ")[2]
    assert table.startswith("x Checked Allocated fee 9 AmazonEC2 a0 100.00 USD")
    assert "↳ split Checked Splitted 1 25.00 USD" in table
    assert "↳ split Checked Splitted 2 75.00 USD" in table
    assert "100.00 1 row" in text and "100.00 2 rows" in text


@pytest.mark.parametrize(
    ("filters", "costs"),
    [
        ("status=checked_splitted", ["25.00", "75.00"]),
        ("status=unchecked_allocated", []),
        ("category=fee&status=checked_allocated", ["100.00"]),
        ("category=savings", []),
        ("account=2", ["75.00"]),
        ("account=9", ["100.00", "25.00", "75.00"]),
        ("cost_group=shop", ["25.00"]),
        ("cost_group=sho", []),
        ("allocator=a0&sort=-cost", ["100.00", "75.00", "25.00"]),
        ("allocator=%27%20or%20true%20--", []),
        ("service=AmazonEC2&text=X", ["100.00", "25.00", "75.00"]),
        ("service=Amazon", []),
        # What is no status is as if it were not asked for.
        ("status=nothing", ["100.00", "25.00", "75.00"]),
    ],
)
def test_filters_are_in_the_address(console, filters, costs):
    text = console.text(f"{PATH}&{filters}")
    rows = text.rpartition("Currency ")[2]
    assert [word for word in rows.split() if word.endswith(".00")] == costs
    assert ("Nothing in 2024-01 is like that." in text) == (not costs)


def test_pages_follow_each_other(console, monkeypatch):
    monkeypatch.setattr(page, "_PAGE_ROWS", 2)
    first = console.page(f"{PATH}&sort=cost")
    following = first.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
    second = console.text(following)
    assert "100.00 USD" in second.rpartition("Currency ")[2]
    assert "« First" in second


def test_a_cursor_of_another_state_begins_again(console):
    answer = console.get(f"{PATH}&cursor=bm8&sort=cost")
    assert (answer.status_code, answer.headers["location"]) == (303, PATH)
    assert console.get(f"{PATH}&sort=nothing").status_code == 303


def test_a_month_that_was_not_made_says_so(console):
    assert "2023-05 has no results" in console.text("/allocations?month=2023-05")


def test_what_is_filtered_can_be_had_as_a_file(console):
    def content(kind: str) -> bytes:
        answer = console.get(f"/allocations/file?month={MONTH}&format={kind}&status=checked_splitted&sort=-cost")
        assert answer.status_code == 200
        assert answer.headers["content-disposition"] == f'attachment; filename="allocations-{MONTH}.{kind}"'
        return answer.content

    rows = [json.loads(line) for line in content("ndjson").splitlines()]
    assert [row["cost"] for row in rows] == ["75.0000000000", "25.0000000000"]
    assert [row["cost"] for row in csv.DictReader(io.StringIO(content("csv").decode()))] == [r["cost"] for r in rows]
    sheet = load_workbook(io.BytesIO(content("xlsx"))).active
    header, *lines = sheet.values
    assert [line[header.index("cost")] for line in lines] == [75, 25]
    assert content("parquet")[:4] == b"PAR1"
    assert set(page._FORMATS.values()) <= set(MEDIA_TYPES)
    assert console.get(f"/allocations/file?month={MONTH}&format=exe").status_code == 422


def test_a_story_has_its_splits_and_its_months(console):
    text = console.text(f"/allocations/{item_of(console)}?month={MONTH}")
    assert "The rule a0" in text and "takes it" in text
    assert f"{MONTH} Checked Allocated 1 of 1 2 100.00 USD" in text
    assert "2 Checked Splitted 75.00 USD" in text
    assert "usage 30.00 USD is a share of 0.750000; cost*usage gives 75.0000000000 USD" in text
    assert "Restore" not in text
    assert "Restore…" in console.text(f"/allocations/{item_of(console)}", "editor")


def test_an_item_that_there_is_not_is_said(console):
    answer = console.get("/allocations/zzz")
    assert answer.status_code == 404
    assert "No item has an id that begins with zzz." in answer.text


def test_viewers_do_not_decide(console):
    path = f"/allocations/decision?action=restore&item={item_of(console)}"
    assert console.get(path).status_code == 403
    assert console.post("/allocations/decision", "viewer", {"item": item_of(console), "reason": "x"}).status_code == 403
    assert "Restore all" not in console.page(f"{PATH}&allocator=a0")
    assert console.workspace.registry.decisions() == []


def test_before_a_decision_the_page_says_how_many_and_how_much(console):
    text = console.text(f"/allocations/decision?action=restore&allocator=a0&month={MONTH}", "editor")
    assert "Restore 1 item?" in text
    assert "100.00 USD in 1 item." in text
    assert f"These months are made again: {MONTH}." in text
    assert "already" not in text
    text = console.text(f"/allocations/decision?action=reapply&allocator=a0&month={MONTH}", "editor")
    assert "It is not restored, so it cannot be re-applied." in text


def test_restoring_an_item(own_console):
    item = item_of(own_console)
    form = {"action": "restore", "item": item, "reason": "billed to <us> alone"}
    work = done(own_console, own_console.post("/allocations/decision", "editor", form))
    assert "Done." in work
    assert "1 item is restored." in work
    own_console.clients.clear()
    text = own_console.text(f"/allocations/{item}", "editor")
    assert "restored" in text and "the-editor: restore, because billed to <us> alone" in text
    assert "Unchecked Allocated restored by a person 100.00 USD" in text
    # A second click, or a second window, decides nothing.
    again = own_console.post("/allocations/decision", "editor", form)
    assert again.status_code == 422
    assert "restored it at" in again.text
    assert 'value="billed to &lt;us&gt; alone"' in again.text
    assert len(own_console.workspace.registry.decisions()) == 1
    asked = own_console.text(f"/allocations/decision?action=restore&allocator=a0&month={MONTH}", "editor")
    assert "It is restored already, so it cannot be restored." in asked
    assert "Re-apply…" in own_console.text(f"/allocations/{item}", "editor")
    # The rule has nothing in the list any more; what it took can be had back all the same.
    assert "Re-apply all of a0" in own_console.text(f"{PATH}&allocator=a0", "editor")


def test_a_decision_needs_a_reason(console):
    answer = console.post("/allocations/decision", "editor", {"action": "restore", "item": item_of(console)})
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in answer.text
    assert console.workspace.registry.decisions() == []


@pytest.mark.parametrize("filters", [{}, {"allocator": "a0", "month": MONTH, "item": "x"}, {"allocator": "a0"}])
def test_a_decision_on_nothing_clear_is_refused(console, filters):
    answer = console.post("/allocations/decision", "editor", {"action": "restore", "reason": "x", **filters})
    assert answer.status_code == 422


NAME = '<b>"x"</b>\u202e\x1b[31m' + "z" * 3_000


def test_hostile_texts_are_texts(tmp_path, own_console):
    lines = [*USAGE_OF_10_AND_30, line_item("9", "100", "Fee", "Purchase", charge_description=NAME)]
    # The pages of another lake have users of their own.
    made = workspace_in(tmp_path / "hostile", lines, [fee_allocator()])
    run(Workspace(made.settings), [MONTH])
    client = own_console.client("viewer")
    client.app.state.pages.state.settings = made.settings
    registry = made.registry
    registry.users.add("root", "admin", Actor("tester"))
    token = registry.users.make_token("root", "tests", Actor("tester"))
    client.cookies.set("octo_session", registry.sessions.begin(Caller(None, token), "token"))
    (item,) = find_items(made, allocator="a0", month=MONTH)
    for path in (PATH, f"/allocations/{item.item_id}"):
        content = client.get(path).text
        assert "<b>&#34;x" not in content and '<b>"x' not in content
        assert "&lt;b&gt;" in content
        assert "\x1b" not in content and "\u202e" not in content
    assert len(client.get(PATH).text) < 20_000


@pytest.mark.parametrize(
    "filters",
    [
        Filters(),
        Filters(status="checked_splitted"),
        Filters(status="checked_allocated"),
        Filters(account="2"),
        Filters(account="9"),
        Filters(cost_group="shop"),
        Filters(allocator="a0"),
        Filters(service="AmazonEC2", text="X"),
        Filters(category="savings"),
    ],
)
def test_a_page_of_a_large_month_has_the_same_rows(console, filters):
    workspace = console.workspace
    whole = fetched(workspace, listed_allocations(workspace, MONTH, filters))
    read = [
        row
        for start in range(len(whole) + 1)
        for row in large_page(workspace, MONTH, filters, sort=None, start=start, length=1).rows
    ]
    assert sorted(map(repr, read)) == sorted(map(repr, whole.rows))
    by_cost = large_page(workspace, MONTH, filters, sort="-cost", start=0, length=9)
    assert by_cost.columns == whole.columns
    assert by_cost.column("cost") == sorted(whole.column("cost"), reverse=True)
    totals = allocation_totals(workspace, MONTH, filters)
    assert sum(totals.column("cost")) == sum(whole.column("cost"), Decimal(0))
    assert sum(totals.column("row_count")) == len(whole)
    assert large_totals(workspace, MONTH, filters) == totals


def test_the_page_of_a_large_month_does_not_wait_for_its_totals(console, monkeypatch):
    monkeypatch.setattr(allocations, "LARGE_ROWS", 1)
    content = console.page(f"{PATH}&allocator=a0")
    assert 'hx-get="/allocations/totals?month=2024-01&amp;allocator=a0"' in content
    assert "100.00 2 rows" in console.text(f"/allocations/totals?month={MONTH}&allocator=a0")
    # Its other columns are not sorted by, because that would read all items.
    assert "sort=service_code" not in content and "sort=-cost" in content


def test_the_month_page_of_a_large_month_does_not_wait_for_what_is_added_up(console, monkeypatch):
    whole = console.page(f"/?month={MONTH}")
    monkeypatch.setattr(allocations, "LARGE_ROWS", 1)
    first, rest = console.page(f"/?month={MONTH}"), console.page(f"/?month={MONTH}&all=yes")
    assert 'hx-get="/?month=2024-01&amp;all=yes" hx-trigger="load" hx-select="#rest"' in first
    assert "The bill" in first and "What needs attention" not in first
    assert rest.partition('<div id="rest">')[2] == whole.partition('<div id="rest">')[2]
    assert "What needs attention" in rest and "What the rules moved" in rest


def test_a_decision_on_a_closed_month_says_where_it_is_corrected():
    assert closed_sentence([], None) == ""
    assert closed_sentence(["2024-01"], "2024-02") == (
        "2024-01 is closed and stays as invoiced; the difference is booked in 2024-02."
    )
    assert closed_sentence(["2024-01", "2024-02"], None) == (
        "2024-01, 2024-02 are closed and stay as invoiced; the difference is booked once the lake has a later month."
    )
