"""Who may send which form: each address that takes one for nobody, for each role, and without the token of the session."""

import re
from functools import cache

import pytest

from octo_pipeline.console.app import create_app
from octo_pipeline.settings import Settings

# Address -> the least role that may send a form there. A new one has to be added.
LEAST_ROLE = {
    "/accounts/aws/{account}/access": "admin",
    "/accounts/aws/{account}/linked": "admin",
    "/accounts/aws/{account}/payer": "admin",
    "/accounts/aws/{account}/report": "admin",
    "/accounts/azure/{account}/secrets": "admin",
    "/accounts/azure/{account}/sign-in": "admin",
    "/accounts/azure/{account}/sign-in/finish": "admin",
    "/accounts/gcp/{account}/export": "admin",
    "/accounts/register/{vendor}": "admin",
    "/accounts/{vendor}/{account}/confirm": "admin",
    "/accounts/{vendor}/{account}/name": "admin",
    "/accounts/{vendor}/{account}/remove": "admin",
    "/allocations/decision": "editor",
    "/cost-groups/save": "editor",
    "/cost-groups/try": "viewer",
    "/cost-groups/{group_id}/remove": "editor",
    "/data/metrics": "editor",
    "/months/{month}/close": "admin",
    "/months/{month}/finalise": "admin",
    "/months/{month}/reopen": "admin",
    "/months/{month}/run": "editor",
    "/rules/save": "editor",
    "/rules/try": "viewer",
    "/rules/{rule_id}/remove": "editor",
    "/sign-out": "viewer",
    "/statements/send": "admin",
    "/users": "admin",
    "/users/groups": "admin",
    "/users/remove": "admin",
    "/users/role": "admin",
    "/users/tokens": "admin",
    "/users/tokens/revoke": "admin",
}
# Where nobody is signed in yet.
SIGNING_IN = {"/sign-in"}
ROLES = ("viewer", "editor", "admin")


@cache
def methods() -> dict[str, set[str]]:
    paths = create_app(Settings(lake="nowhere")).state.pages.openapi()["paths"]
    return {path: set(by_method) for path, by_method in paths.items()}


def test_every_form_has_a_least_role_and_nothing_is_changed_otherwise():
    assert {path for path, its in methods().items() if "post" in its} - SIGNING_IN == LEAST_ROLE.keys()
    # Nothing else changes, since only forms are held to their session.
    assert {method for its in methods().values() for method in its} == {"get", "post"}


@pytest.mark.parametrize("path", LEAST_ROLE)
def test_a_form_is_for_its_role_and_those_above(console, path):
    address = re.sub(r"\{[^}]*\}", "no-such", path)
    assert console.post(address, None).status_code == 401, path
    for role in ROLES:
        client = console.client(role)
        for form_token in (
            "",
            "0" * 64,
            console.client("admin" if role != "admin" else "viewer").cookies["octo_session"],
        ):
            answer = client.post(address, data={"form_token": form_token})
            assert answer.status_code == 403 and "Send it again?" in answer.text, (path, role)
        assert client.post(address, json={"form_token": "x"}).status_code == 403, (path, role)
        if path == "/sign-out":
            # The other tests of the module need the session.
            continue
        answer = console.post(address, role)
        if ROLES.index(role) < ROLES.index(LEAST_ROLE[path]):
            assert answer.status_code == 403 and f"Your role is {role}" in answer.text, (path, role)
        else:
            assert answer.status_code not in (401, 403, 500), (path, role, answer.text)
