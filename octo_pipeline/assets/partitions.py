"""The monthly partition, and how a booking month reads earlier origin months."""

import dagster as dg

from octo_pipeline.assets.dagster_compat import accept_unstable_features
from octo_pipeline.model.months import MOST_MONTHS
from octo_pipeline.settings import load_settings

# Every module that uses an unstable feature imports this one first.
accept_unstable_features()

# The current month is a partition too: its bill grows every day.
monthly = dg.MonthlyPartitionsDefinition(start_date=load_settings().start_month, fmt="%Y-%m", end_offset=1)

# The items of earlier months may still have instalments due in a booking month. Months before the first
# partition and months that never ran do not block it.
origin_months = dg.TimeWindowPartitionMapping(start_offset=1 - MOST_MONTHS, allow_nonexistent_upstream_partitions=True)
