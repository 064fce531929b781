"""The steps of registering an AWS account, and their verification.

1. The account is registered with an ExternalId of its own; a launch link creates the role of API access in it.
2. `confirm` assumes the role, checks that this fails without the ExternalId, and asks AWS Organizations whether the
   account is a payer or linked.
3. A second launch link sets up a payer's report and bucket, and reading a manifest confirms them. For a linked account,
   its payer is confirmed, which need not be registered.
4. A payer's linked accounts can be registered together; a third launch link creates a StackSet for step 1.

An account in no organization is its own payer. If AWS refuses a step, its confirmation is removed and the error becomes
the account's problem. If AWS cannot be reached (no network, no credentials here), nothing changes.
"""

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import ValidationError

from octo_pipeline.model.errors import NotAskedError, OctoError, Remedy
from octo_pipeline.model.wording import quoted
from octo_pipeline.registry.records import Account, Actor, NewAccount
from octo_pipeline.settings import Settings
from octo_pipeline.vendors.aws import access as aws_access
from octo_pipeline.vendors.aws import launch_links as aws_links
from octo_pipeline.vendors.aws.client import AwsAccess
from octo_pipeline.vendors.aws.cur_bucket import CurDocument
from octo_pipeline.vendors.registrar import Registrar
from octo_pipeline.vendors.vendor import Link

VENDOR = "aws"

# Options of documents that a registration does not have.
_OF_DOCUMENTS = {"costs", "first_month", "last_month", "domain"}
_ACCOUNT_ID = re.compile(r"\d{12}", re.ASCII)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d", re.ASCII)
_REPORT = re.compile(r"[0-9A-Za-z!_.*'()-]{1,128}", re.ASCII)
_PREFIX = re.compile(r"([0-9A-Za-z!_.*'()-]+(/[0-9A-Za-z!_.*'()-]+)*)?", re.ASCII)
# AWS defines reports only in us-east-1, and a stack creates its bucket in its own region.
_STACK_REGION = "us-east-1"


@dataclass(frozen=True)
class CurSetup:
    """A payer's report and where AWS writes it.

    Attributes:
        bucket: the bucket's name.
        report: the name of the report or Data Export.
        prefix: its folder in the bucket.
        region: the bucket's.
        kind: a Cost and Usage Report or a Data Export (CUR 2.0).
        makes_report: whether the stack creates the report; otherwise it exists already.
        makes_bucket: whether the stack creates the bucket.
    """

    bucket: str
    report: str
    prefix: str = ""
    region: str = _STACK_REGION
    kind: Literal["cur", "data_export"] = "cur"
    makes_report: bool = True
    makes_bucket: bool = True


def proposed_setup(account_id: str) -> CurSetup:
    """The proposed set-up of a payer that has no report yet."""
    return CurSetup(bucket=f"octo-cur-{account_id}", report="octo-cur", prefix="octo")


def setup_of(account: Account) -> CurSetup:
    """The set-up of a payer's report, or the proposed one."""
    return CurSetup(**account.settings["cur"]) if "cur" in account.settings else proposed_setup(account.account_id)


def register(
    registrar: Registrar, actor: Actor, account_id: str, name: str | None = None, payer_id: str | None = None
) -> Account:
    """Register an account; confirming it finds out whether it is a payer or linked.

    Args:
        registrar: registry and settings.
        actor: the administrator who registers it.
        account_id: 12 digits.
        name: a name for people.
        payer_id: of a linked account, if known; otherwise confirming it finds the payer.

    Raises:
        OctoError: an id is not valid, the account is registered already, the name is taken, or this installation's
            settings do not allow launch links. Nothing is registered.
    """
    aws_links.require_settings(registrar.settings)
    _check_id("account id", account_id)
    if payer_id is not None:
        _check_payer(account_id, payer_id)
    external_id = _new_external_id()
    settings = {"api_role": aws_links.role_name("api-access", external_id)}
    new = NewAccount(VENDOR, account_id, name, payer_id=payer_id, external_id=external_id, settings=settings)
    registrar.registry.accounts.add([new], actor)
    return registrar.registry.accounts.find(account_id, VENDOR)


