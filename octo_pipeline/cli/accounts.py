"""`octo accounts`: the registered accounts, and what each account pays."""

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octo_pipeline.cli import register
from octo_pipeline.cli.acting import admin
from octo_pipeline.cli.output import Output, OutputOption, print_rows
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import amount, counted, cut

if TYPE_CHECKING:
    from octo_pipeline.registry.records import Account, Actor
    from octo_pipeline.services.accounts import Removed
    from octo_pipeline.workspace import Workspace

app = typer.Typer(help="Accounts: registered ones, and what each pays.", no_args_is_help=True)
app.add_typer(register.app, name="register")

# Tables must fit into 100 characters, so they have fewer columns with shorter names; json and csv have all.
_COSTS_COLUMNS = {
    "owner_id": "account",
    "currency": "currency",
    "billed": "billed",
    "allocated_out": "moved_out",
    "allocated_in": "moved_in",
    "steps": "steps",
    "corrections": "corrected",
    "final_cost": "final_cost",
    "amortised_final_cost": "amortised",
}
_LIST_COLUMNS = ("vendor", "id", "name", "kind", "payer", "API", "PAYER", "CUR", "status", "last_delivery", "problem")
# Ids are never cut, and Azure's have 36 characters. So a table shows the steps as one word and cuts long names.
_LIST_TABLE_COLUMNS = ("vendor", "id", "name", "kind", "status", "last")
_NAME_WIDTH = 16

AccountArgument = Annotated[str, typer.Argument(help="The account's id or name.")]
VendorOption = Annotated[
    str | None, typer.Option(help="aws, azure or gcp, if several vendors have an account with this id or name.")
]


@app.callback()
def _noun() -> None:
    """Accounts: registered ones, and what each pays."""


@app.command("list")
def list_(output: OutputOption = Output.table) -> None:
    """List the registered accounts, the state of their registration, and when they last delivered."""
    from octo_pipeline.services.accounts import listed
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    rows = []
    for entry in listed(Workspace(load_settings())):
        last = f"{entry.last_delivery:%Y-%m-%d}" if entry.last_delivery else None
        if output is Output.table:
            rows.append(_table_row(entry.account, last))
        else:
            values = entry.values | {"last_delivery": last}
            rows.append([values[column] for column in _LIST_COLUMNS])
    print_rows("Registered accounts", _LIST_TABLE_COLUMNS if output is Output.table else _LIST_COLUMNS, rows, output)


def _table_row(account: "Account", last: str | None) -> list[Any]:
    name = account.name or ""
    short = cut(name, _NAME_WIDTH)
    kind = "billing" if account.kind == "billing_account" else account.kind
    open_step = next((step for step, at in account.steps.items() if not at), None)
    status = "Completed" if account.is_completed else f"{open_step or 'kind'} open"
    return [account.vendor, account.account_id, short, kind, status, last]


@app.command()
def show(account: AccountArgument, vendor: VendorOption = None) -> None:
    """Show what is known about an account, and what to do next. Secrets are never shown."""
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    registered = workspace.registry.accounts.find(account, vendor)
    register.print_account(registered)
    typer.echo(f"Registered {registered.registered_at:%Y-%m-%d %H:%M} UTC.")
    if registered.payer_id:
        typer.echo(f"Its payer is {registered.payer_id}.")
    for step, at in registered.steps.items():
        if at:
            typer.echo(f"{step} was confirmed {at:%Y-%m-%d %H:%M} UTC.")
    for group, values in registered.settings.items():
        if isinstance(values, dict) and group != "source":
            typer.echo(f"{group}: " + ", ".join(_setting(name, value) for name, value in values.items()))
    register.print_next_step(workspace, registered, open_link=False)


def _setting(name: str, value: object) -> str:
    text = ("no", "yes")[value] if isinstance(value, bool) else value
    return f"{name.replace('_', ' ')} {text}"


