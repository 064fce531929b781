"""Registering Google Cloud billing accounts against bqemulator, from the command to the next run's source."""

import itertools
import json
from functools import partial
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner, Result

from octo_pipeline.cli.main import app
from octo_pipeline.cli.output import sentence
from octo_pipeline.definitions import defs
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Account
from octo_pipeline.services.sources import sources
from octo_pipeline.settings import Settings
from octo_pipeline.vendors.gcp import registration as gcp
from octo_pipeline.vendors.gcp.billing_document import GcpSourceDocument
from octo_pipeline.vendors.gcp.client import BigQueryDataset, Endpoint
from octo_pipeline.workspace import Workspace
from tests.emulators.bigquery import BigQueryServer
from tests.support.billing_exports import ACCOUNT, DETAILED, SCHEMA, STANDARD, row, without
from tests.vendors.registration.waiting import refusal

_DATASETS = itertools.count()
MEMBER = "octo@company.iam.gserviceaccount.com"


@pytest.fixture
def dataset(bigquery_server: BigQueryServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a dataset that does not exist yet, in the emulator that stands in for Google."""
    monkeypatch.setattr(gcp, "BigQueryDataset", partial(BigQueryDataset, endpoint=bigquery_server.endpoint, patience=5))
    # The emulator takes everybody.
    monkeypatch.setattr(BigQueryDataset, "identity", lambda _: MEMBER)
    return f"registered_{next(_DATASETS)}"


def octo(*arguments: str, code: int = 0, answer: str | None = None) -> Result:
    result = CliRunner().invoke(app, ["accounts", *arguments], input=answer)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def refused(*arguments: str) -> str:
    result = octo(*arguments, code=1)
    assert isinstance(result.exception, OctoError)
    return sentence(result.exception)


def register(workspace: Workspace, dataset: str, region: str = "EU") -> Account:
    return gcp.register(workspace, "ana", ACCOUNT, "demo", dataset, region, "Shop")


def test_a_billing_account_from_the_command_to_the_next_run(
    workspace: Workspace, bigquery_server: BigQueryServer, dataset: str
) -> None:
    place = ["--project", "demo", "--dataset", dataset, "--region", "EU"]
    said = octo("register", "gcp", "--id", ACCOUNT, "--name", "Shop", *place).stdout
    assert f"Registered the gcp account {ACCOUNT} (Shop)." in said
    assert f"share the dataset demo.{dataset} with {MEMBER} as BigQuery Data Viewer" in said
    assert f"add-iam-policy-binding demo --member=serviceAccount:{MEMBER} --role=roles/bigquery.jobUser" in said
    assert "--role=roles/bigquery.readSessionUser" in said
    assert f"Check that the dataset demo.{dataset} exists in the location EU" in refused("confirm", "Shop")
    assert "is registered, but not Completed" in refusal(workspace, "gcp")

    bigquery_server.create(f"demo.{dataset}.unrelated", SCHEMA)
    assert f"has no billing export of {ACCOUNT} yet. Enable the export" in refused("confirm", "Shop")

    bigquery_server.create(f"demo.{dataset}.{STANDARD}", SCHEMA)
    bigquery_server.append(f"demo.{dataset}.{STANDARD}", [row()])
    said = octo("confirm", "Shop").stdout
    assert f"The gcp account {ACCOUNT} (Shop) is a billing account and Completed: API Completed." in said
    shown = octo("show", "Shop").stdout
    assert f"export: project demo, dataset {dataset}, region EU, found the standard export {STANDARD}" in shown
    bigquery_server.create(f"demo.{dataset}.{DETAILED}", SCHEMA)
    octo("confirm", "Shop")
    assert f"the detailed export {DETAILED}" in octo("show", "Shop").stdout

    (source,) = sources(workspace, "gcp")
    assert (source.vendor, source.account) == ("gcp", ACCOUNT)
    (listed,) = json.loads(octo("list", "-o", "json").stdout)
    assert (listed["kind"], listed["API"], listed["status"]) == ("billing_account", "Completed", "Completed")
    octo("delete", "Shop", "--yes")
    assert workspace.registry.accounts.all() == []


def test_a_dataset_in_another_region_and_its_edit(
    workspace: Workspace, bigquery_server: BigQueryServer, dataset: str
) -> None:
    bigquery_server.create(f"demo.{dataset}.{STANDARD}", SCHEMA, location="EU")
    register(workspace, dataset, "asia-northeast1")
    assert f"The dataset demo.{dataset} is in EU, but registered in asia-northeast1." in refused("confirm", "Shop")
    assert "Problem: The dataset" in octo("show", "Shop").stdout

    octo("edit", "Shop", answer=f"Store\ny\ndemo\n{dataset}\nEU\n")
    octo("confirm", "Store")
    assert workspace.registry.accounts.find("Store").is_completed


def test_a_table_that_is_no_billing_export(workspace: Workspace, bigquery_server: BigQueryServer, dataset: str) -> None:
    bigquery_server.create(f"demo.{dataset}.{STANDARD}", without("cost", "invoice"))
    register(workspace, dataset)
    problem = refused("confirm", "Shop")
    assert STANDARD in problem
    assert "cost" in problem
    assert not workspace.registry.accounts.find("Shop").is_completed


def test_a_google_that_cannot_be_reached_takes_no_confirmation_away(
    workspace: Workspace, bigquery_server: BigQueryServer, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bigquery_server.create(f"demo.{dataset}.{STANDARD}", SCHEMA)
    account = gcp.confirm(workspace, "ana", register(workspace, dataset))
    assert account.is_completed
    nowhere = Endpoint("http://127.0.0.1:9", "127.0.0.1:9")
    monkeypatch.setattr(gcp, "BigQueryDataset", partial(BigQueryDataset, endpoint=nowhere, patience=0.5))
    with pytest.raises(OctoError, match="BigQuery cannot be reached"):
        gcp.confirm(workspace, "ana", account)
    assert workspace.registry.accounts.find("Shop") == account


def test_by_prompts(workspace: Workspace, dataset: str) -> None:
    said = octo("register", "gcp", answer=f"{ACCOUNT}\n\ndemo\n{dataset}\nEU\n").stdout
    assert f"Registered the gcp account {ACCOUNT}." in said
    (account,) = workspace.registry.accounts.all()
    assert account.settings["export"] == {"project": "demo", "dataset": dataset, "region": "EU"}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"billing_account_id": "0D1DR5-ADE21G"}, "the billing account id '0D1DR5-ADE21G': it is written as"),
        ({"billing_account_id": "0d1dr5-ade21g-rf09w1"}, "the billing account id '0d1dr5-ade21g-rf09w1'"),
        ({"project": "My Project"}, "the project id 'My Project'"),
        ({"dataset": "a-b"}, "the dataset 'a-b'"),
        ({"region": "Europe (Frankfurt)"}, "The region 'Europe \\(Frankfurt\\)' is not valid"),
        ({"region": ""}, "The region '' is not valid"),
    ],
)
def test_wrong_values_register_nothing(workspace: Workspace, changed: dict[str, Any], sentence: str) -> None:
    right = {"billing_account_id": ACCOUNT, "project": "demo", "dataset": "billing", "region": "EU"}
    with pytest.raises(OctoError, match=sentence):
        gcp.register(workspace, "ana", **(right | changed))
    assert workspace.registry.accounts.all() == []


def test_twice_without_a_place_and_without_a_service_account(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(workspace, "billing")
    with pytest.raises(OctoError, match=f"The gcp account '{ACCOUNT}' has been registered as 'Shop' since"):
        register(workspace, "other")
    assert "--id needs --project, --dataset and --region" in refused("register", "gcp", "--id", ACCOUNT)
    assert "Say which account the flags are about" in refused("register", "gcp", "--project", "demo")
    monkeypatch.delenv("OCTO_GCP_SERVICE_ACCOUNT")
    with pytest.raises(OctoError, match=r"The setting gcp_service_account must be the e-mail .* it is not set"):
        register(Workspace(Settings()), "other")


def test_the_job_does_the_same(workspace: Workspace, dataset: str) -> None:
    config = {"billing_account_id": ACCOUNT, "project": "demo", "dataset": dataset, "region": "EU", "name": "Shop"}
    with dg.DagsterInstance.ephemeral() as instance:
        done = defs.resolve_job_def("register_gcp_account").execute_in_process(
            run_config={"ops": {"register_gcp": {"config": config}}}, instance=instance
        )
    (event,) = [one for one in done.all_events if one.event_type_value == "STEP_OUTPUT"]
    assert MEMBER in str(event.step_output_data.metadata["next"].value)
    assert workspace.registry.accounts.find("Shop").account_id == ACCOUNT


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        (
            "other@company.iam.gserviceaccount.com",
            "reads BigQuery as other@company.iam.gserviceaccount.com, but the roles",
        ),
        (None, "reads BigQuery as no service account, such as a person, but the roles were to be granted to " + MEMBER),
    ],
)
def test_the_service_account_that_is_shown_is_the_one_that_is_used(
    workspace: Workspace, dataset: str, monkeypatch: pytest.MonkeyPatch, identity: str | None, message: str
) -> None:
    """Regression: people granted roles to an account that nobody asked as, and were told that BigQuery refuses."""
    monkeypatch.setattr(BigQueryDataset, "identity", lambda _: identity)
    account = gcp.confirm(workspace, "ana", register(workspace, dataset))
    assert message in str(account.problem)
    assert not account.is_completed


def test_the_identity_is_that_of_the_key_the_person_or_who_is_impersonated(tmp_path, monkeypatch) -> None:
    document = {"vendor": "gcp", "billing_account_id": ACCOUNT, "project": "demo", "dataset": "d", "location": "EU"}

    def identity(credentials: Any, **more: str) -> str | None:
        monkeypatch.setattr("google.auth.default", lambda scopes: (credentials, "demo"))
        return BigQueryDataset(GcpSourceDocument.model_validate(document | more)).identity()

    class Key:
        service_account_email = MEMBER

    class Machine:
        service_account_email = "default"

        def refresh(self, request: object) -> None:
            self.service_account_email = MEMBER

    assert identity(Key()) == MEMBER
    assert identity(Machine()) == MEMBER
    assert identity(object()) is None
    assert identity(object(), impersonate=MEMBER) == MEMBER
