"""`octo accounts` as an administrator types it, on both databases, and the jobs that do the same."""

import base64
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from octo_pipeline.cli.main import app
from octo_pipeline.cli.output import sentence
from octo_pipeline.definitions import defs
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Caller, NewAccount
from octo_pipeline.services import access as acting
from octo_pipeline.settings import Settings
from octo_pipeline.workspace import Workspace
from tests.emulators.aws_accounts import AwsAccounts
from tests.support.aws_registration import CUR_BUCKET, CURRENT_MONTH, SAMPLE_PAYER, deliver_report


def octo(*arguments: str, code: int = 0, answer: str | None = None) -> Result:
    result = CliRunner().invoke(app, ["accounts", *arguments], input=answer)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def refused(*arguments: str, answer: str | None = None) -> str:
    result = octo(*arguments, code=1, answer=answer)
    assert isinstance(result.exception, OctoError)
    return sentence(result.exception)


def link_in(result: Result) -> str:
    (link,) = [line for line in result.stdout.splitlines() if line.startswith("https://")]
    return link


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, workspace: Workspace) -> Workspace:
    """The installation with its registry on each database."""
    if request.param == "postgresql":
        make: Callable[[], str] = request.getfixturevalue("postgresql")
        monkeypatch.setenv("OCTO_DATABASE_URL", make())
        token = Workspace(Settings()).registry.users.init("ana", Caller(None), with_token=True)
        monkeypatch.setenv("OCTO_TOKEN", str(token))
    return Workspace(Settings())


def test_a_payer_by_flags(database: Workspace, aws_accounts: AwsAccounts, tmp_path: Path) -> None:
    aws_accounts.organization(SAMPLE_PAYER)
    result = octo("register", "aws", "--id", SAMPLE_PAYER, "--name", "Main")
    assert f"Registered the aws account {SAMPLE_PAYER} (Main)." in result.stdout
    assert f"Open this link signed in to account {SAMPLE_PAYER}" in result.stdout
    assert "AWS does not let this machine's credentials assume" in refused("confirm", "Main")
    aws_accounts.open(link_in(result), SAMPLE_PAYER)

    result = octo("confirm", SAMPLE_PAYER)
    assert "is a payer account and not Completed: API Completed, CUR open." in result.stdout
    assert "--cur-report NAME --cur-bucket NAME` to set up its report." in result.stdout
    result = octo("edit", "Main", "--cur-report", "octo-sample", "--cur-prefix", "cur")
    aws_accounts.open(link_in(result), SAMPLE_PAYER)
    assert "there is no Cost and Usage Report below s3://" in refused("confirm", "Main")
    deliver_report(aws_accounts, tmp_path / "exports")
    assert "is a payer account and Completed: API Completed, CUR Completed." in octo("confirm", "Main").stdout

    (row,) = json.loads(octo("list", "-o", "json").stdout)
    assert row == {
        "vendor": "aws", "id": SAMPLE_PAYER, "name": "Main", "kind": "payer", "payer": SAMPLE_PAYER, "API": "Completed", "PAYER": "",
        "CUR": "Completed", "status": "Completed", "last_delivery": None, "problem": None,
    }  # fmt: skip
    table = octo("list").stdout
    assert all(text in table for text in (SAMPLE_PAYER, "Main", "payer", "Completed"))
    assert max(map(len, table.splitlines())) <= 100
    shown = octo("show", SAMPLE_PAYER).stdout
    assert (
        f"cur: bucket {CUR_BUCKET}, report octo-sample, prefix cur, region us-east-1, kind cur, makes report yes"
        in shown
    )
    assert "https://" not in shown

    assert "The name 'Main' is taken" in refused("register", "aws", "--id", "1" * 12, "--name", "Main")
    octo("edit", "Main", "--name", "Principal")
    octo("delete", "Principal", answer="n\n", code=1)
    assert len(database.registry.accounts.all()) == 1
    removed = octo("delete", "Principal", answer="y\n").stdout
    assert "Removed the aws account" in removed
    assert "stay in " in removed
    assert database.registry.accounts.all() == []


def test_a_payer_by_prompts(workspace: Workspace, aws_accounts: AwsAccounts, tmp_path: Path) -> None:
    launched: list[str] = []
    # A person opens the link as soon as it is there.
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("typer.launch", lambda link: launched.append(link) or aws_accounts.open(link, SAMPLE_PAYER))
        answers = [SAMPLE_PAYER, "Main", "y", "y", "cur", "octo-sample", "y", CUR_BUCKET, "cur", "y", "n"]
        result = octo("register", "aws", "--open", answer="\n".join(answers) + "\n")
    assert len(launched) == 2
    assert "is a payer account and not Completed: API Completed, CUR open." in result.stdout
    assert "Problem: AWS account 999988887777: there is no Cost and Usage Report below" in result.stdout
    assert f"These steps are saved. Continue with `octo accounts confirm {SAMPLE_PAYER}`." in result.stdout
    deliver_report(aws_accounts, tmp_path / "exports")
    octo("confirm", "Main")
    assert workspace.registry.accounts.find("Main").is_completed