@app.command()
def confirm(
    account: AccountArgument,
    vendor: VendorOption = None,
    linked: Annotated[bool, typer.Option("--linked", help="Confirm the payer's linked accounts instead.")] = False,
) -> None:
    """Check an account's steps against the vendor's API; fails with the reason if a step is wrong."""
    from octo_pipeline.services import registration as vendors
    from octo_pipeline.services.registering import confirm_linked
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    actor = admin(workspace)
    registered = workspace.registry.accounts.find(account, vendor)
    problems = []
    confirm_one = vendors.of(registered).confirm
    for confirmed in (
        confirm_linked(workspace, actor, registered) if linked else [confirm_one(workspace, actor, registered)]
    ):
        if confirmed.problem:
            problems.append(confirmed.problem)
        else:
            register.print_account(confirmed)
            if not linked:
                register.print_next_step(workspace, confirmed, open_link=False)
    if problems:
        raise OctoError("\n".join(problems), code="account-not-verified")


@app.command("sign-in")
def sign_in(
    account: AccountArgument,
    paste: Annotated[bool, typer.Option("--paste", help="Paste the address that the browser ended at.")] = False,
    open_link: register.OpenOption = False,
) -> None:
    """Azure: sign in to the partner API in a browser, then confirm."""
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    actor = admin(workspace)
    partner = workspace.registry.accounts.find(account, "azure")
    register.sign_in(workspace, actor, partner, open_link=open_link, paste=paste)


@app.command()
def edit(
    account: AccountArgument,
    vendor: VendorOption = None,
    name: register.NameOption = None,
    payer: register.PayerOption = None,
    report: register.ReportOption = None,
    kind: register.KindOption = None,
    bucket: register.BucketOption = None,
    prefix: register.PrefixOption = None,
    region: register.RegionOption = None,
    new_report: register.MakeReportOption = None,
    new_bucket: register.MakeBucketOption = None,
    api: Annotated[
        bool, typer.Option("--api", help="AWS: set up API access again, with a new ExternalId and launch link.")
    ] = False,
    open_link: register.OpenOption = False,
) -> None:
    """Change an account's name or settings; without flags, octo asks for each."""
    from octo_pipeline.services.registering import AccountChanges, change_account
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    actor = admin(workspace)
    edited = workspace.registry.accounts.find(account, vendor)
    report_fields = register.cur_values(report, kind, bucket, prefix, region, new_report, new_bucket)
    if name is None and payer is None and not report_fields and not api:
        edited = _edit_by_prompts(workspace, actor, edited)
    else:
        changes = AccountChanges(name, payer, report_fields, has_new_access=api)
        edited = change_account(workspace, actor, edited, changes)
    register.print_account(edited)
    register.print_next_step(workspace, edited, open_link)


def _edit_by_prompts(workspace: "Workspace", actor: "Actor", account: "Account") -> "Account":
    from octo_pipeline.services.accounts import rename
    from octo_pipeline.vendors.aws import registration as steps
    from octo_pipeline.vendors.azure import registration as azure
    from octo_pipeline.vendors.gcp import registration as gcp

    name = typer.prompt("Name (optional)", default=account.name or "").strip() or None
    if name != account.name:
        account = rename(workspace, actor, account, name)
    if account.kind == "linked":
        payer = typer.prompt("Payer's account id", default=account.payer_id or "").strip()
        if payer != (account.payer_id or ""):
            account = steps.set_payer(workspace, actor, account, payer)
    if account.kind == "payer" and typer.confirm("Set up the report and its bucket again", default=False):
        setup = register.ask_setup(steps.setup_of(account))
        account = steps.set_up_cur(workspace, actor, account, setup)
    if account.vendor == "azure" and typer.confirm("Enter the secret keys again", default=False):
        center, api = register.ask_secret("Partner Center"), register.ask_secret("Partner API")
        account = azure.set_secrets(workspace, actor, account, center, api)
    if account.vendor == "gcp" and typer.confirm("Set up the export again", default=False):
        project, dataset, region = register.ask_export(account.settings["export"])
        account = gcp.set_up_export(workspace, actor, account, project, dataset, region)
    return account


