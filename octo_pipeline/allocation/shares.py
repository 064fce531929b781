"""The usage of each resolved account and its shares (allocation.md §6)."""

from collections.abc import Sequence

import duckdb

from octo_pipeline.allocation.items import is_fee_line_sql
from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import literal, rows_sql
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.rules.rates import RATE_DECIMALS, Rate

USAGE_SHARE_COLUMNS: dict[str, str] = {
    "allocator_id": "VARCHAR",
    "allocator_version": "VARCHAR",
    "entry_index": "INTEGER",
    "entry_type": "VARCHAR",
    "entry_value": "VARCHAR",
    "formula": "VARCHAR",
    "entry_months": "INTEGER",
    "account_id": "VARCHAR",
    "account_rank": "INTEGER",
    "accounts": "INTEGER",
    "usage_currency": "VARCHAR",
    "usage_cost": MONEY,
    "usage_share": "DOUBLE",
    "group_usage_share": "DOUBLE",
}

_UNIT = 10**10  # amounts have ten places: as integers they are multiples of 10⁻¹⁰


def usage_shares(
    connection: duckdb.DuckDBPyConnection,
    line_items: str,
    resolved_accounts: str,
    month: str,
    allocators: Sequence[Allocator],
    rates: Sequence[Rate],
    base_currency: str,
) -> str:
    """Compute what the formulas see of each account.

    Args:
        connection: where the relations can be read; temporary tables are made in it.
        line_items: relation with the columns of ``cost_line_items``, of the booking month.
        resolved_accounts: relation with `resolution.RESOLVED_ACCOUNT_COLUMNS`.
        month: the booking month.
        allocators: the pinned allocator versions of `resolved_accounts`.
        rates: exchange rates; those of the booking month are used.
        base_currency: the currency in which usage of several currencies is compared.

    Returns:
        SQL of `USAGE_SHARE_COLUMNS`, one row an entry and account; ``account_rank`` numbers an allocator's
        rows by account id, then entry index, which is the order that breaks ties of rounding.

    Raises:
        OctoError: a rate is missing; the sentence names month and currency.
    """
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE shares_usage AS SELECT sub_account_id AS account_id, "
        f"billing_currency AS currency, sum(effective_cost)::{MONEY} AS cost FROM {line_items} "
        f"WHERE NOT {is_fee_line_sql()} GROUP BY sub_account_id, billing_currency HAVING cost <> 0"
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE shares_listed AS SELECT DISTINCT allocator_version, account_id "
        f"FROM {resolved_accounts} WHERE account_id IS NOT NULL"
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE shares_currency AS SELECT allocator_version, "
        "count(DISTINCT currency) > 1 AS is_mixed, "
        f"CASE WHEN count(DISTINCT currency) > 1 THEN {literal(base_currency)} ELSE min(currency) END AS usage_currency "
        "FROM shares_listed LEFT JOIN shares_usage USING (account_id) GROUP BY allocator_version"
    )
    _create_rates(connection, month, rates, base_currency)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE shares_account AS SELECT allocator_version, account_id, usage_currency, "
        f"greatest(coalesce(sum(CASE WHEN is_mixed THEN {_converted()} ELSE cost END), 0), 0)::{MONEY} AS usage_cost "
        "FROM shares_listed JOIN shares_currency USING (allocator_version) "
        "LEFT JOIN shares_usage USING (account_id) LEFT JOIN shares_rates USING (currency) "
        "GROUP BY allocator_version, account_id, usage_currency"
    )
    columns = {
        "allocator_version": "VARCHAR",
        "entry_index": "INTEGER",
        "formula": "VARCHAR",
        "entry_months": "INTEGER",
    }
    entries = [(a.version, i, e.formula, e.months) for a in allocators for i, e in enumerate(a.entries)]
    connection.execute(f"CREATE OR REPLACE TEMP TABLE shares_entries AS {rows_sql(columns, entries)}")
    return (
        "SELECT allocator_id, allocator_version, entry_index, entry_type, entry_value, formula, entry_months, "
        "account_id, "
        "row_number() OVER (PARTITION BY allocator_version ORDER BY account_id, entry_index)::INTEGER AS account_rank, "
        "count(*) OVER entry::INTEGER AS accounts, usage_currency, usage_cost, "
        f"{_share('sum(usage_cost) FILTER (is_first) OVER listed')} AS usage_share, "
        f"{_share('sum(usage_cost) OVER entry')} AS group_usage_share "
        # An account listed by several entries counts once in the total: its first entry stands for it.
        "FROM (SELECT *, row_number() OVER (PARTITION BY allocator_version, account_id ORDER BY entry_index) = 1 "
        "AS is_first FROM "
        f"{resolved_accounts} WHERE account_id IS NOT NULL) "
        "JOIN shares_entries USING (allocator_version, entry_index) "
        "JOIN shares_account USING (allocator_version, account_id) "
        "WINDOW entry AS (PARTITION BY allocator_version, entry_index), listed AS (PARTITION BY allocator_version)"
    )


def _share(total: str) -> str:
    return f"CASE WHEN ({total}) = 0 THEN 0::DOUBLE ELSE usage_cost::DOUBLE / ({total})::{MONEY}::DOUBLE END"


def _converted() -> str:
    """SQL of ``cost × rate`` rounded half away from zero to ten places, in integers.

    DECIMAL(38,10) × DECIMAL(38,10) overflows at 10⁹ × 10⁹, so whole units and the fraction are multiplied apart.
    With rates of 16 places the product overflows (an error, never a wrong number) at 10²² in the base currency.
    """
    amount = f"(cost * {_UNIT}::DECIMAL(11,0))::HUGEINT"
    product = f"(({amount} // {_UNIT}) * rate + (({amount} % {_UNIT}) * rate) // {_UNIT})"
    shift = 10 ** (RATE_DECIMALS - 10)
    rounded = f"(({product} + sign({product}) * {shift // 2}) // {shift})"
    return f"({rounded}::DECIMAL(38,0) * 0.0000000001::DECIMAL(11,10))"


def _create_rates(connection: duckdb.DuckDBPyConnection, month: str, rates: Sequence[Rate], base_currency: str) -> None:
    unit = 10**RATE_DECIMALS
    known = {r.currency: int(r.rate * unit) for r in rates if r.month == month} | {base_currency: unit}
    rates_sql = rows_sql({"currency": "VARCHAR", "rate": "HUGEINT"}, list(known.items()))
    connection.execute(f"CREATE OR REPLACE TEMP TABLE shares_rates AS {rates_sql}")
    missing = connection.execute(
        "SELECT DISTINCT currency FROM shares_listed JOIN shares_currency USING (allocator_version) "
        "JOIN shares_usage USING (account_id) WHERE is_mixed AND currency NOT IN (SELECT currency FROM shares_rates) "
        "ORDER BY currency"
    ).fetchall()
    if missing:
        names = ", ".join(currency for (currency,) in missing)
        raise OctoError(
            f"exchange_rates.csv has no rate for {names} in {month}: usage in several currencies is compared in "
            f"{base_currency}. Add a line `{month},{missing[0][0]},<{base_currency} per unit>`."
        )
