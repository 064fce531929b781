"""The jobs."""

import dagster as dg

monthly_allocation = dg.define_asset_job(
    "monthly_allocation",
    selection=dg.AssetSelection.all(),
    description="From the vendors' exports to allocations, for one month or a range of months in one run.",
    # A step process would cost four to six seconds of imports for a second of work.
    executor_def=dg.in_process_executor,
)

restatement = dg.define_asset_job(
    "restatement",
    selection=dg.AssetSelection.all() - dg.AssetSelection.groups("raw"),
    description="From what is landed to allocations, for months whose inputs changed. Fetches nothing.",
    executor_def=dg.in_process_executor,
)
