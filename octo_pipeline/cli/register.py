"""`octo accounts register`: the steps of each vendor, by prompts or by flags."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octo_pipeline.cli.acting import admin
from octo_pipeline.cli.output import advice
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.wording import counted

if TYPE_CHECKING:
    from octo_pipeline.registry.records import Account, Actor
    from octo_pipeline.vendors.aws.registration import CurSetup
    from octo_pipeline.workspace import Workspace

app = typer.Typer(help="Register an account of a vendor.", no_args_is_help=True)


@app.callback()
def _noun() -> None:
    """Register an account of a vendor."""


class ReportKind(StrEnum):
    """The kinds of reports, as AWS names them."""

    cur = "cur"
    data_export = "data_export"


NameOption = Annotated[str | None, typer.Option(help="What you call it; no two accounts of a vendor share a name.")]
PayerOption = Annotated[str | None, typer.Option(help="The payer of a linked account; detected if left out.")]
OpenOption = Annotated[bool, typer.Option("--open", help="Open the launch link in the browser.")]
ReportOption = Annotated[str | None, typer.Option("--cur-report", help="Payer: name of the report or export.")]
KindOption = Annotated[ReportKind | None, typer.Option("--cur-kind", help="Payer: legacy report or Data Export.")]
BucketOption = Annotated[str | None, typer.Option("--cur-bucket", help="Payer: the report's bucket.")]
PrefixOption = Annotated[str | None, typer.Option("--cur-prefix", help="Payer: the report's folder in the bucket.")]
RegionOption = Annotated[str | None, typer.Option("--cur-region", help="Payer: region of an existing bucket.")]
MakeReportOption = Annotated[
    bool | None, typer.Option("--new-report/--existing-report", help="Payer: whether the stack makes the report.")
]
MakeBucketOption = Annotated[
    bool | None, typer.Option("--new-bucket/--existing-bucket", help="Payer: whether the stack makes the bucket.")
]


@app.command()
def aws(
    account_id: Annotated[
        str | None, typer.Option("--id", help="The 12-digit account id; without it, octo asks for each step.")
    ] = None,
    name: NameOption = None,
    payer: PayerOption = None,
    report: ReportOption = None,
    kind: KindOption = None,
    bucket: BucketOption = None,
    prefix: PrefixOption = None,
    region: RegionOption = None,
    new_report: MakeReportOption = None,
    new_bucket: MakeBucketOption = None,
    linked_of: Annotated[
        str | None, typer.Option(help="Instead of one account: all linked accounts of this confirmed payer.")
    ] = None,
    open_link: OpenOption = False,
) -> None:
    """Register an AWS account: access to its API, and a payer's report."""
    from octo_pipeline.services.registering import register_aws
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    report_fields = cur_values(report, kind, bucket, prefix, region, new_report, new_bucket)
    if linked_of is not None:
        if account_id is not None or name is not None or payer is not None or report_fields:
            raise OctoError(
                "--linked-of registers all linked accounts of a payer and can only be combined with --open.",
                code="flags-do-not-go-together",
            )
        _register_linked(workspace, linked_of, open_link)
    elif account_id is None:
        if name is not None or payer is not None or report_fields:
            raise OctoError("Say which account the flags are about: --id and its 12 digits.", code="account-id-missing")
        _by_prompts(workspace, open_link)
    else:
        account = register_aws(workspace, admin(workspace), account_id, name, payer, report_fields)
        typer.echo(f"Registered {account.title}.")
        print_next_step(workspace, account, open_link)


