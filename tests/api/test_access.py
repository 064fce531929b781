"""Who may ask for what: each route for nobody, for a stranger, and for each role."""

import pytest

from octo_pipeline.api.app import PREFIX, create_app
from octo_pipeline.settings import Settings

# Route -> the least role that may ask for it. A new route has to be added.
LEAST_ROLE = {
    "GET /accounts": "viewer",
    "GET /accounts/{account}": "viewer",
    "PATCH /accounts/{account}": "admin",
    "POST /accounts": "admin",
    "GET /accounts/{account}/registration": "admin",
    "POST /accounts/{account}/confirm": "admin",
    "POST /accounts/{account}/linked": "admin",
    "POST /accounts/{account}/linked/confirm": "admin",
    "POST /accounts/{account}/sign-in": "admin",
    "POST /accounts/{account}/sign-in/end": "admin",
    "GET /accounts/{account}/removal": "admin",
    "DELETE /accounts/{account}": "admin",
    "GET /accounts/{account}/costs": "viewer",
    "GET /allocations": "viewer",
    "GET /allocations/{item_id}": "viewer",
    "POST /allocations/restore": "editor",
    "POST /allocations/reapply": "editor",
    "GET /allocators": "viewer",
    "POST /allocators/validate": "viewer",
    "POST /allocators/simulate": "viewer",
    "GET /allocators/attributes": "viewer",
    "GET /allocators/sources": "viewer",
    "GET /allocators/{allocator_id}": "viewer",
    "GET /allocators/{allocator_id}/versions": "viewer",
    "GET /allocators/{allocator_id}/versions/{version}": "viewer",
    "PUT /allocators/{allocator_id}": "editor",
    "DELETE /allocators/{allocator_id}": "editor",
    "POST /allocators/{allocator_id}/supersede": "editor",
    "POST /allocators/{allocator_id}/supersede/simulate": "viewer",
    "GET /cost-groups": "viewer",
    "POST /cost-groups/validate": "viewer",
    "POST /cost-groups/preview": "viewer",
    "GET /cost-groups/{cost_group_id}": "viewer",
    "PUT /cost-groups/{cost_group_id}": "editor",
    "DELETE /cost-groups/{cost_group_id}": "editor",
    "GET /cost-groups/{cost_group_id}/uses": "viewer",
    "GET /cost-groups/{cost_group_id}/versions": "viewer",
    "GET /cost-groups/{cost_group_id}/versions/{version}": "viewer",
    "GET /cost-groups/{cost_group_id}/costs": "viewer",
    "GET /metrics": "viewer",
    "GET /metrics/{metric_id}": "viewer",
    "PUT /metrics/{metric_id}": "editor",
    "GET /months": "viewer",
    "GET /months/{month}/summary": "viewer",
    "GET /months/{month}/overview": "viewer",
    "GET /months/{month}/account-costs": "viewer",
    "GET /months/{month}/checks": "viewer",
    "GET /months/{month}/readiness": "viewer",
    "GET /months/{month}/drift": "viewer",
    "GET /months/{month}/corrections": "viewer",
    "POST /months/{month}/close": "admin",
    "POST /months/{month}/reopen": "admin",
    "POST /months/{month}/finalise": "admin",
    "POST /months/{month}/send-statements": "admin",
    "POST /months/{month}/run": "editor",
    "GET /operations": "viewer",
    "GET /operations/{operation_id}": "viewer",
    "GET /operations/{operation_id}/events": "viewer",
    "GET /sources": "viewer",
    "GET /deliveries": "viewer",
    "GET /deliveries/{version}": "viewer",
    "POST /deliveries/{version}/verify": "viewer",
    "POST /deliveries/{version}/reland": "admin",
    "DELETE /deliveries/{version}": "admin",
    "GET /rates": "viewer",
    "GET /charges/{month}": "viewer",
    "POST /charges/{month}/preview": "viewer",
    "PUT /charges/{month}": "editor",
    "GET /explanations": "viewer",
    "GET /months/{month}/focus": "viewer",
    "GET /months/{month}/journal": "viewer",
    "GET /months/{month}/statements": "viewer",
    "GET /months/{month}/statements.zip": "viewer",
    "GET /months/{month}/statements/{owner}": "viewer",
    "GET /users": "viewer",
    "POST /users": "admin",
    "PATCH /users/{name}": "admin",
    "PUT /users/{name}/cost-groups": "admin",
    "DELETE /users/{name}": "admin",
    "GET /tokens": "admin",
    "POST /tokens": "admin",
    "DELETE /tokens/{token_id}": "admin",
    "GET /audit": "admin",
}
ROLES = (None, "viewer", "editor", "admin")


def routes() -> set[str]:
    paths = create_app(Settings(lake="nowhere")).openapi()["paths"]
    return {f"{method.upper()} {path.removeprefix(PREFIX)}" for path, methods in paths.items() for method in methods}


def test_every_route_has_a_least_role():
    assert routes() == LEAST_ROLE.keys()


@pytest.mark.parametrize("route", LEAST_ROLE)
def test_a_route_is_for_its_role_and_those_above(api, route):
    method, path = route.split(" ")
    path = path.replace("{month}", "1999-01").replace("{", "no-such-").replace("}", "")
    least = ROLES.index(LEAST_ROLE[route])
    for rank, role in enumerate(ROLES):
        answer = api.ask(method, path, role)
        body = answer.json() if answer.content else {}
        if rank == 0:
            assert (answer.status_code, body["code"]) == (401, "token-missing"), route
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        elif rank < least:
            assert (answer.status_code, body["code"]) == (403, "caller-lacks-role"), (route, role)
        else:
            assert answer.status_code not in (401, 403, 500), (route, role, answer.text)


@pytest.mark.parametrize(
    "token", ["", "x", "octo_00000000_abc", "octo__", "octo_\x00_x".encode("unicode_escape").decode()]
)
def test_a_wrong_token_is_refused(api, token):
    answer = api.client.get("/api/v1/months", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_revoked_token_is_refused(own_api):
    tokens = own_api.ask("GET", "/tokens", "admin").json()["items"]
    (token_id,) = [token["id"] for token in tokens if token["user"] == "the-viewer"]
    assert own_api.ask("DELETE", f"/tokens/{token_id}", "admin").status_code == 204
    assert own_api.ask("GET", "/months").json()["code"] == "token-refused"
    assert own_api.ask("DELETE", f"/tokens/{token_id}", "admin").json()["code"] == "token-already-revoked"
    made = own_api.ask("POST", "/tokens", "admin", json={"user": "the-viewer", "label": "again"}).json()
    own_api.tokens["viewer"] = made["token"]
    assert own_api.ask("GET", "/months").status_code == 200
    events = own_api.ask("GET", "/audit", "admin").json()
    assert [(e["actor"], e["action"]) for e in events[:2]] == [
        ("the-admin", "make_token"),
        ("the-admin", "revoke_token"),
    ]
    assert made["token"] not in own_api.ask("GET", "/audit", "admin").text
