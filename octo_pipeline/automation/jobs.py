"""The job over the asset graph; the jobs that are one op each are in `operations` and `accounts`."""

import dagster as dg

from octo_pipeline.automation.launchpad import AREA

monthly_allocation = dg.define_asset_job(
    "monthly_allocation",
    # An export is made when somebody wants one.
    selection=dg.AssetSelection.all() - dg.AssetSelection.assets("focus_export"),
    tags={AREA: "months"},
    description="From the vendors' exports to allocations, for one month.",
    # A step process would cost four to six seconds of imports for a second of work.
    executor_def=dg.in_process_executor,
)
