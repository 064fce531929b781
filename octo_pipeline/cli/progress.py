"""Shows months while they are made: a line that counts the steps, then what was written and what was not."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from octo_pipeline.automation.recorded import recorded_as_run
from octo_pipeline.cli.failures import raise_for_failures
from octo_pipeline.cli.output import sentence
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import counted, plain
from octo_pipeline.services.months import (
    Event,
    Failed,
    Landed,
    MonthDone,
    Skipped,
    Started,
    all_steps,
    make_months,
    make_months_side_by_side,
    require_months,
)
from octo_pipeline.services.sources import NewAccountError
from octo_pipeline.tables.dbt import manifest_path
from octo_pipeline.tables.table import Materialised
from octo_pipeline.workspace import Workspace


def show_months(
    workspace: Workspace, months: Sequence[str], folders: Mapping[str, Path] | None = None, workers: int = 1
) -> list[MonthDone]:
    """Bring months up to date and show progress. A month that fails does not stop the others.

    Args:
        workspace: whose lake and sources.
        months: in the order in which they are made.
        folders: vendor -> folder of exports to land instead of what the configured sources offer.
        workers: how many processes.

    Raises:
        OctoError: a month is outside of the lake's range, the settings do not say where decisions are kept, a step
            failed, or a source did not answer. In the last two cases everything else was made.
    """
    require_months(workspace.settings, months)
    # All months need these. Reading them here reports what is missing once, not once per month.
    _ = workspace.settings.registry_url
    _ = manifest_path()
    if workers == 1:
        events = make_months(workspace, months, all_steps(folders))
    else:
        events = make_months_side_by_side(workspace, months, workers, folders)
    console = Console(stderr=True)
    done: list[Event] = []
    try:
        with closing(recorded_as_run(workspace, months, events)) as recorded:
            for event in _with_progress(console, len(months), recorded):
                done.append(event)
    except KeyboardInterrupt:
        console.print(f"Interrupted. {_finished(done)} Run it again to continue.", highlight=False, soft_wrap=True)
        raise
    unanswered = [(event.month, error) for event in done if isinstance(event, Landed) for error in event.unanswered]
    passed_over = dict.fromkeys(message for event in done if isinstance(event, Landed) for message in event.passed_over)
    for message in passed_over:
        console.print(message, style="yellow", markup=False, highlight=False, soft_wrap=True)
    for skipped in dict.fromkeys(sentence(event.error) for event in done if isinstance(event, Skipped)):
        console.print(plain(skipped), style="yellow", markup=False, highlight=False, soft_wrap=True)
    for month, error in unanswered:
        console.print(f"{month}: {sentence(error)}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    for event in done:
        if isinstance(event, Materialised) and event.note:
            console.print(f"{event.table} {event.month}: {event.note}", highlight=False, soft_wrap=True)
    console.print(_sentence(done))
    raise_for_failures(done)
    if missed := [month for month, error in unanswered if not isinstance(error, NewAccountError)]:
        months = list(dict.fromkeys(missed))
        raise OctoError(
            f"{', '.join(months)} {'was' if len(months) == 1 else 'were'} made from what is landed, because a source could "
            "not deliver; see above.",
            code="source-did-not-deliver",
        )
    return [event for event in done if isinstance(event, MonthDone)]


def _with_progress(console: Console, months: int, events: Iterator[Event]) -> Iterator[Event]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    numbers = {step.name: number for number, step in enumerate(all_steps(), start=1)}
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=months * len(numbers))
        for event in events:
            if isinstance(event, Started):
                line = f"{event.month} {numbers[event.step]}/{len(numbers)} {event.step}"
                progress.update(task, description=line)
            elif not isinstance(event, MonthDone):
                progress.advance(task)
            yield event


def _sentence(events: Sequence[Event]) -> str:
    """What was written and what was not."""
    outcomes = [event.outcome for event in events if isinstance(event, Materialised)]
    if "published" not in outcomes and not any(isinstance(event, Failed) for event in events):
        return "Nothing changed since the last run, so nothing was written."
    return _partitions(events)


def _finished(events: Sequence[Event]) -> str:
    """Which months were finished before the interruption, and what was written."""
    months = sorted(event.month for event in events if isinstance(event, MonthDone) and not event.failed)
    finished = f"Finished: {', '.join(months)}." if months else "No month was finished."
    return f"{finished} {_partitions(events)}"


def _partitions(events: Sequence[Event]) -> str:
    outcomes = [event.outcome for event in events if isinstance(event, Materialised)]
    closed = f", {outcomes.count('closed')} closed" if "closed" in outcomes else ""
    return f"{counted(outcomes.count('published'), 'partition')} published, {outcomes.count('unchanged')} unchanged{closed}."
