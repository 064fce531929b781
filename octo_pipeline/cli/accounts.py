"""`octo accounts`: the registered accounts, and what each account pays."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from octo_pipeline.cli import register
from octo_pipeline.cli.acting import admin
from octo_pipeline.cli.output import Output, OutputOption, print_rows
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import counted, cut

if TYPE_CHECKING:
    from octo_pipeline.registry.records import Account, Actor
    from octo_pipeline.services.accounts import Removed
    from octo_pipeline.workspace import Workspace

app = typer.Typer(help="Accounts: registered ones, and what each pays.", no_args_is_help=True)
app.add_typer(register.app, name="register")

# A table for people has 100 columns: fewer of ours, under shorter names; json and csv have all.
_SHOWN = {
    "account": "account",
    "currency": "currency",
    "billed": "billed",
    "allocated_out": "moved_out",
    "allocated_in": "moved_in",
    "final_cost": "final_cost",
    "amortised_final_cost": "amortised",
}
_LISTED = ("vendor", "id", "name", "kind", "payer", "API", "PAYER", "CUR", "status", "last_delivery", "problem")
# An id is never cut, and one of Azure has 36 characters: the steps become one word, a long name ends in dots.
_LISTED_TO_PEOPLE = ("vendor", "id", "name", "kind", "status", "last")
_NAME_WIDTH = 16

AccountArgument = Annotated[str, typer.Argument(help="The account's id or name.")]
VendorOption = Annotated[str | None, typer.Option(help="aws, azure or gcp, if several have the account.")]


@app.callback()
def _noun() -> None:
    """Accounts: registered ones, and what each pays."""


@app.command("list")
def list_(output: OutputOption = Output.table) -> None:
    """List the registered accounts, how far their registration is, and when they last delivered."""
    from octo_pipeline.services.accounts import listed
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    rows = []
    for one in listed(Workspace(load_settings())):
        last = f"{one.last_delivery:%Y-%m-%d}" if one.last_delivery else None
        row = _listed_row(one.account) | {"last_delivery": last}
        rows.append(_listed_to_people(one.account, last) if output is Output.table else [row[c] for c in _LISTED])
    print_rows("Registered accounts", _LISTED_TO_PEOPLE if output is Output.table else _LISTED, rows, output)


def _listed_to_people(account: "Account", last: str | None) -> list[Any]:
    name = account.name or ""
    short = cut(name, _NAME_WIDTH)
    kind = "billing" if account.kind == "billing_account" else account.kind
    open_step = next((step for step, at in account.steps.items() if not at), None)
    status = "Completed" if account.is_completed else f"{open_step or 'kind'} open"
    return [account.vendor, account.account_id, short, kind, status, last]


def _listed_row(account: "Account") -> dict[str, Any]:
    steps = {step: "Completed" if at else "open" for step, at in account.steps.items()}
    return {
        "vendor": account.vendor,
        "id": account.account_id,
        "name": account.name,
        "kind": account.kind,
        # A payer is its own payer.
        "payer": account.account_id if account.kind == "payer" else account.payer_id,
        "API": steps.get("API", ""),
        "PAYER": steps.get("PAYER", ""),
        "CUR": steps.get("CUR", ""),
        "status": "Completed" if account.is_completed else "open",
        "problem": account.problem,
    }


@app.command()
def show(account: AccountArgument, vendor: VendorOption = None) -> None:
    """Show what is known of an account, and what is to be done next. Secrets are never shown."""
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    found = workspace.registry.accounts.find(account, vendor)
    register.print_account(found)
    typer.echo(f"Registered {found.registered_at:%Y-%m-%d %H:%M} UTC.")
    if found.payer_id:
        typer.echo(f"Its payer is {found.payer_id}.")
    for step, at in found.steps.items():
        if at:
            typer.echo(f"{step} was confirmed {at:%Y-%m-%d %H:%M} UTC.")
    for group, values in found.settings.items():
        if isinstance(values, dict) and group != "source":
            typer.echo(f"{group}: " + ", ".join(_setting(name, value) for name, value in values.items()))
    register.print_next_step(workspace, found, open_link=False)


def _setting(name: str, value: object) -> str:
    said = ("no", "yes")[value] if isinstance(value, bool) else value
    return f"{name.replace('_', ' ')} {said}"


@app.command()
def confirm(
    account: AccountArgument,
    vendor: VendorOption = None,
    linked: Annotated[bool, typer.Option("--linked", help="Confirm the payer's linked accounts instead.")] = False,
) -> None:
    """Verify an account's steps for real; fails with the reason if one is not right."""
    from octo_pipeline.services import registration as vendors
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    actor = admin(workspace)
    found = workspace.registry.accounts.find(account, vendor)
    chosen = _linked_of(workspace, found) if linked else [found]
    problems = []
    for one in chosen:
        confirmed = vendors.of(one).confirm(workspace, actor, one)
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
    paste: Annotated[bool, typer.Option("--paste", help="Paste the address the browser came back to.")] = False,
    open_link: register.OpenOption = False,
) -> None:
    """Azure: sign in to the partner API in a browser, then confirm."""
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    actor = admin(workspace)
    found = workspace.registry.accounts.find(account, "azure")
    register.sign_in(workspace, actor, found, open_link=open_link, paste=paste)


