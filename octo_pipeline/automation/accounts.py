"""Jobs that register, confirm and remove accounts, for people who live in the Dagster UI.

They call what the commands call. A run's configuration is kept by Dagster for everybody to see, so secrets go in
by reference only: as the name of an environment variable of the code location. Who acts is the user that the
code location runs as, or whom its OCTO_TOKEN is of; that must be an administrator.
"""

import os
from dataclasses import replace
from enum import Enum
from typing import Any

import dagster as dg
from pydantic import Field

from octo_pipeline.automation.launchpad import acting_admin, sentences
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Account
from octo_pipeline.services import registration as vendors
from octo_pipeline.services.accounts import delete
from octo_pipeline.vendors.aws import registration as aws
from octo_pipeline.vendors.azure import registration as azure
from octo_pipeline.vendors.gcp import registration as gcp
from octo_pipeline.workspace import Workspace


class ReportKind(Enum):
    """What AWS calls a report; Dagster's configuration knows enumerations, not literals."""

    cur = "cur"
    data_export = "data_export"


class CurConfig(dg.Config):
    """A payer's report, as in `octo accounts register aws`; what is left out is what is proposed there."""

    report: str = "octo-cur"
    kind: ReportKind = ReportKind.cur
    bucket: str | None = Field(default=None, description="octo-cur-<account id> if left out")
    prefix: str = "octo"
    region: str = "us-east-1"
    makes_report: bool = Field(default=True, description="false for a report that is there already")
    makes_bucket: bool = Field(default=True, description="false for a bucket that is there already")


class RegisterAwsConfig(dg.Config):
    """The account that is to be registered."""

    account_id: str = Field(description="12 digits")
    name: str | None = None
    payer_id: str | None = Field(default=None, description="of a linked account; found by itself if left out")
    cur: CurConfig | None = Field(default=None, description="a payer's report, if it is to be set up at once")


class RegisterAzureConfig(dg.Config):
    """The partner (CSP) that is to be registered; secret keys by the names of variables of the code location."""

    partner_id: str = Field(description="the Microsoft Partner ID")
    tenant_id: str = Field(description="the partner's tenant")
    center_application: str = Field(description="application (client) id for Partner Center")
    center_secret_variable: str = Field(description="name of the environment variable with its secret key")
    api_application: str = Field(description="application (client) id for the partner API")
    api_secret_variable: str = Field(description="name of the environment variable with its secret key")
    currencies: list[str] = Field(default=["USD"], description="in which the partner is billed")
    name: str | None = None


class RegisterGcpConfig(dg.Config):
    """The billing account that is to be registered."""

    billing_account_id: str = Field(description="such as 0D1DR5-ADE21G-RF09W1")
    project: str = Field(description="id of the project that hosts the dataset")
    dataset: str = Field(description="the dataset that Cloud Billing exports to")
    region: str = Field(description="where the dataset is, such as EU")
    name: str | None = None


class AccountConfig(dg.Config):
    """A registered account."""

    account: str = Field(description="the account's id or name")
    vendor: str | None = Field(default=None, description="aws, azure or gcp, if several have the account")


class DeleteConfig(AccountConfig):
    """A registered account that is to be removed."""

    keep_data: bool = Field(default=False, description="leave its deliveries, costs and decisions")


@dg.op
def register_aws(
    context: dg.OpExecutionContext, config: RegisterAwsConfig, workspace: dg.ResourceParam[Workspace]
) -> None:
    """Register an AWS account and say what is to be done next, with the launch link."""
    with sentences():
        setup = _setup(config.account_id, config.cur) if config.cur else None
        if setup:
            aws.check_setup(setup)
        actor = acting_admin(context, workspace)
        account = aws.register(workspace, actor, config.account_id, config.name, config.payer_id)
        if setup:
            account = aws.set_up_cur(workspace, actor, account, setup)
        _say(context, workspace, account)


