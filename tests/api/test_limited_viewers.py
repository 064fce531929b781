"""What a viewer of some cost groups sees: theirs, on every route, and nothing of anybody else."""

import json
from decimal import Decimal

import pytest

from octo_pipeline.api.app import PREFIX
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Actor, NewAccount
from octo_pipeline.services.access import seen_by
from octo_pipeline.services.allocations import listed_allocations
from octo_pipeline.services.costs import cost_group_costs
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.tables.limited import HIDDEN_OF_OTHERS, LimitedWorkspace, limited
from tests.support.api import Api, api_in, made
from tests.support.small_month import MONTH, fee_allocator, line_item
from tests.support.workspaces import workspace_in

MINE, THEIRS, SHARED, PAYER, QUIET = "111111111111", "666666666666", "555555555555", "777777777777", "444444444444"
# What belongs to others: ids, names and amounts, none of which is a part of something that may be seen.
SECRETS = (THEIRS, SHARED, PAYER, QUIET, "hush", "8123.75", "vault")
LINES = [
    line_item(MINE, "10", billing_account_id=PAYER, tags={"team": "shop"}),
    line_item(MINE, "5", "Tax", "Tax", billing_account_id=PAYER, tags={"team": "shop"}),
    line_item(
        THEIRS, "8123.75", billing_account_id=PAYER, sub_account_name="hush-name", charge_description="hush-usage"
    ),
    # Half of it is the shop's.
    line_item(SHARED, "3", billing_account_id=PAYER, tags={"team": "shop"}, service_code="AmazonS3"),
    line_item(SHARED, "4", billing_account_id=PAYER, tags={"team": "hush-team"}, service_code="hush-service"),
    line_item(PAYER, "100", "Fee", "Purchase", billing_account_id=PAYER, charge_description="hush-fee"),
]
# Routes that viewers of everything may ask and that cannot be filtered.
REFUSED = {
    "/allocators",
    "/allocators/attributes",
    "/allocators/sources",
    "/allocators/{allocator_id}",
    "/allocators/{allocator_id}/versions",
    "/allocators/{allocator_id}/versions/{version}",
    "/cost-groups/{cost_group_id}/uses",
    "/cost-groups/{cost_group_id}/versions",
    "/cost-groups/{cost_group_id}/versions/{version}",
    "/charges/{month}",
    "/deliveries",
    "/deliveries/{version}",
    "/metrics",
    "/metrics/{metric_id}",
    "/months/{month}/checks",
    "/months/{month}/readiness",
    "/months/{month}/drift",
    "/months/{month}/corrections",
    "/months/{month}/journal",
    "/months/{month}/focus",
    "/operations",
    "/operations/{operation_id}",
    "/operations/{operation_id}/events",
    "/rates",
    "/sources",
    "/users",
}


@pytest.fixture(scope="module")
def api(tmp_path_factory) -> Api:
    folder = tmp_path_factory.mktemp("limited")
    # Nobody uses the last account; a part is booked on it all the same.
    split = [{"type": "account", "value": QUIET, "formula": "cost*0.1"}]
    split += [{"type": "account", "value": account, "formula": "cost*0.9*usage"} for account in (MINE, THEIRS)]
    theirs = fee_allocator(name="hush-rule", criteria=[{"and": {"account": THEIRS}}])
    workspace = workspace_in(folder, LINES, [fee_allocator(name="Support", allocator=split), theirs])
    groups = {
        "shop": {"account": MINE},
        "vault": {"account": THEIRS},
        "quiet": {"account": QUIET},
    }
    for name, filters in groups.items():
        document = {"id": name, "combinations": {"awsOptions": {"filters": [{"andFilters": filters}]}}}
        (workspace.settings.config / "cost_groups" / f"{name}.json").write_text(json.dumps(document))
    teams = {"id": "teams", "by": {"tag": "team"}, "combinations": {"awsOptions": {}}}
    (workspace.settings.config / "cost_groups" / "teams.json").write_text(json.dumps(teams))
    api = api_in(folder, made(workspace, [MONTH]))
    tester = Actor("tester")
    users, accounts = api.workspace.registry.users, api.workspace.registry.accounts
    users.limit("the-viewer", ["shop", "teams/shop"], tester)
    users.add("hush-user", "viewer", tester)
    accounts.add([NewAccount("aws", PAYER, "hush-payer", kind="payer")], tester)
    accounts.add(
        [NewAccount("aws", account, name, kind="linked") for account, name in ((MINE, "mine"), (THEIRS, "hush"))],
        tester,
    )
    return api


