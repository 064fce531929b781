"""A month's charges as they are allocated, as SQL over the lake, and the proofs of what was written of them.

Stages, each with a template of the same name:
1. ``items``: the fee, usage and balance items of the month and those booked in it; ``booked``: what is booked of them.
2. ``ratios``: each booked row's ratio of its item by largest remainder, once by billed and once by effective cost.
3. ``item_rows``: which rows of line items belong to items, found once by all columns of their grain and later by number;
   ``item_lines``: what the items' charges have beside the items; ``elements``: a row per item and receiver; ``shares``: the
   receivers' part of the charges.
4. ``undistributed``: line items as they were billed; ``charges``: those that are not usage, the shares, what owners hand on in
   steps, and the corrections of closed months.
5. ``cost_and_usage``: undistributed usage and the charges under the names of FOCUS.

A closed month is exported as it was closed. If its deliveries have changed since, its line items are no longer those that
were closed, and the charges are what the closing kept: items, and the other usage by account and service.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import duckdb

from octo_pipeline.allocation.balances import TAKEN_ITEM_COLUMNS
from octo_pipeline.allocation.proofs import Proof, prove
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.lake.lake import Lake
from octo_pipeline.model.columns import ACCOUNT_GRAIN, FEE_GRAIN, LINE_ITEM_COLUMNS, LINE_ITEMS, MONEY, TAGS
from octo_pipeline.model.sql import Relation, Sql, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.model.vendors import VENDORS
from octo_pipeline.outputs.focus.columns import Version, written_columns
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.closings import closed_items, closed_usage
from octo_pipeline.tables.corrections import Corrections, corrected_in
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.items import scan_items
from octo_pipeline.tables.matched_items import deliveries_digest
from octo_pipeline.workspace import Workspace

# The columns of a charge, in the words of the lake.
_CHARGE_COLUMNS: dict[str, str] = {
    **{
        name: kind
        for name, kind in LINE_ITEM_COLUMNS.items()
        if name not in ("billing_month", "usage_date", "offer_class", "line_count")
    },
    "contracted_cost": MONEY,
    "first_day": "DATE",
    "end_day": "DATE",
    "charge_class": "VARCHAR",
    "invoiced_category": "VARCHAR",
    "item_id": "VARCHAR",
    "origin_charge_id": "VARCHAR",
    "kind": "VARCHAR",
    "reason": "VARCHAR",
    "origin_month": "VARCHAR",
    "corrected_month": "VARCHAR",
    "tranche_index": "INTEGER",
    "tranche_count": "INTEGER",
    "target_account": "VARCHAR",
    "target_group": "VARCHAR",
    "target_name": "VARCHAR",
    "target_tags": TAGS,
    "own_group": "VARCHAR",
    "step": "INTEGER",
    "method_id": "VARCHAR",
    "method_details": "VARCHAR",
    "effective_ratio": "DECIMAL(38,15)",
}

PROOFS = (
    Proof(
        "owners",
        "each account and cost group pays in the export what it pays in account_costs, in both measures",
        "outputs/focus/proof_owners",
    ),
    Proof(
        "bill",
        "the export is the bill, less the items spread, plus their instalments and corrections, in both measures",
        "outputs/focus/proof_bill",
    ),
    Proof(
        "ratios",
        "the allocated ratios of each origin charge add up to what is due of it",
        "outputs/focus/proof_ratios",
    ),
    Proof("steps", "the steps add up to 0, in both measures", "outputs/focus/proof_steps"),
)


@dataclass(frozen=True)
class MonthCharges:
    """A month's charges, prepared in a connection.

    Attributes:
        is_as_kept: whether its usage is only known by account and service, because its deliveries changed since it was
            closed.
        undistributed_usage: SQL of the usage that is not distributed, line by line; None if it is not known so.
        charges: SQL of all other charges.
        totals: relation of the bill, the items spread, the instalments and the corrections by currency, in both measures.
    """

    month: str
    is_as_kept: bool
    booked: Relation
    account_costs: Relation
    account_names: Relation
    undistributed_usage: Sql | None
    charges: Sql
    totals: Relation

    @property
    def written_sums(self) -> Relation:
        """The sums of what was written, which `prove` makes."""
        return Relation(f"focus_written_{self.month.replace('-', '_')}")

    def cost_and_usage(self, version: Version) -> Sql:
        """SQL of the data set Cost and Usage."""
        return render(
            "outputs/focus/cost_and_usage",
            account_names=self.account_names,
            charges=self.charges,
            named_columns=written_columns(version),
            is_provider_named=version == "1.2",
            month=self.month,
            services=Relation(f"({_services()})"),
            undistributed_usage=self.undistributed_usage,
            vendor_names=vendor_names(),
        )

    def prove(self, connection: duckdb.DuckDBPyConnection, written: Relation) -> None:
        """Prove the written rows.

        Args:
            connection: the one that the charges are prepared in.
            written: relation with `PROVED_COLUMNS` of the rows of the written file.

        Raises:
            ProofError: a proof fails.
        """
        staged = create_temp_table(
            connection,
            self.written_sums,
            render("outputs/focus/written_sums", written=written, month=self.month),
        )
        prove(
            connection,
            "focus_export",
            self.month,
            PROOFS,
            remedy=f"Its tables are of different times; run {self.month} again.",
            staged=staged,
            account_costs=self.account_costs,
            booked=self.booked,
            totals=self.totals,
            written=written,
        )


def prepare_charges(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> MonthCharges:
    """Prepare a month's charges.

    Args:
        connection: of the workspace's lake; temporary tables are made in it, named after the month.
        workspace: the lake.
        month: the month.

    Raises:
        OctoError: the month was not run.
    """
    lake = workspace.lake
    lake.require([month], AccountCosts.name, Allocations.name)
    suffix = month.replace("-", "_")
    allocations = lake.scan(Allocations.name, [month], Allocations.columns)
    account_costs = lake.scan(AccountCosts.name, [month], AccountCosts.columns)
    corrections = lake.scan(Corrections.name, [month], Corrections.columns)
    line_items = _scan_line_items(lake, [month])
    is_closed = workspace.is_closed(month)
    explained = explained_allocations(workspace, [month], has_corrections=False)
    booked = create_temp_table(
        connection, f"focus_booked_{suffix}", render("outputs/focus/booked", explained_allocations=explained)
    )
    origins = _origin_months(connection, booked)
    kept_items = closed_items(workspace, [month]) if is_closed else scan_items(lake, sorted({*origins, month}))
    items = create_temp_table(
        connection,
        f"focus_items_{suffix}",
        render("outputs/focus/items", allocations=allocations, items=kept_items, columns=list(TAKEN_ITEM_COLUMNS)),
    )
    has_kept = is_closed and not _is_as_closed(connection, workspace, month, line_items, account_costs)
    item_rows = create_temp_table(
        connection,
        f"focus_item_rows_{suffix}",
        render(
            "outputs/focus/item_rows",
            grains={"fee": FEE_GRAIN, "account": ACCOUNT_GRAIN},
            items=items,
            line_items=_scan_line_items(lake, sorted({*origins, *(() if has_kept else (month,))})),
        ),
    )
    item_lines = create_temp_table(
        connection,
        f"focus_item_lines_{suffix}",
        render("outputs/focus/item_lines", booked=booked, item_rows=item_rows),
    )
    ratios, effective_ratios = (
        render("outputs/focus/ratios", booked=booked, is_effective=is_effective) for is_effective in (False, True)
    )
    received = create_temp_table(
        connection,
        f"focus_received_{suffix}",
        render("outputs/focus/elements", booked=booked, effective_ratios=effective_ratios, items=items, ratios=ratios),
    )
    shares = create_temp_table(
        connection,
        f"focus_shares_{suffix}",
        render("outputs/focus/shares", item_lines=item_lines, received=received),
    )
    corrected = corrected_in(lake, month)
    account_names = create_temp_table(
        connection,
        f"focus_account_names_{suffix}",
        render("outputs/focus/account_names", line_items=line_items),
    )
    undistributed_usage, others = (
        render(
            "outputs/focus/undistributed",
            is_usage=is_usage,
            item_rows=item_rows,
            line_items=line_items,
            month=month,
        )
        for is_usage in (True, False)
    )
    charges = render(
        "outputs/focus/charges",
        account_names=account_names,
        types=_CHARGE_COLUMNS,
        corrections=corrections,
        group_names=_group_names(workspace, month, shares, corrections),
        item_lines=item_lines,
        items=items,
        kept_usage=closed_usage(workspace, month) if has_kept else None,
        line_types=Relation(
            f"({render('outputs/focus/line_types', line_items=lake.scan(LINE_ITEMS, corrected, LINE_ITEM_COLUMNS))})"
        ),
        month=month,
        shares=shares,
        undistributed=others,
    )
    totals = create_temp_table(
        connection,
        f"focus_totals_{suffix}",
        render(
            "outputs/focus/totals",
            account_costs=account_costs,
            booked=booked,
            corrections=corrections,
            items=items,
            line_items=None if has_kept else line_items,
            month=month,
        ),
    )
    return MonthCharges(
        month,
        has_kept,
        booked,
        account_costs,
        account_names,
        None if has_kept else undistributed_usage,
        charges,
        totals,
    )


def _scan_line_items(lake: Lake, months: Sequence[str]) -> Relation:
    return lake.scan(LINE_ITEMS, months, LINE_ITEM_COLUMNS, row_number_as="row_number")


def _origin_months(connection: duckdb.DuckDBPyConnection, booked: Relation) -> list[str]:
    rows = connection.execute(render("outputs/focus/origin_months", booked=booked)).fetchall()
    return [origin for (origin,) in rows]


def _is_as_closed(
    connection: duckdb.DuckDBPyConnection,
    workspace: Workspace,
    month: str,
    line_items: Relation,
    account_costs: Relation,
) -> bool:
    """Whether a closed month's line items are still those that it was closed with."""
    if workspace.closing(month).state["deliveries"].get(month) != deliveries_digest(workspace.lake, month):
        return False
    # A later version of the program may read the same deliveries otherwise.
    differences = render("outputs/focus/bill_differences", account_costs=account_costs, line_items=line_items)
    return not connection.execute(differences).fetchall()


