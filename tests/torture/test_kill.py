"""A run, a refresh or a restore is killed somewhere: readers see the old or the new, and running again mends all."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import duckdb
import pytest

from octo_pipeline.lake import staging
from octo_pipeline.lake.lake import Lake
from octo_pipeline.tables.matched_items import MatchedItems
from tests.torture.chance import Dice, rounds
from tests.torture.worlds import MONTHS, Snapshot, State, World, as_it_is, key, kill_at_step, read_state

RUN = ("run", "--from", MONTHS[0], "--to", MONTHS[-1])


@dataclass(frozen=True)
class Scenario:
    """Something that is done to a lake, and how it goes undisturbed.

    Attributes:
        steps: how many steps it takes; a kill comes before one of them.
        before: the lake before it.
        after: the lake after it.
    """

    world: World
    command: tuple[str, ...]
    steps: int
    before: Snapshot
    after: Snapshot


Kind = Literal["first run", "refresh", "restore"]


@pytest.fixture(scope="session")
def scenario(whole: World, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], Scenario]:
    """The scenario of a kind, done undisturbed once."""
    known: dict[Kind, Scenario] = {}

    def made(kind: Kind) -> Scenario:
        if kind not in known:
            known[kind] = _undisturbed(whole, tmp_path_factory.mktemp("undisturbed"), kind)
        return known[kind]

    return made


def _undisturbed(whole: World, folder: Path, kind: Kind) -> Scenario:
    if kind == "first run":
        world = World(folder / "empty")
        # The same files, times included: some versions are made of them.
        shutil.copytree(whole.exports, world.exports)
        return Scenario(world, RUN, int(whole.steps.read_text()), {}, whole.snapshot())
    world, command = whole.copy(folder / "world"), RUN
    if kind == "refresh":
        world.restate(MONTHS[:1], seed=2)
    else:
        world.make_administrator()
        command = ("allocations", "restore", _some_item(world), "--reason", "it is ours", "--yes")
    before, copy = world.snapshot(), world.copy(folder / "done")
    ended = copy.octo(*command, hurt=partial(kill_at_step, 0, copy.steps))
    assert ended.code == 0, ended.said
    after = copy.snapshot()
    assert after != before
    return Scenario(world, command, int(copy.steps.read_text()), before, after)


def _some_item(world: World) -> str:
    lake = Lake(world.lake)
    with lake.connect() as connection:
        table = lake.scan(MatchedItems.name, MONTHS[:1], MatchedItems.columns)
        query = f"SELECT item_id FROM {table} WHERE allocator_id IS NOT NULL AND tranche_count > 1 ORDER BY ALL LIMIT 1"
        found = connection.execute(query).fetchone()
    assert found is not None
    return str(found[0])


@contextmanager
def watched(world: World) -> Iterator[set[tuple[tuple[str, str], State]]]:
    """What a reader finds who looks at every partition again and again."""
    seen: set[tuple[tuple[str, str], State]] = set()
    looked: dict[Path, tuple[int, int]] = {}
    failures: list[Exception] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            for file in world.lake.glob("[!.]*/month=*/data.parquet"):
                try:
                    found = file.stat()
                    identity = found.st_ino, found.st_mtime_ns
                    if looked.get(file) != identity and (state := read_state(file)) is not None:
                        looked[file] = identity
                        seen.add((key(file), state))
                except FileNotFoundError:
                    continue
                except Exception as error:
                    failures.append(error)
                    return

    reader = threading.Thread(target=look)
    reader.start()
    try:
        yield seen
    finally:
        done.set()
        reader.join()
    assert failures == []


def check_is_old_or_new(scenario: Scenario, found: set[tuple[tuple[str, str], State]]) -> None:
    for partition, state in found:
        assert state in (scenario.before.get(partition), scenario.after.get(partition)), partition


@rounds(2, 30)
def test_a_killed_process_leaves_the_old_or_the_new_and_the_next_run_the_same_as_an_undisturbed_one(
    scenario, dice: Dice, tmp_path
):
    kinds: tuple[Kind, ...] = ("refresh", "restore", "first run")
    of = scenario(kinds[dice.number % 3])
    world = of.world.copy(tmp_path / "world")
    by_step = dice.random() < 0.7
    at = dice.randint(1, of.steps)
    hurt = partial(kill_at_step, at, world.steps) if by_step else as_it_is
    with watched(world) as seen:
        running = world.start(*of.command, hurt=hurt)
        if not by_step:
            running.process.join(dice.uniform(0.1, 6))
            running.kill()
        code = running.ended().code
    assert code < 0 if by_step else code <= 0
    check_is_old_or_new(of, seen | set(world.snapshot().items()))
    world.check_landed()
    assert of.before.keys() <= world.snapshot().keys(), "a partition is gone"

    again = world.octo(*of.command)
    if of.command != RUN:
        # A decision that was recorded before the kill stays recorded; what it changes is a run's matter then.
        assert again.code == 0 or "restored it at" in again.said, again.said
        again = world.octo(*RUN)
    assert again.code == 0, again.said
    assert world.snapshot() == of.after
    # What a process left that was the last to write is swept by the next.
    staging.sweep(world.lake)
    assert world.leftovers() == []


def test_the_reader_of_these_tests_tells_a_mixture(tmp_path):
    folder = tmp_path / "lake" / "t" / "month=2024-01"
    folder.mkdir(parents=True)
    lake = Lake(tmp_path / "lake")
    duckdb.sql(f"COPY (SELECT 1 AS value) TO '{folder}/data.parquet' (KV_METADATA {{octo: 'x'}})")
    whole = (folder / "data.parquet").read_bytes()
    (folder / "data.parquet").write_bytes(whole[:-9])
    with pytest.raises(AssertionError), watched(World(tmp_path)):
        threading.Event().wait(0.5)
    assert lake.months("t") == ["2024-01"]