@app.command()
def delete(
    account: AccountArgument,
    vendor: VendorOption = None,
    keep_data: Annotated[bool, typer.Option("--keep-data", help="Leave deliveries, costs and decisions.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove an account with its deliveries, costs and restores."""
    from octo_pipeline.automation.recorded import recorded_as_run_of
    from octo_pipeline.services import registration as vendors
    from octo_pipeline.services.accounts import Removed
    from octo_pipeline.services.accounts import delete as delete_account
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    actor = admin(workspace)
    removed = workspace.registry.accounts.find(account, vendor)
    if not yes:
        typer.confirm(f"Remove {removed.title}{'' if keep_data else ' with all its data'}?", abort=True)
    removal = delete_account(workspace, actor, removed, keeps_data=keep_data)
    config = {"account": removed.account_id, "vendor": removed.vendor, "keep_data": keep_data}
    cause = {"action": f"{removed.title} was removed", "actor": actor}
    for event in recorded_as_run_of(workspace, "delete_account", config, [], removal, cause):
        if isinstance(event, Removed):
            _print_removed(removed, event, keep_data)
    for line in vendors.of(removed).left_behind(removed):
        typer.echo(line)


def _print_removed(account: "Account", removed: "Removed", keep_data: bool) -> None:
    typer.echo(f"Removed {account.title}.")
    if account.payer_id and not keep_data:
        typer.echo(f"Its costs are part of the bill of {account.payer_id} and stay.")
    if removed.deliveries or removed.months:
        months = ", ".join(removed.months) or "no month"
        deliveries = f"{removed.deliveries} deliver{'y was' if removed.deliveries == 1 else 'ies were'} removed"
        typer.echo(f"{deliveries}, and the line items of {months} were made again without them.")
    if removed.kept_months:
        typer.echo(
            f"Its deliveries of {', '.join(removed.kept_months)} stay, because what was invoiced for closed months rests on them."
        )
    if removed.reapplied:
        typer.echo(f"{counted(removed.reapplied, 'restored item')} re-applied.")
    if removed.months or removed.reapplied:
        typer.echo("`octo stale` lists the months to run again.")


@app.command()
def costs(
    month: Annotated[str, typer.Option(help="The month, YYYY-MM; with --from, the last month of the range.")],
    first: Annotated[str | None, typer.Option("--from", help="With --account: the first month of a range.")] = None,
    account: Annotated[str | None, typer.Option(help="Only this account's id: a row for each month.")] = None,
    output: OutputOption = Output.table,
) -> None:
    """List what each account was billed, what was moved away from it and to it, and what it pays."""
    if account is not None or first is not None:
        _print_costs_over_months(account, first or month, month, output)
        return
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.model.rows import Rows
    from octo_pipeline.services.costs import account_costs, prepayments
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    costs = account_costs(workspace, parse_month(month))
    if output is Output.table:
        # A month that was made before there were steps and corrections has none.
        net = {
            name: [(into or Decimal(0)) - (out or 0) for into, out in costs.select(f"{part}_in", f"{part}_out")]
            for name, part in (("steps", "step"), ("corrections", "corrections"))
        }
        with_net = tuple((*row, *amounts) for row, *amounts in zip(costs.rows, *net.values(), strict=True))
        columns = {name: label for name, label in _COSTS_COLUMNS.items() if name not in net or any(net[name])}
        rows = Rows((*costs.columns, *net), with_net).select(*columns)
        print_rows(f"Account costs of {month}", tuple(columns.values()), rows + _totals(rows), output)
        for currency, opening, billed, booked, closing in prepayments(workspace, parse_month(month)).select(
            "currency", "opening", "billed", "booked", "closing"
        ):
            typer.echo(
                f"Prepayments: {amount(opening, currency)} due later at the start + {amount(billed)} billed - "
                f"{amount(booked)} booked = {amount(closing, currency)} due later at the end."
            )
    else:
        print_rows("", costs.columns, costs.rows, output)


def _print_costs_over_months(account: str | None, first: str, last: str, output: Output) -> None:
    from octo_pipeline.model.months import month_range, parse_month
    from octo_pipeline.services.costs import account_costs_over_months
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    if account is None:
        raise OctoError("--from needs --account: the costs of all accounts are of one month.", code="flags-missing")
    months = month_range(parse_month(first), parse_month(last))
    if not months:
        raise OctoError(f"--from {first} is after --month {last}.", code="months-reversed")
    rows = account_costs_over_months(Workspace(load_settings()), account, months)
    print_rows(f"Costs of {account}", rows.columns, rows.rows, output)


def _totals(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """A row per currency with the sums of the amounts."""
    amounts: dict[str, list[tuple[Any, ...]]] = {}
    for _, currency, *sums in rows:
        amounts.setdefault(currency, []).append(tuple(sums))
    return [("total", currency, *map(sum, zip(*amounts[currency], strict=True))) for currency in sorted(amounts)]
