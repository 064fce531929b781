"""Users, tokens and the audit trail: who sees what, what is changed, and what is refused."""

import re

import pytest

from octo_pipeline.registry.records import Actor

HOSTILE = '"><script>alert(1)</script>\u202e=1+1'


def _roles(console):
    return {user.name: user.role for user in console.workspace.registry.users.all()}


def test_a_viewer_sees_users_and_nothing_of_tokens_or_the_trail(console):
    page = console.page("/users")
    assert "the-editor" in page and "Administrator" in page
    assert "Tokens" not in page and "Audit trail" not in page and 'action="/users' not in page
    for role in ("viewer", "editor"):
        assert console.get("/users/audit", role).status_code == 403
        assert console.get("/users/audit.csv", role).status_code == 403
        assert console.get("/users/tokens/made", role).status_code == 403
        for path in ("/users", "/users/role", "/users/remove", "/users/tokens", "/users/tokens/revoke"):
            assert console.post(path, role, {"name": "the-editor", "role": "admin"}).status_code == 403


def test_a_user_is_added_gets_another_role_and_is_removed(own_console):
    answer = own_console.post("/users", "admin", {"name": "noor", "role": "viewer"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/users")
    assert "noor is added." in own_console.text("/users", "admin")
    assert (
        own_console.post("/users/role", "admin", {"name": "noor", "role": "editor", "seen": "viewer"}).status_code
        == 303
    )
    assert _roles(own_console)["noor"] == "editor"
    assert own_console.post("/users/remove", "admin", {"name": "noor"}).status_code == 303
    assert "noor" not in _roles(own_console)
    assert [(e.actor, e.action) for e in own_console.workspace.registry.audit(subject="noor")] == [
        ("the-admin", "remove_user"),
        ("the-admin", "set_role"),
        ("the-admin", "add_user"),
    ]


def test_a_viewer_is_limited_to_cost_groups_and_sees_everything_again(own_console):
    refused = own_console.post("/users", "admin", {"name": "noor", "role": "viewer", "groups": "shop, vault"})
    assert (
        refused.status_code == 422 and 'id="user-groups-problem"' in refused.text and "noor" not in _roles(own_console)
    )
    own_console.post("/users", "admin", {"name": "noor", "role": "viewer", "groups": "shop, shop"})
    users = own_console.workspace.registry.users
    assert users.groups_of("noor") == ("shop",)
    assert "some cost groups" in own_console.text("/users", "admin")
    refused = own_console.post("/users/groups", "admin", {"name": "the-editor", "groups": "shop"})
    assert refused.status_code == 422 and "only viewers can be" in refused.text
    own_console.post("/users/groups", "admin", {"name": "noor", "groups": " "})
    assert users.groups_of("noor") is None
    assert own_console.post("/users/groups", "editor", {"name": "noor", "groups": "shop"}).status_code == 403


def test_the_second_of_two_tabs_is_told(own_console):
    own_console.post("/users/role", "admin", {"name": "the-viewer", "role": "editor", "seen": "viewer"})
    answer = own_console.post("/users/role", "admin", {"name": "the-viewer", "role": "admin", "seen": "viewer"})
    assert answer.status_code == 409
    assert "the-viewer has the role editor meanwhile. Nothing was changed." in answer.text
    assert _roles(own_console)["the-viewer"] == "editor"


def test_the_last_administrator_stays(own_console):
    page = own_console.page("/users", "admin")
    assert "(the last one)" in page
    assert not re.search(r'name="name" value="the-admin"', page)
    for path, form in (("/users/role", {"role": "viewer", "seen": "admin"}), ("/users/remove", {})):
        answer = own_console.post(path, "admin", {"name": "the-admin", **form})
        assert answer.status_code == 409
        assert "is the last administrator" in answer.text
    assert _roles(own_console)["the-admin"] == "admin"


@pytest.mark.parametrize(
    ("form", "field", "problem"),
    [
        ({"name": " ", "role": "viewer"}, "name", "the name is empty"),
        ({"name": "the-editor", "role": "viewer"}, "name", "is already a user"),
        ({"name": "noor", "role": "king"}, "role", "is unknown"),
        ({"name": "x" * 300, "role": "viewer"}, "name", "300 characters"),
    ],
)
def test_what_is_wrong_stands_at_its_field_and_what_was_typed_stays(console, form, field, problem):
    answer = console.post("/users", "admin", form)
    assert answer.status_code == 422
    assert f'aria-describedby="user-{field}' in answer.text and 'aria-invalid="true"' in answer.text
    assert re.search(rf'<p class="problem" id="user-{field}-problem">[^<]*{problem}', answer.text)
    assert f'value="{form["name"].strip()}"' in answer.text


def test_a_token_is_shown_once_and_signs_in_until_it_is_revoked(own_console):
    answer = own_console.post("/users/tokens", "admin", {"user": "the-viewer", "label": "notebook"})
    assert answer.headers["location"] == "/users/tokens/made"
    shown = own_console.get("/users/tokens/made", "admin")
    assert shown.headers["cache-control"] == "no-store"
    (text,) = re.findall(r'value="(octo_[^"]+)"', shown.text)
    assert "the-viewer" in shown.text
    assert text not in own_console.page("/users/tokens/made", "admin")
    page = own_console.page("/users", "admin")
    assert text not in page and "notebook" in page

    client = own_console.client(None)
    assert client.post("/sign-in", data={"token": text}).status_code == 303
    own_console.post("/users/tokens/revoke", "admin", {"id": text.split("_")[1]})
    client.cookies.clear()
    assert client.post("/sign-in", data={"token": text}).status_code == 401
    again = own_console.post("/users/tokens/revoke", "admin", {"id": text.split("_")[1]})
    assert again.status_code == 409


def test_a_token_without_a_purpose_or_a_user_is_not_made(console):
    answer = console.post("/users/tokens", "admin", {"user": "the-viewer", "label": ""})
    assert answer.status_code == 422 and 'id="token-label-problem"' in answer.text
    answer = console.post("/users/tokens", "admin", {"user": "nobody", "label": "x"})
    assert answer.status_code == 422 and 'id="token-user-problem"' in answer.text


def test_the_trail_is_filtered_paged_and_a_file(own_console):
    registry = own_console.workspace.registry
    for number in range(120):
        registry.note(Actor("mia"), "save_allocator", f"rule-{number:03}", {"version": number})
    registry.note(Actor("mia"), "save_metric", "=SUM(A1)", {"note": HOSTILE})

    page = own_console.page("/users/audit?actor=mia&action=save_allocator", "admin")
    assert page.count("<tr>") == 101  # with the head of the table
    assert "rule-119" in page and "rule-019" not in page
    (following,) = re.findall(r'rel="next" href="([^"]+)"', page)
    rest = own_console.page(following.replace("&amp;", "&"), "admin")
    assert "rule-019" in rest and "rule-119" not in rest and "sign in" not in rest.partition('id="list"')[2]
    assert "Nothing like that was changed." in own_console.text("/users/audit?actor=nobody", "admin")

    found = own_console.text("/users/audit?subject=sum", "admin")
    assert "=SUM(A1)" in found and "note: " in found and "\u202e" not in found
    assert "<script>alert" not in own_console.page("/users/audit", "admin")
    file = own_console.get("/users/audit.csv?subject=sum", "admin")
    assert file.headers["content-disposition"] == 'attachment; filename="audit.csv"'
    assert "'=SUM(A1)" in file.text


def test_hostile_names_are_only_texts(own_console):
    own_console.post("/users", "admin", {"name": HOSTILE, "role": "viewer"})
    page = own_console.page("/users", "admin")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;=1+1" in page
    own_console.post("/users/remove", "admin", {"name": HOSTILE})
    assert HOSTILE not in _roles(own_console)