def test_linked_accounts_by_a_stack_set(workspace: Workspace, aws_accounts: AwsAccounts) -> None:
    linked = aws_accounts.organization(SAMPLE_PAYER, "Workload", "Data")
    aws_accounts.open(link_in(octo("register", "aws", "--id", SAMPLE_PAYER)), SAMPLE_PAYER)
    assert "No linked account of 999988887777 is registered" in refused("confirm", SAMPLE_PAYER, "--linked")
    octo("confirm", SAMPLE_PAYER)
    result = octo("register", "aws", "--linked-of", SAMPLE_PAYER)
    assert "Registered 2 new linked accounts of 999988887777." in result.stdout
    for account in linked:
        assert "AWS does not let" in refused("confirm", account)
    aws_accounts.open(link_in(result), SAMPLE_PAYER)
    assert octo("confirm", SAMPLE_PAYER, "--linked").stdout.count("is a linked account and Completed") == 2
    rows = json.loads(octo("list", "-o", "json").stdout)
    assert [(row["kind"], row["payer"], row["PAYER"]) for row in rows if row["id"] in linked] == [
        ("linked", SAMPLE_PAYER, "Completed")
    ] * 2


def test_bad_input_is_a_sentence_and_registers_nothing(workspace: Workspace) -> None:
    for arguments, message in (
        (["register", "aws", "--id", "123"], "The account id '123' is not valid: an AWS account id has 12 digits"),
        (["register", "aws", "--name", "Main"], "Say which account the flags are about: --id"),
        (
            ["register", "aws", "--id", SAMPLE_PAYER, "--linked-of", SAMPLE_PAYER],
            "--linked-of registers all linked accounts",
        ),
        (["register", "aws", "--id", SAMPLE_PAYER, "--cur-bucket", "A"], "The bucket 'A' is not valid"),
        (["register", "aws", "--linked-of", SAMPLE_PAYER], "No aws account '999988887777' is registered"),
        (
            ["confirm", "nobody"],
            "No account 'nobody' is registered. Run `octo accounts list` to see the registered accounts.",
        ),
        (["show", "nobody"], "No account 'nobody' is registered"),
        (["edit", "nobody", "--name", "x"], "No account 'nobody' is registered"),
        (["delete", "nobody", "--yes"], "No account 'nobody' is registered"),
    ):
        assert message in refused(*arguments)
    assert workspace.registry.accounts.all() == []
    workspace.registry.accounts.add([NewAccount("gcp", "0D1DR5-ADE21G-RF09W")], "ana")
    assert "only accounts of aws have these settings" in refused("edit", "0D1DR5-ADE21G-RF09W", "--payer", SAMPLE_PAYER)


@pytest.mark.parametrize(
    "change",
    [
        ("register", "aws", "--id", "111111111111"),
        ("register", "aws", "--linked-of", SAMPLE_PAYER),
        ("confirm", SAMPLE_PAYER),
        ("edit", SAMPLE_PAYER, "--name", "Theirs"),
        ("delete", SAMPLE_PAYER, "--yes"),
    ],
    ids=" ".join,
)
def test_a_viewer_is_refused(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, change: tuple[str, ...]) -> None:
    octo("register", "aws", "--id", SAMPLE_PAYER)
    workspace.registry.users.add("vic", "viewer", "ana")
    before = workspace.registry.accounts.all()
    monkeypatch.setattr(acting, "os_user", lambda: "vic")
    assert "'vic' is a viewer, and only administrators may do this" in refused(*change)
    assert workspace.registry.accounts.all() == before
    assert SAMPLE_PAYER in octo("list").stdout
    assert "is not known yet" in octo("show", SAMPLE_PAYER).stdout


