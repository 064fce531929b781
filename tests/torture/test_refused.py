"""A disk that is full or read-only, a lake that vanishes, a clock that passes midnight: a sentence and no loss."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from tests.torture.chance import Dice, rounds
from tests.torture.worlds import (
    MONTHS,
    Snapshot,
    World,
    from_the_time,
    no_file_longer_than,
    said_in_a_sentence,
    until,
)

RUN = ("run", "--from", MONTHS[0], "--to", MONTHS[-1])


@pytest.fixture(scope="module")
def refreshed(whole: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A whole lake with a new delivery waiting; never to be changed, only copied."""
    world = whole.copy(tmp_path_factory.mktemp("refreshed") / "world")
    world.restate(MONTHS[:1], seed=2)
    return world


@pytest.fixture(scope="module")
def wanted(refreshed: World, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """What the lake is to be when the new delivery is in it."""
    return refreshed.made_anew(tmp_path_factory.mktemp("wanted") / "lake", MONTHS)


@rounds(1, 15)
def test_a_disk_that_takes_no_more_is_a_sentence_and_the_month_stays(refreshed, wanted, dice: Dice, tmp_path):
    world = refreshed.copy(tmp_path / "world")
    before = world.snapshot()
    ended = world.octo(*RUN, hurt=partial(no_file_longer_than, dice.choice([100, 1_000, 4_000, 8_000, 12_000, 20_000])))
    assert said_in_a_sentence(ended), ended.said
    after = world.snapshot()
    assert after.keys() == before.keys()
    assert all(state in (before[key], wanted[key]) for key, state in after.items())
    world.check_landed()
    assert world.leftovers() == []
    world.make(MONTHS)
    assert world.snapshot() == wanted


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Root may write whatever the modes say, so for root it is a mount."""
    if os.geteuid() == 0:
        subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
        undo = [["umount", str(folder)]]
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
    else:
        subprocess.run(["chmod", "-R", "a-w", str(folder)], check=True)
        undo = [["chmod", "-R", "u+w", str(folder)]]
    try:
        yield
    finally:
        for command in undo:
            subprocess.run(command, check=True)


def test_a_lake_that_is_read_only_is_a_sentence_and_stays_as_it_was(refreshed: World, tmp_path):
    world = refreshed.copy(tmp_path / "world")
    before = world.snapshot()
    with read_only(world.lake):
        ended = world.octo(*RUN)
        assert world.snapshot() == before
    assert said_in_a_sentence(ended), ended.said
    assert "read-only" in ended.said or "permission is denied" in ended.said


@rounds(1, 10)
def test_a_lake_removed_under_a_run_is_a_sentence_or_a_new_lake(refreshed, wanted, dice: Dice, tmp_path):
    world = refreshed.copy(tmp_path / "world")
    running = world.start(*RUN)
    until(lambda: any((world.lake / ".staging").glob("*/*")) or running.process.exitcode is not None)
    running.process.join(dice.uniform(0, 2))
    shutil.rmtree(world.lake, ignore_errors=True)
    ended = running.ended()
    assert ended.code == 0 or said_in_a_sentence(ended), ended.said
    world.make(MONTHS)
    assert world.snapshot() == wanted


def test_a_run_that_begins_before_midnight_of_a_months_last_day_and_ends_after_it(tmp_path, whole: World):
    world = World(tmp_path / "world")
    shutil.copytree(whole.exports, world.exports)
    midnight = datetime(2024, 2, 1, tzinfo=UTC)
    ended = world.octo("run", "--month", MONTHS[0], hurt=partial(from_the_time, midnight - timedelta(seconds=2)))
    assert ended.code == 0, ended.said
    found = {key: state for key, state in whole.snapshot().items() if key[1] == MONTHS[0]}
    assert {key: state.rows for key, state in world.snapshot().items()} == {key: s.rows for key, s in found.items()}
    early = world.octo("run", "--month", "2024-02", hurt=partial(from_the_time, midnight - timedelta(hours=1)))
    assert said_in_a_sentence(early)
    assert "2024-02 has not begun, so nothing of it is billed; the current month is 2024-01." in early.said
