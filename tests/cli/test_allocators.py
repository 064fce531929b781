"""`octo allocators` as a user types it, on a small lake and configuration."""

import csv
import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from octo_pipeline.cli.main import app
from octo_pipeline.cli.output import sentence
from octo_pipeline.model.errors import OctoError
from octo_pipeline.rules.allocator import parse_allocator
from octo_pipeline.rules.formula import percentage_hints
from octo_pipeline.services import rules as allocator_files
from octo_pipeline.services.access import os_user
from octo_pipeline.settings import Settings
from octo_pipeline.workspace import Workspace
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.workspaces import administered, workspace_in

# A template as people fill it in: numbers as strings, and empty strings for what is not set.
TEMPLATE = {
    "category": "",
    "expiration": "3",
    "startMonth": "",
    "defaultAccount": "",
    "criteria": [{"and": {"account": "re:^9$", "description": "re:.*Fee.*", "productCode": "AWSSupportBusiness"}}],
    "allocator": [
        {"type": "account", "value": "1", "formula": "cost*usage", "months": "3"},
        {"type": "account", "value": "2", "formula": "cost*0.2", "months": "2"},
    ],
}
SUPPORT = line_item(
    "9", "900", "Fee", "Purchase", service_code="AWSSupportBusiness", charge_description="AWS Support Monthly Fee"
)


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    """A lake of one month, and one live allocator ``a0`` that takes the fee of 100."""
    return administered(
        workspace_in(
            tmp_path,
            [*USAGE_OF_10_AND_30, FEE_OF_100, SUPPORT],
            [fee_allocator(criteria=[{"and": {"productCode": "AmazonEC2"}}])],
        )
    )


@pytest.fixture
def octo(workspace, monkeypatch):
    monkeypatch.setenv("OCTO_LAKE", str(workspace.settings.lake))
    monkeypatch.setenv("OCTO_CONFIG", str(workspace.settings.config))

    def run(*arguments: str | Path, code: int = 0, answer: str | None = None) -> Result:
        result = CliRunner().invoke(app, ["allocators", *map(str, arguments)], input=answer)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return run


@pytest.fixture
def folder(workspace) -> Path:
    return workspace.settings.config / "allocators"


def written(tmp_path: Path, document: dict, name: str = "new") -> Path:
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(document))
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def error(result: Result) -> str:
    assert isinstance(result.exception, OctoError)
    return sentence(result.exception)


def test_validate_prints_every_problem_of_every_file(octo, folder):
    (folder / "bad.json").write_text('{"startMonth": "2024-13", "criteria": [], "allocator": [{"type": "team"}]}')
    (folder.parent / "cost_groups" / "worse.json").write_text("[]")
    (folder.parent / "exchange_rates.csv").write_text("month,currency\n")
    result = octo("validate", code=1)
    lines = result.stdout.splitlines()
    assert [text.split(": ")[:2] for text in lines] == [
        ["allocators/bad.json", "criteria"],
        ["allocators/bad.json", "allocator[0].type"],
        ["allocators/bad.json", "allocator[0].value"],
        ["allocators/bad.json", "startMonth"],
        ["cost_groups/worse.json", "must be one JSON object { … } and nothing else"],
        ["exchange_rates.csv", "line 1"],
    ]
    assert error(result) == "6 problems in 3 of 4 files."


def test_validate_named_files(octo, tmp_path):
    good = written(tmp_path, fee_allocator())
    assert octo("validate", good).stdout == "1 file is valid.\n"
    bad = written(tmp_path, fee_allocator(category="fees"), "bad")
    result = octo("validate", good, bad, code=1)
    assert result.stdout.startswith(f'{bad}: category: "fees" is unknown')
    assert error(result) == "1 problem in 1 of 2 files."


