"""All tables of the lake, in the order in which one is made from the other.

Apart from the package itself, because who needs one table should not have to load all that the others need.
"""

from octo_pipeline.tables.allocation import ALLOCATION_TABLES
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.marts import MART_TABLES
from octo_pipeline.tables.table import Table

TABLES: tuple[Table, ...] = (CostLineItems(), *ALLOCATION_TABLES, *MART_TABLES)
