"""Registering an Azure partner against a fake of Microsoft's login, Graph and Partner Center."""

import socket
import threading
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import dagster as dg
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from octo_pipeline.cli.main import app
from octo_pipeline.definitions import defs
from octo_pipeline.model.errors import NotAskedError, OctoError
from octo_pipeline.registry.records import Account
from octo_pipeline.services.sources import sources
from octo_pipeline.settings import Settings
from octo_pipeline.vendors.azure import client as resource
from octo_pipeline.vendors.azure import registration as azure
from octo_pipeline.vendors.azure.redirect import listening
from octo_pipeline.vendors.azure.registered import REFRESH_TOKEN
from octo_pipeline.workspace import Workspace
from tests.emulators.azure import CLIENT, SECRET, TENANT, FakeAzure, login_session
from tests.vendors.registration.waiting import refusal

FLAGS = [
    "--partner-id", "1234567", "--tenant", TENANT, "--name", "Reseller", "--center-application", CLIENT,
    "--center-secret-variable", "CENTER_KEY", "--api-application", CLIENT, "--api-secret-variable", "API_KEY",
    "--currency", "GBP",
]  # fmt: skip


@pytest.fixture
def microsoft(fake_azure: FakeAzure, monkeypatch: pytest.MonkeyPatch) -> FakeAzure:
    """The fake in Microsoft's place."""
    session = login_session(fake_azure.url)
    for name, more in (
        ("authorization_url", {}),
        ("redeem", {}),
        (
            "csp_source",
            {
                "graph_url": f"{fake_azure.url}/graph",
                "partner_center_url": f"{fake_azure.url}/partner",
                "pause": lambda seconds: None,
            },
        ),
    ):
        given = {"http_client": session, **more}
        monkeypatch.setattr(resource, name, partial(getattr(resource, name), **given))
    monkeypatch.setenv("CENTER_KEY", SECRET)
    monkeypatch.setenv("API_KEY", SECRET)
    return fake_azure


def octo(*arguments: str, code: int = 0, answer: str | None = None) -> Result:
    result = CliRunner().invoke(app, ["accounts", *arguments], input=answer)
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.fixture
def partner(workspace: Workspace, microsoft: FakeAzure) -> Account:
    octo("register", "azure", *FLAGS)
    return workspace.registry.accounts.find("Reseller")


def come_back(url: str, **changes: str) -> dict[str, str]:
    """What the browser comes back with after a person signed in."""
    asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"] == "http://localhost:8400"
    return {"code": "the-code-of-the-sign-in", "state": asked["state"]} | changes


def test_a_partner_from_registration_to_the_next_run(
    workspace: Workspace, microsoft: FakeAzure, partner: Account
) -> None:
    assert (partner.account_id, partner.kind, partner.is_completed) == (TENANT, "csp", False)
    assert "There is no secret azure/" in str(azure.confirm(workspace, "ana", partner).problem)
    assert "is registered, but not Completed" in refusal(workspace, "azure")

    partner = workspace.registry.accounts.find(TENANT)
    begun = azure.begin_sign_in(workspace, partner, "http://localhost:8400")
    azure.finish_sign_in(workspace, "ana", partner, begun, come_back(begun.url))
    grant = microsoft.grants[-1]
    assert (grant["grant_type"], grant["code"]) == ("authorization_code", "the-code-of-the-sign-in")
    assert len(grant["code_verifier"]) >= 43
    partner = azure.confirm(workspace, "ana", partner)
    assert (partner.problem, partner.is_completed) == (None, True)
    # The refresh token rotated while it was verified, and the next one is kept.
    kept = workspace.secrets.get("azure", TENANT, REFRESH_TOKEN).get_secret_value()
    assert kept == microsoft.refresh_tokens[-1] != "refresh-0"
    (source,) = sources(workspace, "azure")
    assert (source.vendor, source.account) == ("azure", TENANT)


def test_the_browser_comes_back_to_loopback(workspace: Workspace, partner: Account) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://localhost:{probe.getsockname()[1]}"
    with listening(address) as redirect:
        visit = f"{address.replace('localhost', '127.0.0.1')}/?{urlencode({'code': 'c', 'state': 's'})}"
        browser = threading.Thread(target=lambda: urllib.request.urlopen(visit, timeout=10).close())
        browser.start()
        assert redirect.wait(20) == {"code": "c", "state": "s"}
        browser.join()
    with listening(address) as redirect, pytest.raises(OctoError, match="Nobody came back from the sign-in"):
        redirect.wait(0.1)
    with pytest.raises(OctoError, match="must be an address of this machine"), listening("https://company.com/"):
        pass


def test_a_sign_in_that_does_not_complete_the_partner_fails(workspace: Workspace, partner: Account) -> None:
    secrets = {"partner_center_secret": SecretStr("not this one")}
    workspace.secrets.put("azure", TENANT, secrets, "ana")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("octo_pipeline.vendors.azure.registration.begin_sign_in", partial(_begun, azure.begin_sign_in))
        result = octo("sign-in", "Reseller", "--paste", code=1, answer="http://localhost:8400/?code=c&state=known\n")
    assert "the client secret is wrong" in str(result.exception)
    assert workspace.secrets.get("azure", TENANT, REFRESH_TOKEN).get_secret_value()


def _begun(begin: Any, *arguments: Any) -> resource.SignIn:
    """A sign-in whose state the test knows before it is printed."""
    flow = begin(*arguments)
    return resource.SignIn(flow.url, flow.flow | {"state": "known"})