def _get_routes(api: Api) -> list[str]:
    paths = api.client.app.openapi()["paths"]
    return [path.removeprefix(PREFIX) for path, methods in paths.items() if "get" in methods]


def _addresses(path: str) -> list[str]:
    """The addresses of a route that a curious viewer asks: of what is theirs and of what is not."""
    values = {
        "{month}": [MONTH],
        "{account}": [MINE, "mine", THEIRS, "hush", PAYER],
        "{cost_group_id}": ["shop", "vault", "teams"],
        "{allocator_id}": ["a0"],
        "{metric_id}": ["seats"],
        "{operation_id}": ["0"],
        "{owner}": [f"account/{MINE}", f"account/{THEIRS}", "group/vault", "vault"],
        "{item_id}": ["0", "a", "f"],
        "{version}": ["0"],
    }
    addresses = [path]
    for name, replacements in values.items():
        addresses = [a.replace(name, r) for a in addresses for r in (replacements if name in a else [""])]
    owners = (MINE, THEIRS, "shop", "vault", "hush")
    queries = {
        "/allocators/sources": ["?key=account", "?key=tag:team", "?key=group"],
        "/allocations": [f"?month={MONTH}", f"?month={MONTH}&account={THEIRS}", f"?month={MONTH}&text=hush"],
        "/explanations": [f"?month={MONTH}&against={MONTH}&owner={owner}" for owner in owners],
        "/sources": ["?key=account"],
        "costs": [f"?month={MONTH}", f"?month={MONTH}&by=account", f"?month={MONTH}&by=group"],
        "statements.zip": ["?by=account"],
        "statements": ["", "?by=account", "?by=group"],
    }
    for end, texts in queries.items():
        addresses = [a + t for a in addresses for t in (texts if a.endswith(end) else [""])]
    return [a + ("?by=account&page=html" if "/statements/" in a else "") for a in addresses]


def test_no_route_tells_a_limited_viewer_anything_of_others(api):
    """Each GET route answers what is theirs, or refuses. A new route has to do one of these."""
    routes = _get_routes(api)
    assert set(routes) >= REFUSED
    for path in routes:
        addresses = _addresses(path)
        assert all("{" not in address for address in addresses), f"say what {path} is asked for"
        for address in addresses:
            answer = api.ask("GET", address)
            if path in REFUSED:
                assert (answer.status_code, answer.json()["code"]) == (403, "reader-limited"), address
            assert answer.status_code < 500, (address, answer.text)
            text = _without_address(answer.text, address)
            assert not [secret for secret in SECRETS if secret in text], (address, answer.text)


def _without_address(text: str, address: str) -> str:
    """The text of an answer without what the viewer asked for themselves."""
    for asked in (THEIRS, PAYER, "vault", "hush"):
        if asked in address:
            text = text.replace(asked, "")
    return text


def test_the_same_addresses_answer_those_who_see_everything(api):
    """Otherwise nothing would be tested above."""
    for path in (
        f"/allocations?month={MONTH}",
        f"/months/{MONTH}/account-costs",
        f"/months/{MONTH}/summary",
        f"/months/{MONTH}/statements?by=account",
        f"/explanations?month={MONTH}&against={MONTH}&owner={THEIRS}",
        f"/cost-groups/vault/costs?month={MONTH}",
        "/accounts",
        "/cost-groups",
    ):
        answer = api.ask("GET", path, "editor")
        assert answer.status_code == 200, path
        assert [secret for secret in SECRETS if secret in answer.text], path


@pytest.mark.parametrize(
    "path", ["/allocators/validate", "/allocators/simulate", "/cost-groups/validate", "/cost-groups/preview"]
)
def test_a_limited_viewer_tries_no_rules(api, path):
    answer = api.ask("POST", path, json={})
    assert (answer.status_code, answer.json()["code"]) == (403, "reader-limited")


