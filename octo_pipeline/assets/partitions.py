"""The monthly partition, and how a booking month reads earlier origin months."""

import warnings

import dagster as dg

from octo_pipeline.settings import load_settings

# What is beta in Dagster and used here (backfill policies, partitioned checks, the mapping below) is used
# knowingly and covered by tests; every module that uses it imports this one first.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)

# The current month is a partition too: its bill grows every day.
monthly = dg.MonthlyPartitionsDefinition(start_date=load_settings().start_month, fmt="%Y-%m", end_offset=1)

# A booking month takes what the items of the 35 months before it still owe. Months before the first partition,
# and months that were never run, are no obstacle.
origin_months = dg.TimeWindowPartitionMapping(start_offset=-35, allow_nonexistent_upstream_partitions=True)
