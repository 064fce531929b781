"""The tables by group, for tests that make only some of them."""

from octo_pipeline.tables.graph import order
from octo_pipeline.tables.table import Table


def tables_of(group: str) -> tuple[Table, ...]:
    return tuple(table for table in order() if table.group == group)


ALLOCATION_TABLES = tables_of("allocation")
MART_TABLES = tables_of("marts")
