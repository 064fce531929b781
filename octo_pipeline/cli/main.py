"""Assembles the command `octo` and turns errors into sentences."""

import sys
from typing import Annotated

import typer

from octo_pipeline.cli import (
    accounts,
    allocations,
    allocators,
    backup,
    charges,
    cost_groups,
    deliveries,
    doctor,
    explain,
    export,
    metrics,
    periods,
    pipeline,
    proofs,
    rates,
    registry,
    report,
    secrets,
    serve,
    sql,
    statements,
    users,
)
from octo_pipeline.cli.output import sentence
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import plain

app = typer.Typer(
    help="Shares cloud costs that no single account caused, month by month, and proves that nothing is lost.",
    no_args_is_help=True,
    # Every command below inherits it.
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    # Help in rich's boxes takes longer to load than everything else that help needs.
    rich_markup_mode=None,
)
app.command("run")(pipeline.run)
app.command("backfill")(pipeline.backfill)
app.command("doctor")(doctor.doctor)
app.command("stale")(pipeline.stale)
app.command("proofs")(proofs.proofs)
app.command("rates")(rates.rates)
app.command("sample")(pipeline.sample)
app.command("report")(report.report)
app.command("serve")(serve.serve)
app.command("statements")(statements.statements)
app.command("sql")(sql.sql)
app.command("catalog")(sql.catalog)
app.command("audit")(users.audit)
app.command("manifest", hidden=True)(pipeline.manifest)
app.add_typer(allocations.app, name="allocations")
app.add_typer(allocators.app, name="allocators")
app.add_typer(backup.app, name="backup")
app.add_typer(charges.app, name="charges")
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(cost_groups.app, name="cost-groups")
app.add_typer(explain.app, name="explain")
app.add_typer(export.app, name="export")
app.add_typer(metrics.app, name="metrics")
app.add_typer(periods.app, name="periods")
app.add_typer(accounts.app, name="accounts")
app.add_typer(registry.app, name="registry")
app.add_typer(secrets.app, name="secrets")
app.add_typer(users.app, name="users")

_debug = False


def _print_version(is_asked_for: bool) -> None:
    if is_asked_for:
        from importlib.metadata import version

        typer.echo(f"octo {version('octo-pipeline')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options that hold for every command."""
    global _debug
    _debug = debug


def main() -> None:
    """Run the command. An error that is meant for the user becomes one sentence on stderr and exit code 1."""
    try:
        app()
    except OctoError as error:
        if _debug:
            raise
        print("\n".join(map(plain, f"octo: {sentence(error)}".splitlines())), file=sys.stderr)  # noqa: T201 - the only print to stderr
        sys.exit(1)


if __name__ == "__main__":
    main()
