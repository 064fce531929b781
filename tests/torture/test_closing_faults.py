"""Processes that close, reopen and correct months are killed or race: a month is open or closed whole, and no amount is lost."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from octo_pipeline.registry.records import Actor
from octo_pipeline.services import periods
from octo_pipeline.services.charges import ImportMode, plan_import, run_import
from octo_pipeline.services.months import Failed, make_months
from octo_pipeline.settings import Settings
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.closings import closed_items
from octo_pipeline.tables.corrections import corrected_in
from octo_pipeline.tables.graph import order
from octo_pipeline.tables.table import KEPT, require_as_closed
from octo_pipeline.workspace import Workspace
from tests.support.workspaces import administered
from tests.torture.chance import Dice, rounds
from tests.torture.worlds import Ended, Snapshot, World, as_it_is, kill_at_step, said_in_a_sentence

JANUARY, FEBRUARY = "2024-01", "2024-02"
RUN = ("run", "--from", JANUARY, "--to", FEBRUARY)
CLOSE = ("periods", "close", JANUARY, "--yes")
REOPEN = ("periods", "reopen", JANUARY, "--reason", "a test", "--yes")
# The fee of account 9 goes to 1 and 2 in three instalments, so that open months bear what a closed one paid.
ALLOCATOR = {
    "startMonth": JANUARY,
    "criteria": [{"and": {"account": "999999999999"}}],
    "allocator": [
        {"type": "account", "value": "111111111111", "formula": "cost*0.25", "months": 3},
        {"type": "account", "value": "222222222222", "formula": "cost*0.75", "months": 3},
    ],
}
CHARGES = {
    JANUARY: {"999999999999": "100", "111111111111": "10"},
    FEBRUARY: {"999999999999": "60", "222222222222": "5"},
}
RESTATED = {"999999999999": "130", "333333333333": "7"}

Kind = Literal["close", "corrections", "reopen"]


class ChargedWorld(World):
    """An installation of charges by hand, which are landed and made in no time."""

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in super().environment.items() if not name.endswith("_EXPORTS")}
        return kept | {"OCTO_CONFIG": str(self.folder / "config")}

    @property
    def workspace(self) -> Workspace:
        return Workspace(Settings(lake=str(self.lake), config=self.folder / "config"))

    def copy(self, folder: Path) -> "ChargedWorld":
        super().copy(folder)
        return ChargedWorld(folder)

    def charge(self, month: str, costs: dict[str, str]) -> None:
        """Import the charges of a month by account; nothing is made of them yet."""
        rows = [f"{month},{account},Support,{cost},USD," for account, cost in costs.items()]
        path = self.folder / "charges.csv"
        path.write_text("\n".join(["month,account,description,amount,currency,seller", *rows]) + "\n")
        run_import(self.workspace, plan_import(self.workspace, path, month, ImportMode.replace_month), Actor("tester"))

    def make(self, months: list[str]) -> None:
        events = list(make_months(self.workspace, months, order()))
        assert not [event for event in events if isinstance(event, Failed)]

    def paid(self) -> dict[str, Decimal]:
        """What each account pays over both months. Closing changes when it is paid, and not what."""
        lake = self.workspace.lake
        with lake.connect() as connection:
            costs = lake.scan(AccountCosts.name, [JANUARY, FEBRUARY], AccountCosts.columns)
            query = f"SELECT owner_id, sum(final_cost) FROM {costs} GROUP BY ALL HAVING sum(final_cost) <> 0"
            return dict(connection.execute(query).fetchall())

    def check_closed_whole(self) -> bool:
        """Whether January is closed; if it is, everything that was kept is there and is what the tables are."""
        workspace = self.workspace
        if not workspace.is_closed(JANUARY):
            return False
        for table in sorted(KEPT):
            require_as_closed(workspace, table, JANUARY)
        workspace.configuration_of(JANUARY)
        with workspace.lake.connect() as connection:
            rows = connection.execute(f"SELECT charge_description FROM {closed_items(workspace, [JANUARY])}").fetchall()
        assert set(rows) == {("Support",)}
        return True


@dataclass(frozen=True)
class Scenario:
    """Something that is done to a lake, how many steps it takes, and the lake before and after it."""

    world: ChargedWorld
    command: tuple[str, ...]
    steps: int
    before: Snapshot
    after: Snapshot


@pytest.fixture(scope="session")
def open_world(tmp_path_factory: pytest.TempPathFactory) -> ChargedWorld:
    """Two months, open; never to be changed, only copied."""
    world = ChargedWorld(tmp_path_factory.mktemp("open") / "world")
    for name in ("allocators", "cost_groups"):
        (world.folder / "config" / name).mkdir(parents=True)
    (world.folder / "config" / "allocators" / "fee.json").write_text(json.dumps(ALLOCATOR))
    for month, costs in CHARGES.items():
        world.charge(month, costs)
    world.make([JANUARY, FEBRUARY])
    administered(world.workspace)
    return world


@pytest.fixture(scope="session")
def never_closed(open_world: ChargedWorld, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Decimal]:
    """What accounts pay where January is restated and nothing was ever closed."""
    world = open_world.copy(tmp_path_factory.mktemp("never_closed") / "world")
    world.charge(JANUARY, RESTATED)
    world.make([JANUARY, FEBRUARY])
    return world.paid()


@pytest.fixture(scope="session")
def scenario(open_world: ChargedWorld, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], Scenario]:
    """The scenario of a kind, done undisturbed once."""
    known: dict[Kind, Scenario] = {}

    def made(kind: Kind) -> Scenario:
        if kind not in known:
            known[kind] = _undisturbed(open_world, tmp_path_factory.mktemp("undisturbed"), kind)
        return known[kind]

    return made


def _undisturbed(open_world: ChargedWorld, folder: Path, kind: Kind) -> Scenario:
    world, command = open_world.copy(folder / "world"), CLOSE
    if kind != "close":
        periods.close(world.workspace, [JANUARY], Actor("tester"), now=datetime(2024, 6, 1, tzinfo=UTC))
        command = REOPEN
    if kind == "corrections":
        world.charge(JANUARY, RESTATED)
        command = RUN
    done = world.copy(folder / "done")
    ended = done.octo(*command, hurt=partial(kill_at_step, 0, done.steps))
    assert ended.code == 0, ended.said
    return Scenario(world, command, int(done.steps.read_text()), world.snapshot(), done.snapshot())


@rounds(2, 90)
def test_a_killed_closing_leaves_the_month_open_or_closed_whole_and_no_amount_is_lost(
    scenario, never_closed, dice: Dice, tmp_path
):
    kinds: tuple[Kind, ...] = ("close", "corrections", "reopen")
    kind = kinds[dice.number % 3]
    of = scenario(kind)
    world = of.world.copy(tmp_path / "world")
    by_step = dice.random() < 0.7
    hurt = partial(kill_at_step, dice.randint(1, of.steps), world.steps) if by_step else as_it_is
    running = world.start(*of.command, hurt=hurt)
    if not by_step:
        running.process.join(dice.uniform(0.1, 3))
        running.kill()
    code = running.ended().code
    assert code < 0 if by_step else code <= 0
    for partition, state in world.snapshot().items():
        assert state in (of.before.get(partition), of.after.get(partition)), partition

    was_closed = world.check_closed_whole()
    again = world.octo(*of.command)
    if kind == "corrections":
        assert was_closed
        assert again.code == 0, again.said
    else:
        is_done = was_closed == (kind == "close")
        # What is done is not done again, and says so.
        assert again.code == (1 if is_done else 0), again.said
        assert not is_done or said_in_a_sentence(again), again.said
    assert world.snapshot() == of.after
    assert world.check_closed_whole() == (kind != "reopen")

    # Whatever happened, the restated month costs everybody what it would have cost without any closing.
    if kind != "corrections":
        world.charge(JANUARY, RESTATED)
        world.make([JANUARY, FEBRUARY])
    assert world.paid() == never_closed
    assert corrected_in(world.workspace.lake, FEBRUARY) == ([] if kind == "reopen" else [JANUARY])
    assert kept(world) == named(world)


def kept(world: ChargedWorld) -> list[str]:
    """The closings of January that are in the lake."""
    return world.workspace.lake.folders("closings", f"month={JANUARY}")


def named(world: ChargedWorld) -> list[str]:
    """The closing of January that counts."""
    closing = world.workspace.periods[JANUARY].closing
    return [closing.closing] if closing else []


def at_once(world: ChargedWorld, *commands: tuple[str, ...]) -> list[Ended]:
    """How commands end that are started together."""
    running = [world.start(*command) for command in commands]
    return [process.ended() for process in running]


@rounds(1, 20)
def test_of_two_people_who_close_a_month_at_once_one_does_and_the_other_is_told(open_world, dice: Dice, tmp_path):
    world = open_world.copy(tmp_path / "world")
    first, second = sorted(at_once(world, CLOSE, CLOSE), key=lambda ended: ended.code)
    assert first.code == 0, first.said
    assert said_in_a_sentence(second), second.said
    assert "2024-01 is closed already." in second.said
    assert world.check_closed_whole()
    assert kept(world) == named(world)
    assert len([event for event in world.workspace.periods[JANUARY].events if event.action == "close"]) == 1


@rounds(1, 20)
def test_a_month_that_is_closed_while_a_run_makes_it_again_is_closed_as_it_was_made(
    open_world, never_closed, dice: Dice, tmp_path
):
    world = open_world.copy(tmp_path / "world")
    world.charge(JANUARY, RESTATED)
    commands = [RUN, CLOSE]
    dice.shuffle(commands)
    ended = dict(zip(commands, at_once(world, *commands), strict=True))
    # Before the run the month is stale and is not closed, after it it is. What comes too late says so.
    assert ended[RUN].code == 0 or "was closed while" in ended[RUN].said, ended[RUN].said
    assert ended[CLOSE].code == 0 or said_in_a_sentence(ended[CLOSE]), ended[CLOSE].said
    assert world.check_closed_whole() == (ended[CLOSE].code == 0)
    world.make([JANUARY, FEBRUARY])
    assert world.paid() == never_closed
