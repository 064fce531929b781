"""The exchange rates as people look at them."""

from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.templates import render
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


def missing_rates(workspace: Workspace, month: str) -> list[str]:
    """The currencies that a month is billed in and that have no rate, neither of the month nor of an earlier one."""
    configuration = workspace.configuration_of(month)
    known = {configuration.base_currency, *newest_rates(configuration.rates, month)}
    line_items = workspace.lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS)
    with workspace.lake.connect() as connection:
        rows = connection.execute(render("services/billed_currencies", line_items=line_items)).fetchall()
    return [currency for (currency,) in rows if currency not in known]