def test_a_limited_viewer_sees_what_is_theirs(api):
    owners = {row["owner_id"] for row in api.get(f"/months/{MONTH}/account-costs")["items"]}
    assert owners == {MINE}
    rows = api.get(f"/allocations?month={MONTH}")["items"]
    assert {(row["kind"], row["source_account"], row["target_account"]) for row in rows} == {
        ("item", MINE, None),
        ("split", None, MINE),
    }
    (split,) = [row for row in rows if row["kind"] == "split"]
    assert (split["charge_description"], split["allocator_id"], split["service_code"]) == (None, "a0", "AmazonEC2")
    refused = api.ask("GET", f"/allocations/{split['item_id']}")
    assert (refused.status_code, refused.json()["code"]) == (403, "reader-limited")
    (own,) = [row for row in rows if row["kind"] == "item"]
    assert api.get(f"/allocations/{own['item_id']}")["sentences"]
    assert [row["id"] for row in api.get("/accounts")["items"]] == [MINE]
    assert api.get("/accounts/mine")["id"] == MINE
    assert api.ask("GET", f"/accounts/{THEIRS}").json()["code"] == "account-unknown"
    assert [row["id"] for row in api.get("/cost-groups")["items"]] == ["shop"]
    statements = api.get(f"/months/{MONTH}/statements?by=account")
    assert [statement["subject"] for statement in statements] == [f"account/{MINE}"]
    page = api.ask("GET", f"/months/{MONTH}/statements/account/{MINE}?by=account&page=pdf")
    assert page.content[:5] == b"%PDF-"
    explained = api.get(f"/explanations?month={MONTH}&against={MONTH}&owner={MINE}")
    assert explained["owner"] == {"kind": "account", "id": MINE}
    summary = api.get(f"/months/{MONTH}/summary")
    assert [row["billed"] for row in summary["bill"]] == ["15.0000000000"]
    assert (summary["findings"], summary["proof"]) == ([], [])
    assert [row["month"] for row in api.get("/months")["items"]] == [MONTH]


def test_a_limited_viewer_reads_the_documents_of_their_groups_alone(api):
    """Regression: whoever knew the id of another group got its document."""
    assert api.ask("GET", "/cost-groups/shop").status_code == 200
    for name in ("vault", "vault/x"):
        answer = api.ask("GET", f"/cost-groups/{name}")
        assert (answer.status_code, THEIRS in answer.text) == (404, False), name
    assert api.ask("GET", "/cost-groups/vault", "editor").status_code == 200


def test_what_describes_an_item_of_others_is_hidden_by_name(api):
    """A new column of the explained allocations has to be hidden, or listed here as one that says nothing of others."""
    shown = {
        "booking_month", "origin_month", "item_id", "category", "step", "status", "kind", "reason", "vendor", "line_type",
        "charge_category", "service_code", "service_name", "currency", "tranche_index", "tranche_count", "entry_index",
        "target_account", "target_group", "formula", "usage_share", "usage_cost", "usage_currency", "usage_quantity", "cost",
        "effective_cost", "allocator_id", "allocator_version", "corrected_month", "corrected_kind",
    }  # fmt: skip
    workspace = api.workspace
    with workspace.lake.connect() as connection:
        columns = {
            row[0] for row in connection.execute(f"describe {explained_allocations(workspace, [MONTH])}").fetchall()
        }
    assert columns - set(HIDDEN_OF_OTHERS) == shown


def test_a_limited_workspace_refuses_what_it_cannot_filter(api):
    workspace = limited(api.workspace, ["shop"])
    for table in TABLES:
        if table.name not in ("account_costs", "cost_group_costs", "cost_line_items", "prepayments"):
            with pytest.raises(OctoError, match="cannot be limited to the cost groups"):
                workspace.lake.scan(table.name, [MONTH], table.columns)
    for refuse in (
        lambda: workspace.registry,
        lambda: workspace.secrets,
        lambda: workspace.closing(MONTH),
        lambda: workspace.lake.path_of("closings"),
        lambda: workspace.lake.parquet_files("closings"),
        lambda: workspace.lake.read_text("x"),
        lambda: workspace.lake.stage("account_costs", MONTH),
    ):
        with pytest.raises(OctoError, match="cannot be limited to the cost groups"):
            refuse()
    assert workspace.configuration.allocators == ()
    assert list(workspace.configuration_of(MONTH).cost_groups) == ["shop"]


