"""What makes a part of a month again: what its rows depend on, and damage. Nothing else does, and the month is always right."""

import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import duckdb
import pytest

from octo_pipeline.allocation.proofs import ProofError
from octo_pipeline.lake.lake import Lake, PartitionMetadata, copy_options
from octo_pipeline.lake.root import lake_root
from octo_pipeline.model.errors import InputChangedError, OctoError
from octo_pipeline.settings import Settings
from octo_pipeline.tables import cost_group_costs, item_parts, matched_items
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.tables.kept_parts import made_parts, used_parts
from octo_pipeline.tables.known import as_known, remove_known, remove_overlay, with_rules_of_today
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.table import Table, materialise
from octo_pipeline.tables.usage_shares import UsageShares
from octo_pipeline.workspace import Workspace
from tests.support.payer_months import CountingEngine, publish_payers
from tests.support.small_month import MONTH, fee_allocator, line_item
from tests.support.workspaces import decision, workspace_in

# Each payer has fees that a rule of its own takes.
PAYERS = {"111111111111": "Fee", "222222222222": "Tax"}
RULES = [
    *(fee_allocator(criteria=[{"and": {"lineType": line_type}}]) for line_type in PAYERS.values()),
    fee_allocator(category="account", criteria=[{"and": {"productCode": "Shared"}}]),
]
LINES = {
    payer: [
        replace(line, billing_account_id=payer)
        for line in (
            line_item("1", "10"),
            line_item("2", "30"),
            line_item("9", "7", service_code="Shared"),
            *(line_item("9", f"{n}.1", line_type, "Purchase", charge_description=f"fee {n}") for n in range(1, 5)),
        )
    ]
    for payer, line_type in PAYERS.items()
}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch) -> None:
    """Each payer is a part."""
    monkeypatch.setattr(matched_items, "LINES_PER_PART", 2)
    monkeypatch.setattr(item_parts, "SPLITS_PER_PART", 16)


@pytest.fixture(scope="module")
def month_of_parts(tmp_path_factory) -> Path:
    """A folder with a month that was made in parts, all of which are kept."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matched_items, "LINES_PER_PART", 2)
        patch.setattr(item_parts, "SPLITS_PER_PART", 16)
        workspace = workspace_in(folder, [], RULES)
        document = {"id": "team", "combinations": {"awsOptions": {"filters": [{"andFilters": {"account": "re:[19]"}}]}}}
        (folder / "config" / "cost_groups" / "team.json").write_text(json.dumps(document))
        publish_payers(workspace, folder, LINES)
        for table in TABLES:
            if table.group in ("allocation", "marts"):
                materialise(workspace, table, MONTH)
    return folder


@pytest.fixture
def workspace(month_of_parts, tmp_path) -> Workspace:
    """The month in a lake of the test's own."""
    shutil.copytree(month_of_parts, tmp_path, dirs_exist_ok=True)
    return Workspace(Settings(lake=tmp_path / "lake", config=tmp_path / "config"))


def rows_of(workspace: Workspace, table: Table) -> list[tuple]:
    relation = workspace.lake.scan(table.name, [MONTH], table.columns)
    with workspace.lake.connect() as connection:
        return connection.execute(f"FROM {relation} ORDER BY ALL").fetchall()


def made(workspace: Workspace, table: Table) -> tuple[int, list[tuple], dict]:
    """Make the month of a table: how many of its parts were made, its rows, and the facts that do not say how it was made."""
    engine = CountingEngine()
    materialise(Workspace(workspace.settings, own_engine=engine), table, MONTH)
    facts = workspace.lake.metadata(table.name, MONTH).facts
    rows = rows_of(workspace, table)
    return engine.tasks[table.name], rows, {name: fact for name, fact in facts.items() if "part" not in name}


def from_nothing(workspace: Workspace, table: Table) -> tuple[int, list[tuple], dict]:
    """The same without anything that was kept."""
    workspace.lake.remove(table.name, MONTH)
    workspace.lake.drop_parts(table.name, MONTH, but=[])
    return made(workspace, table)