@app.command()
def azure(
    partner_id: Annotated[
        str | None, typer.Option(help="The Microsoft Partner ID; without it, octo asks for each step.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="The partner's tenant id.")] = None,
    name: NameOption = None,
    center_application: Annotated[str | None, typer.Option(help="Partner Center: application (client) id.")] = None,
    center_secret: Annotated[
        str | None, typer.Option("--center-secret-variable", help="Name of the variable with its secret key.")
    ] = None,
    api_application: Annotated[str | None, typer.Option(help="Partner API: application (client) id.")] = None,
    api_secret: Annotated[
        str | None, typer.Option("--api-secret-variable", help="Name of the variable with its secret key.")
    ] = None,
    currency: Annotated[
        str, typer.Option(help="The currencies in which the partner is billed, separated by commas.")
    ] = "USD",
) -> None:
    """Register an Azure partner (CSP) and its applications. The next step is `octo accounts sign-in`."""
    from octo_pipeline.settings import load_settings
    from octo_pipeline.vendors.azure import registration as steps
    from octo_pipeline.workspace import Workspace

    flags = [tenant, center_application, center_secret, api_application, api_secret]
    asks = partner_id is None
    if asks and any(flag is not None for flag in flags):
        raise OctoError("Say which partner the flags are about: --partner-id.", code="account-id-missing")
    if not asks and any(flag is None for flag in flags):
        raise OctoError(
            "--partner-id needs --tenant, --center-application, --center-secret-variable, --api-application and "
            "--api-secret-variable.",
            code="flags-missing",
        )
    workspace = Workspace(load_settings())
    actor = admin(workspace)
    partner_id = partner_id or typer.prompt("Microsoft Partner ID").strip()
    tenant = tenant or typer.prompt("Tenant id").strip()
    center = _application(steps, "Partner Center", center_application, center_secret)
    api = _application(steps, "Partner API", api_application, api_secret)
    currencies = tuple(code.strip() for code in currency.split(","))
    account = steps.register(workspace, actor, partner_id, tenant, center, api, currencies, name)
    typer.echo(f"Registered {account.title}.")
    if asks:
        sign_in(workspace, actor, account, open_link=False, paste=False)
    else:
        print_next_step(workspace, account, open_link=False)


def _application(steps: Any, what: str, application: str | None, variable: str | None) -> Any:
    """An application from flags, with its secret key from the environment; or from prompts that do not echo the key."""
    import os

    if application is None or variable is None:
        application = typer.prompt(f"{what}: application (client) id").strip()
        return steps.Application(application, ask_secret(what))
    return steps.application_from(os.environ, what, application, variable)


def ask_secret(what: str) -> Any:
    """Ask for an application's secret key; it is not echoed."""
    from pydantic import SecretStr

    return SecretStr(typer.prompt(f"{what}: secret key", hide_input=True))


def sign_in(workspace: "Workspace", actor: "Actor", account: "Account", *, open_link: bool, paste: bool) -> None:
    """Sign in to the partner API in a browser on this machine, or in any browser by pasting the address it ended at."""
    from octo_pipeline.vendors.azure import registration as steps
    from octo_pipeline.vendors.azure.redirect import listening

    redirect_uri = workspace.settings.azure_redirect_uri

    def begun() -> Any:
        flow = steps.begin_sign_in(workspace, account, redirect_uri)
        typer.echo("Open this link and sign in to the partner's tenant:")
        typer.echo(flow.url)
        if open_link:
            typer.launch(flow.url)
        return flow

    if paste:
        flow = begun()
        response = steps.response_of(typer.prompt("Address that the browser ended at", hide_input=True))
    else:
        with listening(redirect_uri) as redirect:
            flow = begun()
            response = dict(redirect.wait(flow.state))
    steps.finish_sign_in(workspace, actor, account, flow, response)
    account = steps.confirm(workspace, actor, account)
    if account.problem:
        raise OctoError(
            f"The sign-in is saved, but the account could not be confirmed. {account.problem}",
            code="account-not-verified",
        )
    print_account(account)


@app.command()
def gcp(
    account_id: Annotated[
        str | None, typer.Option("--id", help="The billing account id; without it, octo asks for each step.")
    ] = None,
    name: NameOption = None,
    project: Annotated[str | None, typer.Option(help="Id of the project that hosts the dataset.")] = None,
    dataset: Annotated[str | None, typer.Option(help="The dataset that Cloud Billing exports to.")] = None,
    region: Annotated[str | None, typer.Option(help="The dataset's location, such as EU.")] = None,
) -> None:
    """Register a Google Cloud billing account and show which roles to grant."""
    from octo_pipeline.settings import load_settings
    from octo_pipeline.vendors.gcp import registration as steps
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    if account_id is None:
        if name is not None or project is not None or dataset is not None or region is not None:
            raise OctoError(
                "Say which account the flags are about: --id and its billing account id.", code="account-id-missing"
            )
        actor = admin(workspace)
        account_id = typer.prompt("Billing account id").strip()
        name = typer.prompt("Name (optional)", default="", show_default=False).strip() or None
        project, dataset, region = ask_export({})
    elif project is None or dataset is None or region is None:
        raise OctoError(
            "--id needs --project, --dataset and --region, which say where the account's billing export is.",
            code="flags-missing",
        )
    else:
        actor = admin(workspace)
    account = steps.register(workspace, actor, account_id, project, dataset, region, name)
    typer.echo(f"Registered {account.title}.")
    print_next_step(workspace, account, open_link=False)


def ask_export(known: dict[str, Any]) -> tuple[str, str, str]:
    """Ask for the project, dataset and region of a billing account's export, with what is known as the default."""
    project, dataset, region = (
        typer.prompt(what, default=known.get(name)).strip()
        for what, name in (("Project id", "project"), ("Dataset name", "dataset"), ("Dataset region", "region"))
    )
    return project, dataset, region


def cur_values(
    report: str | None,
    kind: ReportKind | None,
    bucket: str | None,
    prefix: str | None,
    region: str | None,
    new_report: bool | None,
    new_bucket: bool | None,
) -> dict[str, Any]:
    """The fields of `CurSetup` that the flags set."""
    values = {
        "report": report,
        "kind": kind.value if kind else None,
        "bucket": bucket,
        "prefix": prefix,
        "region": region,
        "makes_report": new_report,
        "makes_bucket": new_bucket,
    }
    return {field: value for field, value in values.items() if value is not None}


def print_next_step(workspace: "Workspace", account: "Account", open_link: bool) -> None:
    """Print what to do next and, if asked to, open its link in the browser."""
    from octo_pipeline.services import registration as vendors
    from octo_pipeline.vendors.vendor import Link

    steps = vendors.of(account).next_step(workspace.settings, account)
    for step in steps:
        typer.echo(advice([step]) if isinstance(step, Remedy) else step)
    for step in steps:
        if open_link and isinstance(step, Link):
            typer.launch(step)


def print_account(account: "Account") -> None:
    """Print an account's kind, status and steps in a sentence, and its problem if it has one."""
    steps = ", ".join(f"{step} {'Completed' if at else 'open'}" for step, at in account.steps.items())
    kind = f"a {account.kind.removesuffix('_account')} account" if account.kind else "of a kind that is not known yet"
    status = "Completed" if account.is_completed else "not Completed"
    title = account.title
    typer.echo(f"{title[0].upper()}{title[1:]} is {kind} and {status}: {steps}.")
    if account.problem:
        typer.echo(f"Problem: {account.problem}")


def ask_setup(setup: "CurSetup") -> "CurSetup":
    """Ask for a payer's report and bucket, with `setup` as the defaults."""
    from octo_pipeline.vendors.aws.registration import CurSetup

    makes_report = typer.confirm("Create a new report", default=setup.makes_report)
    kind = typer.prompt("Kind, cur or data_export", default=setup.kind)
    if kind not in list(ReportKind):
        raise OctoError(
            f"{kind!r} is not a kind of report; it must be {' or '.join(ReportKind)}.", code="report-kind-unknown"
        )
    report = typer.prompt("Name of the report", default=setup.report)
    makes_bucket = typer.confirm("Create a new bucket", default=setup.makes_bucket)
    bucket = typer.prompt("Name of the bucket", default=setup.bucket)
    prefix = typer.prompt("Prefix in the bucket", default=setup.prefix)
    region = setup.region if makes_bucket else typer.prompt("Region of the bucket", default=setup.region)
    return CurSetup(bucket, report, prefix, region, kind, makes_report, makes_bucket)


def _by_prompts(workspace: "Workspace", open_link: bool) -> None:
    """Register an account step by step. Each step is saved, so that the rest can be done another day."""
    from octo_pipeline.vendors.aws import registration as steps

    actor = admin(workspace)
    account_id = typer.prompt("AWS account id (12 digits)").strip()
    name = typer.prompt("Name (optional)", default="", show_default=False).strip() or None
    account = steps.register(workspace, actor, account_id, name)
    print_next_step(workspace, account, open_link)
    account = _confirm_until(workspace, actor, account, "API")
    if account.kind == "payer" and account.api_confirmed_at and "cur" not in account.settings:
        setup = ask_setup(steps.setup_of(account))
        account = steps.set_up_cur(workspace, actor, account, setup)
        print_next_step(workspace, account, open_link)
        account = _confirm_until(workspace, actor, account, "CUR")
    if not account.is_completed:
        typer.echo(f"These steps are saved. Continue with `octo accounts confirm {account.account_id}`.")


def _confirm_until(workspace: "Workspace", actor: "Actor", account: "Account", step: str) -> "Account":
    """Confirm each time the person says that the stack exists."""
    from octo_pipeline.vendors.aws import registration as steps

    while not account.steps.get(step) and typer.confirm("Is the stack created? Confirm it now", default=True):  # type: ignore[call-overload]
        account = steps.confirm(workspace, actor, account)
        print_account(account)
        if step == "API" and account.api_confirmed_at:
            break
    return account


def _register_linked(workspace: "Workspace", payer: str, open_link: bool) -> None:
    from octo_pipeline.vendors.aws import registration as steps

    actor = admin(workspace)
    payer_account = workspace.registry.accounts.find(payer, "aws")
    added, link = steps.register_linked(workspace, actor, payer_account)
    for account in added:
        typer.echo(f"Registered {account.title}.")
    typer.echo(
        f"Registered {counted(len(added), 'new linked account')} of {payer_account.account_id}. Sign in to "
        f"{payer_account.account_id}, open this link, leave the parameters as they are and create the stack. It creates "
        "the role in all linked accounts. If the stack is there already, nothing is to be done: it reaches new accounts too."
    )
    typer.echo(link)
    typer.echo(f"Then run `octo accounts confirm {payer_account.account_id} --linked`.")
    if open_link:
        typer.launch(link)
