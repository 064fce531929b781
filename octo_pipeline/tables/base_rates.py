"""The exchange rates of a month to the base currency, as tables read and depend on them."""

from octo_pipeline.lake.lake import fingerprint
from octo_pipeline.model.sql import Sql, rows_sql
from octo_pipeline.rules.rates import newest_rates, units_of_base
from octo_pipeline.workspace import Workspace


def base_rates(workspace: Workspace, month: str) -> Sql:
    """SQL of (currency, base_currency, rate), one row per currency with a rate in the month or earlier.

    The rate is an integer of `octo_pipeline.rules.rates.RATE_DECIMALS` places.
    """
    configuration = workspace.configuration_of(month)
    base = configuration.base_currency
    units = units_of_base(configuration.rates, month, base)
    columns = {"currency": "VARCHAR", "base_currency": "VARCHAR", "rate": "HUGEINT"}
    return rows_sql(columns, [(currency, base, rate) for currency, rate in units.items()])


def rate_inputs(workspace: Workspace, month: str) -> dict[str, str]:
    """The inputs of a table that reads them, for its fingerprint."""
    configuration = workspace.configuration_of(month)
    current = newest_rates(configuration.rates, month)
    rates = {currency: str(rate.rate) for currency, rate in current.items()}
    return {"exchange_rates": fingerprint(rates), "base_currency": configuration.base_currency}
