"""Which months the schedule and the sensors look after."""

from datetime import datetime

from octo_pipeline.assets.partitions import monthly
from octo_pipeline.model.months import add_months, month_range
from octo_pipeline.settings import load_settings


def watched_months(now: datetime) -> list[str]:
    """The last months up to the current one, no earlier than the first partition; never empty."""
    current = now.strftime("%Y-%m")
    first = monthly.get_first_partition_key() or current
    return month_range(min(current, max(add_months(current, 1 - load_settings().watched_months), first)), current)
