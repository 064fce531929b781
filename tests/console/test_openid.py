"""Signing in to the console by a provider of OpenID Connect."""

import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from joserfc.jwk import OctKey, RSAKey

from octo_pipeline.console import openid
from octo_pipeline.console.app import create_app
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Actor
from octo_pipeline.settings import Settings, load_settings
from octo_pipeline.workspace import Workspace
from tests.support.openid_provider import CLIENT_ID, SECRET, Provider, openid_provider


@pytest.fixture(scope="module")
def running() -> Provider:
    with openid_provider() as provider:
        yield provider


@pytest.fixture
def provider(running) -> Provider:
    running.published, running.is_broken = running.key, False
    return running


@pytest.fixture
def settings(provider, tmp_path: Path) -> Settings:
    """A lake without months, whose people sign in at the provider."""
    (tmp_path / "config").mkdir()
    settings = load_settings(
        lake=tmp_path / "lake", config=tmp_path / "config", oidc_issuer=provider.issuer, oidc_client_id=CLIENT_ID,
        oidc_client_secret=SECRET, oidc_roles="everybody=viewer, finance=editor,platform=admin",
    )  # fmt: skip
    Workspace(settings).registry.users.add("root", "admin", Actor("tester"))
    return settings


@pytest.fixture
def client(settings) -> TestClient:
    return browser_of(settings)


def browser_of(settings: Settings) -> TestClient:
    app = create_app(settings, hosts=("testserver",))
    return TestClient(app, follow_redirects=False, raise_server_exceptions=False)


def led_to(client: TestClient, then: str = "/") -> str:
    """The provider's address that the browser is led to."""
    answer = client.get("/sign-in/openid", params={"then": then})
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def problem_of(answer) -> str:
    assert answer.status_code == 401, (answer.status_code, answer.headers)
    assert "octo_session" not in answer.headers.get("set-cookie", "")
    return " ".join(answer.text.partition('id="problem">')[2].partition("</p>")[0].split())


def test_somebody_signs_in_and_out(client, provider, settings):
    assert 'href="/sign-in/openid?then=/users%3Fx' in client.get("/sign-in", params={"then": "/users?x"}).text
    back = provider.sign_in(led_to(client, "/?month=2024-01"))
    answer = client.get(back)
    assert (answer.status_code, answer.headers["location"]) == (303, "/?month=2024-01")
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "mia@example.com" in client.get("/").text
    registry = Workspace(settings).registry
    (mia,) = [user for user in registry.users.all() if user.name == "mia@example.com"]
    assert mia.role == "editor"
    assert [(e.actor, e.action, e.details) for e in registry.audit(2)] == [
        ("mia@example.com", "sign_in", {"by": "openid"}),
        ("mia@example.com", "add_user", {"role": "editor", "by": "openid"}),
    ]
    form_token = client.get("/").text.partition('name="form_token" value="')[2].partition('"')[0]
    assert client.post("/sign-out", data={"form_token": form_token}).status_code == 303
    assert client.get("/").status_code == 303


def test_a_role_follows_the_groups(client, provider, settings):
    users = Workspace(settings).registry.users
    for groups, role in ((["finance"], "editor"), (["platform", "finance"], "admin"), ("everybody", "viewer")):
        assert (
            client.get(provider.sign_in(led_to(client), groups=groups, preferred_username="renamed")).status_code == 303
        )
        # Whoever the provider means stays one user, by the name that they came with first.
        assert {user.name: user.role for user in users.all()} == {"root": "admin", "renamed": role}
    events = Workspace(settings).registry.audit(10)
    changes = [event.details for event in events if event.action == "set_role"]
    assert changes[0] == {"role": "viewer", "before": "admin", "by": "openid"}
    users.limit("renamed", None, Actor("root"))


