"""Registering an Azure partner against a fake of Microsoft's login, Graph and Partner Center."""

import importlib
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import dagster as dg
import pytest
from dagster._config import field_utils
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from octo_pipeline.automation import accounts
from octo_pipeline.cli.main import app
from octo_pipeline.model.errors import NotAskedError, OctoError
from octo_pipeline.registry.records import Account
from octo_pipeline.resources.workspace_resource import run_resources
from octo_pipeline.services.sources import sources
from octo_pipeline.settings import Settings, load_settings
from octo_pipeline.vendors.azure import client as resource
from octo_pipeline.vendors.azure import registration as azure
from octo_pipeline.vendors.azure.redirect import listening
from octo_pipeline.vendors.azure.registered import REFRESH_TOKEN
from octo_pipeline.workspace import Workspace
from tests.emulators.azure import CLIENT, SECRET, TENANT, FakeAzure, login_session
from tests.vendors.registration.waiting import refusal

FLAGS = [
    "--partner-id", "1234567", "--tenant", TENANT, "--name", "Reseller", "--center-application", CLIENT,
    "--center-secret-variable", "OCTO_SOURCE_CENTER_KEY", "--api-application", CLIENT, "--api-secret-variable", "OCTO_SOURCE_API_KEY",
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
    monkeypatch.setenv("OCTO_SOURCE_CENTER_KEY", SECRET)
    monkeypatch.setenv("OCTO_SOURCE_API_KEY", SECRET)
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
        statuses = []

        def browse() -> None:
            # Regression: any of the first three ended the sign-in.
            for query in ({"error": "denied"}, {"code": "x", "state": "t"}, {"code": "x"}, {"code": "c", "state": "s"}):
                try:
                    with urllib.request.urlopen(f"{visit}/?{urlencode(query)}", timeout=10) as answer:
                        statuses.append(answer.status)
                except urllib.error.HTTPError as error:
                    statuses.append(error.code)

        visit = address.replace("localhost", "127.0.0.1")
        browser = threading.Thread(target=browse)
        browser.start()
        assert redirect.wait("s", 20) == {"code": "c", "state": "s"}
        browser.join()
        assert statuses == [400, 400, 400, 200]
    with (
        listening(address) as redirect,
        pytest.raises(OctoError, match="The browser did not come back from the sign-in"),
    ):
        redirect.wait("s", 0.1)
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
    with pytest.raises(OctoError, match="it was used before"):
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
    with pytest.raises(NotAskedError, match="Try again later"):
        azure.confirm(workspace, "ana", partner)
    assert workspace.registry.accounts.find(TENANT) == partner
    microsoft.throttled, microsoft.forbidden = 0, True
    partner = azure.confirm(workspace, "ana", partner)
    assert not partner.is_completed
    assert TENANT in str(partner.problem)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (("--partner-id", "12"), "The Microsoft Partner ID '12' is not valid: it must have 5 to 10 digits"),
        (("--tenant", "company.com"), "The tenant id is not valid: ids must be written as 0000"),
        (("--api-application", "app"), "The application id is not valid"),
        (("--center-application", "app"), "The application id is not valid"),
        (("--currency", "gbp"), "The currency is not valid"),
        (("--currency", "GBP,"), "The currency is not valid"),
        (
            ("--api-secret-variable", "OCTO_SOURCE_NOT_SET"),
            "The environment variable OCTO_SOURCE_NOT_SET with the secret key",
        ),
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


def test_an_answer_is_taken_once(workspace: Workspace, microsoft: FakeAzure, partner: Account) -> None:
    begun = azure.begin_sign_in(workspace, partner, "http://localhost:8400")
    response = come_back(begun.url)
    azure.finish_sign_in(workspace, "ana", partner, begun, response)
    with pytest.raises(OctoError, match="it was used before"):
        azure.finish_sign_in(workspace, "ana", partner, begun, response)


def test_a_secret_typed_for_its_name_is_refused_by_the_command(workspace: Workspace, microsoft: FakeAzure) -> None:
    flags = [SECRET if flag == "OCTO_SOURCE_API_KEY" else flag for flag in FLAGS]
    refused = octo("register", "azure", *flags, code=1)
    assert "must be the name of a variable that begins with OCTO_SOURCE_" in str(refused.exception)
    assert SECRET not in str(refused.exception)
    assert workspace.registry.accounts.all() == []


@pytest.fixture
def accounts_jobs(monkeypatch: pytest.MonkeyPatch, microsoft: FakeAzure) -> Iterator[Any]:
    """The jobs as a code location has them that was started with these variables."""
    # Dagster keeps the shape of a configuration by its names, without the values of its enumerations.
    monkeypatch.setattr(field_utils, "FIELD_HASH_CACHE", {})
    yield importlib.reload(accounts)
    monkeypatch.undo()
    importlib.reload(accounts)


def test_a_secret_typed_for_its_name_never_becomes_a_run(
    workspace: Workspace, accounts_jobs: Any, tmp_path: Path
) -> None:
    """Regression: it was kept in the run's configuration, its events and its logs."""
    config = {
        "partner_id": "1234567", "tenant_id": TENANT, "center_application": CLIENT, "api_application": CLIENT,
        "center_secret_variable": SECRET, "api_secret_variable": "OCTO_SOURCE_API_KEY",
    }  # fmt: skip
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        run = {"ops": {"register_azure": {"config": config}}}
        with pytest.raises(dg.DagsterInvalidConfigError):
            accounts_jobs.register_azure_account.execute_in_process(
                run_config=run, instance=instance, resources=run_resources(load_settings())
            )
        assert instance.get_runs() == []
    for path in (one for one in tmp_path.rglob("*") if one.is_file()):
        assert SECRET.encode() not in path.read_bytes(), path


def test_the_job_takes_secrets_by_the_names_of_variables(
    workspace: Workspace, microsoft: FakeAzure, accounts_jobs: Any, tmp_path: Path
) -> None:
    config = {
        "partner_id": "1234567", "tenant_id": TENANT, "center_application": CLIENT, "api_application": CLIENT,
        "center_secret_variable": "OCTO_SOURCE_CENTER_KEY", "api_secret_variable": "OCTO_SOURCE_API_KEY", "currencies": ["GBP"],
    }  # fmt: skip
    (tmp_path / "dagster").mkdir()
    job, resources = accounts_jobs.register_azure_account, run_resources(load_settings())
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        run = {"ops": {"register_azure": {"config": config}}}
        assert job.execute_in_process(run_config=run, instance=instance, resources=resources).success
        run["ops"]["register_azure"]["config"]["api_secret_variable"] = "OCTO_SOURCE_NOT_SET"
        with pytest.raises(dg.DagsterInvalidConfigError):
            job.execute_in_process(run_config=run, instance=instance, resources=resources)
    assert workspace.secrets.get("azure", TENANT, "partner_api_secret").get_secret_value() == SECRET
    for path in (one for one in tmp_path.rglob("*") if one.is_file()):
        assert SECRET.encode() not in path.read_bytes(), path
