"""Several processes at once on one lake: no lock error, no lost decision, and in the end what one alone would make."""

import itertools

from octo_pipeline.lake.lake import Lake
from octo_pipeline.tables.matched_items import MatchedItems
from tests.torture.chance import Dice, pick, rounds
from tests.torture.worlds import MONTHS, World


def taken_items(world: World, count: int) -> list[str]:
    """Items of the first month that an allocator takes."""
    lake = Lake(world.lake)
    with lake.connect() as connection:
        table = lake.scan(MatchedItems.name, MONTHS[:1], MatchedItems.columns)
        query = f"SELECT item_id FROM {table} WHERE allocator_id IS NOT NULL ORDER BY ALL LIMIT {count}"
        return [item for (item,) in connection.execute(query).fetchall()]


@rounds(1, 5)
def test_runs_landings_and_restores_at_once_end_as_one_whole_result(whole: World, dice: Dice, tmp_path):
    world = whole.copy(tmp_path / "world")
    world.make_administrator()
    items = taken_items(world, pick(1, 4))
    world.restate(MONTHS[:1], seed=2 + dice.number)
    month = ("run", "--month", MONTHS[0])
    commands = [month, month, *(("run", "--month", other) for other in MONTHS[1:])]
    commands += [("allocations", "restore", item, "--reason", "ours", "--yes") for item in items]
    commands += itertools.repeat(month, pick(0, 2))
    dice.shuffle(commands)
    running = [(command, world.start(*command)) for command in commands]
    for command, process in running:
        ended = process.ended()
        # Whose input was replaced three times on end is told to run again; nothing else may go wrong.
        gone = "no distributed item" in ended.said and command[0] == "allocations"
        assert ended.code == 0 or "again" in ended.said or gone, (command, ended.said)
        assert "Traceback" not in ended.said, ended.said
        assert "lock" not in ended.said.lower(), ended.said
    world.check_landed()
    world.run()

    made = {d.item_id for item in items for d in world.workspace.registry.decisions(item_id=item)}
    done = {c[2] for c, p in running if c[0] == "allocations" and p.process.exitcode == 0}
    assert done <= made, "a decision is lost"
    assert world.snapshot() == world.made_anew(tmp_path / "alone", MONTHS)
    assert world.leftovers() == []
