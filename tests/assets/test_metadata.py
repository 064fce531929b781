"""What a materialisation tells: exact figures, tables that no value breaks, charts that are images."""

import base64
import re
from decimal import Decimal
from xml.etree import ElementTree

import dagster as dg
import pytest

from octo_pipeline.assets.metadata import figures_metadata, markdown_table
from octo_pipeline.assets.specs import table_metadata
from octo_pipeline.assets.tables import assets
from octo_pipeline.model.rows import Rows
from octo_pipeline.services.figures import Bars, Figures, figures
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.tables.table import materialise
from tests.support.case import run
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.workspaces import workspace_in

HALF = fee_allocator("cost*0.25") | {"defaultAccount": "3"}
LINES = [*USAGE_OF_10_AND_30, FEE_OF_100, line_item("9", "7.5", "Tax", "Tax", charge_description="VAT")]


@pytest.fixture
def month(tmp_path):
    workspace = run(workspace_in(tmp_path, LINES, [HALF | {"id": "half"}]), [MONTH])
    for table in (AccountCosts(), CostGroupCosts()):
        materialise(workspace, table, MONTH)
    return workspace


def test_allocations_tell_what_was_allocated_what_was_not_and_by_which_rule(month):
    told = figures(month, "allocations", MONTH)
    assert told.numbers == {
        "allocated USD": Decimal(50),
        "unallocated USD": Decimal("7.5"),
        "remainder USD": Decimal(50),
        "allocated effective USD": Decimal(50),
        "unallocated effective USD": Decimal("7.5"),
        "remainder effective USD": Decimal(50),
    }
    assert told.tables["by allocator"].rows == (
        ("half", "fee", 1, 2, "USD", *(Decimal(100), Decimal(50), Decimal(50)) * 2),
    )
    assert told.tables["left where it was billed"].rows == (
        ("fee", "no rule takes it", "9", "VAT", "USD", Decimal("7.5"), Decimal("7.5")),
    )


def test_account_costs_tell_totals_and_draw_who_got_what(month):
    told = figures(month, "account_costs", MONTH)
    assert told.numbers == {
        "billed USD": Decimal("147.5"),
        "allocated USD": Decimal(100),
        "final USD": Decimal("147.5"),
        "allocated percent USD": Decimal("67.8"),
        "effective USD": Decimal("147.5"),
        "allocated effective USD": Decimal(100),
        "amortised final USD": Decimal("147.5"),
    }
    assert told.charts["allocated per account USD"].bars == (
        ("3", Decimal(50)),
        ("1", Decimal(25)),
        ("2", Decimal(25)),
    )


def test_matched_items_count_takers_and_conflicts(month):
    assert figures(month, "matched_items", MONTH).numbers == {"taken": 1, "untaken": 1, "conflicts": 0}


@pytest.mark.parametrize("table", [table.name for table in TABLES[1:]])
def test_a_month_without_anything_can_be_told_too(tmp_path, table):
    workspace = run(workspace_in(tmp_path, [], []), [MONTH])
    for mart in TABLES[-3:]:
        materialise(workspace, mart, MONTH)
    assert figures_metadata(figures(workspace, table, MONTH)) is not None


def test_no_value_breaks_a_table():
    told = markdown_table(Rows(("a_b", "cost"), (("x|y\nz<b>", Decimal("1234.5000000001")), (None, Decimal(2)))))
    assert told.splitlines() == ["| a b | cost |", "| --- | --- |", "| x\\|y z\\<b\\> | 1,234.5000000001 |", "|  | 2 |"]
    assert markdown_table(Rows(("a",), ())) == "none"
    assert markdown_table(Rows(("a",), tuple((i,) for i in range(45)))).endswith("… and 15 more rows")


def test_a_chart_is_an_image_whose_bars_are_in_proportion():
    chart = Bars("Who <got> what", (("a", Decimal(200)), ("b", Decimal(-50)), ("z" * 40, Decimal(0))))
    value = figures_metadata(Figures({}, {}, {"chart": chart}))["chart"].value
    assert value.startswith("![Who <got> what](data:image/svg+xml;base64,")
    drawn = ElementTree.fromstring(base64.b64decode(value.split("base64,")[1].rstrip(")")))
    _, positive, negative = drawn.findall("{*}path")
    widths = [re.findall(r"h([\d.]+)v16", path.attrib["d"]) for path in (positive, negative)]
    assert widths == [["420.0", "0.0"], ["105.0"]]
    assert positive.attrib["fill"] != negative.attrib["fill"]


def test_a_chart_is_small():
    """Regression: the charts of a run over two years and three currencies had 1.3 MB, and Dagster keeps every one."""
    bars = tuple((f"{400000000000 + n} team", Decimal(1000 - n)) for n in range(15))
    value = figures_metadata(Figures({}, {}, {"chart": Bars("Allocated to accounts in 2024-03, USD", bars)}))[
        "chart"
    ].value
    assert len(value) < 3_500


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_column_is_described_and_lineage_names_columns_that_are_there(table):
    told = table_metadata(table)
    assert [column.name for column in told["dagster/column_schema"].columns] == list(table.columns)
    assert all(column.description.endswith(".") for column in told["dagster/column_schema"].columns)
    columns = {one.name: one.columns for one in TABLES}
    for column, sources in table.made_from.items():
        assert column in table.columns
        assert all(name in columns[asset] for asset, name in sources)
    assert isinstance(told["dagster/column_lineage"], dg.TableColumnLineage)


def test_a_table_whose_input_was_never_made_is_refused_in_the_graph(tmp_path):
    """Regression: months that were never landed were published as empty tables, and green."""
    workspace = workspace_in(tmp_path, [], [])
    result = dg.materialize(
        [asset for asset in assets if asset.key == dg.AssetKey("matched_items")],
        partition_key=MONTH,
        resources={"workspace": workspace},
        raise_on_error=False,
    )
    assert not result.success
    (failed,) = [event for event in result.all_node_events if event.is_step_failure]
    reason = failed.step_failure_data.user_failure_data.description
    assert reason.startswith("cost_line_items has no 2024-01 yet, and matched_items is made from it.")
    assert workspace.lake.months("matched_items") == []
