"""Cost centres: what is read, who a line is about, and what is refused with its line."""

from pathlib import Path

import pytest

from octo_pipeline.rules.cost_centres import (
    HEADER,
    CostCentre,
    CostCentres,
    load_cost_centres,
    read_cost_centres,
    written_rows,
)
from octo_pipeline.rules.documents import DocumentError
from octo_pipeline.settings import Settings
from octo_pipeline.workspace import Workspace

FIRST_LINE = ",".join(HEADER)


def write(folder: Path, *lines: str) -> Path:
    path = folder / "cost_centres.csv"
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    return path


def test_an_id_comes_before_patterns_and_the_first_pattern_before_others(tmp_path):
    path = write(
        tmp_path,
        FIRST_LINE,
        "account,re:^4,CC-2,6400,Teams,teams@example.com",
        "",
        ' account , re:. ,CC-3,6400," Others, all" ,',
        "account,42,CC-1,6500,Payments,",
        "group,re:^teams/,CC-2,6401,,",
        "payer,9,,2100,,",
    )
    centres = load_cost_centres(path)
    assert len(centres) == 5
    owners = [
        ("account", "42"),
        ("account", "43"),
        ("account", "5"),
        ("group", "teams/a"),
        ("group", "x"),
        ("payer", "9"),
    ]
    lines = [centres.of(*owner) for owner in owners]
    assert [line and (line.cost_centre, line.ledger_account) for line in lines] == [
        ("CC-1", "6500"),
        ("CC-2", "6400"),
        ("CC-3", "6400"),
        ("CC-2", "6401"),
        None,
        ("", "2100"),
    ]
    assert centres.of("account", "5") == CostCentre("account", "re:.", "CC-3", "6400", "Others, all", "")
    assert centres.contact("CC-2") == ("Teams", "teams@example.com")
    assert centres.contact("CC-9") == ("", "")
    assert read_cost_centres(written_rows(centres)) == centres


def test_a_missing_file_has_none(tmp_path):
    assert load_cost_centres(tmp_path / "cost_centres.csv") == CostCentres()


def test_the_shipped_file_is_valid():
    centres = load_cost_centres(Path(__file__).parents[2] / "allocator_configs" / "cost_centres.csv")
    assert centres.of("account", "400000000007") == CostCentre(
        "account", "re:^4000", "CC-2000", "640100", "Product teams", "products@example.com"
    )


def test_every_bad_line_is_reported_at_once(tmp_path):
    lines = {
        "team,1,CC,6400,,": '"team" is not a type of owner; write account, group, payer, prepayments or rounding',
        "account,,CC,6400,,": "has no owner_id; fill it in",
        "account,1,,6400,,": "has no cost_centre; fill it in",
        "account,1,CC,,,": "has no ledger_account; fill it in",
        "payer,1,,,,": "has no ledger_account; fill it in",
        "account,1,CC,6400,": "has 5 values; it must have 6",
        "account,re:(,CC,6400,,": '"(" is not a pattern that RE2 accepts',
        "account,!1,CC,6400,,": "begins with '!' but not with '!re:'",
        "account,1,CC,6400,,a b@example.com": '"a b@example.com" is not an email address',
        "account,1,CC,6400,,@": '"@" is not an email address',
        "account,1,CC,6400,Ann,a@example.com": None,
        "account,1,CC-2,6400,,": "account 1 is in line 12 already; keep one",
        "account,2,CC,6400,Bob,": "cost centre CC has the name Ann in line 12, not Bob; keep one",
        "account,3,CC,6400,Ann,b@example.com": "cost centre CC has the email a@example.com in line 12, not b@example.com",
    }
    with pytest.raises(DocumentError) as caught:
        load_cost_centres(write(tmp_path, FIRST_LINE, *lines))
    expected = [(f"line {i}", message) for i, message in enumerate(lines.values(), 2) if message]
    assert [problem.path for problem in caught.value.problems] == [line for line, _ in expected]
    for problem, (_, message) in zip(caught.value.problems, expected, strict=True):
        assert message in problem.message


def test_a_wrong_header_is_refused_once(tmp_path):
    with pytest.raises(DocumentError, match="line 1: must be the header owner_type,owner_id,") as caught:
        load_cost_centres(write(tmp_path, "account;1;CC", "account;2;CC"))
    assert len(caught.value.problems) == 1


def test_a_mistake_in_the_file_stops_no_month(tmp_path):
    (tmp_path / "allocators").mkdir()
    (tmp_path / "cost_groups").mkdir()
    write(tmp_path, FIRST_LINE, "team,1,CC,6400,,")
    configuration = Workspace(Settings(lake=tmp_path / "lake", config=tmp_path)).configuration
    assert configuration.cost_centres == CostCentres()
    assert [str(problem) for problem in configuration.problems] == [
        'cost_centres.csv: line 2: "team" is not a type of owner; write account, group, payer, prepayments or rounding'
    ]
