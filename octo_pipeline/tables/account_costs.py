"""``account_costs``: what each account pays in the month (allocation.md §12).

Its SQL is the dbt model of the same name; the model's inputs and its proofs are here.
"""

from typing import ClassVar

from octo_pipeline.allocation.proofs import Proof
from octo_pipeline.engine.engine import Payload
from octo_pipeline.lake.lake import PartitionMetadata, Staged
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS, MONEY
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.base_rates import base_rates, rate_inputs
from octo_pipeline.tables.corrections import Corrections
from octo_pipeline.tables.dbt import run_model
from octo_pipeline.tables.explained_allocations import (
    EVERY_ROW_HAS_ITS_ITEM,
    INPUTS_CHANGED,
    BookedRows,
    explained_part,
    write_mart,
    write_sums,
)
from octo_pipeline.tables.kept_parts import part_to_keep
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.table import Lineage, Reads, Table, code_version
from octo_pipeline.workspace import Workspace

_AMOUNTS = (
    "billed", "effective", "allocated_out", "allocated_in", "effective_out", "effective_in", "savings_out", "savings_in",
    "step_out", "step_in", "step_effective_out", "step_effective_in", "corrections_out", "corrections_in",
    "corrections_effective_out", "corrections_effective_in", "corrections_savings_out", "corrections_savings_in",
    "final_cost", "amortised_final_cost",
)  # fmt: skip

ACCOUNT_COST_COLUMNS: dict[str, str] = {
    "owner_type": "VARCHAR",
    "owner_id": "VARCHAR",
    "currency": "VARCHAR",
    **dict.fromkeys(_AMOUNTS, MONEY),
    **{f"base_{name}": MONEY for name in _AMOUNTS},
    "base_currency": "VARCHAR",
}

# The columns of an explained row that the model and the proofs read. Copying the others of millions of rows takes time.
_SUMMED_BY = (
    "category", "status", "kind", "source_account", "source_group", "target_account", "target_group", "currency",
)  # fmt: skip
_READ = (
    *_SUMMED_BY, "item_id", "origin_month", "tranche_cost", "tranche_effective_cost", "cost", "effective_cost",
)  # fmt: skip


class AccountCosts(Table):
    """What each account and cost group pays in the month, in both measures: billed, moved away, moved in. Adds up to the bill, exactly."""

    name = "account_costs"
    group = "marts"
    grain = "One row per owner and currency."
    key = ("owner_type", "owner_id", "currency")
    columns = ACCOUNT_COST_COLUMNS
    reads = (
        Reads(LINE_ITEMS),
        Reads(Allocations.name),
        Reads(MatchedItems.name, months="owing"),
        Reads(Corrections.name),
        Reads("exchange_rates"),
        Reads("base_currency"),
    )
    code = (
        "model",
        "rules",
        "allocation",
        "tables/explained_allocations.py",
        "tables/item_parts.py",
        "dbt_project/models/marts/account_costs.sql",
        "dbt_project/macros/base_currency.sql",
    )
    is_dbt_model = True
    has_parts = True
    proofs = (
        EVERY_ROW_HAS_ITS_ITEM,
        Proof(
            "final_costs",
            "the final costs are the bill, less the items distributed, plus what is due of them, in both measures; corrections apart",
            "tables/proof_account_costs_final",
        ),
        Proof(
            "balanced",
            "the final costs of each owner are what it was billed, less what moved away, plus what moved in, with corrections",
            "tables/proof_account_costs_balanced",
        ),
        Proof(
            "steps",
            "the steps take from all owners together what they give to them, in both measures",
            "tables/proof_account_costs_steps",
        ),
        Proof(
            "all_counted",
            "every row booked and every item distributed is counted, in both measures",
            "tables/proof_account_costs_counted",
        ),
        Proof(
            "corrections",
            "every correction of a closed month is counted, in both measures",
            "tables/proof_account_costs_corrections",
        ),
    )
    remedy = INPUTS_CHANGED
    made_from: ClassVar[Lineage] = {
        "billed": ((LINE_ITEMS, "billed_cost"),),
        "effective": ((LINE_ITEMS, "effective_cost"),),
        "allocated_out": ((Allocations.name, "cost"),),
        "allocated_in": ((Allocations.name, "cost"),),
        "effective_out": ((Allocations.name, "effective_cost"),),
        "effective_in": ((Allocations.name, "effective_cost"),),
        "savings_out": ((Allocations.name, "cost"),),
        "savings_in": ((Allocations.name, "cost"),),
        "step_out": ((Allocations.name, "cost"),),
        "step_in": ((Allocations.name, "cost"),),
        "step_effective_out": ((Allocations.name, "effective_cost"),),
        "step_effective_in": ((Allocations.name, "effective_cost"),),
        "corrections_out": ((Corrections.name, "cost"),),
        "corrections_in": ((Corrections.name, "cost"),),
        "corrections_effective_out": ((Corrections.name, "effective_cost"),),
        "corrections_effective_in": ((Corrections.name, "effective_cost"),),
        "corrections_savings_out": ((Corrections.name, "cost"),),
        "corrections_savings_in": ((Corrections.name, "cost"),),
        "final_cost": ((LINE_ITEMS, "billed_cost"), (Allocations.name, "cost"), (Corrections.name, "cost")),
        "amortised_final_cost": (
            (LINE_ITEMS, "effective_cost"),
            (Allocations.name, "effective_cost"),
            (Allocations.name, "cost"),
        ),
    }

    def outside_inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """The exchange rates that count in the month, and the base currency."""
        return rate_inputs(workspace, month)

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Sum up by account, and prove that all accounts together pay the whole bill."""
        lake = workspace.lake
        with lake.connect() as connection:

            def write(booked_rows: BookedRows, _: object, with_parts: PartitionMetadata) -> None:
                line_items = lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS)
                corrected = lake.scan(Corrections.name, [month], Corrections.columns)
                relations = {
                    "lake.cost_line_items": f"FROM {line_items}",
                    "lake.explained_allocations": f"FROM {booked_rows.explained}",
                    "lake.corrections": f"FROM {corrected}",
                    "lake.base_rates": base_rates(workspace, month),
                }
                run_model(connection, staged, with_parts, relations, self.columns)
                self.prove(
                    connection,
                    staged,
                    line_items=line_items,
                    booked=lake.scan(Allocations.name, [month], Allocations.columns),
                    corrections=corrected,
                    **booked_rows.pieces(),
                )

            made_from = {"made_by": code_version("tables/account_costs.py")}
            write_mart(workspace, connection, staged, metadata, _READ, write, task=sum_part, made_from=made_from)


def sum_part(payload: Payload) -> Payload:
    """Sum up the rows of one part by what the model and the proofs read, and keep the sums: a task."""
    with part_to_keep(payload) as (lake, connection, staged):
        explained = explained_part(connection, staged, payload)
        write_sums(connection, lake, staged, explained, _SUMMED_BY, PartitionMetadata({}, payload["run"]))
    return {}