def register_linked(registrar: Registrar, actor: Actor, payer: Account) -> tuple[list[Account], str]:
    """Register all linked accounts of a payer that are not registered yet; one StackSet gives access to them.

    They share one ExternalId, which the payer keeps for them, because a StackSet has one set of parameters.

    Returns:
        The accounts that were registered, and the launch link of the StackSet, to be opened in the payer.

    Raises:
        OctoError: this is not a confirmed payer, or AWS refuses or cannot be reached. Nothing is registered.
    """
    aws_links.require_settings(registrar.settings)
    if payer.kind != "payer" or payer.api_confirmed_at is None:
        raise OctoError(
            f"The linked accounts of {payer.account_id} can be listed only when its API access is confirmed and it is a "
            "payer.",
            code="payer-not-confirmed",
            place=payer.account_id,
            remedy=Remedy("accounts confirm", payer.account_id),
        )
    access = api_access(payer)
    members, root = aws_access.linked_accounts(access), aws_access.organization_root(access)
    accounts = registrar.registry.accounts
    external_id = payer.settings.get("linked_external_id")
    if external_id is None:
        external_id = _new_external_id()
        settings = {**payer.settings, "linked_external_id": external_id}
        payer = accounts.change(payer, actor, "prepare_linked_accounts", settings=settings)
    known = [account for account in accounts.all() if account.vendor == VENDOR]
    new = _new_linked(payer, members, known, external_id)
    accounts.add(new, actor)
    added = [accounts.find(account.account_id, VENDOR) for account in new]
    return added, aws_links.linked_accounts(registrar.settings, external_id, root)


def _new_linked(
    payer: Account, members: list[tuple[str, str]], known: list[Account], external_id: str
) -> list[NewAccount]:
    ids, names = {account.account_id for account in known}, {account.name for account in known}
    new = []
    for account_id, name in members:
        if account_id not in ids:
            # Accounts of an organization may share a name; the first one keeps it.
            own = name if name and name not in names else None
            names.add(own)
            settings = {"api_role": aws_links.role_name("api-access", external_id), "is_of_stack_set": True}
            new.append(NewAccount(VENDOR, account_id, own, "linked", payer.account_id, external_id, settings))
    return new


def set_payer(registrar: Registrar, actor: Actor, account: Account, payer_id: str) -> Account:
    """Set the payer of a linked account. If its API access is confirmed, AWS is asked at once whether that is right.

    Returns:
        The account; a wrong payer is its `problem`.

    Raises:
        OctoError: the account is a payer itself, or the id is not valid.
    """
    if account.kind == "payer":
        raise OctoError(
            f"{account.account_id} is a payer, so it has no payer of its own. Nothing was changed.",
            code="payer-has-no-payer",
        )
    _check_payer(account.account_id, payer_id)
    account = registrar.registry.accounts.change(
        account, actor, "set_payer", payer_id=payer_id, payer_confirmed_at=None, problem=None
    )
    if account.api_confirmed_at is None:
        return account
    try:
        return confirm(registrar, actor, account)
    except NotAskedError:
        # It is confirmed later, like any account.
        return account


def set_up_api_access(registrar: Registrar, actor: Actor, account: Account) -> Account:
    """Set up API access again with a new ExternalId and new roles; the account must then be confirmed again.

    The new stacks are created beside the old ones, which can be deleted then. The report and its bucket stay.

    Raises:
        OctoError: this installation's settings do not allow launch links.
    """
    aws_links.require_settings(registrar.settings)
    external_id = _new_external_id()
    settings = {
        **account.settings,
        "api_role": aws_links.role_name("api-access", external_id),
        "is_of_stack_set": False,
    }
    values: dict[str, Any] = {"external_id": external_id, "api_confirmed_at": None, "problem": None}
    if "source" in settings:
        # The role that reads the report demands the same ExternalId. What it reads is there, once it was confirmed.
        settings["source"] = {
            **settings["source"],
            "external_id": external_id,
            "role_arn": _cur_role_arn(account.account_id, external_id),
        }
        if account.cur_confirmed_at is not None:
            settings["cur"] = {**settings["cur"], "makes_report": False, "makes_bucket": False}
        values["cur_confirmed_at"] = None
    values["settings"] = settings
    return registrar.registry.accounts.change(account, actor, "set_up_api_access", **values)