def test_add_stamps_the_template_and_saves_it(octo, tmp_path, folder):
    before = datetime.now(UTC)
    result = octo("add", written(tmp_path, TEMPLATE, "support"), "--yes")
    assert "support (fee) on 2024-01: matches 1 item of 900.00 USD." in result.stdout
    assert "The simulation starts it in 2024-01" in result.stderr

    assert names(folder) == ["a0.json", "support.json"]
    document = json.loads((folder / "support.json").read_text())
    saved = parse_allocator((folder / "support.json").read_bytes(), file="support.json")
    assert saved.create_time and (saved.create_time - before).total_seconds() > -1
    assert document["startMonth"] == document["createTime"][:7] == saved.start
    assert {k: v for k, v in document.items() if k not in ("id", "createTime", "startMonth")} == {
        k: v for k, v in TEMPLATE.items() if k != "startMonth"
    }


def test_add_keeps_the_times_a_file_has(octo, tmp_path, folder):
    octo("add", written(tmp_path, TEMPLATE | {"createTime": "2024-01-31T23:30:00-02:00"}), "--yes")
    document = json.loads((folder / "new.json").read_text())
    assert (document["createTime"], document["startMonth"]) == ("2024-01-31T23:30:00-02:00", "2024-02")


def test_add_asks_and_saves_nothing_on_no(octo, tmp_path, folder):
    result = octo("add", written(tmp_path, fee_allocator()), answer="n\n", code=1)
    assert "Save it?" in result.stdout
    assert names(folder) == ["a0.json"]
    octo("add", written(tmp_path, fee_allocator()), answer="y\n")
    assert names(folder) == ["a0.json", "new.json"]


def test_add_refuses_an_id_that_exists(octo, tmp_path, folder):
    before = (folder / "a0.json").read_text()
    changed = written(tmp_path, fee_allocator("cost") | {"id": "a0"})
    assert (
        "already has the allocator 'a0'. Use another id, or replace it. Run `octo allocators add FILE --replace`"
        in error(octo("add", changed, "--yes", code=1))
    )
    assert (folder / "a0.json").read_text() == before


def test_replace_keeps_when_it_was_created_and_where_it_is(octo, tmp_path, folder):
    (folder / "a0.json").unlink()
    old = fee_allocator(createTime="2023-12-05T00:00:00Z") | {"id": "fees"}
    (folder / "other-name.json").write_text(json.dumps(old))
    changed = {k: v for k, v in fee_allocator("cost").items() if k != "startMonth"} | {"id": "fees"}
    octo("add", written(tmp_path, changed), "--replace", "--yes")
    assert names(folder) == ["other-name.json"]
    document = json.loads((folder / "other-name.json").read_text())
    assert (document["createTime"], document["startMonth"]) == ("2023-12-05T00:00:00Z", MONTH)
    assert document["updateTime"][:4] >= "2024"
    assert document["allocator"][0]["formula"] == "cost"


def test_add_does_not_overwrite_a_file_of_another_id(octo, tmp_path, folder):
    (folder / "new.json").write_text(json.dumps(fee_allocator() | {"id": "else"}))
    assert "already has another allocator; rename that file first" in error(
        octo("add", written(tmp_path, fee_allocator()), "--yes", code=1)
    )
    assert json.loads((folder / "new.json").read_text())["id"] == "else"


def test_add_says_all_that_is_wrong_but_the_missing_start(octo, tmp_path, folder):
    bad = TEMPLATE | {"category": "fees", "expiration": "0"}
    lines = error(octo("add", written(tmp_path, bad), "--yes", code=1)).splitlines()
    assert [text.split(": ")[1] for text in lines] == ["category", "expiration"]
    assert names(folder) == ["a0.json"]


def test_add_works_before_there_is_a_lake(octo, tmp_path, folder, monkeypatch):
    monkeypatch.setenv("OCTO_LAKE", str(tmp_path / "none"))
    administered(Workspace(Settings(lake=str(tmp_path / "none"), config=folder.parent)))
    result = octo("add", written(tmp_path, TEMPLATE), "--yes")
    assert "nothing to simulate" in result.stdout
    assert names(folder) == ["a0.json", "new.json"]
    # Who may save is known to the registry; of the lake itself nothing is made.
    assert names(tmp_path / "none") == ["registry.sqlite"]


