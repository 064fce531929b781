"""`octo users` and `octo audit`: who may change what, their tokens, and what was changed by whom."""

import json
from typing import Annotated

import typer

from octo_pipeline.cli.acting import admin
from octo_pipeline.cli.output import Output, OutputOption, print_rows

app = typer.Typer(
    help="Who may change what: viewers may only look, editors may also change rules, charges and decisions, administrators "
    "also accounts, users, secrets and deliveries. A person is known by their user name on this machine, or by the token "
    "in OCTO_TOKEN. `octo registry init` makes the first administrator.",
    no_args_is_help=True,
)

NameArgument = Annotated[
    str, typer.Argument(help="The user's name on this machine, or any name for a user with a token.")
]
GroupOption = Annotated[
    list[str] | None, typer.Option("--group", help="A cost group that a viewer is limited to; give it once for each.")
]
RoleArgument = Annotated[str, typer.Argument(help="viewer, editor or admin.")]


@app.command("list")
def list_(output: OutputOption = Output.table) -> None:
    """List the users, their roles and how many live tokens they have."""
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    users = Workspace(load_settings()).registry.users
    live = [token.user_name for token in users.tokens() if token.revoked_at is None]
    rows = [
        (u.name, u.role, ", ".join(u.cost_groups or ()), live.count(u.name), f"{u.added_at:%Y-%m-%d %H:%M}")
        for u in users.all()
    ]
    print_rows("Users", ("name", "role", "cost_groups", "tokens", "added_at"), rows, output)


@app.command()
def add(
    name: NameArgument,
    role: Annotated[str, typer.Option(help="viewer, editor or admin.")] = "viewer",
    group: GroupOption = None,
) -> None:
    """Add a user; with --group a viewer who sees nothing but these cost groups over the API."""
    from octo_pipeline.services.access import add_user
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    add_user(workspace, name, role, admin(workspace), group or None)
    only = f" and sees only {', '.join(group)}" if group else ""
    typer.echo(f"{name} is a user with the role {role}{only}.")


@app.command()
def groups(
    name: NameArgument,
    group: GroupOption = None,
    everything: Annotated[bool, typer.Option("--everything", help="They see everything again.")] = False,
) -> None:
    """Set which cost groups a viewer sees over the API: those of --group alone, or everything.

    Of a family of cost groups, its id stands for all of them. A limited viewer sees the accounts that are wholly in the
    groups. On this machine whoever may read the lake's files sees all of it.
    """
    from octo_pipeline.model.errors import OctoError
    from octo_pipeline.services.access import limit_user
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    if everything == bool(group):
        raise OctoError("Give either --group, once for each cost group, or --everything.", code="flags-missing")
    workspace = Workspace(load_settings())
    limit_user(workspace, name, group or None, admin(workspace))
    typer.echo(f"{name} sees {'only ' + ', '.join(group) if group else 'everything'}.")


@app.command()
def role(name: NameArgument, role: RoleArgument) -> None:
    """Give a user another role."""
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    workspace.registry.users.set_role(name, role, admin(workspace))
    typer.echo(f"{name} now has the role {role}.")


@app.command()
def remove(name: NameArgument) -> None:
    """Remove a user and revoke their tokens."""
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    workspace.registry.users.remove(name, admin(workspace))
    typer.echo(f"{name} is no longer a user, and their tokens are revoked.")


@app.command()
def token(
    name: NameArgument,
    label: Annotated[str, typer.Option(help="What it is for, such as 'nightly job'.")],
) -> None:
    """Create a token and print it once. Only its SHA-256 is stored."""
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    text = workspace.registry.users.make_token(name, label, admin(workspace))
    typer.echo(text)
    typer.echo(f"Whoever sets OCTO_TOKEN to it acts as {name}. It is not shown again.", err=True)


@app.command()
def tokens(output: OutputOption = Output.table) -> None:
    """List the tokens, including revoked ones."""
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    rows = [
        (t.id, t.user_name, t.label, f"{t.made_at:%Y-%m-%d %H:%M}", t.revoked_at and f"{t.revoked_at:%Y-%m-%d %H:%M}")
        for t in Workspace(load_settings()).registry.users.tokens()
    ]
    print_rows("Tokens", ("id", "user", "label", "made_at", "revoked_at"), rows, output)


@app.command()
def revoke(token_id: Annotated[str, typer.Argument(help="The token's id.")]) -> None:
    """Revoke a token; it no longer gives access."""
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    workspace.registry.users.revoke(token_id, admin(workspace))
    typer.echo(f"The token {token_id} is revoked.")


def audit(
    limit: Annotated[int, typer.Option(help="How many events at most.")] = 50,
    output: OutputOption = Output.table,
) -> None:
    """List the latest changes, newest first: when, who, what."""
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    events = Workspace(load_settings()).registry.audit(limit)
    # JSON keeps the details as values; a table and CSV have them as text.
    is_json = output is Output.json
    rows = [
        (
            e.at.isoformat() if is_json else f"{e.at:%Y-%m-%d %H:%M}",
            e.actor,
            e.action,
            e.subject,
            e.details if is_json else json.dumps(e.details, ensure_ascii=False),
        )
        for e in events
    ]
    print_rows("Audit trail", ("at", "actor", "action", "subject", "details"), rows, output)
