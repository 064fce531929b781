"""Jobs that register, confirm and remove accounts, for people who work in the Dagster UI.

They call the same functions as the commands. Dagster keeps a run's configuration and shows it to everybody, so
a secret is given as the name of an environment variable of the code location, never as its value. The names are an
enumeration: the launchpad offers them, and a secret that is typed there by mistake is refused before a run is made of
it. The acting person is the owner of the code location's OCTO_TOKEN, or else the user it runs as; they must be an administrator.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from octo_pipeline.assets.failures import action_in_dagster
from octo_pipeline.assets.markdown import markdown_list, plain_markdown
from octo_pipeline.automation.launchpad import AREA, acting_admin, translate_errors
from octo_pipeline.automation.recording import AssetEvent, recorded_in_op
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.registry.records import Account
from octo_pipeline.services import registration as vendors
from octo_pipeline.services.accounts import Removed, confirm_new, delete
from octo_pipeline.settings import SECRET_PREFIX
from octo_pipeline.vendors.aws import registration as aws
from octo_pipeline.vendors.azure import registration as azure
from octo_pipeline.vendors.gcp import registration as gcp
from octo_pipeline.workspace import Workspace


class ReportKind(Enum):
    """The kinds of reports that AWS delivers. Dagster's configuration supports enumerations, but not literals."""

    cur = "cur"
    data_export = "data_export"


class CurConfig(dg.Config):
    """A payer's report. Fields that are left out have the defaults of `octo accounts register aws`."""

    report: str = "octo-cur"
    kind: ReportKind = ReportKind.cur
    bucket: str | None = Field(default=None, description="the bucket's name; octo-cur-<account id> if left out")
    prefix: str = "octo"
    region: str = "us-east-1"
    makes_report: bool = Field(default=True, description="false for a report that already exists")
    makes_bucket: bool = Field(default=True, description="false for a bucket that already exists")


class RegisterAwsConfig(dg.Config):
    """The AWS account to register."""

    account_id: str = Field(description="12 digits")
    name: str | None = None
    payer_id: str | None = Field(default=None, description="the payer of a linked account; detected if left out")
    cur: CurConfig | None = Field(default=None, description="the payer's report, to set it up at the same time")


if TYPE_CHECKING:

    class SecretVariable(Enum):
        """A variable with the secret of a source."""

else:
    # What to do stands where the names would be, because an enumeration cannot be empty.
    _NAMES = sorted(name for name in os.environ if name.startswith(SECRET_PREFIX)) or [
        f"no variable {SECRET_PREFIX}… is set where this code location runs"
    ]
    SecretVariable = Enum("SecretVariable", {name: name for name in _NAMES})


class RegisterAzureConfig(dg.Config):
    """The partner (CSP) to register. Secret keys are given as the names of the code location's variables."""

    partner_id: str = Field(description="the Microsoft Partner ID")
    tenant_id: str = Field(description="the partner's tenant")
    center_application: str = Field(description="application (client) id for Partner Center")
    center_secret_variable: SecretVariable = Field(description="name of the environment variable with its secret key")
    api_application: str = Field(description="application (client) id for the partner API")
    api_secret_variable: SecretVariable = Field(description="name of the environment variable with its secret key")
    currencies: list[str] = Field(default=["USD"], description="the currencies in which the partner is billed")
    name: str | None = None


class RegisterGcpConfig(dg.Config):
    """The billing account to register."""

    billing_account_id: str = Field(description="the billing account's id, such as 0D1DR5-ADE21G-RF09W1")
    project: str = Field(description="id of the project that contains the dataset")
    dataset: str = Field(description="the dataset that Cloud Billing exports to")
    region: str = Field(description="the dataset's location, such as EU")
    name: str | None = None


class AccountConfig(dg.Config):
    """A registered account."""

    account: str = Field(description="the account's id or name")
    vendor: str | None = Field(
        default=None, description="aws, azure or gcp, if several vendors have an account with this id or name"
    )


class DeleteConfig(AccountConfig):
    """The registered account to remove."""

    keep_data: bool = Field(default=False, description="keep its deliveries, costs and decisions")


@dg.op
def register_aws(
    context: dg.OpExecutionContext, config: RegisterAwsConfig, workspace: dg.ResourceParam[Workspace]
) -> None:
    """Register an AWS account and show the next step, with the launch link."""
    with translate_errors():
        setup = _setup(config.account_id, config.cur) if config.cur else None
        if setup:
            aws.check_setup(setup)
        actor = acting_admin(workspace)
        account = aws.register(workspace, actor, config.account_id, config.name, config.payer_id)
        if setup:
            account = aws.set_up_cur(workspace, actor, account, setup)
        _show(context, workspace, account)


@dg.op
def register_azure(
    context: dg.OpExecutionContext, config: RegisterAzureConfig, workspace: dg.ResourceParam[Workspace]
) -> None:
    """Register an Azure partner. The next step is to sign in with `octo accounts sign-in`."""
    with translate_errors():
        actor = acting_admin(workspace)
        center = azure.application_from(
            os.environ, "Partner Center", config.center_application, config.center_secret_variable.value
        )
        api = azure.application_from(
            os.environ, "partner API", config.api_application, config.api_secret_variable.value
        )
        account = azure.register(
            workspace, actor, config.partner_id, config.tenant_id, center, api, tuple(config.currencies), config.name
        )
        _show(context, workspace, account)


