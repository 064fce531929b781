"""``cost_group_costs``: what each cost group costs in the month (allocation.md §11).

Its SQL is the dbt model of the same name; the model's inputs and its proofs are here.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

import duckdb

from octo_pipeline.allocation import cost_groups
from octo_pipeline.allocation.proofs import Proof
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.engine.engine import Payload
from octo_pipeline.lake.lake import Lake, PartitionMetadata, Staged, fingerprint, rows_of_files
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS, MONEY, TAGS
from octo_pipeline.model.sql import Relation, Sql, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.base_rates import base_rates, rate_inputs
from octo_pipeline.tables.corrections import Corrections, corrected_in
from octo_pipeline.tables.dbt import run_model
from octo_pipeline.tables.explained_allocations import (
    EVERY_ROW_HAS_ITS_ITEM,
    INPUTS_CHANGED,
    BookedRows,
    explained_part,
    write_mart,
    write_sums,
)
from octo_pipeline.tables.kept_parts import (
    PARTS_KEPT,
    KeptPart,
    kept_rows,
    made_parts,
    names_kept,
    part_to_keep,
    side_file,
    used_parts,
    write_rows,
)
from octo_pipeline.tables.known import as_known
from octo_pipeline.tables.matched_items import LineRange, MatchedItems, line_ranges
from octo_pipeline.tables.table import Lineage, Reads, Table, code_version, materialise
from octo_pipeline.workspace import Workspace

# Fewer line items than this are filtered together with those of other payers.
LINES_PER_PART = 200_000

# The columns of an explained row that the filters, the model and the proofs read.
_SUMMED_BY = (
    "category", "status", "kind", "source_account", "source_group", "target_account", "target_group", "currency",
    "vendor", "payer", "service_code", "service_name",
)  # fmt: skip
_READ: dict[str, str] = {
    **dict.fromkeys((*_SUMMED_BY, "item_id", "origin_month"), "VARCHAR"),
    **dict.fromkeys(("line_type", "charge_description", "operation", "usage_type", "region_id"), "VARCHAR"),
    **dict.fromkeys(("tags", "project_labels"), TAGS),
    **dict.fromkeys(("tranche_cost", "tranche_effective_cost", "cost", "effective_cost"), MONEY),
}


class CostGroupCosts(Table):
    """What each cost group costs in the month, by section. Groups that share an account share its fees."""

    name = "cost_group_costs"
    group = "marts"
    grain = "One row per cost group, section, vendor, account, service, currency and corrected month."
    key = ("cost_group_id", "section", "vendor", "account", "service_code", "currency", "corrected_month")
    columns = cost_groups.COST_GROUP_COST_COLUMNS
    reads = (
        Reads(LINE_ITEMS),
        Reads(Allocations.name),
        Reads(MatchedItems.name, months="owing"),
        Reads(Corrections.name),
        Reads("cost_groups"),
        Reads("exchange_rates"),
        Reads("base_currency"),
    )
    code = (
        "model",
        "rules",
        "allocation",
        "tables/explained_allocations.py",
        "tables/item_parts.py",
        "dbt_project/models/marts/cost_group_costs.sql",
        "dbt_project/macros/base_currency.sql",
    )
    is_dbt_model = True
    has_parts = True
    proofs = (
        EVERY_ROW_HAS_ITS_ITEM,
        Proof(
            "matched_costs",
            "direct and account costs are those of what the filters match, in both measures",
            "tables/proof_cost_group_costs_matched",
        ),
        Proof(
            "shared_costs",
            "fees, savings and steps are all those of the group's accounts, in both measures",
            "tables/proof_cost_group_costs_members",
        ),
        Proof(
            "families",
            "the groups of a family add up to what its filters match and its accounts bear, in both measures",
            "tables/proof_cost_group_costs_families",
        ),
        Proof(
            "booked_on_groups",
            "what is booked on a cost group is shown under it and nowhere else",
            "tables/proof_cost_group_costs_booked",
        ),
        Proof(
            "whole",
            "direct, account and fee of everything are the bill, less what was distributed, plus what is due, in both measures",
            "tables/proof_cost_group_costs_whole",
        ),
        Proof(
            "corrections",
            "what is booked for each group and closed month, with its corrections, is what is known of it, in both measures",
            "tables/proof_cost_group_costs_corrections",
        ),
    )
    remedy = INPUTS_CHANGED
    made_from: ClassVar[Lineage] = {
        "cost": ((LINE_ITEMS, "billed_cost"), (Allocations.name, "cost")),
        "effective_cost": ((LINE_ITEMS, "effective_cost"), (Allocations.name, "effective_cost")),
    }

    def outside_inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """All cost groups, the exchange rates that count in the month, and the base currency."""
        cost_groups = {
            f"cost_groups/{name}": g.version for name, g in workspace.configuration_of(month).cost_groups.items()
        }
        return cost_groups | rate_inputs(workspace, month)

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Evaluate the filters, sum up by section, and prove that nothing is counted twice."""
        lake = workspace.lake
        groups = list(workspace.configuration_of(month).cost_groups.values())
        known = as_known(workspace)
        corrected_months = [] if workspace.overlay else corrected_in(lake, month)
        for corrected_month in corrected_months:
            materialise(known, self, corrected_month)
        with lake.connect() as connection, known.lake.connect():
            line_items = lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS)
            tabled = cost_groups.tabled_groups(connection, line_items, groups)

            made_from = {
                "made_by": code_version("tables/cost_group_costs.py"),
                "groups": fingerprint({str(i): str(g) for i, g in enumerate(tabled)}),
            }
            shared = {"groups": [asdict(group) for group in tabled]}
            ranges = line_ranges(lake.metadata(LINE_ITEMS, month), LINES_PER_PART)

            def write(booked_rows: BookedRows, parts: Sequence[KeptPart], with_parts: PartitionMetadata) -> None:
                if len(ranges) < 2:
                    write_matched(booked_rows, with_parts, *_at_once(line_items, booked_rows, parts, tabled))
                    return
                booked = _booked(booked_rows, parts, tabled)
                if not parts:
                    rows = kept_rows(
                        connection, lake, staged, "distributed", Sql(f"FROM {booked.distributed} ORDER BY ALL")
                    )
                    booked = replace(booked, distributed=rows)
                code = {**made_from, "code": metadata.inputs["code"]}
                payloads = _payloads_of_lines(connection, lake, month, ranges, booked.distributed, code, shared)
                kept = [*with_parts.facts.get(PARTS_KEPT, []), *payloads]
                with_lines = replace(with_parts, facts={**with_parts.facts, PARTS_KEPT: kept})
                used_parts(
                    lake,
                    self.name,
                    month,
                    make=lambda: made_parts(workspace, self.name, month, filter_lines, payloads, _LINE_SIDES),
                    use=lambda made: write_matched(booked_rows, with_lines, *_of_parts(booked, made)),
                    names_kept=names_kept,
                )

            def write_matched(
                booked_rows: BookedRows, with_parts: PartitionMetadata, matched: Sql, filtered: Sql
            ) -> None:
                explained = booked_rows.explained
                matches = write_rows(connection, matched, staged.folder / "matches.parquet")
                members = cost_groups.members_sql(matches, explained, tabled)
                corrected = (
                    known.lake.scan(self.name, corrected_months, self.columns, month_as="month"),
                    lake.scan(self.name, corrected_months, self.columns, month_as="month"),
                    lake.scan(
                        self.name, workspace.closed_months if corrected_months else [], self.columns, month_as="month"
                    ),
                )
                relations = {
                    "lake.cost_line_items": f"FROM {line_items}",
                    "lake.explained_allocations": f"FROM {explained}",
                    "lake.base_rates": base_rates(workspace, month),
                    "cost_groups.corrections": cost_groups.group_corrections_sql(*corrected),
                    "cost_groups.charges": cost_groups.charges_sql(matches),
                    "cost_groups.members": members,
                }
                run_model(connection, staged, with_parts, relations, self.columns)
                # Two proofs read what the filters match, evaluated again once: a filter takes longer than a sum.
                filtered_costs = create_temp_table(connection, "filtered_costs", filtered)
                self.prove(
                    connection,
                    staged,
                    line_items=line_items,
                    booked=lake.scan(Allocations.name, [month], Allocations.columns),
                    known_costs=corrected[0],
                    closed_costs=corrected[1],
                    earlier_corrections=corrected[2],
                    members=members,
                    filtered_costs=filtered_costs,
                    families=[group.family_id for group in tabled if group.family_id],
                    **booked_rows.pieces(),
                )

            write_mart(
                workspace,
                connection,
                staged,
                metadata,
                list(_READ),
                write,
                task=filter_part,
                sides=_SIDES,
                made_from=made_from,
                shared=shared,
            )


