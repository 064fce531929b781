"""Usage on demand: the resources of a month and their lines."""

from collections.abc import Sequence

import duckdb

from octo_pipeline.model.months import month_index
from octo_pipeline.model.sql import Relation
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.aws.sample.accounts import DATA_PLATFORM, PAYER, PLATFORM, any_account, tag_columns
from octo_pipeline.vendors.aws.sample.draws import value_list, weighted_list
from octo_pipeline.vendors.aws.sample.hours import hours_of
from octo_pipeline.vendors.aws.sample.services import (
    CHARGES,
    COST_PARTS,
    FAMILIES,
    PRODUCT_NAMES,
    REGIONS,
    SIZE_FACTORS,
    SIZES,
)
from octo_pipeline.vendors.aws.sample.settings import SampleSettings

_KEY = "resource_key"
_CONTAINER_CODES = ("AmazonEC2", "AmazonEKS", "AmazonECR", "AWSELB")
_DATA_CODES = ("AmazonS3", "AmazonRedshift", "AWSGlue", "AmazonAthena", "ElasticMapReduce", "AmazonEC2")
_GOVERNANCE_CODES = ("AWSCloudTrail", "AWSConfig", "AmazonGuardDuty")
_CODES_OF_ROLE = {PLATFORM: _CONTAINER_CODES, DATA_PLATFORM: _DATA_CODES, PAYER: _GOVERNANCE_CODES}


def create_resources(con: duckdb.DuckDBPyConnection, settings: SampleSettings, month: str) -> None:
    """Create the table of the resources that are billed on demand in a month."""
    query = render(
        "vendors/aws/sample/resources",
        resource_count=settings.resources,
        month_offset=month_index(month) * 10**9,
        account=any_account(settings.roles, settings.teams, _KEY),
        charge=_charge_of_account(),
        regions=weighted_list([weight for *_, weight in REGIONS]),
        families=value_list(FAMILIES),
        sizes=value_list(SIZES),
        size_factors=value_list(SIZE_FACTORS),
        tag_columns=tag_columns(settings.teams, _KEY),
        cost_parts=COST_PARTS,
    )
    con.execute(query)


def usage_lines(settings: SampleSettings, month: str, start: int, stop: int) -> Relation:
    """The lines on demand of the resources from `start` to before `stop`, consecutive hours for each."""
    query = render(
        "vendors/aws/sample/usage_lines",
        resource_count=settings.resources,
        run_count=-(-settings.on_demand // settings.resources),
        line_count=settings.on_demand,
        hour_count=hours_of(month),
        month=month,
        start=start,
        stop=stop,
    )
    return Relation(f"({query})")


def _charge_of_account() -> str:
    def pick(codes: Sequence[str]) -> str:
        weights = [charge.weight if charge.code in codes else 0 for charge in CHARGES]
        return f"pick({weighted_list(weights)}, {_KEY}, 'charge')"

    cases = [f"WHEN '{role}' THEN {pick(codes)}" for role, codes in _CODES_OF_ROLE.items()]
    # Kubernetes runs only on the platform account, because its users share it.
    others = [code for code in PRODUCT_NAMES if code != "AmazonEKS"]
    return f"CASE account_id {' '.join(cases)} ELSE {pick(others)} END"
