"""A month's charges as they are allocated, as SQL over the lake, and the proofs of what was written of them.

Stages, each with a template of the same name:
1. ``items``: the fee, usage and balance items of the month and those booked in it; ``booked``: what is booked of them.
2. ``ratios``: each booked row's ratio of its item by largest remainder, once by billed and once by effective cost.
3. ``elements``: a row per item and receiver; ``item_lines``: what the items' charges have beside the items; ``shares``:
   the receivers' part of it.
4. ``charges``: those that are not distributed, straight from the line items; the shares; what owners hand on in steps; the
   corrections of closed months.
5. ``cost_and_usage``: the same under the names of FOCUS.

A closed month is exported as it was closed. If its deliveries have changed since, its line items are no longer those that
were closed, and the charges are what the closing kept: items, and the other usage by account and service.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import duckdb

from octo_pipeline.allocation.balances import TAKEN_ITEM_COLUMNS
from octo_pipeline.allocation.proofs import Proof, prove
from octo_pipeline.allocation.temp_tables import create_temp_table
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
_GRAINS = {
    category: tuple(name for name in grain if name != "billing_month")
    for category, grain in (("fee", FEE_GRAIN), ("account", ACCOUNT_GRAIN))
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
        line_items: relation of its line items; of a closed month whose deliveries changed since, None.
    """

    workspace: Workspace
    month: str
    items: Relation
    booked: Relation
    shares: Relation
    corrections: Relation
    account_costs: Relation
    line_items: Relation | None
    account_names: Relation
    charges: Sql

    @property
    def written_sums(self) -> Relation:
        """The sums of what was written, which `prove` makes."""
        return Relation(f"focus_written_{self.month.replace('-', '_')}")

    @property
    def is_as_kept(self) -> bool:
        """Whether its usage is only known by account and service, because its deliveries changed since it was closed."""
        return self.line_items is None

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
            vendor_names=vendor_names(),
        )

    def totals(self) -> Sql:
        """SQL of the bill, the items spread, the instalments and the corrections by currency, in both measures."""
        return render(
            "outputs/focus/totals",
            account_costs=self.account_costs,
            booked=self.booked,
            corrections=self.corrections,
            items=self.items,
            line_items=self.line_items,
            month=self.month,
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
            totals=Relation(f"({self.totals()})"),
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
    line_items = lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS)
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
    item_lines = create_temp_table(
        connection,
        f"focus_item_lines_{suffix}",
        render(
            "outputs/focus/item_lines",
            booked=booked,
            grains={category: ("billing_month", *grain) for category, grain in _GRAINS.items()},
            items=items,
            line_items=lake.scan(LINE_ITEMS, origins, LINE_ITEM_COLUMNS),
        ),
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
    has_kept = is_closed and not _is_as_closed(connection, workspace, month, line_items, account_costs)
    corrected = corrected_in(lake, month)
    account_names = create_temp_table(
        connection,
        f"focus_account_names_{suffix}",
        render("outputs/focus/account_names", line_items=line_items),
    )
    charges = render(
        "outputs/focus/charges",
        account_names=account_names,
        types=_CHARGE_COLUMNS,
        corrections=corrections,
        grains=_GRAINS,
        group_names=_group_names(workspace, month, shares, corrections),
        item_lines=item_lines,
        items=items,
        kept_usage=closed_usage(workspace, month) if has_kept else None,
        line_items=line_items,
        line_types=Relation(
            f"({render('outputs/focus/line_types', line_items=lake.scan(LINE_ITEMS, corrected, LINE_ITEM_COLUMNS))})"
        ),
        month=month,
        shares=shares,
    )
    return MonthCharges(
        workspace,
        month,
        items,
        booked,
        shares,
        corrections,
        account_costs,
        None if has_kept else line_items,
        account_names,
        charges,
    )


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
