"""What the torture tests share: a lake that is whole, to be copied and broken."""

from functools import partial
from pathlib import Path

import pytest

from tests.torture.worlds import MONTHS, World, kill_at_step


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("torture")


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two months of three vendors, run; never to be changed, only copied."""
    world = World(tmp_path_factory.mktemp("whole") / "world")
    world.deliver(MONTHS, seed=1)
    ended = world.octo("run", "--from", MONTHS[0], "--to", MONTHS[-1], hurt=partial(kill_at_step, 0, world.steps))
    assert ended.code == 0, ended.said
    return world
