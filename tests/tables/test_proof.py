"""The proofs: a making that loses, doubles or misplaces an amount publishes nothing, and the last good month stays."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import octo_pipeline
from octo_pipeline.allocation import matching, splits
from octo_pipeline.allocation.proofs import ProofError
from octo_pipeline.cli.main import app
from octo_pipeline.outputs.proofs import PROOFS
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.table import materialise
from octo_pipeline.workspace import Workspace
from tests.support.case import run
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.workspaces import decision, exact_rows, workspace_in, write_lines


def test_what_is_proved_of_each_table_is_listed():
    rows = json.loads(CliRunner().invoke(app, ["proofs", "--output", "json"]).stdout)
    listed = {(row["table"], row["proof"]): row["claim"] for row in rows}
    proofs = {table.name: table.proofs for table in TABLES} | dict(PROOFS)
    assert listed == {(name, proof.name): proof.claim for name, claims in proofs.items() for proof in claims}
    assert len(listed) == len(rows), "a name occurs twice"
    # Who is meant and what they used is looked up, not summed; their money is proved where it is split.
    assert {table.name for table in TABLES if not table.proofs} == {"resolved_accounts", "usage_shares"}


def test_every_template_of_a_proof_is_used():
    package = Path(octo_pipeline.__file__).parent
    named = [proof.sql for table in TABLES for proof in table.proofs]
    written = {f"tables/{path.name.removesuffix('.sql.j2')}" for path in package.glob("tables/sql/proof_*.sql.j2")}
    macros = {"tables/proof_lines", "tables/proof_shared_costs", "tables/proof_tranches", "tables/proof_whole"}
    assert written - macros == set(named)


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    """A month that was published once and whose inputs have changed since."""
    lines = [*USAGE_OF_10_AND_30, FEE_OF_100, line_item("1", "4", "Tax", "Tax")]
    workspace = run(workspace_in(tmp_path, lines, [fee_allocator()]), [MONTH])
    write_lines(workspace, tmp_path, [*lines, line_item("2", "1.25", "Tax", "Tax")])
    return workspace


BROKEN_ALLOCATIONS = {
    "a split is lost": "SELECT * FROM ({query}) WHERE kind <> 'split' OR target_account_id <> '1'",
    "a split is doubled": "FROM ({query}) UNION ALL FROM ({query}) WHERE target_account_id = '2'",
    "a split is off by the last place": "SELECT * REPLACE (CASE WHEN target_account_id = '1' "
    "THEN cost + 0.0000000001 ELSE cost END::DECIMAL(38,10) AS cost) FROM ({query})",
    "a split is off in the amortised cost": "SELECT * REPLACE (CASE WHEN target_account_id = '1' "
    "THEN effective_cost + 0.0000000001 ELSE effective_cost END::DECIMAL(38,10) AS effective_cost) FROM ({query})",
    "an item has another amortised cost": "SELECT * REPLACE (CASE WHEN kind = 'item' THEN 2 * effective_cost "
    "ELSE effective_cost END::DECIMAL(38,10) AS effective_cost) FROM ({query})",
    "an item is lost": "SELECT * FROM ({query}) WHERE kind <> 'item' OR status = 'checked_allocated'",
    "an item has another cost": "SELECT * REPLACE (CASE WHEN kind = 'item' THEN 2 * cost ELSE cost END"
    "::DECIMAL(38,10) AS cost) FROM ({query})",
    "an item that is not distributed has splits": "SELECT * REPLACE (CASE WHEN kind = 'item' "
    "THEN 'unchecked_allocated' ELSE status END AS status) FROM ({query})",
}


@pytest.mark.parametrize("broken", BROKEN_ALLOCATIONS.values(), ids=BROKEN_ALLOCATIONS.keys())
def test_allocations_that_do_not_add_up_are_not_published(workspace, monkeypatch, broken):
    before = exact_rows(workspace)
    materialise(Workspace(workspace.settings), MatchedItems(), MONTH)
    honest = splits.allocations_sql
    monkeypatch.setattr(splits, "allocations_sql", lambda *args: broken.format(query=honest(*args)))
    with pytest.raises(ProofError, match=r"allocations 2024-01 fails its proof that "):
        materialise(Workspace(workspace.settings), Allocations(), MONTH)
    assert exact_rows(workspace) == before
    assert list((workspace.lake.root / ".staging").iterdir()) == []


BROKEN_ITEMS = {
    "a fee item is lost": "SELECT * FROM ({query}) WHERE line_type <> 'Tax'",
    "an item is listed twice": "FROM ({query}) UNION ALL FROM ({query}) WHERE line_type = 'Fee'",
    "a fee item is off by the last place": "SELECT * REPLACE ((cost - 0.0000000001)::DECIMAL(38,10) AS cost) "
    "FROM ({query})",
    "a fee item has another amortised cost": "SELECT * REPLACE ((effective_cost + 1)::DECIMAL(38,10) AS effective_cost) "
    "FROM ({query})",
}


@pytest.mark.parametrize("broken", BROKEN_ITEMS.values(), ids=BROKEN_ITEMS.keys())
def test_items_that_are_not_the_lines_are_not_published(workspace, monkeypatch, broken):
    before = workspace.lake.fingerprint("matched_items", MONTH)
    honest = matching.matched_items_sql
    monkeypatch.setattr(matching, "matched_items_sql", lambda *args: broken.format(query=honest(*args)))
    with pytest.raises(ProofError, match=r"matched_items 2024-01 fails its proof that "):
        materialise(Workspace(workspace.settings), MatchedItems(), MONTH)
    assert workspace.lake.fingerprint("matched_items", MONTH) == before


def test_a_decision_that_arrives_while_a_month_is_computed_is_not_overlooked(workspace, monkeypatch):
    run(workspace, [MONTH])
    item = next(row[0] for row in exact_rows(workspace) if row[3] == "split")
    honest = splits.allocations_sql
    calls = []

    def interrupted(*args):
        if not calls:
            workspace.registry.record_decisions([decision("restore", item, MONTH)])
        calls.append(1)
        return honest(*args)

    workspace.lake.remove("allocations", MONTH)
    monkeypatch.setattr(splits, "allocations_sql", interrupted)
    materialise(Workspace(workspace.settings), Allocations(), MONTH)
    assert len(calls) == 2, "the first result was out of date before it could be published"
    assert {row[3] for row in exact_rows(workspace) if row[0] == item} == {"item"}
