"""The monthly partition."""

import dagster as dg

from octo_pipeline.settings import load_settings

# The current month is a partition too: its bill grows every day.
monthly = dg.MonthlyPartitionsDefinition(start_date=load_settings().start_month, fmt="%Y-%m", end_offset=1)

# A month is landed, made and checked in a run of its own, so that a bad one keeps no other from being finished.
a_run_a_month = dg.BackfillPolicy.multi_run(max_partitions_per_run=1)
