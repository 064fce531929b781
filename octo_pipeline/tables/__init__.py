"""What each table of the lake is made from and how: shared by the assets, the command line and the checks.

A table is a `Table`: its inputs (for fingerprints) and its making. `materialise` is the one way to make a
partition. Nothing here knows Dagster.
"""

from octo_pipeline.tables.allocation import ALLOCATION_TABLES
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.marts import MART_TABLES
from octo_pipeline.tables.table import Table

# In the order in which one is made from the other.
TABLES: tuple[Table, ...] = (CostLineItems(), *ALLOCATION_TABLES, *MART_TABLES)
