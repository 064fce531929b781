"""Registering AWS accounts, from the launch link to the confirmed report, against emulated accounts."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from octo_pipeline.model.errors import NotAskedError, OctoError, Remedy
from octo_pipeline.model.months import add_months
from octo_pipeline.registry.records import Account
from octo_pipeline.services.sources import sources
from octo_pipeline.settings import Settings
from octo_pipeline.vendors.aws import launch_links as aws_links
from octo_pipeline.vendors.aws import registration as aws
from octo_pipeline.workspace import Workspace
from tests.emulators.aws_accounts import PRINCIPAL, TEMPLATE_URL, AwsAccounts
from tests.support.aws_registration import CUR_BUCKET, CURRENT_MONTH, SAMPLE_PAYER, deliver_report
from tests.vendors.registration.waiting import refusal

SETUP = aws.CurSetup(bucket=CUR_BUCKET, report="octo-sample", prefix="cur")


def link_of(workspace: Workspace, account: Account) -> str:
    (link,) = [one for one in aws.next_step(workspace.settings, account) if str(one).startswith("https://")]
    return link


@pytest.fixture
def payer(workspace: Workspace, aws_accounts: AwsAccounts) -> Account:
    """A payer with confirmed API access."""
    account = aws.register(workspace, "ana", SAMPLE_PAYER, "Main")
    aws_accounts.open(link_of(workspace, account), SAMPLE_PAYER)
    return aws.confirm(workspace, "ana", account)


def test_a_payer_from_the_first_step_to_the_daily_run(
    workspace: Workspace, aws_accounts: AwsAccounts, tmp_path: Path
) -> None:
    aws_accounts.organization(SAMPLE_PAYER, "Workload")
    account = aws.register(workspace, "ana", SAMPLE_PAYER, "Main")
    assert (account.kind, account.steps, account.is_completed) == (None, {"API": None}, False)
    parameters = aws_accounts.open(link_of(workspace, account), SAMPLE_PAYER)
    role = f"octo-pipeline-api-access-{account.external_id[-8:]}"
    assert parameters == {"Principal": PRINCIPAL, "ExternalId": account.external_id, "RoleName": role}

    account = aws.confirm(workspace, "ana", account)
    assert (account.kind, account.payer_id, account.problem) == ("payer", None, None)
    assert account.api_confirmed_at is not None
    assert not account.is_completed
    assert sources(workspace, "aws") == []

    account = aws.set_up_cur(workspace, "ana", account, SETUP)
    parameters = aws_accounts.open(link_of(workspace, account), SAMPLE_PAYER)
    assert parameters == {
        "Principal": PRINCIPAL,
        "ExternalId": account.external_id,
        "RoleName": f"octo-pipeline-cur-{account.external_id[-8:]}",
        "ReportOption": "CREATE_CUR",
        "CurReportName": "octo-sample",
        "CurS3BucketOption": "CREATE_NEW",
        "CurS3BucketName": CUR_BUCKET,
        "CurS3BucketRegion": "us-east-1",
        "CurS3Prefix": "cur",
    }
    account = aws.confirm(workspace, "ana", account)
    assert "there is no Cost and Usage Report below s3://octo-cur-999988887777/cur/" in str(account.problem)
    assert "is registered, but not Completed" in refusal(workspace, "aws")

    deliver_report(aws_accounts, tmp_path / "exports")
    account = aws.confirm(workspace, "ana", account)
    assert (account.problem, account.is_completed) == (None, True)
    assert aws.next_step(workspace.settings, account) == []
    assert workspace.registry.accounts.find(SAMPLE_PAYER) == account

    # A completed payer is a source of the next run, and nothing else is needed for it to land.
    (source,) = sources(workspace, "aws")
    assert (source.account, source.name) == (SAMPLE_PAYER, f"aws {SAMPLE_PAYER} octo-sample at s3://{CUR_BUCKET}/cur/")
    (landed,) = source.land(workspace.lake.root, CURRENT_MONTH, datetime.now(UTC))
    assert (landed.delivery.account, landed.delivery.report, landed.is_new) == (SAMPLE_PAYER, "octo-sample", True)
    actions = [event.action for event in reversed(workspace.registry.audit())]
    assert actions == [
        "add_user",
        "register_account",
        "confirm_account",
        "set_up_cur",
        "confirm_account",
        "confirm_account",
    ]


def test_a_data_export_in_an_existing_bucket(
    workspace: Workspace, aws_accounts: AwsAccounts, payer: Account, tmp_path: Path
) -> None:
    region = "eu-west-1"
    aws_accounts.client("s3", SAMPLE_PAYER).create_bucket(
        Bucket=CUR_BUCKET, CreateBucketConfiguration={"LocationConstraint": region}
    )
    setup = aws.CurSetup(CUR_BUCKET, "octo-sample", "cur", region, "data_export", makes_bucket=False)
    account = aws.set_up_cur(workspace, "ana", payer, setup)
    parameters = aws_accounts.open(link_of(workspace, account), SAMPLE_PAYER)
    assert (parameters["ReportOption"], parameters["CurS3BucketOption"]) == ("CREATE_DATA_EXPORT", "USE_EXISTING")
    account = aws.confirm(workspace, "ana", account)
    assert "there is no Cost and Usage Report below" in str(account.problem)

    # A manifest of the last month is enough in the first days of a month.
    deliver_report(aws_accounts, tmp_path / "exports", add_months(CURRENT_MONTH, -1))
    assert aws.confirm(workspace, "ana", account).is_completed


def test_an_existing_report_is_found_and_must_go_where_it_is_registered(
    workspace: Workspace, aws_accounts: AwsAccounts, payer: Account, tmp_path: Path
) -> None:
    setup = aws.CurSetup(CUR_BUCKET, "octo-sample", "other", makes_report=False)
    account = aws.set_up_cur(workspace, "ana", payer, setup)
    assert aws_accounts.open(link_of(workspace, account), SAMPLE_PAYER)["ReportOption"] == "USE_EXISTING"
    account = aws.confirm(workspace, "ana", account)
    assert "has no Cost and Usage Report named 'octo-sample'" in str(account.problem)

    place = {"S3Bucket": CUR_BUCKET, "S3Prefix": "cur", "S3Region": "us-east-1"}
    aws_accounts.reports[SAMPLE_PAYER] = [{"ReportName": "another", **place}, {"ReportName": "octo-sample", **place}]
    account = aws.confirm(workspace, "ana", account)
    assert "the Cost and Usage Report 'octo-sample' has prefix 'cur' (registered: 'other')" in str(account.problem)

    deliver_report(aws_accounts, tmp_path / "exports")
    account = aws.set_up_cur(
        workspace, "ana", account, aws.CurSetup(CUR_BUCKET, "octo-sample", "cur", makes_report=False)
    )
    assert account.problem is None
    assert aws.confirm(workspace, "ana", account).is_completed


def test_a_linked_account_finds_its_payer_registered_or_not(workspace: Workspace, aws_accounts: AwsAccounts) -> None:
    (linked,) = aws_accounts.organization(SAMPLE_PAYER, "Workload")
    account = aws.register(workspace, "ana", linked)
    aws_accounts.open(link_of(workspace, account), linked)
    account = aws.confirm(workspace, "ana", account)
    assert (account.kind, account.payer_id, account.is_completed) == ("linked", SAMPLE_PAYER, True)
    assert list(account.steps) == ["API", "PAYER"]
    assert workspace.registry.accounts.payer_members([SAMPLE_PAYER]) == ((SAMPLE_PAYER, linked),)
    assert sources(workspace, "aws") == []

    with pytest.raises(OctoError, match=f"{linked} is a linked account. Set up the report at its payer {SAMPLE_PAYER}"):
        aws.set_up_cur(workspace, "ana", account, SETUP)


def test_a_wrong_payer_is_not_completed_and_says_which_is_right(
    workspace: Workspace, aws_accounts: AwsAccounts
) -> None:
    (linked,) = aws_accounts.organization(SAMPLE_PAYER, "Workload")
    account = aws.register(workspace, "ana", linked, payer_id="111111111111")
    aws_accounts.open(link_of(workspace, account), linked)
    account = aws.confirm(workspace, "ana", account)
    assert account.steps["API"] is not None
    assert account.steps["PAYER"] is None
    assert f"registered as 111111111111, but AWS Organizations says {SAMPLE_PAYER}" in str(account.problem)

    # AWS is asked at once, so nothing is left to do.
    assert "AWS Organizations says" in str(aws.set_payer(workspace, "ana", account, "222222222222").problem)
    account = workspace.registry.accounts.find(linked)
    account = aws.set_payer(workspace, "ana", account, SAMPLE_PAYER)
    assert (account.is_completed, aws.next_step(workspace.settings, account)) == (True, [])


def test_a_payer_that_aws_cannot_be_asked_about_is_confirmed_later(
    workspace: Workspace, aws_accounts: AwsAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octo_pipeline.vendors.aws.client._TRIES", 1)
    (linked,) = aws_accounts.organization(SAMPLE_PAYER, "Workload")
    account = aws.register(workspace, "ana", linked, payer_id="111111111111")
    aws_accounts.open(link_of(workspace, account), linked)
    account = aws.confirm(workspace, "ana", account)
    aws_accounts.fails["DescribeOrganization"] = (503, "ServiceUnavailable")
    account = aws.set_payer(workspace, "ana", account, SAMPLE_PAYER)
    assert (account.payer_id, account.steps["PAYER"]) == (SAMPLE_PAYER, None)
    # The payer is set, so only the confirmation is left.
    assert aws.next_step(workspace.settings, account) == [Remedy("accounts confirm", linked, to="verify it")]


def test_all_linked_accounts_of_a_payer_by_one_stack_set(workspace: Workspace, aws_accounts: AwsAccounts) -> None:
    linked = aws_accounts.organization(SAMPLE_PAYER, "Workload", "Workload", "Data")
    payer = aws.register(workspace, "ana", SAMPLE_PAYER, "Data")
    with pytest.raises(OctoError, match="can be listed only when its API access is confirmed") as refused:
        aws.register_linked(workspace, "ana", payer)
    assert refused.value.remedies == (Remedy("accounts confirm", SAMPLE_PAYER),)
    aws_accounts.open(link_of(workspace, payer), SAMPLE_PAYER)
    payer = aws.confirm(workspace, "ana", payer)

    added, link = aws.register_linked(workspace, "ana", payer)
    assert sorted(one.account_id for one in added) == sorted(linked)
    # Names that are taken are left out: they can be given later.
    assert sorted(one.name or "" for one in added) == ["", "", "Workload"]
    (external_id,) = {one.external_id for one in added}
    assert external_id != payer.external_id
    assert aws_accounts.open(link, SAMPLE_PAYER)["ExternalId"] == external_id
    assert all(aws.confirm(workspace, "ana", one).is_completed for one in added)

    payer = workspace.registry.accounts.find(SAMPLE_PAYER)
    again, same = aws.register_linked(workspace, "ana", payer)
    assert (again, same) == ([], link)


def test_the_role_must_refuse_without_the_external_id(workspace: Workspace, aws_accounts: AwsAccounts) -> None:
    account = aws.register(workspace, "ana", SAMPLE_PAYER)
    assert "could not assume its role: AWS does not let this machine's credentials assume" in str(
        _confirmed_with(workspace, aws_accounts, account, None)
    )
    for condition, sentence in (
        ({}, "can be assumed without the ExternalId, so somebody else could make octo-pipeline read this account"),
        ({"StringLike": {"sts:ExternalId": "*"}}, "can be assumed with any ExternalId"),
        ({"StringEquals": {"sts:ExternalId": "another-external-id"}}, "the principal and the ExternalId must be"),
    ):
        problem = _confirmed_with(workspace, aws_accounts, account, condition)
        assert sentence in str(problem)
        assert SAMPLE_PAYER in str(problem)


def _confirmed_with(
    workspace: Workspace, aws_accounts: AwsAccounts, account: Account, condition: dict[str, Any] | None
) -> str | None:
    """The problem of an account whose role has this condition; None makes no role."""
    import json

    if condition is not None:
        iam, name = aws_accounts.client("iam", SAMPLE_PAYER), account.settings["api_role"]
        if any(role["RoleName"] == name for role in iam.list_roles()["Roles"]):
            iam.delete_role(RoleName=name)
        statement = {"Effect": "Allow", "Principal": {"AWS": PRINCIPAL}, "Action": "sts:AssumeRole"}
        policy = {"Version": "2012-10-17", "Statement": [statement | ({"Condition": condition} if condition else {})]}
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(policy))
    account = aws.confirm(workspace, "ana", workspace.registry.accounts.find(account.account_id))
    assert not account.is_completed
    assert account.steps == {"API": None}
    return account.problem


def test_setting_api_access_up_anew_takes_another_external_id(
    workspace: Workspace, aws_accounts: AwsAccounts, payer: Account, tmp_path: Path
) -> None:
    account = aws.set_up_cur(workspace, "ana", payer, SETUP)
    aws_accounts.open(link_of(workspace, account), SAMPLE_PAYER)
    deliver_report(aws_accounts, tmp_path / "exports")
    account = aws.confirm(workspace, "ana", account)
    assert account.is_completed

    anew = aws.set_up_api_access(workspace, "ana", account)
    assert anew.external_id != account.external_id
    assert anew.settings["source"]["external_id"] == anew.external_id
    assert anew.steps == {"API": None, "CUR": None}
    assert "is registered, but not Completed" in refusal(workspace, "aws")
    assert "the ExternalId must be the same" in str(aws.confirm(workspace, "ana", anew).problem)
    # The new stacks have names of their own, so the old ones are not in their way; report and bucket are there already.
    anew = workspace.registry.accounts.find(SAMPLE_PAYER)
    aws_accounts.open(link_of(workspace, anew), SAMPLE_PAYER)
    anew = aws.confirm(workspace, "ana", anew)
    assert anew.api_confirmed_at is not None
    parameters = aws_accounts.open(link_of(workspace, anew), SAMPLE_PAYER)
    assert (parameters["ReportOption"], parameters["CurS3BucketOption"]) == ("USE_EXISTING", "USE_EXISTING")
    assert aws.confirm(workspace, "ana", anew).is_completed


def test_an_account_that_is_registered_again_is_not_kept_out_by_what_it_left_in_aws(
    workspace: Workspace, aws_accounts: AwsAccounts
) -> None:
    account = aws.register(workspace, "ana", SAMPLE_PAYER)
    aws_accounts.open(link_of(workspace, account), SAMPLE_PAYER)
    account = aws.confirm(workspace, "ana", account)
    role = account.settings["api_role"]
    assert aws.left_behind(account) == [
        f"The stack {role} and its role stay in {SAMPLE_PAYER}. Delete the stack in CloudFormation."
    ]
    workspace.registry.accounts.remove(account, "ana", [], keeps_data=True)
    again = aws.register(workspace, "ana", SAMPLE_PAYER)
    aws_accounts.open(link_of(workspace, again), SAMPLE_PAYER)
    assert aws.confirm(workspace, "ana", again).api_confirmed_at is not None


def test_an_account_of_a_stack_set_can_have_a_role_of_its_own(workspace: Workspace, aws_accounts: AwsAccounts) -> None:
    (linked,) = aws_accounts.organization(SAMPLE_PAYER, "Workload")
    payer = aws.register(workspace, "ana", SAMPLE_PAYER)
    aws_accounts.open(link_of(workspace, payer), SAMPLE_PAYER)
    payer = aws.confirm(workspace, "ana", payer)
    ((account,), link) = aws.register_linked(workspace, "ana", payer)
    # Not a link to a stack that the StackSet's role would be in the way of.
    step, *remedies = aws.next_step(workspace.settings, account)
    assert step.startswith(
        f"The StackSet in {SAMPLE_PAYER} creates the role {account.settings['api_role']} in this account."
    )
    assert remedies[0] == Remedy("accounts edit", linked, api=True)
    aws_accounts.open(link, SAMPLE_PAYER)
    assert aws.confirm(workspace, "ana", account).is_completed
    account = workspace.registry.accounts.find(linked)
    assert aws.left_behind(account) == [
        f"The role {account.settings['api_role']} stays in {linked}: the StackSet of {SAMPLE_PAYER} keeps it there."
    ]
    assert aws.left_behind(workspace.registry.accounts.find(SAMPLE_PAYER))[1].startswith(
        "The stack octo-pipeline-linked-accounts-"
    )
    account = aws.set_up_api_access(workspace, "ana", account)
    aws_accounts.open(link_of(workspace, account), linked)
    assert aws.confirm(workspace, "ana", account).is_completed


def test_an_aws_that_cannot_be_asked_takes_no_confirmation_away(
    workspace: Workspace, aws_accounts: AwsAccounts, payer: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octo_pipeline.vendors.aws.client._TRIES", 1)
    for status, code in ((503, "ServiceUnavailable"), (400, "ThrottlingException"), (403, "ExpiredTokenException")):
        aws_accounts.fails["DescribeOrganization"] = (status, code)
        with pytest.raises(
            NotAskedError, match=f"AWS account {SAMPLE_PAYER}: could not ask AWS Organizations who pays"
        ):
            aws.confirm(workspace, "ana", payer)
    assert workspace.registry.accounts.find(SAMPLE_PAYER) == payer

    # A refusal is an answer.
    aws_accounts.fails["DescribeOrganization"] = (400, "AccessDeniedException")
    refused = aws.confirm(workspace, "ana", payer)
    assert "may not do that. Allow DescribeOrganization there" in str(refused.problem)
    assert not refused.is_completed
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nonexistent")
    with pytest.raises(NotAskedError, match="there are no AWS credentials on this machine"):
        aws.confirm(workspace, "ana", refused)


@pytest.mark.parametrize(
    "wrong", ["", "12345678901", "1234567890123", "12345678901a", "１２３４５６７８９０１２", "1" * 12 + "\n"]
)
def test_wrong_ids_register_nothing(workspace: Workspace, wrong: str) -> None:
    with pytest.raises(OctoError, match="an AWS account id has 12 digits"):
        aws.register(workspace, "ana", wrong)
    with pytest.raises(OctoError, match="an AWS account id has 12 digits"):
        aws.register(workspace, "ana", SAMPLE_PAYER, payer_id=wrong)
    with pytest.raises(OctoError, match="cannot be its own payer"):
        aws.register(workspace, "ana", SAMPLE_PAYER, payer_id=SAMPLE_PAYER)
    assert workspace.registry.accounts.all() == []


def test_twice_and_taken_names_register_nothing(workspace: Workspace) -> None:
    aws.register(workspace, "ana", SAMPLE_PAYER, "Main")
    with pytest.raises(OctoError, match=f"The aws account '{SAMPLE_PAYER}' has been registered as 'Main' since"):
        aws.register(workspace, "ana", SAMPLE_PAYER, "Other")
    with pytest.raises(OctoError, match="The name 'Main' is taken by the aws account"):
        aws.register(workspace, "ana", "111122223333", "Main")
    assert [one.account_id for one in workspace.registry.accounts.all()] == [SAMPLE_PAYER]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"bucket": "Company_CUR"}, "The bucket 'Company_CUR' is not valid"),
        ({"bucket": "x"}, "The bucket 'x' is not valid"),
        ({"region": "Ireland"}, "The region 'Ireland' is not valid: it must be written as eu-west-1"),
        ({"report": "a b"}, "The report 'a b' is not valid"),
        ({"prefix": "/cur"}, "The prefix '/cur' is not valid"),
        ({"prefix": ""}, "A new Cost and Usage Report needs a prefix"),
        ({"region": "eu-west-1"}, "The stack creates a new bucket in us-east-1, not in eu-west-1"),
    ],
)
def test_wrong_set_ups_change_nothing(workspace: Workspace, changed: dict[str, Any], sentence: str) -> None:
    account = aws.register(workspace, "ana", SAMPLE_PAYER)
    with pytest.raises(OctoError, match=re.escape(sentence)):
        aws.set_up_cur(workspace, "ana", account, aws.CurSetup(**(vars(SETUP) | changed)))
    assert workspace.registry.accounts.find(SAMPLE_PAYER) == account


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"aws_principal": None}, "The setting aws_principal must be the ARN .* it is not set"),
        ({"aws_principal": "octo"}, "The setting aws_principal must be the ARN .* it is octo"),
        ({"aws_template_url": None}, "The setting aws_template_url must be the https address .* it is not set"),
        ({"aws_template_url": "http://x/y"}, "The setting aws_template_url must be the https address"),
    ],
)
def test_an_installation_that_cannot_make_links(tmp_path: Path, settings: dict[str, Any], sentence: str) -> None:
    right = {"aws_principal": PRINCIPAL, "aws_template_url": TEMPLATE_URL, "lake": tmp_path / "lake"}
    workspace = Workspace(Settings(**(right | settings)))
    with pytest.raises(OctoError, match=sentence):
        aws.register(workspace, "ana", SAMPLE_PAYER)
    assert workspace.registry.accounts.all() == []


def test_external_ids_are_made_once_for_each_account_and_cannot_be_guessed(workspace: Workspace) -> None:
    accounts = [aws.register(workspace, "ana", f"{number:012}") for number in range(20)]
    ids = [str(account.external_id) for account in accounts]
    assert len(set(ids)) == 20
    # 128 random bits.
    assert all(re.fullmatch("octo-[0-9a-f]{32}", one) for one in ids)


def test_links_are_escaped(workspace: Workspace) -> None:
    account = aws.register(workspace, "ana", SAMPLE_PAYER)
    settings = workspace.settings.model_copy(update={"aws_template_url": f"{TEMPLATE_URL}/a b&c/"})
    link = aws_links.api_access(settings, account)
    assert "templateURL=https%3A%2F%2Fcompany-templates.s3.amazonaws.com%2Focto%2Fa%20b%26c%2Fapi-access.yaml&" in link
    assert (
        f"param_Principal=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Focto-pipeline&param_ExternalId={account.external_id}"
        in link
    )