def run(job: str, op: str, **config: object) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return defs.resolve_job_def(job).execute_in_process(
            run_config={"ops": {op: {"config": config}}, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            instance=instance,
            raise_on_error=False,
        )


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    (event,) = [one for one in result.all_events if one.event_type_value == "STEP_OUTPUT"]
    return {name: value.value for name, value in event.step_output_data.metadata.items()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    assert not result.success
    (event,) = [one for one in result.all_events if one.is_step_failure]
    return str(event.step_failure_data.user_failure_data.description)


def test_the_jobs_do_the_same(workspace: Workspace, aws_accounts: AwsAccounts, tmp_path: Path) -> None:
    cur = {"report": "octo-sample", "prefix": "cur"}
    said = metadata(run("register_aws_account", "register_aws", account_id=SAMPLE_PAYER, name="Main", cur=cur))
    assert (said["account"], said["kind"], said["status"], said["API"]) == (
        SAMPLE_PAYER,
        "not known yet",
        "open",
        "open",
    )
    assert "has been registered as 'Main' since" in failure(
        run("register_aws_account", "register_aws", account_id=SAMPLE_PAYER)
    )
    assert "AWS does not let" in failure(run("confirm_account", "confirm", account="Main"))
    aws_accounts.open(str(said["launch link"]), SAMPLE_PAYER)

    assert "has no Cost and Usage Report named 'octo-sample'" in failure(
        run("confirm_account", "confirm", account="Main")
    )
    aws_accounts.open(link_in(octo("show", "Main")), SAMPLE_PAYER)
    deliver_report(aws_accounts, tmp_path / "exports")
    said = metadata(run("confirm_account", "confirm", account="Main"))
    assert (said["kind"], said["status"], "launch link" in said) == ("payer", "Completed", False)

    said = metadata(run("delete_account", "remove", account="Main", keep_data=True))
    assert "Delete the stack in CloudFormation" in said.pop("left")
    assert said == {"deliveries": 0, "months": "none", "re-applied items": 0}
    assert workspace.registry.accounts.all() == []


def test_a_viewer_runs_no_job(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.registry.users.add("vic", "viewer", "ana")
    monkeypatch.setattr(acting, "os_user", lambda: "vic")
    for job, op, config in (
        ("register_aws_account", "register_aws", {"account_id": SAMPLE_PAYER}),
        ("confirm_account", "confirm", {"account": SAMPLE_PAYER}),
        ("delete_account", "remove", {"account": SAMPLE_PAYER}),
    ):
        assert "'vic' is a viewer" in failure(run(job, op, **config))
    assert workspace.registry.accounts.all() == []


def test_no_secret_is_in_a_log_an_event_a_file_or_a_sentence(
    workspace: Workspace,
    aws_accounts: AwsAccounts,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    token = workspace.registry.users.make_token("ana", "launchpad", "ana")
    key = base64.urlsafe_b64encode(os.urandom(32)).decode()
    monkeypatch.setenv("OCTO_TOKEN", token)
    monkeypatch.setenv("OCTO_SECRET_KEY", key)
    password, refresh = "hunter2-not-a-real-one", "0.AXoA-not-a-real-one"
    installation = Workspace(Settings())
    (tmp_path / "dagster").mkdir()
    with caplog.at_level(logging.DEBUG):
        values = {"api_secret": SecretStr(password), "refresh_token": SecretStr(refresh)}
        installation.secrets.put("azure", "a-tenant", values, "ana")
        installation.secrets.rotate("ana")
        assert installation.secrets.get("azure", "a-tenant", "refresh_token").get_secret_value() == refresh
        with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
            job = defs.resolve_job_def("register_aws_account")
            config = {"ops": {"register_aws": {"config": {"account_id": SAMPLE_PAYER}}}}
            assert job.execute_in_process(run_config=config, instance=instance).success
            config = {"ops": {"confirm": {"config": {"account": SAMPLE_PAYER}}}}
            job = defs.resolve_job_def("confirm_account")
            assert not job.execute_in_process(run_config=config, instance=instance, raise_on_error=False).success
        printed = "".join(octo(*words).output for words in (["list"], ["show", SAMPLE_PAYER]))

    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files)
    assert any(path.name == "registry.sqlite" for path in files)
    # The part of a token that is no secret is its id, which the audit trail names.
    for secret in (token.split("_", 2)[2], key, password, refresh):
        assert secret not in caplog.text + printed + repr(installation) + str(installation.registry.audit())
        for path in files:
            assert secret.encode() not in path.read_bytes(), path


def test_the_next_run_lands_what_is_confirmed(workspace: Workspace, aws_accounts: AwsAccounts, tmp_path: Path) -> None:
    from octo_pipeline.services.landing import land_month
    from octo_pipeline.services.sources import sources

    aws_accounts.open(link_in(octo("register", "aws", "--id", SAMPLE_PAYER)), SAMPLE_PAYER)
    octo("confirm", SAMPLE_PAYER)
    aws_accounts.open(
        link_in(octo("edit", SAMPLE_PAYER, "--cur-report", "octo-sample", "--cur-prefix", "cur")), SAMPLE_PAYER
    )
    deliver_report(aws_accounts, tmp_path / "exports")
    waiting = land_month(workspace, "aws", sources(workspace, "aws"), CURRENT_MONTH)
    # It is named, and stops nobody else's month before it was ever confirmed.
    assert (waiting.new, waiting.is_complete) == (0, True)
    assert "is registered, but not Completed" in str(waiting.failures[0])
    octo("confirm", SAMPLE_PAYER)
    assert land_month(workspace, "aws", sources(workspace, "aws"), CURRENT_MONTH).new == 1
    (row,) = json.loads(octo("list", "-o", "json").stdout)
    assert row["last_delivery"] is not None
    octo("edit", SAMPLE_PAYER, "--api")
    # Regression: a payer that lost its confirmation was left out, and its month published without it.
    lost = land_month(workspace, "aws", sources(workspace, "aws"), "2024-02")
    assert (lost.deliveries, lost.is_complete) == ((), False)
    assert f"`octo accounts confirm {SAMPLE_PAYER}`" in sentence(lost.failures[0])
    octo("delete", SAMPLE_PAYER, "--yes")
    assert land_month(workspace, "aws", sources(workspace, "aws"), CURRENT_MONTH).deliveries == ()
