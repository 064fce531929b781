"""Jobs for people who work in the launchpad: what `octo` does on the command line, with typed configuration.

Each job is one op that calls the same function as the command and shows the result as Markdown in the run.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from octo_pipeline.assets.configuration import changed_documents
from octo_pipeline.assets.dagster_compat import RecordedVersions
from octo_pipeline.assets.markdown import markdown_list
from octo_pipeline.assets.metadata import markdown_table
from octo_pipeline.automation.launchpad import AREA, acting_admin, acting_editor, translate_errors
from octo_pipeline.automation.recording import (
    AssetEvent,
    months_table,
    recorded_in_op,
    stale_evaluations,
)
from octo_pipeline.automation.typed import ALLOCATOR, Month
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import month_range, parse_month
from octo_pipeline.model.rows import Rows
from octo_pipeline.services.decide import Action, cause, choose_items, decide
from octo_pipeline.services.documents import read
from octo_pipeline.services.landing import delivery_of, reland
from octo_pipeline.services.months import Step, all_steps, make_months, require_months
from octo_pipeline.services.rules import simulate_submission, submitted
from octo_pipeline.services.simulate import SECTIONS, Simulation
from octo_pipeline.services.sources import sources
from octo_pipeline.tables.graph import order
from octo_pipeline.tables.table import Materialised
from octo_pipeline.workspace import Workspace


@dg.op(
    description="What an allocator would do to the items of a month; nothing is written.",
    # Not a dg.Config, whose fields cannot have the shape of a document.
    config_schema={
        "allocator": dg.Field(
            ALLOCATOR, is_required=False, description="The allocator document itself, as it would be in its file."
        ),
        "file": dg.Field(
            str, is_required=False, description="Or its file, such as allocator_configs/allocators/support.json."
        ),
        "month": dg.Field(
            dg.Enum("SimulatedMonth", [dg.EnumValue(month.value) for month in Month]),
            is_required=False,
            description="The month to simulate, YYYY-MM; the current month if the lake has it, else the latest.",
        ),
    },
)
def simulate(context: dg.OpExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.Output[None]:
    """Simulate the configured allocator; the tables are the output's metadata."""
    config = context.op_config
    with translate_errors():
        if ("allocator" in config) == ("file" in config):
            raise OctoError("Give either the allocator's document or its file.", code="simulation-input-missing")
        content = json.dumps(config["allocator"]).encode() if "allocator" in config else read(Path(config["file"]))
        now = datetime.now(UTC)
        submission = submitted(workspace, content, config.get("file", "the launchpad's allocator"), now)
        simulation, notes = simulate_submission(workspace, submission, now, config.get("month"))
    return dg.Output(None, metadata=_simulation_metadata(simulation, notes))


def _simulation_metadata(simulation: Simulation, notes: list[str]) -> dict[str, Any]:
    replaces = f", replaces version {simulation.replaces[:8]}" if simulation.replaces else ""
    metadata: dict[str, Any] = {
        "allocator": f"{simulation.allocator.id} ({simulation.allocator.category}) on {simulation.month}{replaces}"
    }
    if warnings := [*notes, *simulation.warnings]:
        metadata["warnings"] = dg.MetadataValue.md(markdown_list(warnings))
    for name, title in SECTIONS.items():
        if rows := simulation.tables[name]:
            metadata[title] = dg.MetadataValue.md(markdown_table(rows))
    return metadata


class BackfillConfig(dg.Config):
    """Which months."""

    first: Month = Field(description="First month, YYYY-MM.")
    last: Month = Field(description="Last month, YYYY-MM.")


@dg.op(
    description="Lands and makes the months one after the other. A month that fails does not stop the others and is named "
    "at the end. A second run continues where the first stopped: what is up to date is not written again."
)
def make_the_months(
    context: dg.OpExecutionContext, config: BackfillConfig, workspace: dg.ResourceParam[Workspace]
) -> Iterator[AssetEvent | dg.Output[None]]:
    """Bring a range of months up to date; each partition is recorded as it is made."""
    with translate_errors():
        first, last = config.first.value, config.last.value
        months = month_range(first, last)
        if not months:
            raise OctoError(f"The first month {first} is after the last {last}.", code="months-reversed")
        require_months(workspace.settings, months)
        yield from _make(context, workspace, months, all_steps())


def _make(
    context: dg.OpExecutionContext, workspace: Workspace, months: Sequence[str], steps: Sequence[Step]
) -> Iterator[AssetEvent | dg.Output[None]]:
    yield from changed_documents(workspace, context.instance)
    events = yield from recorded_in_op(context, workspace, make_months(workspace, months, steps))
    yield from stale_evaluations(workspace, RecordedVersions(context.instance))
    yield dg.Output(None, metadata={"months": months_table(events)})


class RestateConfig(dg.Config):
    """Which months."""

    months: list[str] = Field(description="The months, YYYY-MM, in the order in which they are made.")


@dg.op(
    description="Makes the tables of each month again, one month after the other, from what is landed. Fetches nothing. "
    "Tables whose inputs did not change are not written."
)
def restate_the_months(
    context: dg.OpExecutionContext, config: RestateConfig, workspace: dg.ResourceParam[Workspace]
) -> Iterator[AssetEvent | dg.Output[None]]:
    """Bring the tables of months up to date; each partition is recorded as it is made."""
    with translate_errors():
        yield from _make(context, workspace, [parse_month(month) for month in config.months], order())