def _group_names(workspace: Workspace, month: str, shares: Relation, corrections: Relation) -> Relation:
    groups = workspace.configuration_of(month).cost_groups.values()
    named = [(group.id, group.name) for group in groups if group.by is None and group.name]
    families = [
        (group.id, group.by.key if group.by.kind in ("tag", "label") else None)
        for group in groups
        if group.by is not None
    ]
    query = render(
        "outputs/focus/group_names",
        corrections=corrections,
        tag_families=rows_sql({"family_id": "VARCHAR", "tag_key": "VARCHAR"}, families),
        named_groups=rows_sql({"group_id": "VARCHAR", "group_name": "VARCHAR"}, named),
        shares=shares,
    )
    return Relation(f"({query})")


@cache
def vendor_names() -> Relation:
    """A relation of what FOCUS calls the vendors: vendor, provider_name, sub_account_type, issuer_words."""
    columns = {
        "vendor": "VARCHAR",
        "provider_name": "VARCHAR",
        "sub_account_type": "VARCHAR",
        "issuer_words": "VARCHAR[]",
    }
    rows = [
        (vendor.name, vendor.provider_name, vendor.sub_account_type, f"[{', '.join(vendor.issuer_words)}]")
        for vendor in VENDORS.values()
        if vendor.provider_name
    ]
    return Relation(f"({rows_sql(columns, rows)})")


@cache
def _services() -> Sql:
    """SQL of what the standard calls known services: service, service_category, service_subcategory."""
    with Path(__file__).with_name("services.csv").open(encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    return rows_sql(dict.fromkeys(names, "VARCHAR"), rows)