def test_list(octo, folder):
    (folder / "late.json").write_text(json.dumps(TEMPLATE | {"createTime": "2024-02-01T00:00:00Z"}))
    (folder / "bad.json").write_text("{}")
    result = octo("list", "--output", "json")
    keys = ("id", "category", "start", "end", "months", "entries")
    assert [tuple(row[key] for key in keys) for row in json.loads(result.stdout)] == [
        ("a0", "fee", MONTH, "", 1, 2),
        ("late", "fee", "2024-02", "2024-04", 3, 2),
    ]
    assert "Invalid and left out: allocators/bad.json." in result.stderr
    assert octo("list", "--output", "csv").stdout.splitlines()[1].startswith("a0,fee,0,2024-01,")
    assert "step" not in octo("list").stdout

    balance = {
        "category": "balance",
        "step": 3,
        "criteria": [{"and": {"account": "1"}}],
        "allocator": [{"type": "owner"}],
    }
    (folder / "hand-on.json").write_text(json.dumps(balance | {"startMonth": MONTH}))
    assert [row["step"] for row in json.loads(octo("list", "--output", "json").stdout)] == [None, 3, None]
    assert "step" in octo("list").stdout


def test_show_prints_a_document_that_can_be_added_again(octo, folder):
    result = octo("show", "a0")
    live = parse_allocator((folder / "a0.json").read_bytes(), file="a0.json")
    assert parse_allocator(result.stdout, file="a0.json").version == live.version
    assert f"valid from 2024-01 without end, version {live.version}" in result.stderr
    assert "has no allocator 'nothing'. Run `octo allocators list` to see them all." in error(
        octo("show", "nothing", code=1)
    )


SUCCESSOR = {key: value for key, value in fee_allocator("cost*0.5").items() if key != "startMonth"}


@pytest.fixture
def ended_later(folder) -> dict:
    """The live allocator, from a month before the one of the lake."""
    document = fee_allocator(startMonth="2023-11", endMonth="2030-12", priority=-3, name="Half each")
    (folder / "a0.json").write_text(json.dumps(document))
    return document


def test_supersede_ends_one_and_starts_the_next_in_one_step(octo, tmp_path, folder, workspace, ended_later):
    result = octo("supersede", "a0", written(tmp_path, SUCCESSOR, "b"), "--from", MONTH, "--yes")
    assert "b (fee) on 2024-01: matches 2 items of 1,000.00 USD." in result.stdout
    assert f"a0 will be valid from 2023-11 to 2023-12, b from {MONTH} without end" in result.stdout
    assert "Conflicts" not in result.stdout
    old, new = (json.loads((folder / name).read_text()) for name in ("a0.json", "b.json"))
    assert old == {**ended_later, "endMonth": "2023-12", "updateTime": old["updateTime"]}
    assert new == {"id": "b", **SUCCESSOR, "startMonth": MONTH, "createTime": new["createTime"], "priority": -3}
    assert new["createTime"] > MONTH
    recorded = workspace.registry.audit()[0]
    assert (recorded.action, recorded.subject, recorded.details["successor"]) == ("supersede_allocator", "a0", "b")


def test_a_successor_that_spreads_takes_no_item_billed_before_its_month(octo, tmp_path, folder, ended_later):
    document = SUCCESSOR | {"allocator": [{"type": "account", "value": "1", "months": 3}]}
    octo("supersede", "a0", written(tmp_path, document, "b"), "--from", "2030-02", "--yes")
    saved = parse_allocator((folder / "b.json").read_bytes(), file="b.json")
    assert (saved.created_month, saved.first_origin) == ("2030-02", "2030-02")


