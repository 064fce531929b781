"""What cost groups match in a month, and the proof of what is shown under them (allocation.md §11).

The filters are evaluated here; the sections are put together by the mart ``cost_group_costs``.

Stages:
1. ``matches_sql`` goes once over line items and rows and sums them by the columns that any filter looks at; of
   these few sums it says which cost groups match, as a list.
2. ``charges_sql`` and ``members_sql`` turn the lists into one row a cost group.

Drawback: a filter on a column of unique values leaves as many sums as there are rows.

Edge cases: an account-usage item is a line item with the same columns, so what is distributed is matched by the
same filters that match its line item, and is subtracted. A row booked from a fee makes its target account a
member of the cost groups that name this very account.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import duckdb

from octo_pipeline.allocation.items import is_fee_line_sql, item_id_sql
from octo_pipeline.allocation.proofs import ProofError
from octo_pipeline.model.columns import COST_GROUP_COLUMNS, MONEY
from octo_pipeline.model.sql import Sql, literal
from octo_pipeline.rules.cost_group import CostGroup

COST_GROUP_COST_COLUMNS: dict[str, str] = {
    "cost_group_id": "VARCHAR",
    "section": "VARCHAR",
    "vendor": "VARCHAR",
    "account": "VARCHAR",
    "service_code": "VARCHAR",
    "service_name": "VARCHAR",
    "currency": "VARCHAR",
    "cost": MONEY,
}

# What a filter can look at, under the names it knows.
_FILTERED = ("vendor", *COST_GROUP_COLUMNS.values(), "tags", "project_labels")
# The same of an allocation row: its account is given apart, since it is the source of some and the target of others.
_RENAMED = {"billing_account_id": "payer", "billing_currency": "currency"}

_DISTRIBUTED = "kind = 'item' AND category = 'account' AND status = 'checked_allocated'"
_BOOKED = "kind <> 'item' AND category = 'account'"

# What a sum is of -> the sum.
_Sums = dict[tuple[str, ...], Decimal]


def matches_sql(line_items: str, allocations: str, groups: Sequence[CostGroup]) -> str:
    """SQL of what the cost groups match, summed, with ``cost_group_ids`` of those that match it.

    Args:
        line_items: relation with the columns of ``cost_line_items``, of the month.
        allocations: relation of the explained allocations of the month.
        groups: the cost groups.

    Returns:
        One row a part, vendor, account, service, currency and list of cost groups. ``part`` is usage (line items
        of no fee item), fee (the others), distributed (account-usage items), booked (splits and remainders of
        such, matched on the target account) or named (accounts of booked rows that a filter names; they cost 0).
    """
    lines = ", ".join(_FILTERED)
    rows = " UNION ALL ".join(
        (
            f"SELECT CASE WHEN {is_fee_line_sql()} THEN 'fee' ELSE 'usage' END AS part, {lines}, billed_cost AS cost "
            f"FROM {line_items}",
            _rows_as_lines("distributed", allocations, "source_account", _DISTRIBUTED),
            _rows_as_lines("booked", allocations, "target_account", _BOOKED),
        )
    )
    named = {g.id: sql for g in groups if (sql := g.account_sql(vendor=Sql("vendor"), account=Sql("sub_account_id")))}
    targets = f"SELECT DISTINCT vendor, target_account AS sub_account_id FROM {allocations} WHERE kind <> 'item'"
    return (
        "SELECT part, vendor, sub_account_id AS account, service_code, max(service_name) AS service_name, "
        f"billing_currency AS currency, sum(cost)::{MONEY} AS cost, cost_group_ids FROM "
        f"(SELECT *, {_ids({g.id: g.sql() for g in groups})} AS cost_group_ids FROM {_summed(rows, groups)}) "
        "WHERE len(cost_group_ids) > 0 GROUP BY part, vendor, sub_account_id, service_code, billing_currency, "
        "cost_group_ids UNION ALL "
        f"SELECT 'named', vendor, sub_account_id, NULL, NULL, NULL, 0::{MONEY}, cost_group_ids FROM "
        f"(SELECT *, {_ids(named)} AS cost_group_ids FROM ({targets})) WHERE len(cost_group_ids) > 0"
    )


def charges_sql(matches: str) -> str:
    """SQL of the charges that a cost group's filters match: (cost_group_id, part, …, cost)."""
    return (
        "SELECT unnest(cost_group_ids) AS cost_group_id, part, vendor, account, service_code, service_name, currency, "
        f"cost FROM {matches} WHERE part IN ('usage', 'distributed', 'booked')"
    )


