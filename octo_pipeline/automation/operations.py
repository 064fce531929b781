"""Jobs for people in the launchpad: what `octo` does on the command line, with typed configuration.

Each is one op that calls the same function as the command; its result is Markdown in the run.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from octo_pipeline.allocation.months import month_range, parse_month
from octo_pipeline.assets.metadata import markdown_table
from octo_pipeline.assets.whole_months import make_months
from octo_pipeline.errors import OctoError
from octo_pipeline.tables.allocator_files import read, simulate_document
from octo_pipeline.tables.rows import Rows
from octo_pipeline.tables.simulation import Simulation
from octo_pipeline.tables.workspace import Workspace

_SECTIONS = {
    "matched_costs": "Matched",
    "accounts": "Who gets how much",
    "differences": "Difference to what is live",
    "conflicts": "Conflicts",
    "over_allocated": "Hands out more than there is",
    "failed": "Formula fails",
    "unresolved": "Resolves to nobody",
    "later_instalments": "Due in later months",
    "not_reached": "Outside its months",
    "commitment_lines": "Covered by a savings plan, without negation",
    "matched_items": "Matched items",
    "bookings": "Splits and remainders",
}


@contextmanager
def _sentences() -> Iterator[None]:
    """Turn an OctoError into a failure whose description is its sentence."""
    try:
        yield
    except OctoError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error


class SimulateConfig(dg.Config):
    """Which allocator, on which month."""

    allocator: dict[str, Any] | None = Field(
        default=None, description="The allocator document itself, as it would stand in its file."
    )
    file: str | None = Field(
        default=None, description="Or its file, such as allocator_configs/allocators/support.json."
    )
    month: str | None = Field(
        default=None, description="Whose items, YYYY-MM; the current month if the lake has it, else the latest."
    )


@dg.op(description="What an allocator would do to the items of a month; nothing is written.")
def simulate(
    context: dg.OpExecutionContext, config: SimulateConfig, workspace: dg.ResourceParam[Workspace]
) -> dg.Output[None]:
    """Simulate the configured allocator; the tables are the output's metadata."""
    with _sentences():
        if (config.allocator is None) == (config.file is None):
            raise OctoError("Give either the allocator's document or its file.")
        content = json.dumps(config.allocator).encode() if config.allocator is not None else _content(config.file)
        simulation, notes = simulate_document(
            workspace,
            content,
            config.file or "the launchpad's allocator",
            datetime.now(UTC),
            parse_month(config.month) if config.month else None,
        )
    return dg.Output(None, metadata=_told(simulation, notes))


def _content(file: str | None) -> bytes:
    return read(Path(file or ""))


def _told(simulation: Simulation, notes: list[str]) -> dict[str, Any]:
    replaces = f", replaces version {simulation.replaces[:8]}" if simulation.replaces else ""
    told: dict[str, Any] = {
        "allocator": f"{simulation.allocator.id} ({simulation.allocator.category}) on {simulation.month}{replaces}"
    }
    if warnings := [*notes, *simulation.warnings]:
        told["warnings"] = dg.MetadataValue.md("\n".join(f"- {text}" for text in warnings))
    for name, title in _SECTIONS.items():
        rows: Rows = getattr(simulation, name)
        if rows.rows:
            told[title] = dg.MetadataValue.md(markdown_table(rows))
    return told


class BackfillConfig(dg.Config):
    """Which months."""

    first: str = Field(description="First month, YYYY-MM.")
    last: str = Field(description="Last month, YYYY-MM.")


@dg.op(
    description="Lands and makes each month, one after the other; a bad month stops no other and is named at the end. "
    "Started again it goes on where it stopped: what is up to date is not written."
)
def make_the_months(
    context: dg.OpExecutionContext, config: BackfillConfig, workspace: dg.ResourceParam[Workspace]
) -> dg.Output[None]:
    """Bring a range of months up to date; each partition is recorded as it is made."""
    with _sentences():
        months = month_range(parse_month(config.first), parse_month(config.last))
        if not months:
            raise OctoError(f"The first month {config.first} is after the last {config.last}.")
        made = make_months(context, workspace, months)
    return dg.Output(None, metadata={"months": dg.MetadataValue.md(markdown_table(made))})


# What the launchpad shows first, to be changed by whoever opens it.
_EXAMPLE = {
    "allocator": {
        "id": "enterprise-support",
        "category": "fee",
        "startMonth": "2024-01",
        "criteria": [{"and": {"productCode": "re:^AWSSupport"}}],
        "allocator": [{"type": "costgroup", "value": "teams", "formula": "cost*usage"}],
    }
}


@dg.job(
    config={"ops": {"simulate": {"config": _EXAMPLE}}},
    executor_def=dg.in_process_executor,
    description="What an allocator would do to the items of a month, before it is saved: as `octo allocators simulate`. "
    "The tables are in the run's output event.",
)
def simulate_allocator() -> None:
    """One op: `simulate`."""
    simulate()


@dg.job(
    executor_def=dg.in_process_executor,
    description="Past months from the configured sources, as `octo backfill`: in one run, month by month, a bad month "
    "stops no other.",
)
def backfill() -> None:
    """One op: `make_the_months`."""
    make_the_months()


operations = [simulate_allocator, backfill]
