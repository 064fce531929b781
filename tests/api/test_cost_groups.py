"""Cost groups over the API: preview, save under a version, who names them, remove."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product

from octo_pipeline.services import cost_groups
from tests.support.small_month import MONTH, fee_allocator

NEW = {"id": "all", "combinations": {"awsOptions": {"filters": [{"andFilters": {"account": "re:^[129]$"}}]}}}
# Markup, a colour of terminals, a mark that turns the writing direction, and a formula.
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e=1+1"


def group(account: str, **more) -> dict:
    return NEW | {"combinations": {"awsOptions": {"filters": [{"andFilters": {"account": account}}]}}} | more


def test_a_preview_says_what_is_matched_and_saves_nothing(api):
    preview = api.ask("POST", f"/cost-groups/preview?month={MONTH}", json=NEW).json()
    assert preview["totals"] == [
        {
            "currency": "USD",
            "accounts": 3,
            "cost_groups": 1,
            "line_items": 3,
            "cost": "140.0000000000",
            "effective_cost": "140.0000000000",
        }
    ]
    assert [(row["account"], row["cost"]) for row in preview["accounts"]] == [
        ("9", "100.0000000000"),
        ("2", "30.0000000000"),
        ("1", "10.0000000000"),
    ]
    assert (preview["month"], preview["is_family"], preview["groups"], preview["hints"]) == (MONTH, False, [], [])
    assert [row["id"] for row in api.get("/cost-groups")["items"]] == ["shop"]
    nobody = api.ask("POST", "/cost-groups/preview", json=group("^1")).json()
    assert [hint["message"] for hint in nobody["hints"]] == [
        '"^1" is compared as it is written, sign by sign; for a pattern write "re:^1"',
        f"it matches nothing in {MONTH}",
    ]
    assert api.ask("POST", "/cost-groups/preview?month=1999-01", json=NEW).json()["code"] == "month-not-made"


def test_a_family_is_previewed_group_by_group(api):
    family = {"id": "each", "by": {"account": True}, "combinations": {"awsOptions": {}}}
    preview = api.ask("POST", "/cost-groups/preview", json=family).json()
    assert [(row["cost_group_id"], row["accounts"], row["cost"]) for row in preview["groups"]] == [
        ("each/9", 1, "100.0000000000"),
        ("each/2", 1, "30.0000000000"),
        ("each/1", 1, "10.0000000000"),
    ]


def test_a_document_is_saved_once_and_changed_under_its_version(own_api):
    made = own_api.ask("PUT", "/cost-groups/all", "editor", json=NEW)
    assert (made.status_code, made.json()) == (201, NEW)
    sent = own_api.ask("GET", "/cost-groups/all")
    assert (sent.json(), sent.headers["etag"]) == (NEW, made.headers["etag"])
    other = group("1", name=HOSTILE)
    assert own_api.ask("PUT", "/cost-groups/all", "editor", json=other).status_code == 412
    mine = {"If-Match": made.headers["etag"]}
    assert own_api.ask("PUT", "/cost-groups/all", "editor", json=other, headers=mine).status_code == 200
    assert own_api.ask("PUT", "/cost-groups/all", "editor", json=NEW, headers=mine).status_code == 412
    assert own_api.get("/cost-groups/all")["name"] == HOSTILE
    elsewhere = own_api.ask("PUT", "/cost-groups/else", "editor", json=NEW)
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (422, "document-of-another-id")
    assert own_api.ask("DELETE", "/cost-groups/all", "editor", headers=mine).status_code == 412
    assert own_api.ask("DELETE", "/cost-groups/all", "editor").status_code == 204
    assert own_api.ask("GET", "/cost-groups/all").status_code == 404
    events = own_api.ask("GET", "/audit", "admin").json()
    assert [(e["actor"], e["action"]) for e in events[:2]] == [
        ("the-editor", "remove_cost_group"),
        ("the-editor", "save_cost_group"),
    ]


def test_a_group_that_a_rule_names_is_not_removed(own_api):
    config = own_api.workspace.settings.config
    to_shop = [{"type": "group", "value": "shop"}, {"type": "group", "value": "re:^sh"}]
    (config / "allocators" / "a1.json").write_text(
        json.dumps(fee_allocator(allocator=to_shop, usageOf={"costGroup": "shop"}, defaultGroup="shop"))
    )
    (config / "cost_centres.csv").write_text(
        "owner_type,owner_id,cost_centre,ledger_account,name,email\ngroup,shop,100,7000,,\n"
    )
    uses = own_api.get("/cost-groups/shop/uses")
    assert [(use["document"], use["path"], use["is_pattern"]) for use in uses] == [
        ("a1", "allocator[0].value", False),
        ("a1", "allocator[1].value", True),
        ("a1", "usageOf.costGroup", False),
        ("a1", "defaultGroup", False),
        ("cost_centres.csv", "group shop", False),
    ]
    refused = own_api.ask("DELETE", "/cost-groups/shop", "editor")
    assert (refused.status_code, refused.json()["code"]) == (409, "cost-group-named")
    assert "a1 (allocator[0].value), a1 (usageOf.costGroup)" in refused.json()["detail"]
    # As a family it has no group of this id, so the allocator would be left out of the next run.
    family = {"id": "shop", "by": {"account": True}, "combinations": {"awsOptions": {}}}
    seen = own_api.ask("GET", "/cost-groups/shop").headers["etag"]
    broken = own_api.ask("PUT", "/cost-groups/shop", "editor", json=family, headers={"If-Match": seen})
    assert (broken.status_code, broken.json()["code"]) == (409, "cost-group-needed-otherwise")
    assert "The allocator a1 would no longer be valid: allocator[0].value" in broken.json()["detail"]
    assert own_api.ask("GET", "/cost-groups/shop").headers["etag"] == seen


def test_a_document_that_is_not_valid_can_be_read_and_replaced(own_api):
    file = own_api.workspace.settings.config / "cost_groups" / "broken.json"
    file.write_text('{"id": "broken", "combinations": {"awsOptions": {"filter": []}}}')
    sent = own_api.ask("GET", "/cost-groups/broken")
    assert (sent.status_code, sent.json()["combinations"]) == (200, {"awsOptions": {"filter": []}})
    right = NEW | {"id": "broken"}
    assert own_api.ask("PUT", "/cost-groups/broken", "editor", json=right).status_code == 412
    seen = {"If-Match": sent.headers["etag"]}
    assert own_api.ask("PUT", "/cost-groups/broken", "editor", json=right, headers=seen).status_code == 200
    assert own_api.ask("PUT", "/cost-groups/broken", "editor", json=right, headers=seen).status_code == 412


def test_an_id_in_the_address_leads_nowhere_else(own_api):
    names = ("..%2f..%2fx", "%2e%2e", "a%00b", "x" * 60_000, "%1b%5b31m", "%e2%80%ae", "%3cb%3e")
    for name, (method, path) in product(names, (("PUT", ""), ("GET", ""), ("GET", "/uses"), ("DELETE", ""))):
        answer = own_api.ask(method, f"/cost-groups/{name}{path}", "editor", json=NEW if method == "PUT" else None)
        assert answer.status_code in (404, 405, 422), (method, name)
    assert {file.name for file in (own_api.workspace.settings.config / "cost_groups").iterdir()} == {"shop.json"}


def test_a_read_only_configuration_is_not_changed(own_api, monkeypatch):
    # The tests may run as root, for whom nothing is read-only.
    monkeypatch.setattr("os.access", lambda path, mode: not str(path).endswith("cost_groups"))
    for method, path in (("PUT", "all"), ("DELETE", "shop")):
        answer = own_api.ask(method, f"/cost-groups/{path}", "editor", json=NEW)
        assert (answer.status_code, answer.json()["code"]) == (409, "configuration-read-only")


def test_of_two_changes_at_once_of_one_version_the_second_is_refused(own_api, monkeypatch):
    version = own_api.ask("PUT", "/cost-groups/all", "editor", json=NEW).headers["etag"]
    save = cost_groups.save_group

    def saved_slowly(*args, **more):
        time.sleep(0.1)
        save(*args, **more)

    monkeypatch.setattr(cost_groups, "save_group", saved_slowly)

    def change(account: str) -> int:
        headers = {"If-Match": version}
        return own_api.ask("PUT", "/cost-groups/all", "editor", json=group(account), headers=headers).status_code

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(change, ("1", "2"))) == [200, 412]
