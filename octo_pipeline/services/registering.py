"""Registering accounts and changing what was registered: what each vendor asks for, and what is to be done next.

How a vendor verifies a step belongs in its own folder.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import SecretStr

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.registry.records import Account, Actor
from octo_pipeline.services import registration
from octo_pipeline.services.accounts import rename
from octo_pipeline.settings import Settings
from octo_pipeline.vendors.aws import registration as aws
from octo_pipeline.vendors.azure import registration as azure
from octo_pipeline.vendors.gcp import registration as gcp
from octo_pipeline.vendors.vendor import Command, Link
from octo_pipeline.workspace import Workspace


@dataclass(frozen=True)
class NextStep:
    """What somebody does next to register an account.

    Attributes:
        kind: a sentence to read, a link to open, a command to copy into a terminal, or an action of the product.
        text: the sentence, link or command; of an action what it is for.
        values: what a link fills in with the vendor, for who does it by hand.
        action: the action of the product.
    """

    kind: Literal["sentence", "link", "command", "action"]
    text: str
    values: Mapping[str, str]
    action: Remedy | None = None


def next_steps(settings: Settings, account: Account) -> list[NextStep]:
    """What is to be done next; nothing for a completed account.

    Raises:
        OctoError: this installation's settings do not allow the step.
    """
    return [_next_step(step) for step in registration.of(account).next_step(settings, account)]


def _next_step(step: str | Remedy) -> NextStep:
    if isinstance(step, Remedy):
        return NextStep("action", step.purpose, {}, step)
    if isinstance(step, Link):
        return NextStep("link", step, _filled_in(step))
    return NextStep("command" if isinstance(step, Command) else "sentence", step.strip(), {})


def _filled_in(link: str) -> dict[str, str]:
    """The parameters of a CloudFormation link, which are behind its fragment."""
    return {name.removeprefix("param_"): value for name, value in parse_qsl(urlsplit(link).fragment.partition("?")[2])}


def register_aws(
    workspace: Workspace,
    actor: Actor,
    account_id: str,
    name: str | None = None,
    payer_id: str | None = None,
    report: Mapping[str, Any] | None = None,
) -> Account:
    """Register an AWS account and, if `report` has fields of `CurSetup`, the report of a payer.

    Raises:
        OctoError: a value is not valid, the account is registered already, or the name is taken.
    """
    if report:
        aws.check_setup(replace(aws.proposed_setup(account_id), **report))
    account = aws.register(workspace, actor, account_id, name, payer_id)
    return set_up_report(workspace, actor, account, report) if report else account


def set_up_report(workspace: Workspace, actor: Actor, account: Account, fields: Mapping[str, Any]) -> Account:
    """Change these fields of a payer's report. The others keep their values, or get the proposed ones.

    Raises:
        OctoError: it is a linked account, or a value is not valid.
    """
    return aws.set_up_cur(workspace, actor, account, replace(aws.setup_of(account), **fields))


@dataclass(frozen=True)
class AccountChanges:
    """What is changed of a registered account; what is not set stays.

    Attributes:
        name: the new name; empty for none.
        payer_id: AWS: the payer of a linked account.
        report: AWS: fields of a payer's `CurSetup`.
        has_new_access: AWS: whether API access is set up again.
        secrets: Azure: the secret keys for Partner Center and the partner API.
        export: Google Cloud: project, dataset and region of the billing export.
    """

    name: str | None = None
    payer_id: str | None = None
    report: Mapping[str, Any] | None = None
    has_new_access: bool = False
    secrets: tuple[SecretStr, SecretStr] | None = None
    export: tuple[str, str, str] | None = None


def change_account(workspace: Workspace, actor: Actor, account: Account, changes: AccountChanges) -> Account:
    """Change an account's name and settings. What was changed must be confirmed again.

    Raises:
        OctoError: a value is not valid, or is of another vendor's accounts; nothing is changed by that.
    """
    settings = {
        aws.VENDOR: changes.payer_id is not None or changes.report or changes.has_new_access,
        azure.VENDOR: changes.secrets,
        gcp.VENDOR: changes.export,
    }
    for vendor, is_changed in settings.items():
        if is_changed and account.vendor != vendor:
            raise OctoError(
                f"{account.account_id} is an account of {account.vendor}; only accounts of {vendor} have these settings.",
                code="settings-of-another-vendor",
                place=account.account_id,
            )
    if changes.name is not None:
        account = rename(workspace, actor, account, changes.name.strip() or None)
    if changes.has_new_access:
        account = aws.set_up_api_access(workspace, actor, account)
    if changes.payer_id is not None:
        account = aws.set_payer(workspace, actor, account, changes.payer_id)
    if changes.report:
        account = set_up_report(workspace, actor, account, changes.report)
    if changes.secrets:
        account = azure.set_secrets(workspace, actor, account, *changes.secrets)
    if changes.export:
        account = gcp.set_up_export(workspace, actor, account, *changes.export)
    return account


def confirm_linked(workspace: Workspace, actor: Actor, payer: Account) -> list[Account]:
    """Verify each registered linked account of a payer; what failed is the `problem` of an account.

    Raises:
        OctoError: none is registered, or the vendor could not be asked.
    """
    linked = [
        account
        for account in workspace.registry.accounts.all()
        if account.vendor == payer.vendor and account.payer_id == payer.account_id
    ]
    if not linked:
        raise OctoError(
            f"No linked account of {payer.account_id} is registered.",
            code="no-linked-account",
            place=payer.account_id,
            remedy=Remedy("accounts register aws", linked_of=payer.account_id, to="register them all"),
        )
    return [registration.of(account).confirm(workspace, actor, account) for account in linked]