def members_sql(matches: str) -> str:
    """SQL of the accounts of each cost group: (cost_group_id, account)."""
    return (
        f"SELECT DISTINCT unnest(cost_group_ids) AS cost_group_id, account FROM {matches} "
        "WHERE part IN ('usage', 'fee', 'named')"
    )


def _rows_as_lines(part: str, allocations: str, account: str, condition: str) -> str:
    """SQL of allocation rows under the names of line items, on the account that is given."""
    columns = ", ".join(
        f"{account} AS {name}" if name == "sub_account_id" else f"{_RENAMED.get(name, name)} AS {name}"
        for name in _FILTERED
    )
    return f"SELECT {literal(part)} AS part, {columns}, cost FROM {allocations} WHERE {condition}"


def _summed(rows: str, groups: Sequence[CostGroup]) -> str:
    """A relation of the rows summed by what the filters look at: a filter costs more than a sum, and is asked less."""
    columns = {"part": None, "vendor": None, "sub_account_id": None, "service_code": None, "billing_currency": None}
    for group in groups:
        for options in group.combinations.by_vendor().values():
            columns |= dict.fromkeys(COST_GROUP_COLUMNS[key] for conditions in options.filters for key in conditions)
            columns |= dict.fromkeys(column for filters, column in options.label_lists() if filters)
    by = ", ".join(columns)
    name = "" if "service_name" in columns else "max(service_name) AS service_name, "
    return f"(SELECT {by}, {name}sum(cost)::{MONEY} AS cost FROM ({rows}) GROUP BY {by})"


def _ids(conditions: Mapping[str, str]) -> str:
    """SQL of the list of the ids whose condition holds."""
    flags = ", ".join(f"CASE WHEN {sql} THEN {literal(name)} END" for name, sql in conditions.items())
    return f"list_filter([{flags}]::VARCHAR[], lambda id: id IS NOT NULL)"


def prove_cost_group_costs(
    connection: duckdb.DuckDBPyConnection,
    line_items: str,
    allocations: str,
    members: str,
    staged: str,
    month: str,
    groups: Sequence[CostGroup],
) -> None:
    """Prove what is shown under each cost group by filtering anew, item by item, what was summed by lists.

    Args:
        connection: where the relations can be read.
        line_items: relation with the columns of ``cost_line_items``, of the month.
        allocations: relation of the explained allocations of the month.
        members: relation (cost_group_id, account).
        staged: relation with `COST_GROUP_COST_COLUMNS` as written.
        month: the month.
        groups: the cost groups.

    Raises:
        ProofError: with cost group, section, currency and amounts.
    """
    # A cost group that matches everything, proved with the others: its filter is what holds always.
    filters: dict[str, str] = {"": "TRUE"} | {g.id: g.sql() for g in groups}
    parts = {
        "direct": _filtered_sums(connection, _summed(_undistributed(line_items, allocations), groups), filters),
        "account": _filtered_sums(
            connection,
            _summed(_rows_as_lines("booked", allocations, "target_account", _BOOKED), groups),
            filters,
        ),
    }
    shown = _sums(
        connection,
        f"SELECT cost_group_id, section, currency, sum(cost) FROM {staged} "
        "WHERE section IN ('direct', 'account') GROUP BY ALL",
    )
    wanted: _Sums = {
        (group, section, currency): cost
        for section, sums in parts.items()
        for (group, currency), cost in sums.items()
        if group
    }
    held = (
        "(SELECT category, CASE WHEN kind = 'item' THEN source_account ELSE target_account END AS account, currency, "
        f"sum(cost) AS cost FROM {allocations} WHERE category <> 'account' AND status <> 'checked_allocated' "
        "GROUP BY ALL)"
    )
    by_account = _sums(
        connection,
        f"SELECT cost_group_id, section, account, currency, sum(cost) FROM {staged} "
        "WHERE section IN ('fee', 'savings') GROUP BY ALL",
    )
    of_members = _sums(
        connection,
        f"SELECT cost_group_id, category, account, currency, cost FROM {members} JOIN {held} USING (account)",
    )
    _compare(month, "direct and account costs are those of what the filters match", shown, wanted)
    _compare(month, "fees and savings are all those of the group's accounts", by_account, of_members)
    _compare(
        month,
        "direct, account and fee of everything are the bill, less what was distributed, plus what is due",
        _everything(connection, parts, held),
        _whole(connection, line_items, allocations),
    )


