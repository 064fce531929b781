"""What a server remembers holds as long as nothing has changed that it was computed from."""

import json

import pytest

from octo_pipeline.registry.records import Actor
from octo_pipeline.services.remembered import remembered
from octo_pipeline.workspace import Workspace
from tests.support.case import run
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator
from tests.support.workspaces import workspace_in


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return run(workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [fee_allocator("cost*usage")]), [MONTH])


def _computed(workspace: Workspace, name: str = "x", month: str = MONTH) -> list[bool]:
    """An entry if it was computed."""
    calls: list[bool] = []
    remembered(Workspace(workspace.settings), name, month, lambda: calls.append(True))
    return calls


def test_it_is_computed_once(workspace):
    assert _computed(workspace) == [True]
    assert _computed(workspace) == []
    assert _computed(workspace, "y") == [True]
    assert _computed(workspace, "x", "2024-02") == [True]


@pytest.mark.parametrize("change", ["rule", "rates", "registry", "partition"])
def test_a_change_has_it_computed_again(workspace, change):
    _computed(workspace)
    config = workspace.settings.config
    if change == "rule":
        (config / "allocators" / "other.json").write_text(json.dumps(fee_allocator("cost") | {"id": "other"}))
    elif change == "rates":
        (config / "exchange_rates.csv").write_text("month,currency,rate\n")
    elif change == "registry":
        workspace.registry.users.add("ana", "viewer", Actor("tester"))
    else:
        path = workspace.lake.path("allocations", MONTH)
        path.write_bytes(path.read_bytes())
    assert _computed(workspace) == [True]
    assert _computed(workspace) == []


def test_an_error_is_not_remembered(workspace):
    def fail() -> None:
        raise ValueError("too early")

    for _ in range(2):
        with pytest.raises(ValueError, match="too early"):
            remembered(workspace, "fails", MONTH, fail)