def test_supersede_asks_and_saves_neither_on_no(octo, tmp_path, folder, ended_later):
    octo("supersede", "a0", written(tmp_path, SUCCESSOR, "b"), "--from", MONTH, answer="n\n", code=1)
    assert names(folder) == ["a0.json"]
    assert json.loads((folder / "a0.json").read_text()) == ended_later


def test_supersede_saves_neither_if_one_cannot_be_written(octo, tmp_path, folder, ended_later, monkeypatch):
    write = allocator_files.write

    def fail_on_predecessor(target: Path, text: str) -> None:
        if target.name == "a0.json":
            raise OctoError("The disk is full.", code="file-not-writable")
        write(target, text)

    monkeypatch.setattr(allocator_files, "write", fail_on_predecessor)
    octo("supersede", "a0", written(tmp_path, SUCCESSOR, "b"), "--from", MONTH, "--yes", code=1)
    assert names(folder) == ["a0.json"]
    assert json.loads((folder / "a0.json").read_text()) == ended_later


@pytest.mark.parametrize(
    ("changes", "first", "message"),
    [
        ({"id": "a0"}, MONTH, "id: is a0, the allocator that ends; give the next one an id of its own"),
        ({"startMonth": "2024-03"}, "2024-02", "startMonth: is 2024-03; it must be 2024-02, or left out"),
        (
            {"createTime": "2023-12-05", "allocator": [{"type": "account", "value": "1", "months": 2}]},
            "2024-02",
            "createTime: is in 2023-12, so that it also takes items billed before 2024-02; leave it out",
        ),
        ({}, "2023-11", "a0 takes items from 2023-11 on, so nothing would be left of it if it ended in 2023-10."),
        ({}, "2031-02", "a0 already ends in 2030-12, so nothing takes its items until 2031-02. Start in 2031-01,"),
        ({}, "2024", "'2024' is not a month"),
        ({"category": "fees"}, MONTH, 'category: "fees" is unknown'),
    ],
)
def test_what_cannot_succeed(octo, tmp_path, folder, ended_later, changes, first, message):
    result = octo("supersede", "a0", written(tmp_path, SUCCESSOR | changes, "b"), "--from", first, "--yes", code=1)
    assert message in error(result)
    assert names(folder) == ["a0.json"]


def test_remove(octo, folder):
    octo("remove", "a0", answer="n\n", code=1)
    assert names(folder) == ["a0.json"]
    octo("remove", "a0", "--yes")
    assert names(folder) == []
    assert "has no allocator 'a0'" in error(octo("remove", "a0", "--yes", code=1))


def test_remove_does_not_guess_between_two_files_of_one_id(octo, folder):
    (folder / "b.json").write_text(json.dumps(fee_allocator() | {"id": "a0"}))
    assert "have the id 'a0': a0.json, b.json" in error(octo("remove", "a0", "--yes", code=1))
    assert names(folder) == ["a0.json", "b.json"]


def test_an_invalid_file_can_be_removed_by_its_name(octo, folder):
    (folder / "bad.json").write_text("{}")
    octo("remove", "bad", "--yes")
    assert names(folder) == ["a0.json"]


def test_simulate_says_which_month_it_took(octo, tmp_path):
    result = octo("simulate", written(tmp_path, TEMPLATE))
    current = f"{datetime.now(UTC):%Y-%m}"
    assert f"no line items of the current month {current}, so {MONTH} was simulated." in result.stderr
    assert f"sets no startMonth. The simulation starts it in {MONTH}; if you save it now, it starts in {current}." in (
        result.stderr
    )
    assert "new (fee) on 2024-01: matches 1 item of 900.00 USD." in result.stdout
    assert "Due in later months" in result.stdout