@dg.op
def register_azure(
    context: dg.OpExecutionContext, config: RegisterAzureConfig, workspace: dg.ResourceParam[Workspace]
) -> None:
    """Register an Azure partner; somebody signs in afterwards with `octo accounts sign-in`."""
    with sentences():
        actor = acting_admin(context, workspace)
        center = azure.application_from(
            os.environ, "Partner Center", config.center_application, config.center_secret_variable
        )
        api = azure.application_from(os.environ, "partner API", config.api_application, config.api_secret_variable)
        account = azure.register(
            workspace, actor, config.partner_id, config.tenant_id, center, api, tuple(config.currencies), config.name
        )
        _say(context, workspace, account)


@dg.op
def register_gcp(
    context: dg.OpExecutionContext, config: RegisterGcpConfig, workspace: dg.ResourceParam[Workspace]
) -> None:
    """Register a Google Cloud billing account and say what is to be granted to whom."""
    with sentences():
        actor = acting_admin(context, workspace)
        place = (config.project, config.dataset, config.region)
        account = gcp.register(workspace, actor, config.billing_account_id, *place, config.name)
        _say(context, workspace, account)


@dg.op
def confirm(context: dg.OpExecutionContext, config: AccountConfig, workspace: dg.ResourceParam[Workspace]) -> None:
    """Verify an account's steps for real; fails with the reason if one is not right."""
    with sentences():
        actor = acting_admin(context, workspace)
        found = workspace.registry.accounts.find(config.account, config.vendor)
        account = vendors.of(found).confirm(workspace, actor, found)
        if account.problem:
            raise OctoError(account.problem)
        _say(context, workspace, account)


@dg.op
def remove(context: dg.OpExecutionContext, config: DeleteConfig, workspace: dg.ResourceParam[Workspace]) -> None:
    """Remove an account and, unless it is kept, its deliveries, costs and restores."""
    with sentences():
        actor = acting_admin(context, workspace)
        found = workspace.registry.accounts.find(config.account, config.vendor)
        removed = delete(workspace, actor, found, keeps_data=config.keep_data)
        context.log.info(f"Removed {found.title}.")
        context.add_output_metadata(
            {
                "deliveries": removed.deliveries,
                "months": ", ".join(removed.months) or "none",
                "re-applied items": removed.reapplied,
            }
        )


@dg.job(executor_def=dg.in_process_executor, description="Register an AWS account; its result has the launch link.")
def register_aws_account() -> None:
    """Register an AWS account."""
    register_aws()


@dg.job(executor_def=dg.in_process_executor, description="Register an Azure partner; somebody signs in afterwards.")
def register_azure_account() -> None:
    """Register an Azure partner."""
    register_azure()


@dg.job(executor_def=dg.in_process_executor, description="Register a Google Cloud billing account; says what to grant.")
def register_gcp_account() -> None:
    """Register a Google Cloud billing account."""
    register_gcp()


@dg.job(executor_def=dg.in_process_executor, description="Verify a registered account for real.")
def confirm_account() -> None:
    """Verify a registered account."""
    confirm()


@dg.job(executor_def=dg.in_process_executor, description="Remove a registered account with its data.")
def delete_account() -> None:
    """Remove a registered account."""
    remove()


jobs = [register_aws_account, register_azure_account, register_gcp_account, confirm_account, delete_account]


def _setup(account_id: str, config: CurConfig) -> aws.CurSetup:
    given: dict[str, Any] = {name: value for name, value in vars(config).items() if value is not None}
    return replace(aws.proposed_setup(account_id), **{**given, "kind": config.kind.value})


def _say(context: dg.OpExecutionContext, workspace: Workspace, account: Account) -> None:
    told = vendors.of(account).next_step(workspace.settings, account)
    links = [one for one in told if one.startswith("https://")]
    context.log.info("\n".join([f"{account.title}: {'Completed' if account.is_completed else 'open'}", *told]))
    metadata: dict[str, Any] = {
        "account": account.account_id,
        "kind": account.kind or "not known yet",
        "status": "Completed" if account.is_completed else "open",
    }
    metadata |= {step: f"{at:%Y-%m-%d %H:%M} UTC" if at else "open" for step, at in account.steps.items()}
    if told:
        metadata["next"] = dg.MetadataValue.md("\n\n".join(told))
    if links:
        metadata["launch link"] = dg.MetadataValue.url(links[0])
    context.add_output_metadata(metadata)
