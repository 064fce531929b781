"""Which months the daily schedule and the sensors watch."""

from datetime import datetime

from octo_pipeline.assets.partitions import monthly
from octo_pipeline.model.months import add_months, month_range
from octo_pipeline.settings import load_settings


def watched_months(now: datetime) -> list[str]:
    """The last OCTO_WATCHED_MONTHS months up to the current one, none of them before the first partition; never empty."""
    current = now.strftime("%Y-%m")
    earliest = monthly.get_first_partition_key() or current
    first = max(add_months(current, 1 - load_settings().watched_months), earliest)
    return month_range(min(first, current), current)
