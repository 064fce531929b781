"""What weighs each target, and its shares (allocation.md §6, §15 and §16).

Stages, for one booking month:
1. ``shares_quantities``: the quantities of the metrics that weigh. An allocator whose metric has no row has a reason
   instead of shares.
2. ``shares_targets``: the targets of each entry, each with its basis: what it is weighed by. A variant is an allocator,
   or an allocator with one own account if its entries mean the own account of an item.
3. ``shares_usage``: the usage of each target and currency, or its quantity, by basis.
4. ``shares_currencies``: the currency in which each variant's usage is compared. It is an error if a rate that this
   needs is missing (``shares_missing_rates``).
5. ``usage_shares``: the usage of each target in that currency, and its shares.

Edge cases: a target with negative usage counts as one without usage; if nobody has usage, all shares are 0. Of an
allocator whose formulas do not depend on usage, none is looked up.
Drawback: cost groups that weigh are evaluated on every line item, one filter each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from octo_pipeline.allocation.resolution import family_rows
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import Relation, Sql, literal, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.rules.allocator import Allocator, Entry
from octo_pipeline.rules.cost_group import CostGroup, group_sql
from octo_pipeline.rules.rates import RATE_DECIMALS, Rate, units_of_base

METRIC_MISSING = "metric_missing"

USAGE_SHARE_COLUMNS: dict[str, str] = {
    "allocator_id": "VARCHAR",
    "allocator_version": "VARCHAR",
    "own_account_id": "VARCHAR",
    "own_group_id": "VARCHAR",
    "entry_index": "INTEGER",
    "entry_type": "VARCHAR",
    "entry_value": "VARCHAR",
    "formula": "VARCHAR",
    "entry_months": "INTEGER",
    "account_id": "VARCHAR",
    "group_id": "VARCHAR",
    "account_rank": "INTEGER",
    "accounts": "INTEGER",
    "active_accounts": "INTEGER",
    "usage_currency": "VARCHAR",
    "usage_cost": MONEY,
    "usage_quantity": MONEY,
    "usage_share": "DOUBLE",
    "group_usage_share": "DOUBLE",
    "reason": "VARCHAR",
}

# The rows of metrics: of a metric, month and target its quantity.
QUANTITY_COLUMNS: dict[str, str] = {
    "metric_id": "VARCHAR",
    "month": "VARCHAR",
    "target_type": "VARCHAR",
    "target_id": "VARCHAR",
    "quantity": MONEY,
}
NO_QUANTITIES = Relation(f"({rows_sql(QUANTITY_COLUMNS, [])})")

_ALL_USAGE = "account"


@dataclass(frozen=True)
class _WeighedGroup:
    """A cost group, or a family's groups, as targets.

    Attributes:
        basis: what they are weighed by.
        id: SQL of the group's id.
        condition: SQL of whether a row counts.
        rows: the relation that is read; None for the line items.
        cost: its column with what is added up.
    """

    basis: str
    id: Sql
    condition: Sql
    rows: Relation | None = None
    cost: str = "effective_cost"


def usage_shares_sql(
    connection: duckdb.DuckDBPyConnection,
    line_items: Relation,
    container_usage: Relation,
    resolved_accounts: Relation,
    month: str,
    allocators: Sequence[Allocator],
    cost_groups: Mapping[str, CostGroup],
    quantities: Relation,
    rates: Sequence[Rate],
    base_currency: str,
) -> Sql:
    """Prepare the inputs of the formulas for each target.

    Args:
        connection: where the relations can be read; temporary tables are created in it.
        line_items: relation with the columns of ``cost_line_items``, of the booking month.
        container_usage: relation with the columns of ``container_usage``, of the booking month.
        resolved_accounts: relation with `resolution.RESOLVED_ACCOUNT_COLUMNS`.
        month: the booking month.
        allocators: the pinned allocator versions of `resolved_accounts`.
        cost_groups: the cost groups by id.
        quantities: relation with `QUANTITY_COLUMNS` of the metrics that the allocators name, up to the month.
        rates: exchange rates; those of the booking month are used, or the newest earlier ones.
        base_currency: the currency in which usage of several currencies is compared.

    Returns:
        SQL of `USAGE_SHARE_COLUMNS`, over the temporary tables: one row per entry and target. ``account_rank``
        numbers the rows of an allocator (and own account) by account id, then group id, then entry index: the order that
        breaks ties of rounding. Of an allocator of which nothing can be split there is one row per entry, with the
        ``reason`` and without a target.

    Raises:
        OctoError: a currency has no rate in the month or earlier; the message names both.
    """
    missing = _create_quantities(connection, month, allocators, quantities)
    targets = render(
        "allocation/shares_targets", entries=_entries_sql(allocators, missing), resolved_accounts=resolved_accounts
    )
    create_temp_table(connection, "shares_targets", targets)
    bases = {_basis(a, e) for a in allocators for e in a.entries} - {None}
    usage = render(
        "allocation/shares_usage",
        line_items=line_items,
        account_bases=_account_bases(allocators, cost_groups),
        payers=sorted({basis.removeprefix("payer ") for basis in bases if basis and basis.startswith("payer ")}),
        groups=_weighed_groups(connection, line_items, container_usage, allocators, cost_groups),
    )
    create_temp_table(connection, "shares_usage", usage)
    currencies = render("allocation/shares_currencies", base_currency=base_currency)
    create_temp_table(connection, "shares_currencies", currencies)
    _create_rates(connection, month, rates, base_currency)
    return render("allocation/usage_shares", rate_decimals=RATE_DECIMALS)


def _basis(allocator: Allocator, entry: Entry) -> str | None:
    """What the targets of an entry are weighed by: a text that is the same for what is the same; None for nothing."""
    usage_of = allocator.usage_of
    if not allocator.needs_usage:
        return None
    if usage_of.kind == "metric":
        return f"metric {usage_of.id}{' or earlier' if usage_of.carry_forward else ''}"
    if usage_of.kind == "costGroup":
        return f"costGroup {usage_of.id}"
    if usage_of.kind == "matched" and entry.type in ("costgroup", "payer"):
        return f"{entry.type} {entry.value}"
    return _ALL_USAGE


def _create_quantities(
    connection: duckdb.DuckDBPyConnection, month: str, allocators: Sequence[Allocator], quantities: Relation
) -> set[str]:
    """Create ``shares_quantities``; returns the bases of the metrics without a row."""
    bases = {
        basis: (basis, a.usage_of.id, int(a.usage_of.carry_forward))
        for a in allocators
        for entry in a.entries
        if a.usage_of.kind == "metric" and (basis := _basis(a, entry))
    }
    columns = {"basis": "VARCHAR", "metric_id": "VARCHAR", "is_carried": "BOOLEAN"}
    query = render(
        "allocation/shares_quantities",
        metric_bases=rows_sql(columns, list(bases.values())),
        quantities=quantities,
        month=month,
    )
    create_temp_table(connection, "shares_quantities", query)
    known = connection.execute(render("allocation/shares_known_metrics")).fetchall()
    return bases.keys() - {basis for (basis,) in known}


def _entries_sql(allocators: Sequence[Allocator], missing: set[str]) -> Sql:
    columns = {
        "allocator_version": "VARCHAR",
        "entry_index": "INTEGER",
        "formula": "VARCHAR",
        "entry_months": "INTEGER",
        "basis": "VARCHAR",
        "is_matched": "BOOLEAN",
        "reason": "VARCHAR",
    }
    rows = []
    for a in allocators:
        for i, entry in enumerate(a.entries):
            basis = _basis(a, entry)
            is_matched = int(a.usage_of.kind == "matched")
            reason = METRIC_MISSING if basis in missing else None
            rows.append((a.version, i, entry.formula, entry.months, basis, is_matched, reason))
    return rows_sql(columns, rows)


def _account_bases(allocators: Sequence[Allocator], cost_groups: Mapping[str, CostGroup]) -> dict[str, Sql]:
    """Basis -> the line items of an account that count."""
    conditions: dict[str, Sql] = {}
    for a in allocators:
        for entry in a.entries:
            basis = _basis(a, entry)
            if entry.type == "group" or not basis:
                continue
            if basis == _ALL_USAGE:
                conditions[basis] = Sql("true")
            elif a.usage_of.kind == "costGroup":
                conditions[basis] = group_sql(cost_groups, a.usage_of.id)
            elif entry.type == "costgroup" and a.usage_of.kind == "matched":
                conditions[basis] = group_sql(cost_groups, entry.value)
    return conditions


def _weighed_groups(
    connection: duckdb.DuckDBPyConnection,
    line_items: Relation,
    container_usage: Relation,
    allocators: Sequence[Allocator],
    cost_groups: Mapping[str, CostGroup],
) -> list[_WeighedGroup]:
    """The cost groups among the targets, of each family all its groups at once."""
    of_costs = {_ALL_USAGE: None} | {
        f"costGroup {a.usage_of.id}": a.usage_of.id for a in allocators if a.usage_of.kind == "costGroup"
    }
    families = sorted(group.id for group in cost_groups.values() if group.by)
    rows = connection.execute(render("allocation/shares_groups", families=families)).fetchall()
    weighed = []
    for basis, document_id in rows:
        if basis not in of_costs:
            continue
        weighing = of_costs[basis]
        counts = group_sql(cost_groups, weighing) if weighing else Sql("true")
        document = cost_groups.get(document_id)
        if document is None or not document.by:
            condition = Sql(f"({group_sql(cost_groups, document_id)} AND {counts})")
            weighed.append(_WeighedGroup(basis, literal(document_id), condition))
            continue
        group_id = Sql(f"{literal(f'{document_id}/')} || {document.by.value_sql()}")
        if document.of == "containers":
            containers = family_rows(document, line_items, container_usage)
            weighed.append(_WeighedGroup(basis, group_id, document.sql(), containers, "cost"))
        else:
            weighed.append(_WeighedGroup(basis, group_id, Sql(f"({document.sql()} AND {counts})")))
    return weighed


def _create_rates(connection: duckdb.DuckDBPyConnection, month: str, rates: Sequence[Rate], base_currency: str) -> None:
    known = units_of_base(rates, month, base_currency)
    rates_sql = rows_sql({"currency": "VARCHAR", "rate": "HUGEINT"}, list(known.items()))
    create_temp_table(connection, "shares_rates", rates_sql)
    missing = connection.execute(render("allocation/shares_missing_rates")).fetchall()
    if missing:
        names = ", ".join(currency for (currency,) in missing)
        raise OctoError(
            f"exchange_rates.csv has no rate for {names} in {month} or earlier: usage in several currencies is compared in "
            f"{base_currency}. Add a line `{month},{missing[0][0]},<{base_currency} per unit>`.",
            code="exchange-rate-missing",
        )
