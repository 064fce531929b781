"""``account_costs``: what each account pays in the month (allocation.md §12).

Its SQL is the dbt model of the same name; what the model is handed and its proofs are here.
"""

from typing import ClassVar

import duckdb

from octo_pipeline.allocation import cost_groups as cost_group_costs
from octo_pipeline.allocation.proofs import ProofError
from octo_pipeline.lake.lake import PartitionMetadata, Staged
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS, MONEY
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.dbt import run_model
from octo_pipeline.tables.explained_allocations import keep_explained_allocations
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.table import Lineage, Reads, Table
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


class AccountCosts(Table):
    """What each account pays in the month: billed, moved away, moved in. Adds up to the bill, exactly."""

    name = "account_costs"
    group = "marts"
    grain = "One row per account and currency."
    key = ("account", "currency")
    columns = ACCOUNT_COST_COLUMNS
    reads = (Reads(LINE_ITEMS), Reads(Allocations.name), Reads(MatchedItems.name, months="owing"))
    code = (
        "model",
        "rules",
        "allocation",
        "dbt_project/models/marts/account_costs.sql",
        "dbt_project/materializations",
    )
    is_dbt_model = True
    made_from: ClassVar[Lineage] = {
        "billed": ((LINE_ITEMS, "billed_cost"),),
        "effective": ((LINE_ITEMS, "effective_cost"),),
        "allocated_out": ((Allocations.name, "cost"),),
        "allocated_in": ((Allocations.name, "cost"),),
        "savings_out": ((Allocations.name, "cost"),),
        "savings_in": ((Allocations.name, "cost"),),
        "final_cost": ((LINE_ITEMS, "billed_cost"), (Allocations.name, "cost")),
        "amortised_final_cost": ((LINE_ITEMS, "effective_cost"), (Allocations.name, "cost")),
    }

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Sum up by account and prove that all accounts together bear the whole."""
        lake = workspace.lake
        with lake.connect() as connection:
            line_items = lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS)
            explained = keep_explained_allocations(connection, lake, staged, _SUMMED)
            relations = {
                "lake.cost_line_items": f"FROM {line_items}",
                "lake.explained_allocations": f"FROM {explained}",
            }
            run_model(workspace, staged, metadata, relations)
            booked = lake.scan(Allocations.name, [month], Allocations.columns)
            prove_account_costs(connection, line_items, explained, booked, staged.relation, month)


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
