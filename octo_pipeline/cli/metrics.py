"""`octo metrics`: quantities from outside, such as headcount, by which allocators weigh."""

from pathlib import Path
from typing import Annotated

import typer

from octo_pipeline.cli.acting import editor
from octo_pipeline.cli.output import Output, OutputOption, print_rows
from octo_pipeline.model.months import month_range
from octo_pipeline.model.wording import counted

app = typer.Typer(help="Metrics: quantities from outside by which allocators weigh.", no_args_is_help=True)


@app.callback()
def _noun() -> None:
    """Metrics: quantities from outside by which allocators weigh."""


@app.command()
def put(
    file: Annotated[Path, typer.Argument(help="A CSV with month, quantity, and account or group or both.")],
    metric_id: Annotated[str, typer.Option("--id", help="The metric's id.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Check a CSV and save it in the configuration as the metric of this id."""
    from octo_pipeline.rules.metrics import parse_metric
    from octo_pipeline.services.documents import read
    from octo_pipeline.services.metrics import put_metric
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    actor = editor(workspace)
    # Read once, so that what is saved is what was checked.
    content = read(file)
    metric = parse_metric(content, metric_id, file=str(file))
    typer.echo(f"{metric_id}: {counted(len(metric.quantities), 'row')}{_span(sorted(metric.by_month))}.")
    if not yes:
        is_there = metric_id in workspace.configuration.metrics
        typer.confirm("Replace the metric?" if is_there else "Save it?", abort=True)
    _, target = put_metric(workspace, content, metric_id, str(file), actor)
    typer.echo(f"Saved as {target}. `octo stale` lists the months to run again.")


def _span(months: list[str]) -> str:
    """The months that have rows, and those between them that have none: nothing is distributed by the metric in them."""
    if not months:
        return ""
    missing = [month for month in month_range(months[0], months[-1]) if month not in months]
    span = months[0] if len(months) == 1 else f"{months[0]} to {months[-1]}"
    return f" of {span}" + (f", none of {', '.join(missing)}" if missing else "")


@app.command("list")
def list_(output: OutputOption = Output.table) -> None:
    """List the months of all metrics, of the configuration and of the lake."""
    from octo_pipeline.services.metrics import list_metrics
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    rows = list_metrics(Workspace(load_settings()))
    print_rows("Metrics", rows.columns, rows.rows, output)


@app.command()
def show(
    metric_id: Annotated[str, typer.Argument(metavar="ID", help="The metric's id.")],
    month: Annotated[str | None, typer.Option(help="The month, YYYY-MM; all of them if left out.")] = None,
    output: OutputOption = Output.table,
) -> None:
    """Print the rows of a metric."""
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.services.metrics import metric_rows
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    rows = metric_rows(Workspace(load_settings()), metric_id, parse_month(month) if month else None)
    print_rows(f"Metric {metric_id}", rows.columns, rows.rows, output)