def test_a_restored_item_makes_its_part_again(workspace):
    rows = rows_of(workspace, Allocations())
    item = next(row[0] for row in rows if row[3] == "item" and row[2] == "checked_allocated")
    workspace.registry.record_decisions([decision("restore", item, MONTH)])
    again = made(workspace, Allocations())
    assert again[0] == 1
    assert [row[4] for row in again[1] if row[0] == item] == ["restored"]
    assert from_nothing(workspace, Allocations()) == (2, *again[1:])


def test_other_shares_of_a_rule_make_the_parts_with_its_items_again(workspace):
    """Shares of one rule are put the other way round: account 1 pays now what account 2 paid."""
    lake, columns = workspace.lake, ", ".join(UsageShares.columns)
    before = rows_of(workspace, Allocations())
    shares = lake.scan(UsageShares.name, [MONTH], UsageShares.columns)
    other_share = "CASE allocator_id WHEN 'a1' THEN 1 - usage_share ELSE usage_share END AS usage_share"
    query = f"SELECT {columns} FROM (SELECT * REPLACE ({other_share}) FROM {shares})"
    inputs = lake.metadata(UsageShares.name, MONTH).inputs | {"of a test": "1"}
    with lake.stage(UsageShares.name, MONTH) as staged:
        with lake.connect() as connection:
            lake.copy(connection, query, staged, PartitionMetadata(inputs, "a test"))
        lake.publish(staged, still_current=lambda: inputs)
    again = made(workspace, Allocations())
    assert again[0] == 1
    assert len(set(again[1]) - set(before)) == 2 * 4
    assert from_nothing(workspace, Allocations()) == (2, *again[1:])


@pytest.mark.parametrize("wrong", [lambda parts: parts[1:], lambda parts: [*parts, parts[0]]], ids=["lost", "twice"])
def test_line_items_that_no_part_or_several_were_matched_from_are_refused(workspace, monkeypatch, wrong):
    # Only of taken items there are rows, so that proofs of these miss a part of other line items.
    monkeypatch.setattr(matched_items, "made_parts", lambda *args: wrong(made_parts(*args)))
    (once,) = [proof for proof in MatchedItems.proofs if proof.name == "items_once"]
    monkeypatch.setattr(MatchedItems, "proofs", [proof for proof in MatchedItems.proofs if proof != once])
    lines = sum(map(len, LINES.values()))
    workspace.lake.remove(MatchedItems.name, MONTH)
    with pytest.raises(
        ProofError, match=f"have each line item once: 1 violation, the first: {lines} line items, "
    ) as refusal:
        made(workspace, MatchedItems())
    assert workspace.lake.metadata(MatchedItems.name, MONTH) is None
    assert str(refusal.value).endswith((f" {lines // 2} in parts.", f" {lines * 3 // 2} in parts."))


def with_other_cost(workspace: Workspace, path: Path) -> None:
    """Damage that only a sum tells of: the rows, their number and all facts stay, and one cost differs."""
    metadata = workspace.lake.part_metadata(path)
    options = copy_options(metadata.to_json()) if metadata else "FORMAT parquet"
    copied = path.with_suffix(".copied")
    rows = f"read_parquet('{path}', file_row_number = true, hive_partitioning = false)"
    is_largest = f"file_row_number = (SELECT arg_max(file_row_number, cost) FROM {rows})"
    other_cost = f"(cost + ({is_largest})::INTEGER)::DECIMAL(38,10) AS cost"
    query = f"SELECT * EXCLUDE (file_row_number) REPLACE ({other_cost}) FROM {rows}"
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({query}) TO '{copied}' ({options})")
    assert copied.read_bytes() != path.read_bytes()
    copied.rename(path)


def without_rows(workspace: Workspace, path: Path) -> None:
    """Damage that no footer tells of."""
    data = bytearray(path.read_bytes())
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    data[4:end] = bytes(end - 4)
    assert data != path.read_bytes()
    path.write_bytes(data)