def test_simulate_for_machines(octo, tmp_path):
    file = written(tmp_path, TEMPLATE)
    found = json.loads(octo("simulate", file, "--month", MONTH, "--output", "json").stdout)
    assert found["month"] == MONTH
    assert found["matched_costs"] == [
        {"currency": "USD", "items": 1, "cost": "900.0000000000", "effective_cost": "900.0000000000"}
    ]
    assert [(r["kind"], r["target_account"], r["cost"]) for r in found["bookings"]] == [
        ("split", "1", "75.0000000000"),
        ("split", "2", "90.0000000000"),
        ("remainder", "9", "135.0000000000"),
    ]
    assert [(r["booking_month"], r["cost"]) for r in found["later_instalments"]] == [
        ("2024-02", "300.0000000000"),
        ("2024-03", "300.0000000000"),
    ]
    assert [(r["account"], r["difference"]) for r in found["differences"]] == [
        ("1", "75.0000000000"),
        ("2", "90.0000000000"),
        ("9", "-765.0000000000"),
    ]
    rows = list(csv.DictReader(io.StringIO(octo("simulate", file, "--month", MONTH, "--output", "csv").stdout)))
    assert [row["cost"] for row in rows] == ["75.0000000000", "90.0000000000", "135.0000000000"]


def test_simulate_shows_conflicts_and_warnings(octo, tmp_path):
    greedy = fee_allocator("cost*usage*1.5", createTime="2023-12-01T00:00:00Z") | {
        "criteria": [{"and": {"lineType": "Fee"}}]
    }
    shown = octo("simulate", written(tmp_path, greedy), "--month", MONTH).stdout
    assert "Conflicts" in shown
    assert "Warning: It hands out 500.00 USD more than there is" in shown


def test_a_long_table_says_how_much_it_leaves_out(octo, tmp_path):
    accounts = [{"type": "account", "value": f"a{i:02d}", "formula": "cost/60"} for i in range(60)]
    document = TEMPLATE | {"allocator": accounts}
    shown = octo("simulate", written(tmp_path, document), "--month", MONTH).stdout
    # 60 splits and 60 sums; 60 differences and that of the item's own account.
    assert shown.count("… and 10 more; the total is 900.00 USD. --output json has them all.") == 2
    assert shown.count("… and 11 more. --output json has them all.") == 1


def test_simulate_writes_nothing(octo, tmp_path):
    file = written(tmp_path, TEMPLATE)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    octo("simulate", file)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["simulate", "absent.json"], "The file absent.json cannot be read (No such file or directory)."),
        (["simulate", "new.json", "--month", "2024"], "'2024' is not a month"),
        (["simulate", "new.json", "--month", "2030-01"], "The lake has no cost line items of 2030-01"),
        (["validate", "absent.json"], "The file absent.json cannot be read"),
    ],
)
def test_errors_are_sentences(arguments, sentence, octo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, TEMPLATE)
    assert error(octo(*arguments, code=1)).startswith(sentence)


