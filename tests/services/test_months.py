"""The one way to make months: what is told, what a failure blocks, and that an interruption is no failure."""

import pickle
from collections.abc import Iterator

import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.rules.documents import DocumentError, Problem
from octo_pipeline.services import months as service
from octo_pipeline.services.months import (
    Blocked,
    Event,
    Failed,
    Landed,
    MonthDone,
    Started,
    all_steps,
    make_months,
    make_months_side_by_side,
    require_months,
)
from octo_pipeline.settings import Settings
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.tables.table import Materialised, Table
from octo_pipeline.vendors.aws.sample import write_cur
from octo_pipeline.vendors.catalog import VENDORS
from octo_pipeline.workspace import Workspace

MONTHS = ["2024-01", "2024-02"]
NAMES = [step.name for step in all_steps()]


@pytest.fixture
def exporting(tmp_path) -> Workspace:
    """An empty lake whose AWS exports have both months."""
    for name in ("allocators", "cost_groups"):
        (tmp_path / "config" / name).mkdir(parents=True)
    write_cur(tmp_path / "exports", months=MONTHS, accounts=3, lines=100)
    return Workspace(
        Settings(lake=tmp_path / "lake", config=tmp_path / "config", aws_exports=tmp_path / "exports" / "aws")
    )


@pytest.fixture
def failing(monkeypatch) -> dict[tuple[str, str], BaseException]:
    """(table, month) -> the error that is raised instead of making it; no table is really made."""
    errors: dict[tuple[str, str], BaseException] = {}

    def made(workspace: Workspace, table: Table, month: str) -> Materialised:
        if error := errors.get((table.name, month)):
            raise error
        return Materialised(table.name, month, "published", "f", 1, 0.0)

    monkeypatch.setattr(service, "materialise", made)
    return errors


def of(kind: type, events: list[Event]) -> list:
    return [event for event in events if isinstance(event, kind)]


def test_every_step_of_a_month_is_told_when_it_begins_and_when_it_ends_before_the_next_month_begins(exporting, failing):
    events = list(make_months(exporting, MONTHS))
    assert [(event.month, event.step) for event in of(Started, events)] == [(m, name) for m in MONTHS for name in NAMES]
    landed = of(Landed, events)
    assert [(event.vendor, event.month) for event in landed] == [(name, month) for month in MONTHS for name in VENDORS]
    assert (landed[0].outcome, landed[0].deliveries, landed[0].unanswered) == ("1 new", 1, ())
    assert of(MonthDone, events) == [MonthDone(month, len(TABLES), 0, ()) for month in MONTHS]
    assert [event.outcome for event in of(Landed, list(make_months(exporting, MONTHS[:1])))] == [
        "unchanged",
        *["no delivery"] * (len(VENDORS) - 1),
    ]


def test_a_table_that_fails_blocks_what_is_made_from_it_in_its_month_and_nothing_else(exporting, failing):
    failing["usage_shares", MONTHS[0]] = OctoError("the disk is full", code="disk-full")
    events = list(make_months(exporting, MONTHS))
    (failed,) = of(Failed, events)
    assert (failed.step, failed.month, failed.error.code) == ("usage_shares", MONTHS[0], "disk-full")
    assert [(event.step, event.month) for event in of(Blocked, events)] == [
        ("allocations", MONTHS[0]),
        ("account_costs", MONTHS[0]),
        ("cost_group_costs", MONTHS[0]),
        ("prepayments", MONTHS[0]),
    ]
    first, second = of(MonthDone, events)
    assert first.failed == ("usage_shares", "allocations", "account_costs", "cost_group_costs", "prepayments")
    assert (second.published, second.failed) == (len(TABLES), ())
    # Whoever counts steps reaches the end.
    assert len(of(Landed, events) + of(Materialised, events) + of(Failed, events) + of(Blocked, events)) == 2 * len(
        NAMES
    )


def test_a_mart_that_fails_does_not_block_another(exporting, failing):
    failing["account_costs", MONTHS[0]] = OctoError("no", code="test")
    assert of(Blocked, list(make_months(exporting, MONTHS[:1]))) == []


def test_a_landing_that_fails_blocks_all_tables_of_its_month(exporting, failing, tmp_path):
    data = next(p for p in (tmp_path / "exports").rglob("*.parquet") if p.parent.name.startswith("20240101-"))
    data.write_bytes(data.read_bytes()[:-100])
    events = list(make_months(exporting, MONTHS))
    assert [event.step for event in of(Failed, events)] == ["landing/aws"]
    assert [(event.step, event.month) for event in of(Blocked, events)] == [(table.name, MONTHS[0]) for table in TABLES]
    assert {event.month for event in of(Materialised, events)} == {MONTHS[1]}


def test_an_error_that_nobody_expected_is_a_sentence_of_its_step(exporting, failing):
    failing["allocations", MONTHS[0]] = ZeroDivisionError("division by zero")
    (failed,) = of(Failed, list(make_months(exporting, MONTHS)))
    assert str(failed.error) == "allocations failed: ZeroDivisionError: division by zero"
    assert isinstance(failed.error.__cause__, ZeroDivisionError)


def interrupted_query() -> Exception:
    """What DuckDB raises when its query is interrupted from the keyboard."""
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as interruption:
            raise RuntimeError("Query interrupted") from interruption
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), interrupted_query()], ids=lambda e: type(e).__name__
)
def test_an_interruption_ends_everything(exporting, failing, error):
    failing["cost_line_items", MONTHS[0]] = error
    events = make_months(exporting, MONTHS)
    seen = []
    with pytest.raises(KeyboardInterrupt if isinstance(error, RuntimeError) else type(error)):
        seen.extend(event for event in events)
    assert of(Failed, seen) == []
    assert list(events) == []


def test_events_are_values_that_cross_the_border_of_a_process():
    problem = Problem("support.json", "formula", "is missing")
    event = Failed("usage_shares", MONTHS[0], DocumentError([problem, problem]))
    copy = pickle.loads(pickle.dumps(event))
    assert (copy.step, str(copy.error)) == (event.step, str(event.error))
    assert copy.error.problems == (problem, problem)


@pytest.mark.slow
def test_side_by_side_months_are_told_as_one_after_the_other(exporting, tmp_path):
    other = Workspace(exporting.settings.model_copy(update={"lake": str(tmp_path / "other")}))
    alone = without_time(make_months(exporting, MONTHS))
    assert without_time(make_months_side_by_side(other, MONTHS, 2)) == alone
    assert set(other.lake.months("account_costs")) == set(MONTHS)


def without_time(events: Iterator[Event]) -> set[tuple]:
    return {
        (type(event).__name__, *(value for name, value in vars(event).items() if name != "seconds")) for event in events
    }


def test_a_month_before_the_first_or_after_the_current_one_is_refused():
    settings = Settings(start_month="2024-01")
    require_months(settings, ["2024-01", "2024-02"])
    with pytest.raises(OctoError, match=r"^2023-12 is before 2024-01, the first month of the lake\.$") as before:
        require_months(settings, ["2023-12", "2024-01"])
    assert [remedy.action for remedy in before.value.remedies] == ["set"]
    with pytest.raises(
        OctoError, match=r"^2999-01 has not begun, so nothing of it is billed; the current month is 2"
    ) as future:
        require_months(settings, ["2024-01", "2999-01"])
    # An earlier first month would not help.
    assert not future.value.remedies