def _undistributed(line_items: str, allocations: str) -> str:
    """The line items of no fee item whose own item was not distributed, found by the item's id."""
    gone = f"(SELECT item_id, source_account, service_code FROM {allocations} WHERE {_DISTRIBUTED})"
    # An id costs a hash, so it is asked only where some item of the same account and service is gone.
    suspect = (
        f"(sub_account_id, coalesce(service_code, '')) IN (SELECT (source_account, coalesce(service_code, '')) "
        f"FROM {gone})"
    )
    return (
        f"SELECT 'usage' AS part, {', '.join(_FILTERED)}, billed_cost AS cost FROM {line_items} "
        f"WHERE NOT {is_fee_line_sql()} AND "
        f"CASE WHEN {suspect} THEN {item_id_sql('account')} NOT IN (SELECT item_id FROM {gone}) ELSE true END"
    )


def _filtered_sums(connection: duckdb.DuckDBPyConnection, rows: str, filters: Mapping[str, str]) -> _Sums:
    """(id, currency) -> Σ cost of the rows that the id's filter matches."""
    sums = ", ".join(f"sum(cost) FILTER ({sql})" for sql in filters.values())
    found = connection.execute(f"SELECT billing_currency, {sums} FROM {rows} GROUP BY billing_currency").fetchall()
    return {(name, row[0]): cost for row in found for name, cost in zip(filters, row[1:], strict=True) if cost}


def _sums(connection: duckdb.DuckDBPyConnection, query: str) -> _Sums:
    return {tuple(row[:-1]): row[-1] for row in connection.execute(query).fetchall()}


def _added(parts: Iterable[tuple[str, Decimal | None]]) -> _Sums:
    total: _Sums = {}
    for currency, cost in parts:
        total[(currency,)] = total.get((currency,), Decimal(0)) + (cost or 0)
    return total


def _everything(connection: duckdb.DuckDBPyConnection, parts: Mapping[str, _Sums], held: str) -> _Sums:
    """By currency: direct + account + fee of the cost group that matches everything."""
    matched = [(key[1], cost) for sums in parts.values() for key, cost in sums.items() if not key[0]]
    fees = connection.execute(f"SELECT currency, cost FROM {held} WHERE category = 'fee'").fetchall()
    return _added([*matched, *fees])


def _whole(connection: duckdb.DuckDBPyConnection, line_items: str, allocations: str) -> _Sums:
    """By currency: Σ billed − Σ distributed fee and account-usage items + Σ their tranches due (allocation.md §12)."""
    return _added(connection.execute(whole_sql(line_items, allocations)).fetchall())


def whole_sql(line_items: str, allocations: str) -> str:
    """SQL of (currency, amount) whose sums are what all accounts together bear in the month.

    Args:
        line_items: relation with the columns of ``cost_line_items``, of the month.
        allocations: relation of the explained allocations of the month.
    """
    return (
        f"SELECT billing_currency, sum(billed_cost) FROM {line_items} GROUP BY ALL UNION ALL "
        f"SELECT currency, -sum(cost) FROM {allocations} WHERE kind = 'item' AND status = 'checked_allocated' "
        "AND category <> 'savings' GROUP BY ALL UNION ALL "
        # Each row says its tranche, so one row an item does; the rows themselves are not added up here.
        "SELECT currency, sum(tranche_cost) FROM (SELECT currency, item_id, origin_month, "
        f"any_value(tranche_cost) AS tranche_cost FROM {allocations} WHERE kind <> 'item' AND category <> 'savings' "
        "GROUP BY ALL) GROUP BY ALL"
    )


def _compare(month: str, claim: str, shown: _Sums, wanted: _Sums) -> None:
    off = sorted(k for k in shown.keys() | wanted.keys() if shown.get(k, Decimal(0)) != wanted.get(k, Decimal(0)))
    if off:
        first = off[0]
        raise ProofError(
            f"cost_group_costs {month} fails its proof that {claim}: {len(off)} sums differ, the first: "
            f"{' '.join(first)} is {shown.get(first, Decimal(0)):f}, not {wanted.get(first, Decimal(0)):f}. "
            f"Run {month} again, allocations first."
        )
