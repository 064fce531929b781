"""Reservations and Savings Plans: what the payer bought, the instances that use them, and what was used.

Rates are in 10⁻⁶ USD an hour. Instance hours are counted in 10⁻⁴ of an hour.
"""

import duckdb

from octo_pipeline.model.months import add_months
from octo_pipeline.model.sql import Relation
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.aws.sample.accounts import PAYER, tag_columns, team_account
from octo_pipeline.vendors.aws.sample.draws import value_list
from octo_pipeline.vendors.aws.sample.hours import hours_of
from octo_pipeline.vendors.aws.sample.settings import LINES_PER_RESOURCE, SampleSettings

HOUR = 10**4  # instance hours are counted in this part of an hour
TERM_YEARS = 1

_COVERED_INSTANCES = 25  # for each commitment
# Type, on-demand rate, normalisation factor. The discounts below leave whole numbers.
_COMMITTED_TYPES = (
    ("m5.2xlarge", 384_000, 16),
    ("c5.4xlarge", 680_000, 32),
    ("r5.2xlarge", 504_000, 16),
    ("m6i.4xlarge", 768_000, 32),
    ("c6g.4xlarge", 544_000, 32),
    ("r6g.2xlarge", 403_200, 16),
)
_RESERVED_PERCENT = 30  # of the on-demand rate: this much by the hour, as much again upfront
_SAVINGS_PLAN_PERCENT = 72


def create_commitments(con: duckdb.DuckDBPyConnection, settings: SampleSettings) -> None:
    """Create the tables of the payer's commitments and of the product teams' instances that they cover."""
    types, rates, factors = zip(*_COMMITTED_TYPES, strict=True)
    query = render(
        "vendors/aws/sample/commitments",
        commitment_count=settings.commitments,
        reservation_count=settings.reservations,
        instance_types=value_list(types),
        size_factors=value_list(factors),
        demand_rates=value_list(rates),
        reserved_percent=_RESERVED_PERCENT,
        savings_plan_percent=_SAVINGS_PLAN_PERCENT,
        payer=PAYER,
        seed=settings.seed,
        instances_of_commitment=settings.instances_of_commitment,
        first_month=settings.first,
        end_month=add_months(settings.first, 12 * TERM_YEARS),
    )
    con.execute(query)
    query = render(
        "vendors/aws/sample/instances",
        instance_count=settings.commitments * _COVERED_INSTANCES,
        commitment_count=settings.commitments,
        account=team_account(settings.teams, "instance"),
        tag_columns=tag_columns(settings.teams, "instance"),
    )
    con.execute(query)


def create_fulfilled(con: duckdb.DuckDBPyConnection, settings: SampleSettings, month: str) -> None:
    """Create the table of what each commitment promised in a month and what was used of it."""
    query = render(
        "vendors/aws/sample/fulfilled",
        covered_lines=covered_lines(settings, month, 0, settings.covered),
        promised=_promised(settings, month),
    )
    con.execute(query)


def covered_lines(settings: SampleSettings, month: str, start: int, stop: int) -> Relation:
    """The lines that a commitment covers, each with at most its part of what the commitment promises."""
    query = render(
        "vendors/aws/sample/covered_lines",
        commitment_count=settings.commitments,
        lines_per_instance=LINES_PER_RESOURCE,
        instance_count=_COVERED_INSTANCES,
        hour_count=hours_of(month),
        largest_quantity=_promised(settings, month) // settings.lines_of_commitment,
        month=month,
        start=start,
        stop=stop,
    )
    return Relation(f"({query})")


def _promised(settings: SampleSettings, month: str) -> int:
    """Instance hours of a commitment in the month, in parts of an hour."""
    return settings.instances_of_commitment * hours_of(month) * HOUR
