"""Which months the daily schedule and the sensors watch."""

from datetime import datetime

from octo_pipeline.services import months
from octo_pipeline.settings import load_settings


def watched_months(now: datetime) -> list[str]:
    """The months of the settings of this code location; see `octo_pipeline.services.months.watched_months`."""
    return months.watched_months(load_settings(), now)
