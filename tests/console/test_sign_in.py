"""Signing in and out, and what holds before anybody is."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from octo_pipeline.console.app import create_app
from octo_pipeline.console.visit import form_token
from octo_pipeline.registry import lazy_sqlalchemy as sql
from octo_pipeline.registry.records import Actor, Caller
from tests.support.small_month import MONTH


def test_nobody_sees_a_page_before_they_sign_in(console):
    routes = create_app(console.workspace.settings).state.pages.openapi()["paths"]
    paths = {path for path, methods in routes.items() if "get" in methods}
    assert "/" in paths
    for path in (path for path in paths if not path.startswith("/sign-in")):
        answer = console.get(re.sub(r"\{[^}]*\}", "x", path), None)
        assert answer.status_code == 303, path
        assert "/sign-in?then=" in answer.headers["location"]


def test_a_token_signs_in_and_leads_on_to_what_was_asked_for(own_console):
    client = own_console.client(None)
    asked = client.get(f"/?month={MONTH}")
    form = client.get(asked.headers["location"])
    assert form.status_code == 200
    target = f"/?month={MONTH}"
    answer = client.post("/sign-in", data={"token": own_console.api.tokens["viewer"], "then": target})
    assert (answer.status_code, answer.headers["location"]) == (303, target)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie
    assert "the-viewer" in client.get(target).text
    assert own_console.workspace.registry.audit(1)[0].action == "sign_in"


@pytest.mark.parametrize("token", ["", "octo_0_x", "'; drop table users; --", "ŝ" * 5_000])
def test_another_text_does_not_sign_in(console, token):
    answer = console.client(None).post("/sign-in", data={"token": token})
    assert answer.status_code == 401
    assert "octo_session" not in answer.headers.get("set-cookie", "")


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:x", "/\r\nX: y"]
)
def test_no_page_of_somebody_else_is_led_to(own_console, target):
    answer = own_console.client(None).post("/sign-in", data={"token": own_console.api.tokens["viewer"], "then": target})
    assert answer.headers["location"] == "/"


def test_by_tls_the_session_is_taken_from_this_host_alone(own_console):
    """A page of a neighbouring name could sign somebody in as another user otherwise."""
    settings = own_console.workspace.settings.model_copy(update={"public_url": "https://octo.example"})
    client = TestClient(create_app(settings), base_url="https://octo.example", follow_redirects=False)
    answer = client.post("/sign-in", data={"token": own_console.api.tokens["viewer"]})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-octo_session=")
    assert "Secure" in cookie and "Path=/" in cookie and "Domain" not in cookie
    assert client.get("/").status_code == 200
    session = client.cookies["__Host-octo_session"]
    assert client.post("/sign-out", data={"form_token": form_token(session)}).status_code == 303
    assert "__Host-octo_session" not in client.cookies
    client.cookies.set("octo_session", own_console.client("admin").cookies["octo_session"])
    assert client.get("/").status_code == 303


def test_while_the_registry_is_away_nobody_is_signed_out_and_none_is_made(own_console):
    client = own_console.client("admin")
    registry = Path(own_console.workspace.settings.lake) / "registry.sqlite"
    away = registry.rename(registry.with_suffix(".away"))
    page = client.get("/")
    assert (page.status_code, "octo_session" in page.headers.get("set-cookie", "")) == (503, False)
    assert "has no users yet" in page.text
    assert client.post("/sign-in", data={"token": "octo_00000000_x"}).status_code == 401
    assert not registry.exists()
    away.rename(registry)
    assert client.get("/").status_code == 200


def test_a_file_of_the_lake_that_cannot_be_read_is_said(own_console):
    file = next((Path(own_console.workspace.settings.lake) / "account_costs").rglob("*.parquet"))
    for content in (b"short", b"long and no Parquet file" * 99):
        file.write_bytes(content)
        page = own_console.get("/accounts")
        assert (page.status_code, "cannot be read" in page.text) == (503, True)
        assert str(own_console.workspace.settings.lake) not in page.text


def test_a_link_signs_in_once(own_console):
    client = own_console.client(None)
    workspace = own_console.workspace
    link = client.app.state.links.make(Caller(None, own_console.api.tokens["admin"]))
    assert client.get(link).headers["location"] == "/"
    assert "the-admin" in client.get("/").text
    client.cookies.clear()
    assert client.get(link).status_code == 401
    assert client.get("/").status_code == 303
    assert workspace.registry.audit(1)[0].details == {"by": "link"}


def test_signing_out_ends_the_session_and_not_the_cookie_alone(own_console):
    client = own_console.client("viewer")
    session = client.cookies["octo_session"]
    assert own_console.post("/sign-out", "viewer").status_code == 303
    client.cookies.set("octo_session", session)
    assert client.get("/").status_code == 303


def test_a_session_ends_with_its_user_and_after_some_hours(own_console):
    registry = own_console.workspace.registry
    registry.users.remove("the-editor", Actor("tester"))
    with pytest.raises(Exception, match="revoked"):
        own_console.client("editor")
    own_console.clients.pop("editor", None)
    client = own_console.client("viewer")
    assert client.get("/").status_code == 200
    with registry.writing() as connection:
        connection.execute(sql.SESSIONS.update(), {"expires_at": datetime.now(UTC) - timedelta(seconds=1)})
    assert client.get("/").status_code == 303


def test_a_role_that_is_taken_away_is_gone_at_once(own_console):
    assert own_console.post(f"/months/{MONTH}/run", "editor").status_code == 303
    own_console.workspace.registry.users.set_role("the-editor", "viewer", Actor("tester"))
    answer = own_console.post(f"/months/{MONTH}/run", "editor")
    assert answer.status_code == 403
    assert "Your role is viewer" in answer.text


def test_a_form_needs_the_token_of_its_session(own_console):
    answer = own_console.client("editor").post(f"/months/{MONTH}/run", data={"form_token": "0" * 64})
    assert answer.status_code == 403
    assert "Send it again?" in answer.text
    assert own_console.client("editor").app.state.operations.all() == []


def test_what_was_typed_is_kept_when_the_session_ends(own_console):
    """It is sent by the person after they signed in again, never by itself."""
    client = own_console.client("admin")
    client.cookies.clear()
    path = f"/months/{MONTH}/close"
    answer = client.post(path, data={"reason": "a <b>long</b> text", "form_token": "old"})
    assert answer.status_code == 401
    assert "what you typed is kept" in answer.text
    assert 'name="kept:reason" value="a &lt;b&gt;long&lt;/b&gt; text"' in answer.text
    token = own_console.api.tokens["admin"]
    answer = client.post("/sign-in", data={"token": token, "then": path, "kept:reason": "a <b>long</b> text"})
    assert f'action="{path}"' in answer.text
    assert 'name="reason" value="a &lt;b&gt;long&lt;/b&gt; text"' in answer.text
    assert own_console.workspace.periods == {}


@pytest.mark.parametrize("charset", ["utf-7", "unicode_escape"])
def test_a_form_in_an_encoding_of_halves_is_refused(console, charset):
    for name in ("form_token", "text"):
        body = f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n\\ud800+2AA-\r\n--x--\r\n'
        media_type = f"multipart/form-data; boundary=x; charset={charset}"
        answer = console.client("editor").post("/data/metrics", content=body, headers={"Content-Type": media_type})
        assert (answer.status_code, "characters that are no text" in answer.text) == (400, True)


def test_secrets_that_were_typed_are_kept_in_no_page(own_console):
    client = own_console.client("admin")
    form = {
        "partner_id": "p1",
        "center_secret": "hush-1",
        "api_secret": "hush-2",
        "address": "?code=hush-3",
        "form_token": "x",
    }
    for page in (
        client.post("/accounts/register/azure", data=form),
        client.post("/accounts/register/azure", data=form, headers={"Cookie": ""}),
        own_console.post(
            "/accounts/register/azure", "admin", form | {"form_token": form_token(client.cookies["octo_session"])}
        ),
    ):
        assert "p1" in page.text and "hush" not in page.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://testserver:3000"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_form_of_another_page_changes_nothing(console, headers):
    answer = console.post("/sign-out", "viewer", headers=headers)
    assert answer.status_code == 403
    assert console.get("/").status_code == 200


def test_a_form_of_an_own_page_is_taken_by_its_address(own_console):
    assert own_console.post("/sign-out", "viewer", headers={"Origin": "http://testserver"}).status_code == 303


def test_a_notice_of_another_program_on_this_machine_is_not_shown(own_console):
    """Cookies know no ports, so any server on this machine can set ours."""
    client = own_console.client("admin")
    for forged in ("Pay%20to%20another%20account", f"{'0' * 64}.Pay", ".Pay"):
        client.cookies.set("octo_notice", forged)
        page = client.get("/")
        assert page.status_code == 200 and "Pay" not in page.text
        client.cookies.delete("octo_notice")
    own_console.post("/users", "admin", {"name": "noor", "role": "viewer"})
    kept = client.cookies["octo_notice"]
    assert "noor is added." in client.get("/users").text
    # That of somebody else is not ours either.
    other = own_console.client("viewer")
    other.cookies.set("octo_notice", kept)
    assert "noor is added." not in other.get("/users").text


@pytest.mark.parametrize("host", ["evil.example", "", "testserver.evil.example", "127.0.0.1.evil.example:8000"])
def test_another_name_of_this_machine_is_refused(console, host):
    assert console.get("/", headers={"Host": host}).status_code == 403


def test_every_answer_has_the_headers_that_browsers_obey(console):
    for path in ("/", "/nothing", "/static/console.css", "/htmx/htmx-2.min.js"):
        answer = console.get(path)
        assert "default-src 'none'" in answer.headers["content-security-policy"], path
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert console.get("/").headers["cache-control"] == "no-store"


def test_the_session_is_no_way_into_the_api(console):
    """A page of somebody else could send it; the API takes tokens alone."""
    assert console.get("/api/v1/months").status_code == 401
