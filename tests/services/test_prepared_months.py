"""What simulations keep of a month holds as long as nothing has changed that it was made from."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from octo_pipeline.model.errors import InputChangedError, OctoError
from octo_pipeline.registry.records import NewAccount
from octo_pipeline.rules.allocator import parse_allocator
from octo_pipeline.services import prepared_months
from octo_pipeline.services.prepared_months import prepared_month
from octo_pipeline.services.simulate import Simulation, simulate
from octo_pipeline.workspace import Workspace
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator
from tests.support.workspaces import workspace_in, write_allocators, write_lines

NEXT = "2024-02"
LINES = [*USAGE_OF_10_AND_30, FEE_OF_100]


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    later = [replace(line, billing_month=NEXT) for line in LINES]
    return workspace_in(tmp_path, [*LINES, *later], [fee_allocator("cost*usage")])


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch):
    monkeypatch.setattr(prepared_months, "_kept", type(prepared_months._kept)())


def _simulated(workspace: Workspace, document: dict, month: str = MONTH) -> Simulation:
    """As the next request does: with the documents and the registry as they are now."""
    return simulate(Workspace(workspace.settings), parse_allocator(json.dumps(document), file="new.json"), month)


def _first(formula: str = "cost") -> dict:
    return fee_allocator(formula) | {"priority": -1}


def _is_kept(workspace: Workspace, month: str = MONTH) -> bool:
    with prepared_month(Workspace(workspace.settings), month) as prepared:
        return bool(prepared._taken)


def test_another_candidate_finds_the_lines_and_the_live_items(workspace, monkeypatch):
    made = []
    create = prepared_months.create_temp_table
    monkeypatch.setattr(prepared_months, "create_temp_table", lambda *of: made.append(of[1]) or create(*of))

    half, whole = (_simulated(workspace, _first(formula)) for formula in ("cost*0.5*usage", "cost*usage"))

    assert made == ["simulated_lines", "taken_fee_items", "all_live_items_fee"]
    assert half.taken == whole.taken
    assert half.taken.rows == (("a0", "USD", 1, Decimal(100), Decimal(100)),)
    assert half.values["bookings"] != whole.values["bookings"]


def test_a_changed_rule_takes_what_it_takes_now(workspace):
    assert _simulated(workspace, _first()).taken.column("taken_from") == ["a0"]
    nothing = [{"and": {"lineType": "Tax"}}]
    write_allocators(workspace.settings.config, [fee_allocator("cost") | {"criteria": nothing}])
    assert not _is_kept(workspace)
    assert _simulated(workspace, _first()).taken.column("taken_from") == [None]


def test_a_month_that_is_made_again_is_read_again(workspace, tmp_path):
    assert _simulated(workspace, _first()).taken.column("cost") == [Decimal(100)]
    write_lines(workspace, tmp_path, [*USAGE_OF_10_AND_30, replace(FEE_OF_100, billed_cost="60")])
    assert not _is_kept(workspace)
    assert _simulated(workspace, _first()).taken.column("cost") == [Decimal(60)]


def test_registered_accounts_are_looked_up_each_time(workspace):
    to_payer = _first() | {"allocator": [{"type": "payer", "value": "5", "formula": "cost"}]}
    before = _simulated(workspace, to_payer)
    workspace.registry.accounts.add([NewAccount("aws", "7", "Seven", payer_id="5")], "test")
    after = _simulated(workspace, to_payer)
    assert (before.bookings.column("target_account"), after.bookings.column("target_account")) == (["9"], ["7"])


def test_each_month_is_kept_by_itself_and_the_oldest_goes(workspace, monkeypatch):
    monkeypatch.setattr(prepared_months, "_MOST", 1)
    _simulated(workspace, _first())
    assert _is_kept(workspace)
    _simulated(workspace, _first(), NEXT)
    assert _is_kept(workspace, NEXT)
    assert not _is_kept(workspace)


def test_two_at_once_do_not_share_a_connection(workspace):
    _simulated(workspace, _first())
    with prepared_month(workspace, MONTH) as one, prepared_month(workspace, MONTH) as other:
        assert one.connection is not other.connection


def test_nothing_of_a_simulation_that_failed_is_kept(workspace):
    _simulated(workspace, _first())
    with pytest.raises(OctoError, match="mixed"), prepared_month(workspace, MONTH):
        raise OctoError("mixed", code="x")
    assert not _is_kept(workspace)


def test_a_month_that_is_replaced_while_it_is_read_is_not_kept(workspace, tmp_path):
    with pytest.raises(InputChangedError, match="was replaced while it was read"), prepared_month(workspace, MONTH):
        write_lines(Workspace(workspace.settings), tmp_path, USAGE_OF_10_AND_30)
    assert not prepared_months._kept