def test_as_a_program_it_loads_neither_dagster_nor_dbt(workspace, tmp_path):
    file = written(tmp_path, TEMPLATE)
    environment = os.environ | {
        "OCTO_LAKE": str(workspace.settings.lake),
        "OCTO_CONFIG": str(workspace.settings.config),
    }
    program = (
        "import sys, atexit; from octo_pipeline.cli.main import main; "
        "atexit.register(lambda: print(sorted({'dagster', 'dbt'} & sys.modules.keys()), file=sys.stderr)); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "allocators", "simulate", str(file)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


def test_a_rule_is_simulated_from_standard_input(octo, tmp_path):
    # Without a time of its own it would be that of each command.
    rule = fee_allocator("cost*usage*0.5", createTime="2024-01-05T00:00:00Z")
    from_file = octo("simulate", written(tmp_path, rule, "stdin"), "-o", "json").stdout
    assert octo("simulate", "-", "-o", "json", answer=json.dumps(rule)).stdout == from_file
    assert json.loads(from_file)["allocator"]["id"] == "stdin"
    assert "stdin: category: " in sentence(octo("simulate", "-", code=1, answer='{"category": "x"}').exception)


def test_validate_points_out_what_is_hardly_meant(octo, tmp_path, workspace):
    rule = fee_allocator(criteria=[{"and": {"productCode": "AWSSupport*"}}])
    hint = '"AWSSupport*" is compared as it is written, sign by sign; for a pattern write "re:^AWSSupport"'
    assert octo("validate", written(tmp_path, rule)).output.splitlines() == [
        f"{tmp_path}/new.json: criteria: {hint}",
        "1 file is valid.",
    ]
    written(workspace.settings.config / "allocators", rule, "a1")
    group = {"combinations": {"awsOptions": {"tagFilters": [{"andFilters": {"team": "shop-*"}}]}}}
    written(workspace.settings.config / "cost_groups", group, "shop")
    pattern = '"shop-*" is compared as it is written, sign by sign; for a pattern write "re:^shop\\\\-"'
    lines = octo("validate").output.splitlines()
    assert lines[:2] == [f"a1: criteria: {hint}", f"shop: combinations: {pattern}"]


def test_a_percentage_in_a_formula_is_pointed_out_before_it_is_saved(octo, tmp_path):
    """Regression: it parsed as a remainder, and nobody was told."""
    rule = fee_allocator("cost*20 % -5")
    hint = percentage_hints("cost*20 % -5")[0]
    assert octo("validate", written(tmp_path, rule)).output.splitlines() == [
        f"{tmp_path}/new.json: allocator[0].formula: {hint}",
        f"{tmp_path}/new.json: allocator[1].formula: {hint}",
        "1 file is valid.",
    ]
    assert f"Warning: {hint}." in octo("simulate", written(tmp_path, rule), "--month", MONTH).output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # As the documentation shows a rule, without the braces around it.
        ('"category": "",\n"criteria": []', "line 1, column 11: must be one JSON object; write { before the first key"),
        ('{"criteria": [], }', "line 1, column 18: has a comma before the '}'; remove the comma"),
        ('{"criteria": [{},\n]}', "line 2, column 1: has a comma before the ']'; remove the comma"),
        ('{"criteria": [],, }', "line 1, column 17: is not valid JSON here: "),
        ('{"criteria" []}', "line 1, column 13: is not valid JSON here: "),
    ],
)
def test_common_mistakes_in_json_have_a_hint(octo, tmp_path, text, message):
    file = tmp_path / "new.json"
    file.write_text(text)
    assert f"{file}: {message}" in octo("validate", file, code=1).output


def test_keys_and_their_values_are_listed(octo):
    keys = json.loads(octo("attributes", "-o", "json").output)
    assert {"account", "tag:"} <= {row["key"] for row in keys if row["category"] == "account"}
    accounts = json.loads(octo("sources", "account", "--month", MONTH, "--limit", "2", "-o", "json").output)
    assert [(row["value"], row["line_items"]) for row in accounts] == [("9", 2), ("1", 1)]
    of_fees = json.loads(octo("sources", "account", "--category", "fee", "-o", "json").output)
    assert [row["value"] for row in of_fees] == ["9"]
    assert "There is no key 'nope'" in error(octo("sources", "nope", code=1))


def test_versions_are_listed_and_printed(octo, tmp_path):
    octo("add", written(tmp_path, fee_allocator("cost*0.25"), "new"), "--yes")
    octo("add", written(tmp_path, fee_allocator("cost*0.75"), "new"), "--replace", "--yes")
    now, before = json.loads(octo("versions", "new", "-o", "json").output)
    assert (now["is_live"], before["is_live"], now["months"]) == (True, False, "")
    assert now["saved_by"] == before["saved_by"] == os_user()
    document = json.loads(octo("versions", "new", before["version"][:8]).output)
    assert document["allocator"][0]["formula"] == "cost*0.25"
    lines = [line.split() for line in octo("versions", "new").output.splitlines()]
    assert [line[0] for line in lines if "yes" in line] == [now["version"][:8]]
    assert "no version begins with 'zz'" in error(octo("versions", "new", "zz", code=1))