def set_up_cur(registrar: Registrar, actor: Actor, account: Account, setup: CurSetup) -> Account:
    """Set the report that a payer has or will have; the account must then be confirmed again.

    Raises:
        OctoError: it is a linked account, or a value is not valid. Nothing is changed.
    """
    aws_links.require_settings(registrar.settings)
    if account.kind == "linked":
        raise OctoError(
            f"{account.account_id} is a linked account. Set up the report at its payer {account.payer_id}. Nothing was "
            "changed.",
            code="report-belongs-to-the-payer",
        )
    check_setup(setup)
    try:
        document = CurDocument(
            vendor="aws",
            account=account.account_id,
            bucket=setup.bucket,
            prefix=setup.prefix,
            report=setup.report,
            role_arn=_cur_role_arn(account.account_id, account.external_id or ""),
            external_id=account.external_id,
            region=setup.region,
        )
    except ValidationError as error:
        raise OctoError(
            f"The report cannot be set up: {error.errors(include_input=False)[0]['msg']}.", code="report-setup-wrong"
        ) from None
    settings = {
        **account.settings,
        "cur": vars(setup),
        "source": document.model_dump(mode="json", exclude=_OF_DOCUMENTS),
    }
    return registrar.registry.accounts.change(
        account, actor, "set_up_cur", settings=settings, cur_confirmed_at=None, problem=None
    )


def confirm(registrar: Registrar, actor: Actor, account: Account) -> Account:
    """Verify an account's steps with AWS and record the result.

    Returns:
        The account; a failed step is its `problem`.

    Raises:
        NotAskedError: AWS could not be reached, so nothing is known and nothing was changed.
    """
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "api_confirmed_at": None,
        "payer_confirmed_at": None,
        "cur_confirmed_at": None,
        "problem": None,
    }
    try:
        access = api_access(account)
        aws_access.require_role(access)
        values["api_confirmed_at"] = now
        payer = aws_access.management_account(access)
        if payer == account.account_id:
            values |= {"kind": "payer", "payer_id": None}
            if "cur" in account.settings:
                aws_access.require_report(access, account.settings["cur"])
                document = CurDocument.model_validate(account.settings["source"])
                aws_access.require_role(_cur_access(document))
                aws_access.require_delivery(document)
                values["cur_confirmed_at"] = now
        else:
            values["kind"] = "linked"
            _require_same_payer(account, payer)
            values |= {"payer_id": payer, "payer_confirmed_at": now}
    except NotAskedError:
        raise
    except OctoError as error:
        values["problem"] = str(error)
    return registrar.registry.accounts.change(account, actor, "confirm_account", **values)


def next_step(settings: Settings, account: Account) -> list[str | Remedy]:
    """What the user must do next, as sentences, links and actions; empty for a completed account."""
    if account.is_completed:
        return []
    again = Remedy("accounts confirm", account.account_id, to="verify it")
    if account.api_confirmed_at is None and account.settings.get("is_of_stack_set"):
        return [
            f"The StackSet in {account.payer_id} creates the role {aws_links.api_role(account)} in this account. If it does "
            "not reach it, give the account a role of its own:",
            Remedy("accounts edit", account.account_id, api=True),
            again,
        ]
    if account.api_confirmed_at is None:
        return [
            f"Open this link signed in to account {account.account_id}, leave the parameters as they are, tick the "
            "box that IAM resources may be created, and create the stack:",
            Link(aws_links.api_access(settings, account)),
            again,
        ]
    if account.kind == "linked":
        payer = Remedy("accounts edit", account.account_id, payer="ID", to="set its payer")
        return [again] if account.payer_id and not account.problem else [payer, again]
    if "cur" not in account.settings:
        return [
            Remedy("accounts edit", account.account_id, cur_report="NAME", cur_bucket="NAME", to="set up its report")
        ]
    return [
        f"Open this link signed in to account {account.account_id}, leave the parameters as they are, tick the box "
        "that IAM resources may be created, and create the stack:",
        Link(aws_links.cur(settings, account)),
        again,
        "AWS writes the first report within a day.",
    ]


