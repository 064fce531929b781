"""Simulations of random allocators: what they say is what the oracle says with the allocator and without."""

import json
from collections import defaultdict
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from random import Random

from octo_pipeline.rules.allocator import parse_allocator
from octo_pipeline.services.simulate import simulate
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.table import materialise
from tests.support.oracle.amounts import units
from tests.support.oracle.documents import read_rule
from tests.support.oracle.months import Result, World, allocate
from tests.torture.chance import Dice, rounds
from tests.torture.drawn_months import Drawn, draw, draw_allocator
from tests.torture.random_worlds import FEATURES, world_of, written

Differences = dict[tuple[str, str, str, str], tuple[int, int]]


@rounds(2, 300)
def test_a_simulation_says_what_a_run_does(dice: Dice, tmp_path: Path) -> None:
    drawn = replace(draw(dice, FEATURES), edited_files={})
    assert (actual := simulated(drawn, tmp_path, dice)) == {}, actual


def simulated(drawn: Drawn, folder: Path, dice: Random) -> dict[tuple[str, str, str, str], object]:
    """The differences that a simulation and the oracle see otherwise, each with both."""
    workspace = written(drawn, folder)
    # One of a live allocator's id replaces it.
    name = dice.choice(["a0", "candidate"])
    document = draw_allocator(dice, FEATURES, drawn.groups)
    lake_months = workspace.lake.months("cost_line_items")
    month = dice.choice(lake_months)
    # What earlier months hand to this one is as it was matched.
    for earlier in lake_months[: lake_months.index(month)]:
        materialise(workspace, MatchedItems(), earlier)
    simulation = simulate(workspace, parse_allocator(json.dumps(document), file=f"{name}.json"), month)
    columns = ("booking_month", "category", "account", "currency", "difference", "effective_difference")
    actual = {
        tuple(row[:4]): (units(row[4]), units(row[5] or Decimal(0))) for row in simulation.differences.select(*columns)
    }
    world = replace(world_of(drawn, folder), months=lake_months)
    rules = [rule for rule in world.documents.rules if rule.id != name]
    merged = replace(
        world,
        documents=replace(world.documents, rules=[*rules, read_rule(document, name)]),
        documents_of={earlier: world.documents for earlier in lake_months if earlier < month},
    )
    expected = differences(month, world, merged)
    return {
        key: (actual.get(key), expected.get(key))
        for key in actual.keys() | expected.keys()
        if actual.get(key) != expected.get(key)
    }


def differences(origin: str, live: World, merged: World) -> Differences:
    """What the items of an origin month put on each account with the other rules, less what they do now."""
    sums: dict[tuple[str, str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for world, sign in ((live, -1), (merged, 1)):
        for key, cost, effective in _net(origin, allocate(world)):
            sums[key][0] += sign * cost
            sums[key][1] += sign * effective
    return {key: (cost, effective) for key, (cost, effective) in sums.items() if cost or effective}


def _net(origin: str, result: Result) -> list[tuple[tuple[str, str, str, str], int, int]]:
    return [
        (
            (row.month, row.item.category, row.owner[1], row.item.currency),
            -row.cost if row.kind == "item" else row.cost,
            -row.effective_cost if row.kind == "item" else row.effective_cost,
        )
        for rows in result.rows.values()
        for row in rows
        if row.item.month == origin and row.status != "unchecked_allocated"
    ]
