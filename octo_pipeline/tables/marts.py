"""The marts: what people read of a month, put together by dbt from line items and allocations.

What each mart is handed and its proof are here; its SQL is the dbt model of the same name.
"""

from collections.abc import Mapping, Sequence

import duckdb

from octo_pipeline.allocation import cost_groups as cost_group_costs
from octo_pipeline.allocation.explained import explained_sql
from octo_pipeline.allocation.proofs import ProofError
from octo_pipeline.lake.lake import Lake, PartitionMetadata, Staged, copy_options, fingerprint
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, MONEY
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import literal
from octo_pipeline.tables.allocation import (
    LINE_ITEMS,
    Allocations,
    MatchedItems,
    UsageShares,
    due_dues,
)
from octo_pipeline.tables.dbt import Session, dbt_project
from octo_pipeline.tables.table import code_version
from octo_pipeline.workspace import Workspace

ACCOUNT_COST_COLUMNS: dict[str, str] = {
    "account": "VARCHAR",
    "currency": "VARCHAR",
    "billed": MONEY,
    "effective": MONEY,
    "allocated_out": MONEY,
    "allocated_in": MONEY,
    "savings_out": MONEY,
    "savings_in": MONEY,
    "final_cost": MONEY,
    "amortised_final_cost": MONEY,
}

# What model and proof look at of an explained row: strings of millions of rows are not carried along for nothing.
_SUMMED = (
    "item_id", "origin_month", "category", "status", "kind", "source_account", "target_account", "currency",
    "tranche_cost", "cost",
)  # fmt: skip
_FILTERED = (
    *_SUMMED, "vendor", "payer", "line_type", "service_code", "service_name", "charge_description", "operation",
    "usage_type", "region_id", "tags", "project_labels",
)  # fmt: skip


