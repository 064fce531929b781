"""The graph of the tables: its order, its phases, what is downstream, and that what tables declare is so."""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from graphlib import CycleError
from pathlib import Path

import pytest

from octo_pipeline.tables import graph
from octo_pipeline.tables.graph import TABLES, downstream_of, order, phases
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.table import OUTSIDE, Reads, Table
from tests.support.case import make, run
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.tables import MART_TABLES
from tests.support.workspaces import workspace_in

ALLOCATION = ["resolved_accounts", "corrections", "usage_shares", "allocations"]
MARTS = ["account_costs", "cost_group_costs", "prepayments"]
DEVELOPERS_PAGE = Path(__file__).parents[2] / "docs" / "dev" / "tables.md"


def names(tables: tuple[Table, ...]) -> list[str]:
    return [table.name for table in tables]


def test_every_table_comes_after_what_it_reads(monkeypatch):
    assert names(order()) == [
        "cost_line_items",
        "container_usage",
        "invoice_costs",
        "matched_items",
        *ALLOCATION,
        *MARTS,
    ]
    monkeypatch.setattr(graph, "TABLES", TABLES[::-1])
    made: set[str] = set(OUTSIDE)
    for table in order():
        assert {read.name for read in table.reads} <= made
        made.add(table.name)


def test_what_needs_no_other_month_can_be_made_side_by_side():
    assert [names(phase) for phase in phases()] == [
        ["cost_line_items", "container_usage", "invoice_costs", "matched_items"],
        [*ALLOCATION, *MARTS],
    ]


@pytest.mark.parametrize(
    ("changed", "made_again"),
    [
        ("landing", ["cost_line_items", "container_usage", "invoice_costs", "matched_items", *ALLOCATION, *MARTS]),
        ("allocators", ["matched_items", *ALLOCATION, *MARTS]),
        ("cost_groups", ["resolved_accounts", "usage_shares", "allocations", *MARTS]),
        ("exchange_rates", ["usage_shares", "allocations", *MARTS]),
        ("decisions", ["corrections", "allocations", *MARTS]),
        ("usage_shares", ["allocations", *MARTS]),
        ("account_costs", []),
    ],
)
def test_what_is_downstream(changed, made_again):
    assert names(downstream_of(changed)) == made_again


def test_tables_that_read_each_other_are_refused(monkeypatch):
    class Circular(MatchedItems):
        reads = (Reads("allocations"),)

    monkeypatch.setattr(graph, "TABLES", (*TABLES[:1], Circular(), *TABLES[2:]))
    with pytest.raises(CycleError):
        order()


def test_a_table_that_reads_what_is_not_there_is_refused(monkeypatch):
    class Misspelt(MatchedItems):
        reads = (Reads("allocator"),)

    monkeypatch.setattr(graph, "TABLES", (*TABLES[:1], Misspelt(), *TABLES[2:]))
    with pytest.raises(KeyError, match="allocator"):
        order()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_columns_come_from_tables_that_are_read(table):
    sources = {source for pairs in table.made_from.values() for source, _ in pairs}
    assert sources <= {read.name for read in table.reads}
    assert set(table.key) <= table.columns.keys()


def test_the_key_tells_the_rows_of_a_month_apart(tmp_path):
    spread = fee_allocator() | {
        "defaultAccount": "3",
        "allocator": [
            {"type": "account", "value": "1", "months": 2, "formula": "cost*0.25"},
            {"type": "account", "value": "2", "formula": "cost*usage*0.5"},
            {"type": "account", "value": "none", "formula": "cost"},
        ],
    }
    lines = [
        *USAGE_OF_10_AND_30,
        FEE_OF_100,
        line_item("1", "4", "Tax", "Tax"),
        line_item("1", "5", charge_description="other"),
    ]
    workspace = run(workspace_in(tmp_path, lines, [spread]), [MONTH])
    for mart in MART_TABLES:
        make(workspace, mart, [MONTH])
    with workspace.lake.connect() as connection:
        for table in TABLES:
            rows = workspace.lake.scan(table.name, [MONTH], table.columns)
            key = ", ".join(table.key)
            same = connection.execute(f"SELECT {key} FROM {rows} GROUP BY {key} HAVING count(*) > 1").fetchall()
            assert same == [], table.name


def test_usage_comes_from_the_column_that_the_lineage_names(tmp_path):
    """Regression: the lineage said billed_cost, while shares sum up effective_cost."""
    line = replace(line_item("1", "10"), billed_cost=Decimal(1), effective_cost=Decimal(20), list_cost=Decimal(300))
    workspace = run(workspace_in(tmp_path, [line, FEE_OF_100], [fee_allocator()]), [MONTH])
    shares = next(table for table in TABLES if table.name == "usage_shares")
    ((source, column),) = shares.made_from["usage_cost"]
    with workspace.lake.connect() as connection:
        lines = workspace.lake.scan(source, [MONTH], {column: "DECIMAL(38,10)", "charge_category": "VARCHAR"})
        usage = workspace.lake.scan(shares.name, [MONTH], shares.columns)
        (named,) = connection.execute(f"SELECT sum({column}) FROM {lines} WHERE charge_category = 'Usage'").fetchone()
        used = connection.execute(f"SELECT usage_cost FROM {usage} WHERE account_id = '1'").fetchall()
    assert used == [(named,)] == [(Decimal(20),)]


def listed_tables() -> Iterator[str]:
    for table in order():
        key = ", ".join(f"`{column}`" for column in table.key)
        readers = [f"`{other.name}`" for other in order() if table.name in {read.name for read in other.reads}]
        yield f"| `{table.name}` | {table.grain} | {key} | {', '.join(readers)} |"


def test_the_page_for_developers_lists_every_table_its_key_and_who_reads_it():
    assert [line for line in DEVELOPERS_PAGE.read_text().splitlines() if line.startswith("| `")] == list(
        listed_tables()
    )
