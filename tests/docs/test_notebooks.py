"""The page for notebooks: its code runs on a lake as it is."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from octo_pipeline.cli.main import app
from octo_pipeline.tables.account_costs import AccountCosts
from tests.support.case import make, run
from tests.support.small_month import fee_allocator, line_item
from tests.support.workspaces import workspace_in

PAGE = Path(__file__).parents[2] / "docs" / "notebooks.md"
MONTH = "2024-03"


def test_the_code_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line_item("1", "10", billing_month=MONTH), line_item("9", "100", "Fee", "Purchase", billing_month=MONTH)]
    make(run(workspace_in(tmp_path, lines, [fee_allocator()]), [MONTH]), AccountCosts(), [MONTH])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OCTO_CONFIG", "config")
    first, second = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)

    names: dict[str, Any] = {}
    exec(first, names)
    assert names["costs"].set_index("owner_id")["final_cost"].to_dict() == {"1": Decimal(110), "9": Decimal(0)}

    assert CliRunner().invoke(app, ["catalog", "catalog.duckdb"]).exit_code == 0
    exec(second, names)
    assert names["rows"].to_dict("records") == [
        {"allocator_id": "a0", "target_account": "1", "currency": "USD", "cost": 100.0}
    ]
