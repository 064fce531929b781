"""The exchange rates as people look at them."""

from octo_pipeline.model.rows import Rows
from octo_pipeline.rules.rates import newest_rates
from octo_pipeline.workspace import Workspace


def listed_rates(workspace: Workspace, month: str | None) -> Rows:
    """The exchange rates: of all months, or those that count in one, each with the month that it is of.

    Raises:
        OctoError: the file of the rates is not valid.
    """
    configuration = workspace.configuration_of(month) if month else workspace.configuration
    rates = newest_rates(configuration.rates, month).values() if month else configuration.rates
    # As text: a rate is not an amount, so it is not cut to the digits of one.
    rows = sorted(
        (rate.month, rate.currency, f"{rate.rate.normalize():f}", configuration.base_currency) for rate in rates
    )
    return Rows(("month", "currency", "rate", "base_currency"), tuple(rows))