def _linked_of(workspace: "Workspace", payer: "Account") -> "list[Account]":
    found = [
        one
        for one in workspace.registry.accounts.all()
        if one.vendor == payer.vendor and one.payer_id == payer.account_id
    ]
    if not found:
        raise OctoError(
            f"No linked account of {payer.account_id} is registered. `octo accounts register aws --linked-of "
            f"{payer.account_id}` registers them all.",
            code="no-linked-account",
        )
    return found


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
        bool, typer.Option("--api", help="AWS: set API access up anew, with a new ExternalId and launch link.")
    ] = False,
    open_link: register.OpenOption = False,
) -> None:
    """Change an account's name or settings; without flags, everything is asked."""
    from octo_pipeline.services.accounts import rename
    from octo_pipeline.settings import load_settings
    from octo_pipeline.vendors.aws import registration as steps
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    actor = admin(workspace)
    found = workspace.registry.accounts.find(account, vendor)
    given = register.cur_values(report, kind, bucket, prefix, region, new_report, new_bucket)
    if (payer is not None or given or api) and found.vendor != "aws":
        raise OctoError(
            f"{found.account_id} is an account of {found.vendor}; these settings are of AWS accounts.",
            code="settings-of-another-vendor",
        )
    if name is None and payer is None and not given and not api:
        found = _edit_by_prompts(workspace, actor, found)
    if name is not None:
        found = rename(workspace, actor, found, name.strip() or None)
    if api:
        found = steps.set_up_api_access(workspace, actor, found)
    if payer is not None:
        found = steps.set_payer(workspace, actor, found, payer)
    if given:
        found = register.set_up_cur(workspace, actor, found, given)
    register.print_account(found)
    register.print_next_step(workspace, found, open_link)


def _edit_by_prompts(workspace: "Workspace", actor: "Actor", found: "Account") -> "Account":
    from octo_pipeline.services.accounts import rename
    from octo_pipeline.vendors.aws import registration as steps
    from octo_pipeline.vendors.azure import registration as azure
    from octo_pipeline.vendors.gcp import registration as gcp

    name = typer.prompt("Name (optional)", default=found.name or "").strip() or None
    if name != found.name:
        found = rename(workspace, actor, found, name)
    if found.kind == "linked":
        payer = typer.prompt("Payer's account id", default=found.payer_id or "").strip()
        if payer != (found.payer_id or ""):
            found = steps.set_payer(workspace, actor, found, payer)
    if found.kind == "payer" and typer.confirm("Set up report and bucket anew", default=False):
        setup = register.ask_setup(steps.setup_of(found))
        found = steps.set_up_cur(workspace, actor, found, setup)
    if found.vendor == "azure" and typer.confirm("Enter the secret keys anew", default=False):
        center, api = register.ask_secret("Partner Center"), register.ask_secret("Partner API")
        found = azure.set_secrets(workspace, actor, found, center, api)
    if found.vendor == "gcp" and typer.confirm("Set up the export anew", default=False):
        place = register.ask_export(found.settings["export"])
        found = gcp.set_up_export(workspace, actor, found, *place)
    return found


@app.command()
def delete(
    account: AccountArgument,
    vendor: VendorOption = None,
    keep_data: Annotated[bool, typer.Option("--keep-data", help="Leave deliveries, costs and decisions.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove an account, and its deliveries, costs and restores with it."""
    from octo_pipeline.cli.recorded import recorded_without_run
    from octo_pipeline.services.accounts import Removed
    from octo_pipeline.services.accounts import delete as delete_account
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    actor = admin(workspace)
    found = workspace.registry.accounts.find(account, vendor)
    if not yes:
        typer.confirm(f"Remove {found.title}{'' if keep_data else ' with all its data'}?", abort=True)
    removal = delete_account(workspace, actor, found, keeps_data=keep_data)
    for event in recorded_without_run(workspace, removal):
        if isinstance(event, Removed):
            _print_removed(found, event, keep_data)


def _print_removed(account: "Account", removed: "Removed", keep_data: bool) -> None:
    typer.echo(f"Removed {account.title}.")
    if account.payer_id and not keep_data:
        typer.echo(f"Its costs are part of the bill of {account.payer_id} and stay.")
    if removed.deliveries or removed.months:
        months = ", ".join(removed.months) or "no month"
        typer.echo(f"{removed.deliveries} deliveries are gone, and the line items of {months} were made without them.")
    if removed.reapplied:
        typer.echo(f"{counted(removed.reapplied, 'restored item')} re-applied.")
    if removed.months or removed.reapplied:
        typer.echo("`octo stale` lists what is to be run again.")


@app.command()
def costs(
    month: Annotated[str, typer.Option(help="The month, YYYY-MM.")],
    output: OutputOption = Output.table,
) -> None:
    """List what each account was billed, what was moved from and to it, and what it pays."""
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.services.costs import account_costs
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    costs = account_costs(Workspace(load_settings()), parse_month(month))
    if output is Output.table:
        rows = costs.select(*_SHOWN)
        print_rows(f"Account costs of {month}", tuple(_SHOWN.values()), rows + _totals(rows), output)
    else:
        print_rows("", costs.columns, costs.rows, output)


def _totals(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """A row per currency with the sums of the amounts."""
    amounts: dict[str, list[tuple[Any, ...]]] = {}
    for _, currency, *sums in rows:
        amounts.setdefault(currency, []).append(tuple(sums))
    return [("total", currency, *map(sum, zip(*amounts[currency], strict=True))) for currency in sorted(amounts)]
