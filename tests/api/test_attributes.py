"""Which keys rules can look at, and which values they have in a month."""

import json

from octo_pipeline.model.columns import COST_GROUP_COLUMNS, CRITERIA_COLUMNS, CRITERIA_TAGS
from octo_pipeline.rules.allocator import parse_allocator
from octo_pipeline.rules.cost_group import parse_cost_group
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.workspace import Workspace
from tests.support.case import make
from tests.support.small_month import MONTH, fee_allocator, line_item
from tests.support.workspaces import write_lines


def test_every_key_is_one_that_documents_are_validated_with(api):
    rows = api.get("/allocators/attributes?limit=1000")["items"]
    keys = {(row["category"], row["key"]) for row in rows}
    assert keys >= {(category, key) for category, columns in CRITERIA_COLUMNS.items() for key in columns}
    assert keys >= {(category, prefix) for category, prefixes in CRITERIA_TAGS.items() for prefix in prefixes}
    assert keys >= {("cost_group", key) for key in COST_GROUP_COLUMNS}
    assert all(row["meaning"] for row in rows)
    for row in rows:
        key = row["key"] + ("team" if row["key"].endswith(":") else "")
        if row["category"] != "cost_group":
            document = fee_allocator(category=row["category"], criteria=[{"and": {key: "x"}}])
            parse_allocator(json.dumps(document), file="a.json")
        else:
            options = (
                {key: [{"andFilters": {"x": "y"}}]}
                if row["values"] == "tag"
                else {"filters": [{"andFilters": {key: "x"}}]}
            )
            parse_cost_group(json.dumps({"combinations": {"gcpOptions": options}}), file="a.json")


def values(api, **query) -> list[tuple]:
    items = api.get("/allocators/sources", params=query)["items"]
    return [(row["value"], row["name"], row["line_items"]) for row in items]


def test_values_are_those_of_the_month(own_api):
    hostile = "<b>\x1b[31m\u202e=1"
    lines = [
        line_item("1", "10", sub_account_name="Shop", tags={"team": "a", "x'y": hostile}),
        line_item("1", "11", sub_account_name="Shop", tags={"team": "b"}, usage_type="other"),
        line_item("2", "30", service_code="AmazonS3", service_name="Simple Storage", tags={"team": "a"}),
        line_item("9", "100", "Fee", "Purchase", charge_description="Support 50%"),
        line_item("9", "-1", savings_kind="used", commitment_discount_type="RI"),
    ]
    workspace = own_api.workspace
    write_lines(workspace, workspace.settings.config.parent, lines)
    make(Workspace(workspace.settings), CostGroupCosts(), [MONTH])

    assert values(own_api, key="account", month=MONTH) == [("1", "Shop", 2), ("9", None, 2), ("2", None, 1)]
    assert values(own_api, key="account", category="fee") == [("9", None, 1)]
    assert values(own_api, key="account", category="account") == [("1", "Shop", 2), ("2", None, 1), ("9", None, 1)]
    assert values(own_api, key="type", category="savings") == [("RI", None, 1)]
    assert values(own_api, key="productCode", text="STORAGE") == [("AmazonS3", "Simple Storage", 1)]
    assert values(own_api, key="description", text="%") == [("Support 50%", None, 1)]
    assert values(own_api, key="tag") == [("team", None, 3), ("x'y", None, 1)]
    assert values(own_api, key="tag:team") == [("a", None, 2), ("b", None, 1)]
    assert values(own_api, key="tag:x'y") == [(hostile, None, 1)]
    assert values(own_api, key="projectLabel") == []
    assert values(own_api, key="group") == [("shop", None, None)]
    assert values(own_api, key="metric") == []
    csv = own_api.ask("GET", "/allocators/sources", params={"key": "tag:x'y"}, headers={"Accept": "text/csv"}).text
    assert csv.splitlines()[1:] == [f"{hostile},,1"]
    pages = [own_api.get("/allocators/sources?key=account&limit=2")]
    pages.append(own_api.get(f"/allocators/sources?key=account&limit=2&cursor={pages[0]['next']}"))
    assert [[row["value"] for row in page["items"]] for page in pages] == [["1", "9"], ["2"]]


def test_what_is_asked_wrongly_is_said(api):
    for key in ("", "nope", "tag:", "\x1b[31m", "<script>", "x" * 1000, "tag:\x00"):
        answer = api.ask("GET", "/allocators/sources", params={"key": key})
        assert answer.status_code == 422, key
    assert "is one of account, payer" in api.ask("GET", "/allocators/sources?key=nope").json()["detail"]
    for query in ("text=%00", f"text={'x' * 1001}", "month=2024-13", "category=nope", "limit=0"):
        assert api.ask("GET", f"/allocators/sources?key=account&{query}").status_code == 422, query
    assert api.ask("GET", "/allocators/sources?key=account&month=1999-01").json()["code"] == "month-not-made"