# What is made of a part beside its sums: what the filters match, for the model and for the proofs, and distributed items.
_SIDES = ("matches", "filtered", "distributed")
_NO_ROWS = Relation(f"({rows_sql(_READ, [])})")
_NO_LINES = Relation(f"({rows_sql(LINE_ITEM_COLUMNS, [])})")


def filter_part(payload: Payload) -> Payload:
    """Evaluate the filters on the rows of one part, sum them up by what is read of them, and keep both: a task."""
    groups = [cost_groups.TabledGroup(**group) for group in payload["groups"]]
    with part_to_keep(payload) as (lake, connection, staged):
        explained = explained_part(connection, staged, payload)
        write_sums(connection, lake, staged, explained, _SUMMED_BY, PartitionMetadata({}, payload["run"]))
        queries = (
            cost_groups.matches_sql(_NO_LINES, explained, groups),
            cost_groups.filtered_costs_sql(_NO_LINES, explained, groups),
            render("tables/distributed_items", explained=explained),
        )
        for side, query in zip(_SIDES, queries, strict=True):
            write_rows(connection, query, side_file(staged, side))
    return {}


def filter_lines(payload: Payload) -> Payload:
    """Evaluate the filters on the line items of some payers, for the model and for the proofs, and keep the sums: a task."""
    groups = [cost_groups.TabledGroup(**group) for group in payload["groups"]]
    line_items, distributed = Relation(payload["line_items"]), Relation(payload["distributed"])
    with part_to_keep(payload) as (lake, connection, staged):
        matches = cost_groups.matches_sql(line_items, _NO_ROWS, groups)
        lake.copy(connection, matches, staged, PartitionMetadata({}, payload["run"]))
        own = Relation(f"({render('tables/distributed_of_payers', distributed=distributed, payers=payload['payers'])})")
        filtered = cost_groups.filtered_costs_sql(line_items, _by_name(own), groups)
        write_rows(connection, filtered, side_file(staged, "filtered"))
    return {}