@dg.op
def register_gcp(
    context: dg.OpExecutionContext, config: RegisterGcpConfig, workspace: dg.ResourceParam[Workspace]
) -> None:
    """Register a Google Cloud billing account and show which roles to grant to whom."""
    with translate_errors():
        actor = acting_admin(workspace)
        account = gcp.register(
            workspace, actor, config.billing_account_id, config.project, config.dataset, config.region, config.name
        )
        _show(context, workspace, account)


@dg.op
def confirm(context: dg.OpExecutionContext, config: AccountConfig, workspace: dg.ResourceParam[Workspace]) -> None:
    """Check an account's steps against the vendor's API; fails with the reason if a step is wrong."""
    with translate_errors():
        actor = acting_admin(workspace)
        registered = workspace.registry.accounts.find(config.account, config.vendor)
        account = vendors.of(registered).confirm(workspace, actor, registered)
        if account.problem:
            raise OctoError(account.problem, code="account-not-verified")
        _show(context, workspace, account)


@dg.op
def remove(
    context: dg.OpExecutionContext, config: DeleteConfig, workspace: dg.ResourceParam[Workspace]
) -> Iterator[AssetEvent | dg.Output[None]]:
    """Remove an account and, unless they are kept, its deliveries, costs and restores."""
    with translate_errors():
        actor = acting_admin(workspace)
        account = workspace.registry.accounts.find(config.account, config.vendor)
        events = yield from recorded_in_op(
            context,
            workspace,
            delete(workspace, actor, account, keeps_data=config.keep_data),
            {"action": f"{account.title} was removed", "actor": actor},
        )
    for event in events:
        if isinstance(event, Removed):
            context.log.info(f"Removed {account.title}.")
            yield dg.Output(
                None,
                metadata={
                    "deliveries": event.deliveries,
                    "months": ", ".join(event.months) or "none",
                    **({"kept for closed months": ", ".join(event.kept_months)} if event.kept_months else {}),
                    "re-applied items": event.reapplied,
                    "left": dg.MetadataValue.md(markdown_list(vendors.of(account).left_behind(account)) or "nothing"),
                },
            )


# Administrators' work, apart from that of everybody else.
_ACCOUNTS = {AREA: "accounts and secrets"}


@dg.job(
    tags=_ACCOUNTS,
    executor_def=dg.in_process_executor,
    description="Register an AWS account. The result contains the launch link.",
)
def register_aws_account() -> None:
    """Register an AWS account."""
    register_aws()


@dg.job(
    tags=_ACCOUNTS,
    executor_def=dg.in_process_executor,
    description="Register an Azure partner. The next step is to sign in.",
)
def register_azure_account() -> None:
    """Register an Azure partner."""
    register_azure()


@dg.job(
    tags=_ACCOUNTS,
    executor_def=dg.in_process_executor,
    description="Register a Google Cloud billing account. The result shows which roles to grant.",
)
def register_gcp_account() -> None:
    """Register a Google Cloud billing account."""
    register_gcp()


@dg.job(
    tags=_ACCOUNTS,
    executor_def=dg.in_process_executor,
    description="Check a registered account against the vendor's API.",
)
def confirm_account() -> None:
    """Verify a registered account."""
    confirm()


@dg.job(tags=_ACCOUNTS, executor_def=dg.in_process_executor, description="Remove a registered account and its data.")
def delete_account() -> None:
    """Remove a registered account."""
    remove()


@dg.sensor(
    minimum_interval_seconds=3_600,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks the vendors every hour about accounts that were registered within a day and are not Completed, as "
    "`octo accounts confirm` does. It requests no runs.",
)
def new_accounts(context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]) -> dg.SkipReason:
    """Confirm what was registered within a day."""
    lines = confirm_new(workspace, datetime.now(UTC))
    return dg.SkipReason("\n".join(lines) or "No account was registered within a day that is not Completed.")


jobs = [register_aws_account, register_azure_account, register_gcp_account, confirm_account, delete_account]


def _setup(account_id: str, config: CurConfig) -> aws.CurSetup:
    fields: dict[str, Any] = {name: value for name, value in vars(config).items() if value is not None}
    return replace(aws.proposed_setup(account_id), **{**fields, "kind": config.kind.value})


def _show(context: dg.OpExecutionContext, workspace: Workspace, account: Account) -> None:
    status = "Completed" if account.is_completed else "open"
    next_step = [
        action_in_dagster(step) if isinstance(step, Remedy) else step
        for step in vendors.of(account).next_step(workspace.settings, account)
    ]
    links = [line for line in next_step if line.startswith("https://")]
    context.log.info("\n".join([f"{account.title}: {status}", *next_step]))
    metadata: dict[str, Any] = {
        "account": account.account_id,
        "kind": account.kind or "not known yet",
        "status": status,
    }
    metadata |= {step: f"{at:%Y-%m-%d %H:%M} UTC" if at else "open" for step, at in account.steps.items()}
    if next_step:
        metadata["next"] = dg.MetadataValue.md(
            "\n\n".join(line if line in links else plain_markdown(line) for line in next_step)
        )
    if links:
        metadata["launch link"] = dg.MetadataValue.url(links[0])
    context.add_output_metadata(metadata)