def test_another_sign_ins_answer_a_refusal_and_a_used_code(
    workspace: Workspace, microsoft: FakeAzure, partner: Account
) -> None:
    begun = azure.begin_sign_in(workspace, partner, "http://localhost:8400")
    with pytest.raises(OctoError, match="does not belong to this sign-in"):
        azure.finish_sign_in(workspace, "ana", partner, begun, come_back(begun.url, state="another"))
    microsoft.login_error = "AADSTS54005: OAuth2 Authorization code was already redeemed."
    with pytest.raises(OctoError, match="could not sign in") as refused:
        azure.finish_sign_in(workspace, "ana", partner, begun, come_back(begun.url))
    assert "the-code-of-the-sign-in" not in str(refused.value)
    with pytest.raises(OctoError, match="That address has no authorization code"):
        azure.response_of("http://localhost:8400/?nothing=here")
    assert azure.response_of(" http://localhost:8400/?code=a%2Bb&state=s\n") == {"code": "a+b", "state": "s"}
    with pytest.raises(OctoError, match="There is no secret"):
        workspace.secrets.get("azure", TENANT, REFRESH_TOKEN)


def test_what_is_refused_takes_the_confirmation_away(
    workspace: Workspace, microsoft: FakeAzure, partner: Account
) -> None:
    begun = azure.begin_sign_in(workspace, partner, "http://localhost:8400")
    azure.finish_sign_in(workspace, "ana", partner, begun, come_back(begun.url))
    partner = azure.confirm(workspace, "ana", partner)
    # Who cannot be asked says nothing.
    microsoft.throttled = 99
    with pytest.raises(NotAskedError, match="try again later"):
        azure.confirm(workspace, "ana", partner)
    assert workspace.registry.accounts.find(TENANT) == partner
    microsoft.throttled, microsoft.forbidden = 0, True
    partner = azure.confirm(workspace, "ana", partner)
    assert not partner.is_completed
    assert TENANT in str(partner.problem)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (("--partner-id", "12"), "The Microsoft Partner ID '12' is not right: it has 5 to 10 digits"),
        (("--tenant", "company.com"), "The tenant id is not right: ids are written as 0000"),
        (("--api-application", "app"), "The application id is not right"),
        (("--center-application", "app"), "The application id is not right"),
        (("--currency", "gbp"), "The currency is not right"),
        (("--currency", "GBP,"), "The currency is not right"),
        (("--api-secret-variable", "NOT_SET"), "The environment variable NOT_SET with the secret key"),
    ],
)
def test_wrong_values_register_nothing_and_keep_no_secret(
    workspace: Workspace, microsoft: FakeAzure, changed: tuple[str, str], sentence: str
) -> None:
    flags = list(FLAGS)
    flags[flags.index(changed[0]) + 1] = changed[1]
    result = octo("register", "azure", *flags, code=1)
    assert sentence in str(result.exception)
    assert workspace.registry.accounts.all() == []


def test_twice_registers_nothing_and_leaves_the_first_ones_secrets(workspace: Workspace, partner: Account) -> None:
    before = workspace.secrets.get("azure", TENANT, "partner_api_secret").get_secret_value()
    result = octo("register", "azure", *FLAGS, code=1)
    assert "has been registered as 'Reseller' since" in str(result.exception)
    assert workspace.secrets.get("azure", TENANT, "partner_api_secret").get_secret_value() == before


def test_no_secret_is_printed_or_at_rest_in_plain(
    workspace: Workspace, microsoft: FakeAzure, partner: Account, tmp_path: Path
) -> None:
    begun = azure.begin_sign_in(workspace, partner, "http://localhost:8400")
    azure.finish_sign_in(workspace, "ana", partner, begun, come_back(begun.url))
    # An id is never cut, however long it is.
    assert TENANT in octo("list").stdout
    printed = "".join(octo(*words).output for words in (["list"], ["show", TENANT], ["confirm", TENANT]))
    secrets = (SECRET, *microsoft.refresh_tokens, "the-code-of-the-sign-in")
    assert not any(one in printed + repr(Workspace(Settings())) for one in secrets)
    for path in (one for one in tmp_path.rglob("*") if one.is_file()):
        assert not any(one.encode() in path.read_bytes() for one in secrets), path


def test_the_job_takes_secrets_by_the_names_of_variables(
    workspace: Workspace, microsoft: FakeAzure, tmp_path: Path
) -> None:
    config = {
        "partner_id": "1234567", "tenant_id": TENANT, "center_application": CLIENT, "api_application": CLIENT,
        "center_secret_variable": "CENTER_KEY", "api_secret_variable": "API_KEY", "currencies": ["GBP"],
    }  # fmt: skip
    (tmp_path / "dagster").mkdir()
    job = defs.resolve_job_def("register_azure_account")
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        run = {"ops": {"register_azure": {"config": config}}}
        assert job.execute_in_process(run_config=run, instance=instance).success
        run["ops"]["register_azure"]["config"]["api_secret_variable"] = "NOT_SET"
        assert not job.execute_in_process(run_config=run, instance=instance, raise_on_error=False).success
    assert workspace.secrets.get("azure", TENANT, "partner_api_secret").get_secret_value() == SECRET
    for path in (one for one in tmp_path.rglob("*") if one.is_file()):
        assert SECRET.encode() not in path.read_bytes(), path