# What is made of line items beside what the filters match for the model: the same for the proofs.
_LINE_SIDES = ("filtered",)


@dataclass(frozen=True)
class _Booked:
    """What the filters match in what is booked, and what is distributed.

    Attributes:
        matches: for the model.
        filtered: for the proofs.
        distributed: the items whose line items are not counted.
    """

    matches: Sql
    filtered: Sql
    distributed: Relation


def _booked(booked_rows: BookedRows, parts: Sequence[KeptPart], groups: Sequence[cost_groups.TabledGroup]) -> _Booked:
    """Of the parts that the month's allocations were made in; of none, of all rows."""
    if parts:
        matches, filtered, distributed = (rows_of_files([part.sides[side] for part in parts]) for side in _SIDES)
        return _Booked(Sql(f"FROM {matches}"), Sql(f"FROM {filtered}"), distributed)
    explained = booked_rows.explained
    return _Booked(
        cost_groups.matches_sql(_NO_LINES, explained, groups),
        cost_groups.filtered_costs_sql(_NO_LINES, explained, groups),
        Relation(f"({render('tables/distributed_items', explained=explained)})"),
    )


def _payloads_of_lines(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    month: str,
    ranges: Sequence[LineRange],
    distributed: Relation,
    made_from: Mapping[str, str],
    shared: Payload,
) -> dict[str, Payload]:
    """What `filter_lines` needs of each range, by the part's name.

    Whether an item is distributed says its allocator, or a decision, so the lines of a payer can be filtered otherwise although
    they are as they were.
    """
    lines = [lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS, rows=(part.first, part.end)) for part in ranges]
    payers: dict[int, list[str]] = defaultdict(list)
    for number, payer in connection.execute(
        render("tables/payers_of_lines", ranges=[{"rows": rows} for rows in lines])
    ).fetchall():
        payers[number].append(payer)
    digests = dict(connection.execute(render("tables/digests_of_distributed", distributed=distributed)).fetchall())
    payloads = {}
    for number, part in enumerate(ranges):
        own = {f"distributed/{payer}": digests.get(payer, "") for payer in payers[number]}
        own |= {f"line_items/{i}": name for i, name in enumerate(part.names)}
        payload = {**shared, "line_items": lines[number], "payers": payers[number], "distributed": distributed}
        payloads[fingerprint({**made_from, **own})] = payload
    return payloads


def _by_name(distributed: Relation) -> Relation:
    """Of rows of allocations, line items look only for the items that are distributed."""
    return Relation(f"({render('tables/rows_by_name', first=_NO_ROWS, second=distributed)})")


def _at_once(
    line_items: Relation,
    booked_rows: BookedRows,
    parts: Sequence[KeptPart],
    groups: Sequence[cost_groups.TabledGroup],
) -> tuple[Sql, Sql]:
    """SQL of what the filters match, for the model and for the proofs, in all line items and in what is booked."""
    if not parts:
        explained = booked_rows.explained
        return (
            cost_groups.matches_sql(line_items, explained, groups),
            cost_groups.filtered_costs_sql(line_items, explained, groups),
        )
    booked = _booked(booked_rows, parts, groups)
    return _together(
        booked,
        cost_groups.matches_sql(line_items, _NO_ROWS, groups),
        cost_groups.filtered_costs_sql(line_items, _by_name(booked.distributed), groups),
    )


def _of_parts(booked: _Booked, parts: Sequence[KeptPart]) -> tuple[Sql, Sql]:
    """The same of the parts of line items."""
    matches = rows_of_files([part.file for part in parts])
    filtered = rows_of_files([part.sides["filtered"] for part in parts])
    return _together(booked, Sql(f"FROM {matches}"), Sql(f"FROM {filtered}"))


def _together(booked: _Booked, matches: Sql, filtered: Sql) -> tuple[Sql, Sql]:
    return (
        render("tables/all_rows", first_query=matches, second_query=booked.matches),
        render("tables/summed_filtered_costs", of_lines=filtered, of_parts=booked.filtered),
    )
