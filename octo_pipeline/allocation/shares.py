"""The usage of each resolved account and its shares (allocation.md §6).

Stages, for one booking month:
1. ``shares_usage``: the usage of each account and currency.
2. ``shares_listed``: the accounts that each allocator lists.
3. ``shares_currencies``: the currency in which each allocator's usage is compared. It is an error if a rate that this
   needs is missing (``shares_missing_rates``).
4. ``usage_shares``: the usage of each listed account in that currency, and its shares.

Edge cases: an account with negative usage counts as one without usage; if nobody has usage, all shares are 0.
"""

from collections.abc import Sequence

import duckdb

from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import Relation, Sql, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.rules.rates import RATE_DECIMALS, Rate, units_of_base

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


def usage_shares_sql(
    connection: duckdb.DuckDBPyConnection,
    line_items: Relation,
    resolved_accounts: Relation,
    month: str,
    allocators: Sequence[Allocator],
    rates: Sequence[Rate],
    base_currency: str,
) -> Sql:
    """Prepare the inputs of the formulas for each account.

    Args:
        connection: where the relations can be read; temporary tables are created in it.
        line_items: relation with the columns of ``cost_line_items``, of the booking month.
        resolved_accounts: relation with `resolution.RESOLVED_ACCOUNT_COLUMNS`.
        month: the booking month.
        allocators: the pinned allocator versions of `resolved_accounts`.
        rates: exchange rates; those of the booking month are used, or the newest earlier ones.
        base_currency: the currency in which usage of several currencies is compared.

    Returns:
        SQL of `USAGE_SHARE_COLUMNS`, over the temporary tables: one row per entry and account. ``account_rank``
        numbers an allocator's rows by account id, then entry index: the order that breaks ties of rounding.

    Raises:
        OctoError: a currency has no rate in the month or earlier; the message names both.
    """
    usage = render("allocation/shares_usage", line_items=line_items)
    create_temp_table(connection, "shares_usage", usage)
    listed = render("allocation/shares_listed", resolved_accounts=resolved_accounts)
    create_temp_table(connection, "shares_listed", listed)
    currencies = render("allocation/shares_currencies", base_currency=base_currency)
    create_temp_table(connection, "shares_currencies", currencies)
    _create_rates(connection, month, rates, base_currency)
    return render(
        "allocation/usage_shares",
        resolved_accounts=resolved_accounts,
        entries=_entries_sql(allocators),
        rate_decimals=RATE_DECIMALS,
    )


def _entries_sql(allocators: Sequence[Allocator]) -> Sql:
    columns = {
        "allocator_version": "VARCHAR",
        "entry_index": "INTEGER",
        "formula": "VARCHAR",
        "entry_months": "INTEGER",
    }
    return rows_sql(columns, [(a.version, i, e.formula, e.months) for a in allocators for i, e in enumerate(a.entries)])


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