def left_behind(account: Account) -> list[str]:
    """What stays in AWS when the account is removed here, and where to delete it."""
    role = aws_links.api_role(account)
    lines = []
    if account.settings.get("is_of_stack_set"):
        lines.append(
            f"The role {role} stays in {account.account_id}: the StackSet of {account.payer_id} keeps it there."
        )
    elif account.external_id:
        lines.append(f"The stack {role} and its role stay in {account.account_id}. Delete the stack in CloudFormation.")
    if "source" in account.settings:
        stack = str(account.settings["source"]["role_arn"]).rpartition("/")[2]
        lines.append(
            f"The stack {stack} stays, too. If you delete it, AWS writes no more reports if the stack made the report; the "
            f"bucket {account.settings['source']['bucket']} and the reports in it stay in any case."
        )
    if external_id := account.settings.get("linked_external_id"):
        lines.append(
            f"The stack {aws_links.linked_stack(external_id)} and its StackSet stay, and with them the roles in all linked "
            "accounts. Delete the stack in CloudFormation."
        )
    return lines


def api_access(account: Account) -> AwsAccess:
    """The identity with which the account's API is called."""
    role = f"arn:aws:iam::{account.account_id}:role/{aws_links.api_role(account)}"
    return AwsAccess(account.account_id, role, account.external_id)


def _cur_role_arn(account_id: str, external_id: str) -> str:
    return f"arn:aws:iam::{account_id}:role/{aws_links.role_name('cur', external_id)}"


def _cur_access(document: CurDocument) -> AwsAccess:
    return AwsAccess(document.account, document.role_arn, document.external_id)


def _require_same_payer(account: Account, payer: str) -> None:
    if account.payer_id not in (None, payer):
        raise OctoError(
            f"AWS account {account.account_id}: its payer is registered as {account.payer_id}, but AWS Organizations "
            f"says {payer}. Register {payer}.",
            code="payer-registered-wrong",
            place=account.account_id,
            remedy=Remedy("accounts edit", account.account_id, payer=payer),
        )


def _new_external_id() -> str:
    return f"octo-{secrets.token_hex(16)}"


def _check_id(field: str, value: str) -> None:
    if _ACCOUNT_ID.fullmatch(value) is None:
        raise OctoError(
            f"The {field} {quoted(value)} is not valid: an AWS account id has 12 digits.", code="account-id-malformed"
        )


def _check_payer(account_id: str, payer_id: str) -> None:
    _check_id("payer's id", payer_id)
    if payer_id == account_id:
        raise OctoError(
            f"{account_id} cannot be its own payer. Register a payer without a payer.", code="payer-has-no-payer"
        )


def check_setup(setup: CurSetup) -> None:
    """Check the values of a report's set-up.

    Raises:
        OctoError: a value is not valid, or two values conflict.
    """
    for field, value, pattern, form in (
        ("bucket", setup.bucket, _BUCKET, "3 to 63 lower-case letters, digits, dots and hyphens"),
        ("region", setup.region, _REGION, "written as eu-west-1"),
        ("report", setup.report, _REPORT, "1 to 128 letters, digits and !-_.*'()"),
        ("prefix", setup.prefix, _PREFIX, "folders of letters, digits and !-_.*'(), without a slash at its ends"),
    ):
        if pattern.fullmatch(value) is None:
            raise OctoError(
                f"The {field} {quoted(value)} is not valid: it must be {form}. Nothing was changed.",
                code="report-setup-wrong",
            )
    if setup.makes_report and setup.kind == "cur" and not setup.prefix:
        raise OctoError(
            "A new Cost and Usage Report needs a prefix, the folder it is written to. Nothing was changed.",
            code="report-setup-wrong",
        )
    if setup.makes_bucket and setup.region != _STACK_REGION:
        raise OctoError(
            f"The stack creates a new bucket in {_STACK_REGION}, not in {setup.region}. To have it elsewhere, create the "
            "bucket yourself. Nothing was changed.",
            code="report-setup-wrong",
        )