def restatement_config(months: list[str]) -> dict[str, Any]:
    """The configuration of the job `restatement` for these months."""
    return {"ops": {restate_the_months.name: {"config": {"months": months}}}}


class DecideConfig(dg.Config):
    """Which items: one by its id, or all that an allocator took in a month."""

    reason: str = Field(description="Why; kept in the audit trail.")
    item: str | None = Field(default=None, description="The item's id, or its beginning.")
    allocator: str | None = Field(default=None, description="Or: all items that this allocator took …")
    month: Month | None = Field(default=None, description="… of this month, YYYY-MM …")
    account: str | None = Field(default=None, description="… and, if given, of this source account.")


def _decide(
    context: dg.OpExecutionContext, config: DecideConfig, workspace: Workspace, action: Action
) -> Iterator[AssetEvent | dg.Output[None]]:
    with translate_errors():
        chosen = choose_items(
            workspace,
            action,
            item=config.item,
            allocator=config.allocator,
            month=config.month.value if config.month else None,
            account=config.account,
        )
        items = chosen.items
        actor = acting_editor(workspace)
        events = yield from recorded_in_op(
            context,
            workspace,
            decide(workspace, action, items, reason=config.reason, actor=actor),
            cause(action, items, config.reason, actor),
        )
    partitions = tuple((event.table, event.month, event.outcome) for event in events if isinstance(event, Materialised))
    rows = Rows(("table", "month", "outcome"), partitions)
    yield dg.Output(
        None,
        metadata={
            "items": len(items),
            "left out": len(chosen.left_out),
            "actor": actor,
            "partitions": dg.MetadataValue.md(markdown_table(rows)),
        },
    )


@dg.op(description="Undoes the distribution of items in every month, and keeps it undone until they are re-applied.")
def restore(
    context: dg.OpExecutionContext, config: DecideConfig, workspace: dg.ResourceParam[Workspace]
) -> Iterator[AssetEvent | dg.Output[None]]:
    """Record the restore and make the affected partitions again."""
    yield from _decide(context, config, workspace, "restore")


@dg.op(description="Takes a restore back.")
def reapply(
    context: dg.OpExecutionContext, config: DecideConfig, workspace: dg.ResourceParam[Workspace]
) -> Iterator[AssetEvent | dg.Output[None]]:
    """Record that the items are re-applied and make the affected partitions again."""
    yield from _decide(context, config, workspace, "reapply")


class RelandConfig(dg.Config):
    """Which delivery."""

    version: str = Field(description="The delivery's version, or its beginning; `octo deliveries list` shows all.")


@dg.op(description="Fetches a delivery again from its source, for example after its files were damaged.")
def fetch_again(
    context: dg.OpExecutionContext, config: RelandConfig, workspace: dg.ResourceParam[Workspace]
) -> dg.Output[None]:
    """Land the configured delivery again."""
    with translate_errors():
        actor = acting_admin(workspace)
        delivery = delivery_of(workspace, config.version)
        reland(workspace, delivery, sources(workspace, delivery.vendor), actor)
    return dg.Output(None, metadata={"delivery": delivery.title, "source": delivery.source})


# The launchpad opens with this example, for people to change.
_EXAMPLE = {
    "allocator": {
        "id": "enterprise-support",
        "category": "fee",
        "startMonth": "2024-01",
        "criteria": [{"and": {"productCode": "re:^AWSSupport"}}],
        "allocator": [{"type": "costgroup", "value": "all-workloads", "formula": "cost*usage"}],
    }
}


@dg.job(
    tags={AREA: "rules"},
    config={"ops": {"simulate": {"config": _EXAMPLE}}},
    executor_def=dg.in_process_executor,
    description="Shows what an allocator would do to the items of a month before it is saved, like `octo allocators "
    "simulate`. The tables are in the run's output event.",
)
def simulate_allocator() -> None:
    """One op: `simulate`."""
    simulate()


# dagster.yaml lets one run with this tag work at a time: each may come upon any month.
_MANY_MONTHS = {"octo/many_months": "true", AREA: "months"}


@dg.job(
    tags=_MANY_MONTHS,
    executor_def=dg.in_process_executor,
    description="Brings months up to date from the configured sources, one after the other, like `octo run` and `octo "
    "backfill`, whose runs are shown here too. A month that fails does not stop the others.",
)
def backfill() -> None:
    """One op: `make_the_months`."""
    make_the_months()


@dg.job(
    tags=_MANY_MONTHS,
    executor_def=dg.in_process_executor,
    description="From what is landed to allocations, for months whose inputs changed: month by month, and a bad month "
    "stops no other. Fetches nothing. The sensor restated_months launches it.",
)
def restatement() -> None:
    """One op: `restate_the_months`."""
    restate_the_months()


@dg.job(
    tags={AREA: "items"},
    executor_def=dg.in_process_executor,
    description="Undo the distribution of items, like `octo allocations restore`. It is recorded and can be reversed.",
)
def restore_items() -> None:
    """One op: `restore`."""
    restore()


@dg.job(
    tags={AREA: "items"},
    executor_def=dg.in_process_executor,
    description="Take a restore back, like `octo allocations reapply`.",
)
def reapply_items() -> None:
    """One op: `reapply`."""
    reapply()


@dg.job(
    tags={AREA: "deliveries"},
    executor_def=dg.in_process_executor,
    description="Fetch a delivery again, like `octo deliveries reland`.",
)
def reland_delivery() -> None:
    """One op: `fetch_again`."""
    fetch_again()


operations = [simulate_allocator, backfill, restatement, restore_items, reapply_items, reland_delivery]