class AccountCosts:
    """``account_costs``: what each account pays in the month (allocation.md §12)."""

    name = "account_costs"
    columns = ACCOUNT_COST_COLUMNS

    def inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """The month's line items and allocations, and the items the latter are of."""
        return _inputs(workspace, month, self.name)

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Sum up by account and prove that all accounts together bear the whole."""
        with workspace.lake.connect() as connection:
            line_items, allocations = _relations(connection, workspace, staged, _SUMMED)
            _run_model(workspace, staged, metadata, _sources(line_items, allocations))
            booked = workspace.lake.scan(Allocations.name, [month], Allocations.columns)
            prove_account_costs(connection, line_items, allocations, booked, _staged(staged), month)


class CostGroupCosts:
    """``cost_group_costs``: what each cost group costs in the month (allocation.md §11)."""

    name = "cost_group_costs"
    columns = cost_group_costs.COST_GROUP_COST_COLUMNS

    def inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """The month's line items and allocations, the items the latter are of, and the cost groups."""
        groups = workspace.configuration.cost_groups
        return _inputs(workspace, month, self.name) | {f"cost_groups/{name}": g.version for name, g in groups.items()}

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Evaluate the filters, sum up by section, and prove that nothing is counted twice."""
        groups = list(workspace.configuration.cost_groups.values())
        matches = staged.folder / "matches.parquet"
        with workspace.lake.connect() as connection:
            line_items, allocations = _relations(connection, workspace, staged, _FILTERED)
            connection.execute(
                f"COPY ({cost_group_costs.matches_sql(line_items, allocations, groups)}) TO {literal(str(matches))}"
            )
            matched = f"read_parquet({literal(str(matches))})"
            members = cost_group_costs.members_sql(matched)
            relations = _sources(line_items, allocations) | {
                "cost_groups.charges": cost_group_costs.charges_sql(matched),
                "cost_groups.members": members,
            }
            _run_model(workspace, staged, metadata, relations)
            cost_group_costs.prove_cost_group_costs(
                connection, line_items, allocations, f"({members})", _staged(staged), month, groups
            )


MART_TABLES = (AccountCosts(), CostGroupCosts())


def prove_account_costs(
    connection: duckdb.DuckDBPyConnection, line_items: str, allocations: str, booked: str, staged: str, month: str
) -> None:
    """Prove that by currency the final costs are the bill, less what was distributed, plus what is due of it.

    Args:
        connection: where the relations can be read.
        line_items: relation with the columns of ``cost_line_items``, of the month.
        allocations: relation of the explained allocations of the month.
        booked: relation with `splits.ALLOCATION_COLUMNS`, of the month.
        staged: relation with `ACCOUNT_COST_COLUMNS` as written.
        month: the month.

    Raises:
        ProofError: with the currency or the sums.
    """
    whole = cost_group_costs.whole_sql(line_items, allocations)
    claims = {
        "the final costs are the bill, less the items distributed, plus what is due of them": (
            "SELECT currency || ': ' || sum(cost)::VARCHAR || ' too much' AS detail FROM ("
            f"SELECT currency, final_cost AS cost FROM {staged} UNION ALL "
            f"SELECT currency, -amount FROM ({whole}) AS whole (currency, amount)) GROUP BY currency "
            "HAVING sum(cost) <> 0"
        ),
        "the amortised costs are the final ones, amortised, less the savings that moved": (
            "SELECT currency || ': ' || sum(cost)::VARCHAR || ' too much' AS detail FROM ("
            "SELECT currency, amortised_final_cost - final_cost - savings_out + savings_in AS cost "
            f"FROM {staged} UNION ALL "
            f"SELECT billing_currency, billed_cost - effective_cost FROM {line_items}) GROUP BY currency "
            "HAVING sum(cost) <> 0"
        ),
        # The explained rows are joined ones: an item that is gone would take its rows with it, silently.
        "every row booked and every item distributed is counted": (
            f"SELECT sum(cost)::VARCHAR || ' too much' AS detail FROM ("
            f"SELECT allocated_in + savings_in - allocated_out - savings_out AS cost FROM {staged} UNION ALL "
            f"SELECT CASE WHEN kind = 'item' THEN cost ELSE -cost END FROM {booked} "
            "WHERE status <> 'unchecked_allocated') HAVING sum(cost) <> 0"
        ),
    }
    for claim, violations in claims.items():
        found = connection.execute(violations).fetchone()
        if found:
            raise ProofError(
                f"account_costs {month} fails its proof that {claim}: {found[0]}. Run {month} again, allocations first."
            )


def _inputs(workspace: Workspace, month: str, name: str) -> dict[str, str]:
    lake = workspace.lake
    inputs = {
        "code": code_version(
            "model", "rules", "allocation", f"dbt_project/models/marts/{name}.sql", "dbt_project/materializations"
        )
    }
    for table in (LINE_ITEMS, MatchedItems.name, Allocations.name):
        if made_from := lake.fingerprint(table, month):
            inputs[f"{table}/{month}"] = made_from
    for origin, due in due_dues(lake, month).items():
        inputs[f"{MatchedItems.name}/{origin}/due"] = fingerprint(due)
    return inputs


def _relations(
    connection: duckdb.DuckDBPyConnection, workspace: Workspace, staged: Staged, columns: Sequence[str]
) -> tuple[str, str]:
    """The month's line items and columns of its explained allocations, as relations.

    The latter are joined once and kept beside the staged file: model and proof read them several times.

    Raises:
        OctoError: the month has no allocations.
        ProofError: the join loses rows, since an item they are of is gone.
    """
    lake, month = workspace.lake, staged.month
    if month not in lake.months(Allocations.name):
        raise OctoError(f"The lake has no allocations of {month}. Run `octo run --month {month}` first.")
    explained = literal(str(staged.folder / "explained.parquet"))
    connection.execute(f"COPY (SELECT {', '.join(columns)} FROM ({_explained(lake, month)})) TO {explained}")
    relation = f"read_parquet({explained})"
    kept, rows = connection.sql(f"SELECT count(*) FROM {relation}").fetchall()[0][0], lake.rows(Allocations.name, month)
    if kept != rows:
        raise ProofError(
            f"{staged.table} {month} fails its proof that every allocation has an item: {rows} rows, {kept} with one. "
            f"Their items changed since; run {month} again, allocations first."
        )
    return lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS), relation


def _explained(lake: Lake, month: str) -> str:
    """The explained allocations of the month without shares, which no mart shows."""
    origins = sorted({*due_dues(lake, month), month})
    return explained_sql(
        lake.scan(Allocations.name, [month], Allocations.columns, month_as="booking_month"),
        lake.scan(MatchedItems.name, origins, MatchedItems.columns),
        lake.scan(UsageShares.name, [], UsageShares.columns, month_as="booking_month"),
    )


def _sources(line_items: str, allocations: str) -> dict[str, str]:
    return {
        "lake.cost_line_items": f"FROM {line_items}",
        "lake.explained_allocations": f"FROM {allocations}",
    }


def _run_model(workspace: Workspace, staged: Staged, metadata: PartitionMetadata, relations: Mapping[str, str]) -> None:
    settings = workspace.lake.duckdb_config()
    session = Session(
        variables={f"octo_copy_{staged.table}": f"{staged.path}\n{copy_options(metadata.to_json())}"},
        relations=relations,
        settings={name: str(settings[name]) for name in ("memory_limit", "temp_directory") if name in settings},
        setup=workspace.lake.duckdb_setup(),
    )
    dbt_project().run([staged.table], session)


def _staged(staged: Staged) -> str:
    return f"read_parquet({literal(str(staged.path))})"