@pytest.mark.parametrize(
    ("groups", "owners"),
    [
        (["shop"], {MINE}),
        (["vault"], {THEIRS}),
        (["quiet"], {QUIET}),
        (["shop", "vault"], {MINE, THEIRS}),
        (["teams/shop"], {MINE}),
        # Together they have all of the shared account.
        (["teams/shop", "teams/hush-team"], {MINE, SHARED}),
        (["teams"], {MINE, THEIRS, SHARED, PAYER}),
        (["removed-since"], set()),
        (["team"], set()),
    ],
)
def test_an_account_is_seen_if_it_is_wholly_in_the_groups(api, groups, owners):
    workspace = limited(api.workspace, groups)
    assert {name for _, name in workspace.owners(MONTH)} == owners
    with workspace.lake.connect() as connection:
        rows = connection.execute(listed_allocations(workspace, MONTH)).fetchall()
    assert bool(rows) == bool(owners)


def test_of_an_account_that_is_partly_theirs_they_see_what_is_of_the_group(api):
    workspace = limited(api.workspace, ["teams/shop"])
    costs = cost_group_costs(workspace, "teams/shop", [MONTH]).select("account", "section", "cost")
    assert (SHARED, "direct", Decimal(3)) in costs
    assert not [cost for account, section, cost in costs if account == SHARED and cost == 4]


def test_only_viewers_are_limited_and_each_change_is_in_the_audit_trail(own_api):
    new = {"name": "mia", "role": "viewer", "cost_groups": ["shop"]}
    assert own_api.ask("POST", "/users", "admin", json=new).status_code == 201
    listed = {row["name"]: row["cost_groups"] for row in own_api.get("/users")["items"]}
    assert (listed["mia"], listed["the-viewer"]) == ("shop", None)
    for body, status, code in (
        ({"name": "ed", "role": "editor", "cost_groups": ["shop"]}, 409, "only-viewers-limited"),
        ({"name": "ed", "role": "viewer", "cost_groups": []}, 422, "user-groups-missing"),
        ({"name": "ed", "role": "viewer", "cost_groups": ["nothing"]}, 422, "user-group-unknown"),
    ):
        answer = own_api.ask("POST", "/users", "admin", json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    for user, groups, code in (("the-editor", ["shop"], "only-viewers-limited"), ("nobody", ["shop"], "user-unknown")):
        answer = own_api.ask("PUT", f"/users/{user}/cost-groups", "admin", json={"cost_groups": groups})
        assert answer.json()["code"] == code
    # Who may change something sees everything, so that is decided first.
    raised = own_api.ask("PATCH", "/users/mia", "admin", json={"role": "editor"})
    assert (raised.status_code, raised.json()["code"]) == (409, "only-viewers-limited")
    assert own_api.ask("PUT", "/users/mia/cost-groups", "admin", json={"cost_groups": None}).status_code == 200
    assert own_api.ask("PATCH", "/users/mia", "admin", json={"role": "editor"}).status_code == 200
    events = [(e["action"], e["subject"], e["details"]) for e in own_api.ask("GET", "/audit", "admin").json()[:3]]
    assert events == [
        ("set_role", "mia", {"role": "editor", "before": "viewer"}),
        ("limit_user", "mia", {"cost_groups": None, "before": ["shop"]}),
        ("add_user", "mia", {"role": "viewer", "cost_groups": ["shop"]}),
    ]
    # A viewer is limited from the next request on.
    path = f"/months/{MONTH}/account-costs"
    assert len(own_api.get(path)["items"]) == 3
    own_api.ask("PUT", "/users/the-viewer/cost-groups", "admin", json={"cost_groups": ["shop"]})
    assert [row["owner_id"] for row in own_api.get(path)["items"]] == ["1"]
    workspace = seen_by(own_api.workspace, Actor("the-viewer"))
    assert isinstance(workspace, LimitedWorkspace)
    assert not isinstance(seen_by(own_api.workspace, Actor("the-editor")), LimitedWorkspace)
