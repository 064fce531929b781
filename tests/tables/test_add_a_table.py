"""A new table is a file and a line: the example of docs/dev/add-a-table.md, added to a copy of the program."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from octo_pipeline.tables.graph import TABLES
from tests.support.case import run
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator
from tests.support.workspaces import workspace_in

ROOT = Path(__file__).parents[2]
GRAPH = "octo_pipeline/tables/graph.py"

LOOK = """
import json, sys
import dagster as dg
from octo_pipeline.services.views import views
from octo_pipeline.definitions import defs
from octo_pipeline.services.months import all_steps
from octo_pipeline.settings import load_settings
from octo_pipeline.tables import graph
from octo_pipeline.tables.table import materialise
from octo_pipeline.workspace import Workspace

month = sys.argv[1]
workspace = Workspace(load_settings())
made = materialise(workspace, next(table for table in graph.TABLES if table.name == "taken_costs"), month)
stale_before = [partition.table for partition in graph.stale(Workspace(load_settings()))]
for file in (load_settings().config / "allocators").iterdir():
    file.unlink()
materialise(Workspace(load_settings()), next(table for table in graph.TABLES if table.name == "matched_items"), month)
asset = defs.resolve_asset_graph().get(dg.AssetKey("taken_costs"))
lineage = asset.metadata["dagster/column_lineage"].deps_by_column["taken_cost"]
with workspace.lake.connect() as connection:
    rows = connection.execute(views(workspace)["taken_costs"]).fetchall()
print(json.dumps({
    "order": [table.name for table in graph.order()],
    "downstream": [table.name for table in graph.downstream_of("matched_items")],
    "first phase": [table.name for table in graph.phases()[0]],
    "tables": len(graph.TABLES),
    "steps": [step.name for step in all_steps()],
    "rows": [[str(value) for value in row] for row in rows],
    "group": asset.group_name,
    "description": asset.description.strip().split("\\n")[0],
    "parents": [key.to_user_string() for key in asset.parent_keys],
    "lineage": [[dep.asset_key.to_user_string(), dep.column_name] for dep in lineage],
    "is_checked": [key.name for key in defs.resolve_asset_graph().asset_check_keys
                   if key.asset_key == asset.key],
    "in the job": asset.key in defs.resolve_job_def("monthly_allocation").asset_layer.executable_asset_keys,
    "stale before": stale_before,
    "stale after": [[partition.table, partition.changed] for partition in graph.stale(Workspace(load_settings()))
                    if partition.table == "taken_costs"],
}))
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The program in a folder of its own, with the example's file and its line."""
    folder = tmp_path / "program"
    for name in ("octo_pipeline", "dbt_project"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    example = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/dev/add-a-table.md").read_text(), re.M | re.S)[0]
    (folder / "octo_pipeline/tables/taken_costs.py").write_text(example)
    text = (folder / GRAPH).read_text()
    text = text.replace(
        "TABLES: tuple[Table, ...] = (\n",
        "from octo_pipeline.tables.taken_costs import TakenCosts\nTABLES: tuple[Table, ...] = (\n    TakenCosts(),\n",
    )
    (folder / GRAPH).write_text(text)
    return folder


def test_the_example_of_the_page_is_known_wherever_tables_are(copy, tmp_path):
    workspace = run(workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [fee_allocator()]), [MONTH])
    environment = os.environ | {
        "PYTHONPATH": str(copy),
        "OCTO_LAKE": str(workspace.settings.lake),
        "OCTO_CONFIG": str(workspace.settings.config),
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOOK, MONTH], env=environment, capture_output=True, text=True, cwd=copy
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["order"].index("taken_costs") > seen["order"].index("matched_items")
    assert "taken_costs" in seen["downstream"]
    assert "taken_costs" in seen["first phase"]
    assert seen["tables"] == len(seen["order"]) == len(TABLES) + 1
    # The total of the progress bar is the number of steps.
    assert "taken_costs" in seen["steps"]
    assert seen["rows"] == [[MONTH, "a0", "USD", "100.0000000000"]]
    assert (seen["group"], seen["description"]) == ("marts", "What each allocator takes of the month's items.")
    assert seen["parents"] == ["matched_items"]
    assert seen["lineage"] == [["matched_items", "cost"]]
    assert seen["is_checked"] == ["no_month_is_stale"]
    assert seen["in the job"]
    assert "taken_costs" not in seen["stale before"]
    assert seen["stale after"] == [["taken_costs", [f"matched_items/{MONTH}"]]]
