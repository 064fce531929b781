"""``cost_line_items``: the vendors' exports of a month in one shape, made by the dbt models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import duckdb

from octo_pipeline.allocation.proofs import Proof
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.engine.engine import Payload
from octo_pipeline.engine.local import LocalEngine
from octo_pipeline.engine.worker import task_settings
from octo_pipeline.lake.lake import Lake, PartitionMetadata, Staged
from octo_pipeline.lake.store import Location
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEM_GRAIN, LINE_ITEMS
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.sql import Relation
from octo_pipeline.model.templates import render
from octo_pipeline.tables import buckets
from octo_pipeline.tables.dbt import run_model
from octo_pipeline.tables.kept_parts import used_parts
from octo_pipeline.tables.landed_charges import (
    CHARGE_MODELS,
    SOURCE_COSTS,
    charges_of,
    counted_deliveries,
    explanation,
    invoices_of,
    landed_delivery,
    landed_relations,
    no_charges,
    source_sums_of,
)
from octo_pipeline.tables.parts import (
    SOURCE_SUMS,
    SourceSum,
    Unit,
    billed_payers,
    bucket_count,
    bucket_names,
    expected_lines,
    is_large,
    merged_units,
    part_name,
    size_of,
    source_sums_sql,
    unit_inputs,
    units_of,
)
from octo_pipeline.tables.table import Reads, Table
from octo_pipeline.vendors.catalog import VENDORS
from octo_pipeline.vendors.landing import Delivery
from octo_pipeline.vendors.overlaps import without_overlaps
from octo_pipeline.workspace import Workspace

# The fact in a partition's metadata that holds the month's invoices.
INVOICES = "invoices"
# Below this, all deliveries at once take no longer than one of them and the joining.
_LEAST_BYTES = 32 << 20
# How many payers a sentence names.
_NAMED = 3


class NothingLandedError(OctoError):
    """Nothing of a month was ever landed."""


class CostLineItems(Table):
    """Every charge of the month in one shape for all vendors."""

    name = LINE_ITEMS
    group = "normalisation"
    grain = "One row per combination of the columns up to publisher_name; the hourly lines of a day are one row."
    key = tuple(LINE_ITEM_GRAIN)
    columns = LINE_ITEM_COLUMNS
    reads = (Reads("landing"),)
    # Changes to other models, to the fetching of deliveries, to registration or to samples must not make the rows again.
    code = (
        "model",
        "vendors/data_columns.py",
        "vendors/data_files.py",
        "vendors/focus_columns.py",
        *(f"vendors/{vendor.name}/{file}" for vendor in VENDORS.values() for file in vendor.row_sources),
        "vendors/documents.py",
        "vendors/overlaps.py",
        "tables/landed_charges.py",
        "tables/buckets.py",
        "dbt_project/macros",
        "dbt_project/models/staging",
        "dbt_project/models/intermediate",
        "dbt_project/models/marts/cost_line_items.sql",
    )
    is_dbt_model = True
    has_parts = True
    proofs = (
        SOURCE_COSTS,
        Proof("month", "every row is billed in the month", "tables/proof_cost_line_items_month"),
    )

    def outside_inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """What the newest complete delivery of each account says."""
        return {f"landing/{d.vendor}/{d.account}": d.content for d in counted_deliveries(workspace, month)}

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> str:
        """Normalise the month's newest deliveries: all at once, or where that pays the payers that changed.

        Returns:
            Which payers were made again, as a sentence; '' if all were.

        Raises:
            NothingLandedError: nothing of the month was ever landed.
            OctoError: a delivery contains something that cannot be read; the message names the file and where in it.
            ProofError: the sum of the billed costs differs from the source's.
        """
        counted = counted_deliveries(workspace, month)
        # A month whose deliveries were all removed has no costs any more. A month that never had any has unknown costs.
        if not counted and workspace.lake.fingerprint(self.name, month) is None:
            raise NothingLandedError(
                f"Nothing of {month} is landed, and no source offers any of it.",
                code="month-not-landed",
                place=month,
                remedy=Remedy("doctor", to="see which sources there are"),
            )
        with workspace.lake.connect() as connection:
            try:
                counted = without_overlaps(connection, counted)
            except duckdb.Error as error:
                raise explanation(connection, counted, error) from error
            if self._is_by_parts(workspace, counted):
                return self._join(workspace, connection, counted, staged, metadata)
            self.write(connection, counted, staged, metadata, lambda sums: {INVOICES: invoices_of(connection, sums)})
            return ""

    def _is_by_parts(self, workspace: Workspace, counted: Sequence[Delivery]) -> bool:
        if any(map(is_large, counted)) and not isinstance(workspace.engine_for(expected_lines(counted)), LocalEngine):
            return True
        return len(counted) > 1 and size_of(counted) >= _LEAST_BYTES

    def write(
        self,
        connection: duckdb.DuckDBPyConnection,
        deliveries: Sequence[Delivery],
        staged: Staged,
        metadata: PartitionMetadata,
        facts_of: Callable[[Relation], Mapping[str, Any]],
    ) -> None:
        """Write the line items of deliveries and prove them.

        Args:
            connection: reads the lake.
            deliveries: all of the payers that they bill.
            staged: the file to write.
            metadata: recorded in the file.
            facts_of: more facts, from the relation of what the files bill by invoice.

        Raises:
            OctoError: as `make`.
        """
        try:
            relations, source_costs = landed_relations(connection, deliveries, staged.folder)
            charges = charges_of({delivery.vendor for delivery in deliveries})
            # Read once for the proof and for `invoice_costs`, which would have to unpack and read all files again.
            source_invoices = create_temp_table(
                connection, "source_invoices", render("tables/source_invoices", source_costs=source_costs)
            )
            run_model(
                connection,
                staged,
                replace(metadata, facts={**metadata.facts, **facts_of(source_invoices)}),
                relations | {f"main.{model}": no_charges() for model in CHARGE_MODELS - charges},
                self.columns,
            )
            self.prove(connection, staged, source_invoices=source_invoices)
        except duckdb.Error as error:
            raise explanation(connection, deliveries, error) from error

    def _join(
        self,
        workspace: Workspace,
        connection: duckdb.DuckDBPyConnection,
        deliveries: Sequence[Delivery],
        staged: Staged,
        metadata: PartitionMetadata,
    ) -> str:
        """Make the parts that are not kept from before, and the month of all parts."""
        lake, month = workspace.lake, staged.month
        parts = used_parts(
            lake,
            self.name,
            month,
            make=lambda: self._parts(workspace, deliveries, month, metadata),
            use=lambda parts: self._join_parts(lake, connection, parts, staged, metadata),
            names_kept=lambda parts: [file for part in parts.values() if not part.is_made for file in part.files],
        )
        return _made_again(parts)

    def _parts(
        self,
        workspace: Workspace,
        deliveries: Sequence[Delivery],
        month: str,
        metadata: PartitionMetadata,
    ) -> dict[str, "_Part"]:
        """The parts of a month by name, of which no two bill the same payer; those that are not kept are made."""
        kept = workspace.lake.parts(self.name, month)
        engine, code = workspace.engine_for(expected_lines(deliveries)), metadata.inputs["code"]
        known: dict[str, _Part] = {}
        units = units_of(deliveries)
        while True:
            parts = {part_name(unit, code): unit for unit in units}
            for name in parts.keys() - known.keys():
                if part := _kept_part(workspace.lake, name, parts[name], kept):
                    known[name] = part
            missing = [name for name in parts if name not in known]
            large = [name for name in missing if is_large(parts[name][0]) and not isinstance(engine, LocalEngine)]
            for name in large:
                files, source_sums = buckets.make_in_buckets(workspace, engine, month, parts[name][0], name=name)
                known[name] = _Part(parts[name], files, source_sums, is_made=True)
            small = [name for name in missing if name not in large]
            payloads = [
                {
                    "settings": workspace.settings.for_tasks(),
                    "month": month,
                    "run": workspace.run_id,
                    "inputs": unit_inputs(parts[name], code),
                    "name": name,
                    "deliveries": [[d.vendor, d.account, d.version, d.details.get("left_out")] for d in parts[name]],
                }
                for name in small
            ]
            for name, result in zip(small, engine.map(make_part, payloads), strict=True):
                known[name] = _Part(parts[name], [name], result[SOURCE_SUMS], is_made=True)
            apart = merged_units(units, [billed_payers(known[name].source_sums) for name in parts])
            if len(apart) == len(units):
                return {name: known[name] for name in parts}
            # Their rows may fold with each other.
            units = apart

    def _join_parts(
        self,
        lake: Lake,
        connection: duckdb.DuckDBPyConnection,
        parts: Mapping[str, "_Part"],
        staged: Staged,
        metadata: PartitionMetadata,
    ) -> None:
        """Join the parts and prove that they are the month."""
        kept = lake.parts(self.name, staged.month)
        rows = source_sums_sql([row for part in parts.values() for row in part.source_sums])
        source_invoices = create_temp_table(connection, "source_invoices", rows)
        # A part that is gone has its name in the message.
        files = [kept.get(file, lake.path_of(".parts", file)) for part in parts.values() for file in part.files]
        lake.join(files, staged, metadata, facts={INVOICES: invoices_of(connection, source_invoices)})
        self.prove(connection, staged, source_invoices=source_invoices)


class _Part(NamedTuple):
    """The rows of a unit, in kept files of these names; what its deliveries bill; and whether this run made them."""

    unit: Unit
    files: Sequence[str]
    source_sums: Sequence[SourceSum]
    is_made: bool


def _kept_part(lake: Lake, name: str, unit: Unit, kept: Mapping[str, Location]) -> _Part | None:
    """What is kept of a unit; None if something is missing or damaged."""
    files = [name] if name in kept else bucket_names(name, bucket_count(unit[0]))
    if not kept.keys() >= set(files):
        return None
    part = lake.part_metadata(kept[files[0]])
    if part is None or SOURCE_SUMS not in part.facts:
        return None
    return _Part(unit, files, part.facts[SOURCE_SUMS], is_made=False)


def make_part(payload: Payload) -> Payload:
    """Make, prove and keep the line items of a unit: a task.

    Returns:
        What the files bill: ``{"source_sums": [...]}``.

    Raises:
        OctoError: as `CostLineItems.make`, or a delivery was removed in the meantime.
    """
    lake, month = Workspace(task_settings(payload["settings"])).lake, payload["month"]
    metadata = PartitionMetadata(payload["inputs"], payload["run"])
    unit = [landed_delivery(lake, month, *delivery) for delivery in payload["deliveries"]]
    facts: dict[str, Any] = {}
    with lake.connect() as connection, lake.stage(LINE_ITEMS, month) as staged:

        def facts_of(source_invoices: Relation) -> Mapping[str, Any]:
            facts[SOURCE_SUMS] = source_sums_of(connection, source_invoices)
            return facts

        CostLineItems().write(connection, unit, staged, metadata, facts_of)
        lake.keep_part(staged.path, LINE_ITEMS, month, payload["name"])
    return facts


def _made_again(parts: Mapping[str, _Part]) -> str:
    """Which payers were made again; '' if all were."""
    made = [f"{d.vendor} {d.account}" for part in parts.values() if part.is_made for d in part.unit]
    total = sum(len(part.unit) for part in parts.values())
    if len(made) == total:
        return ""
    listed = f" ({', '.join(made[:_NAMED])}{', …' if len(made) > _NAMED else ''})" if made else ""
    return f"{len(made)} of {total} payers made again{listed}."