def without_end(workspace: Workspace, path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def parts_of(workspace: Workspace, table: Table, side: str = "") -> list[Path]:
    """The kept files of the parts, or of a side of them."""
    parts = workspace.lake.parts(table.name, MONTH)
    return [path for name, path in parts.items() if name.partition(".")[2] == side]


def heals(workspace: Workspace, table: Table, parts: int = 2) -> None:
    """Making the month again makes so many of its parts again, and it is what it was."""
    rows = rows_of(workspace, table)
    workspace.lake.remove(table.name, MONTH)
    assert made(workspace, table)[:2] == (parts, rows)


def test_a_part_of_allocations_with_another_cost_is_made_again(workspace):
    with_other_cost(workspace, parts_of(workspace, Allocations())[0])
    heals(workspace, Allocations())


def test_parts_with_different_damage_are_made_again(workspace):
    first, second = parts_of(workspace, Allocations())
    with_other_cost(workspace, first)
    without_rows(workspace, second)
    heals(workspace, Allocations())


@pytest.mark.parametrize(
    ("table", "side", "damage"),
    [
        (Allocations(), "proved", with_other_cost),
        *((AccountCosts(), side, with_other_cost) for side in ("", "tranches")),
        *((CostGroupCosts(), side, with_other_cost) for side in ("", "tranches", "matches", "filtered")),
        (AccountCosts(), "", without_rows),
        (CostGroupCosts(), "matches", without_rows),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "name", None) or value.__name__,
)
def test_a_damaged_file_of_a_part_is_made_again(workspace, table, side, damage):
    damage(workspace, parts_of(workspace, table, side)[0])
    heals(workspace, table)


@pytest.mark.parametrize(("side", "damage"), [("", without_rows), ("filtered", with_other_cost)])
def test_damage_in_the_line_items_of_cost_groups_is_made_again_with_them_alone(workspace, monkeypatch, side, damage):
    monkeypatch.setattr(cost_group_costs, "LINES_PER_PART", 2)
    booked = parts_of(workspace, CostGroupCosts(), side)
    workspace.lake.remove(CostGroupCosts.name, MONTH)
    assert made(workspace, CostGroupCosts())[0] == 2
    of_lines = [path for path in parts_of(workspace, CostGroupCosts(), side) if path not in booked]
    assert len(of_lines) == 2
    damage(workspace, of_lines[0])
    heals(workspace, CostGroupCosts())


def test_the_end_of_a_part_tells_which_is_damaged(workspace):
    without_end(workspace, parts_of(workspace, AccountCosts())[0])
    heals(workspace, AccountCosts(), parts=1)


class FailingEngine:
    """Fails each time, and counts how often it was asked."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    def map(self, task, payloads):
        self.asked += 1
        raise self.error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OctoError("Nobody answers.", code="spark-unreachable"), "Nobody answers."),
        (duckdb.OutOfMemoryException("failed to allocate"), "DuckDB has too little memory"),
    ],
)
def test_an_engine_that_fails_is_asked_once_and_nothing_is_removed(workspace, error, sentence):
    workspace.lake.remove(Allocations.name, MONTH)
    parts_of(workspace, Allocations())[0].unlink()
    kept = workspace.lake.parts(Allocations.name, MONTH).keys()
    engine = FailingEngine(error)
    with pytest.raises(OctoError, match=sentence):
        materialise(Workspace(workspace.settings, own_engine=engine), Allocations(), MONTH)
    assert engine.asked == 1
    assert workspace.lake.parts(Allocations.name, MONTH).keys() >= kept


def used(lake: Lake, *errors: Exception, kept: tuple[str, ...] = ("one", "two")) -> tuple[list[set[str]], int]:
    """Use parts of which each attempt fails with the next error: what was kept in each attempt, and how often they were made."""
    attempts, made = [], []

    def use(parts: list[str]) -> None:
        attempts.append(set(lake.parts("t", MONTH)))
        if len(attempts) <= len(errors):
            raise errors[len(attempts) - 1]

    used_parts(lake, "t", MONTH, make=lambda: made.append(1) or [], use=use, names_kept=lambda parts: kept)
    return attempts, len(made)


@pytest.fixture
def kept(tmp_path) -> Lake:
    """A lake that keeps three parts with a side each."""
    lake = Lake(tmp_path / "lake")
    for name in ("one", "one.side", "two", "two.side", "three", "three.side"):
        with lake.staging_folder() as folder:
            (folder / "part").touch()
            lake.keep_part(folder / "part", "t", MONTH, name)
    return lake


ALL = {"one", "one.side", "two", "two.side", "three", "three.side"}
DAMAGE = [
    ProofError("A sum differs."),
    OctoError("Damaged.", code="part-damaged"),
    OctoError("Other columns.", code="parts-differ"),
    duckdb.InvalidInputException("No magic bytes."),
    duckdb.IOException("Cannot read."),
]


@pytest.mark.parametrize("error", DAMAGE, ids=lambda error: type(error).__name__)
def test_what_can_be_damage_is_met_with_new_parts_once(kept, error):
    assert used(kept, error) == ([ALL, {"three", "three.side"}], 2)
    with pytest.raises(type(error)):
        used(kept, error, error)
    # All parts are new, so they are not the reason.
    with pytest.raises(type(error)):
        used(kept, error, kept=())
    assert kept.parts("t", MONTH).keys() == {"three", "three.side"}


@pytest.mark.parametrize(
    "error",
    [
        OctoError("The disk is full.", code="lake-not-writable"),
        OctoError("Nobody answers.", code="spark-unreachable"),
        InputChangedError("Replaced."),
        duckdb.OutOfMemoryException("failed to allocate"),
        duckdb.InterruptException("Ctrl-C"),
    ],
    ids=lambda error: getattr(error, "code", None) or type(error).__name__,
)
def test_what_no_damage_explains_removes_nothing(kept, error):
    with pytest.raises(type(error)):
        used(kept, error)
    assert kept.parts("t", MONTH).keys() == ALL


def test_a_damaged_part_in_a_bucket_is_made_again(month_of_parts, s3_server, tmp_path, monkeypatch):
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings(
        lake=f"s3://{s3_server.bucket()}/lake",
        config=month_of_parts / "config",
        temp=tmp_path / "temp",
        database_url=f"sqlite:///{tmp_path}/registry.sqlite",
    )
    # A client takes as long as all that a task does with so few lines.
    monkeypatch.setattr("octo_pipeline.workspace.lake_root", cache(lake_root))
    workspace = Workspace(settings)
    store, folder = workspace.lake._store, month_of_parts / "lake"
    for path in folder.rglob("*.parquet"):
        location = workspace.lake.root
        for name in path.relative_to(folder).parts:
            location /= name
        shutil.copy(path, tmp_path / path.name)
        store.put(tmp_path / path.name, location)
    part = next(path for name, path in workspace.lake.parts(AccountCosts.name, MONTH).items() if "." not in name)
    (tmp_path / "damaged").write_bytes(bytes(8) + part.open().read()[8:])
    store.put(tmp_path / "damaged", part)
    heals(workspace, AccountCosts())


def test_the_parts_of_a_simulation_and_of_a_closed_month_are_removed_with_it(workspace):
    """Of a preview that failed there are parts, and no partition."""
    known, preview = as_known(workspace), with_rules_of_today(workspace)
    for overlaid in (known, preview):
        for month in (MONTH, "2024-02"):
            with overlaid.lake.staging_folder() as folder:
                (folder / "part").touch()
                overlaid.lake.keep_part(folder / "part", Allocations.name, month, "name")
    own = workspace.lake.parts(Allocations.name, MONTH)

    remove_known(workspace, MONTH)
    assert known.lake.parts(Allocations.name, MONTH) == {}
    assert len(known.lake.parts(Allocations.name, "2024-02")) == 1
    assert len(preview.lake.parts(Allocations.name, MONTH)) == 1
    remove_overlay(preview)
    assert [preview.lake.parts(Allocations.name, month) for month in (MONTH, "2024-02")] == [{}, {}]
    assert len(known.lake.parts(Allocations.name, "2024-02")) == 1
    assert workspace.lake.parts(Allocations.name, MONTH) == own != {}
