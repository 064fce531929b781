"""A month restated again and again ends as if the last delivery had been the only one."""

from datetime import datetime, timedelta, tzinfo

from octo_pipeline.services import landing
from octo_pipeline.tables.graph import TABLES
from tests.torture.chance import Dice, pick, rounds
from tests.torture.worlds import World

MONTHS = ["2024-01", "2024-02"][: pick(1, 2)]


@rounds(1, 3)
def test_a_month_restated_ten_times_is_that_of_its_last_delivery(dice: Dice, tmp_path, monkeypatch):
    class Erring(datetime):
        """A clock that is set forward and back by days."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(days=dice.uniform(-60, 60))

    monkeypatch.setattr(landing, "datetime", Erring)
    world = World(tmp_path / "world")
    for number in range(pick(2, 10)):
        # Which vendors restate, and which months, is drawn; the first time all deliver all.
        change = world.deliver if number == 0 or dice.random() < pick(0, 1) / 2 else world.restate
        months = MONTHS if number == 0 else [dice.choice(MONTHS)]
        change(months, seed=dice.randrange(1_000), lines=dice.randint(100, 400))
        world.make(MONTHS)
    assert world.snapshot() == world.made_anew(tmp_path / "fresh", MONTHS)
    assert len(world.snapshot()) == len(TABLES) * len(MONTHS)
