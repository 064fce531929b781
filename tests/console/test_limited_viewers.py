"""What a viewer of some cost groups sees in the console: theirs, and no page that cannot be limited."""

import json
import re

from octo_pipeline.registry.records import Actor
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from tests.support.case import make
from tests.support.small_month import MONTH

# Pages that filter. Another page that viewers may open is refused to those who are limited.
FILTERED = {
    "/", "/accounts", "/accounts/{vendor}/{account}", "/allocations", "/allocations/file", "/allocations/totals",
    "/allocations/{item_id}", "/cost-groups", "/cost-groups/{group_id}",
    "/statements", "/statements/of", "/statements/all.zip", "/sign-in", "/sign-in/link", "/sign-in/openid", "/sign-in/openid/callback",
}  # fmt: skip
# Pages that only those may open who change something, whom nobody limits.
CHANGING = {
    "/allocations/decision", "/cost-groups/{group_id}/remove", "/data/new-metric", "/rules/{rule_id}/remove",
    "/rules/{rule_id}/supersede",
}  # fmt: skip


def test_a_limited_viewer_opens_pages_that_filter_alone(own_console):
    own_console.workspace.registry.users.limit("the-viewer", ["shop"], Actor("tester"))
    month = own_console.text("/")
    assert "35.00" in month
    # What the other account pays, and the whole bill.
    assert not re.search("105.00|140.00", month)
    paths = own_console.client("viewer").app.state.pages.openapi()["paths"]
    for path in {path for path, methods in paths.items() if "get" in methods} - FILTERED - CHANGING:
        answer = own_console.get(re.sub(r"\{[^}]*\}", "x", path))
        assert (answer.status_code, "cannot be limited to the cost groups" in answer.text) == (403, True), path
    accounts = own_console.page("/accounts")
    assert 'href="/accounts/aws/1"' in accounts and 'href="/accounts/aws/2"' not in accounts
    assert "35.00" in own_console.text("/accounts/aws/1")
    assert own_console.get("/accounts/aws/2").status_code == 404
    statements = own_console.text("/statements?by=account")
    assert "35.00 USD" in statements and not re.search("105.00|140.00|Journal|FOCUS", statements)
    assert own_console.get(f"/statements/of?month={MONTH}&by=account&owner=account/2").status_code == 404
    assert own_console.post("/sign-out", "viewer").status_code == 303
    assert own_console.get("/").status_code == 303


def test_a_viewer_of_one_group_of_a_family_finds_it(own_console):
    family = {"id": "each", "by": {"account": True}, "combinations": {"awsOptions": {}}}
    (own_console.workspace.settings.config / "cost_groups" / "each.json").write_text(json.dumps(family))
    make(own_console.workspace, CostGroupCosts(), [MONTH])
    own_console.workspace.registry.users.limit("the-viewer", ["each/2"], Actor("tester"))
    assert "each/2" in own_console.text("/cost-groups")
    assert "no longer" not in own_console.text("/cost-groups").lower()
    assert 'href="/cost-groups/each?value=2"' in own_console.page("/cost-groups")
    one = own_console.text("/cost-groups/each?value=2")
    assert "105.00 USD" in one and "no longer" not in one
    assert own_console.get("/cost-groups/each?value=1").status_code == 404
    costs = own_console.api.ask("GET", f"/cost-groups/each%2F2/costs?month={MONTH}")
    assert {row["account"] for row in costs.json()["items"]} == {"2"}
    assert own_console.api.ask("GET", f"/cost-groups/each%2F1/costs?month={MONTH}").status_code == 404


def test_a_limited_viewer_sees_what_is_booked_on_their_accounts(own_console):
    own_console.workspace.registry.users.limit("the-viewer", ["shop"], Actor("tester"))
    text = own_console.text("/allocations?month=2024-01")
    assert "25.00 1 row" in text
    # The item, which was billed on somebody else, and the part of the other account.
    assert not re.search("75.00|100.00", text)
    item = (
        own_console.page("/allocations?month=2024-01").partition('class="row" href="/allocations/')[2].partition("?")[0]
    )
    assert own_console.get(f"/allocations/{item}").status_code == 403
    assert "75" not in own_console.get("/allocations/file?month=2024-01&format=ndjson").text
    assert own_console.get("/allocations/decision?action=restore&item=x").status_code == 403