def test_who_is_limited_does_not_become_an_editor_by_a_group(client, provider, settings):
    users = Workspace(settings).registry.users
    client.get(provider.sign_in(led_to(client), groups=["everybody"]))
    users.limit("mia@example.com", ["shop"], Actor("root"))
    assert "only viewers can be" in problem_of(client.get(provider.sign_in(led_to(client), groups=["finance"])))
    assert client.get(provider.sign_in(led_to(client), groups=["everybody"])).status_code == 303


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        ({"aud": "another"}, "is not for this sign-in (&#39;aud&#39;)"),
        ({"aud": [CLIENT_ID, "another"]}, "(&#39;azp&#39;)"),
        ({"aud": None}, "(&#39;aud&#39;)"),
        ({"nonce": "another"}, "(&#39;nonce&#39;)"),
        ({"nonce": None}, "(&#39;nonce&#39;)"),
        ({"iss": "https://elsewhere.example"}, "(&#39;iss&#39;)"),
        ({"exp": int(time.time()) - 3_600}, "(&#39;exp"),
        ({"exp": None}, "(&#39;exp&#39;)"),
        ({"sub": None}, "(&#39;sub&#39;)"),
        ({"key": RSAKey.generate_key(2048, {"kid": "1"})}, "is not signed by the provider"),
        ({"key": RSAKey.generate_key(2048, {"kid": "2"})}, "is not signed by the provider"),
        ({"key": OctKey.import_key(SECRET * 8), "algorithm": "HS256"}, "is not signed by the provider"),
        ({"groups": ["strangers"]}, "is in no group that may use this installation"),
        ({"groups": None}, "is in no group that may use this installation"),
        ({"groups": {"finance": "x"}}, "is in no group that may use this installation"),
        ({"preferred_username": "root", "sub": "person-2"}, "is already a user who does not sign in this way"),
    ],
)
def test_what_is_not_valid_signs_nobody_in(client, provider, settings, claims, sentence):
    problem = problem_of(client.get(provider.sign_in(led_to(client), **claims)))
    assert sentence in problem
    assert problem.count(". ") <= 1
    assert [user.name for user in Workspace(settings).registry.users.all()] == ["root"]


def test_an_answer_works_once_and_in_the_browser_that_asked(client, provider, settings, monkeypatch):
    back = provider.sign_in(led_to(client))
    assert client.get(back).status_code == 303
    assert "it was used already, or is older than ten minutes" in problem_of(client.get(back))
    # Somebody leads another browser to their own answer, so that it acts as them.
    other = TestClient(client.app, follow_redirects=False)
    assert "another browser began it" in problem_of(other.get(provider.sign_in(led_to(client))))
    for query in ("", "?state=x&code=y", "?code=y"):
        assert "it was used already" in problem_of(client.get(f"/sign-in/openid/callback{query}"))
    monkeypatch.setattr(openid, "LASTS_SECONDS", -1)
    assert "older than ten minutes" in problem_of(client.get(provider.sign_in(led_to(client))))


def test_what_the_provider_refuses_is_said(client, provider):
    back = provider.sign_in(led_to(client))
    state = back.partition("state=")[2]
    refused = client.get(f"/sign-in/openid/callback?error=<b>access_denied&state={state}")
    assert "the provider says &#39;&lt;b&gt;access_denied&#39;" in problem_of(refused)
    wrong_code = f"/sign-in/openid/callback?code=none&state={led_to(client).partition('&state=')[2].partition('&')[0]}"
    assert "invalid_grant" in problem_of(client.get(wrong_code))
    mixed_up = provider.sign_in(led_to(client)) + "&iss=https://elsewhere.example"
    assert "another provider answered it" in problem_of(client.get(mixed_up))


def test_the_provider_changes_its_keys(client, provider):
    assert client.get(provider.sign_in(led_to(client))).status_code == 303
    provider.key = provider.published = RSAKey.generate_key(2048, {"kid": "later"})
    assert client.get(provider.sign_in(led_to(client))).status_code == 303


def test_a_provider_that_is_away_or_is_another_signs_nobody_in(client, provider, settings):
    provider.is_broken = True
    answer = client.get("/sign-in/openid")
    assert answer.status_code == 503
    assert "does not answer as a provider of OpenID Connect of that name does" in answer.text
    away = browser_of(settings.model_copy(update={"oidc_issuer": "http://127.0.0.1:9"}))
    answer = away.get("/sign-in/openid")
    assert answer.status_code == 503
    assert "cannot be asked (ConnectionError)" in answer.text


def test_no_page_of_somebody_else_is_led_to(client, provider):
    assert client.get(provider.sign_in(led_to(client, "//evil.example"))).headers["location"] == "/"


def test_without_a_provider_there_is_no_such_sign_in(tmp_path):
    client = browser_of(Settings(lake=tmp_path / "lake", config=tmp_path))
    assert "/sign-in/openid" not in client.get("/sign-in").text
    for path in ("/sign-in/openid", "/sign-in/openid/callback?state=x"):
        assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"oidc_issuer": "http://login.example"}, "OCTO_OIDC_ISSUER is not valid: must be the https address"),
        (
            {"oidc_issuer": "https://login.example"},
            "OCTO_OIDC_ROLES is not valid: must be set together with the provider",
        ),
        ({"oidc_roles": "finance"}, "OCTO_OIDC_ROLES is not valid: must be groups with viewer"),
        ({"oidc_roles": "finance=root"}, "OCTO_OIDC_ROLES is not valid: must be groups with viewer"),
    ],
)
def test_settings_that_do_not_fit_are_refused(values, message):
    with pytest.raises(OctoError, match=message):
        load_settings(**values)


def test_a_group_may_have_any_name():
    settings = load_settings(oidc_roles="cn=finance=viewer")
    assert settings.roles_of_groups == {"cn=finance": "viewer"}
