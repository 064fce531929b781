"""The marts: what is shown of a month that is made by hand, and the proofs that refuse a wrong one."""

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from click.testing import Result
from typer.testing import CliRunner

from octo_pipeline.allocation.cost_groups import filtered_costs_sql, tabled_groups
from octo_pipeline.allocation.proofs import ProofError, prove
from octo_pipeline.cli.main import app
from octo_pipeline.cli.output import sentence
from octo_pipeline.model.errors import OctoError
from octo_pipeline.rules.cost_group import CostGroup
from octo_pipeline.settings import Settings
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.corrections import Corrections
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.explained_allocations import BookedRows, explained_allocations
from octo_pipeline.tables.graph import stale
from octo_pipeline.tables.table import materialise
from octo_pipeline.workspace import Workspace
from tests.support.case import make, run
from tests.support.model_tests import unit_tests
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.workspaces import run_check, workspace_in, write_lines

NEXT = "2024-02"
COVERED = replace(
    line_item("2", "7", "DiscountedUsage", commitment_discount_type="RI", savings_kind="used"), list_cost=Decimal(10)
)
# A shared account whose usage moves, a saving, a tax that stays, and the fee that goes to 1 and 2 by usage.
LINES = [
    *USAGE_OF_10_AND_30,
    FEE_OF_100,
    line_item("8", "40", service_code="AmazonEKS"),
    line_item("8", "2", service_code="AmazonEKS", charge_description="kept"),
    line_item("1", "5", "Tax", "Tax"),
    COVERED,
]
SHARED = {
    "category": "account",
    "startMonth": MONTH,
    "criteria": [{"and": {"account": "8", "description": "x"}}],
    "allocator": [{"type": "account", "value": "1", "formula": "cost*0.25"}],
    "defaultAccount": "7",
}


def group(folder: Path, name: str, **conditions: str) -> None:
    options = {"filters": [{"andFilters": conditions}]}
    path = folder / "config" / "cost_groups" / f"{name}.json"
    path.write_text(json.dumps({"id": name, "combinations": {"awsOptions": options}}))


def month_of(folder: Path, documents: list[dict], lines=LINES, months=(MONTH,)) -> Workspace:
    return run(workspace_in(folder, lines, documents), list(months))


def shown(workspace: Workspace, table, columns: str, month: str = MONTH) -> list[tuple]:
    with workspace.lake.connect() as connection:
        relation = workspace.lake.scan(table.name, [month], table.columns)
        return connection.execute(f"SELECT {columns} FROM {relation} ORDER BY ALL").fetchall()


def test_account_costs_of_a_month(tmp_path):
    workspace = make(month_of(tmp_path, [fee_allocator(), SHARED]), AccountCosts(), [MONTH])
    # Usage of 1 and 2 is 10 and 37 (the covered line's effective cost is its 7).
    one = (Decimal(1000) / 47).quantize(Decimal("1e-10"))
    found = shown(workspace, AccountCosts, "owner_id, currency, billed, allocated_out, allocated_in, final_cost")
    assert found == [
        ("1", "USD", 15, 0, 10 + one, 25 + one),
        ("2", "USD", 37, 0, 100 - one, 137 - one),
        ("7", "USD", 0, 0, 30, 30),
        ("8", "USD", 42, 40, 0, 2),
        ("9", "USD", 100, 100, 0, 0),
    ]


def test_an_instalment_is_what_is_due_and_no_more(tmp_path):
    spread = fee_allocator("cost*usage")
    spread["allocator"] = [{"type": "account", "value": "1", "formula": "cost", "months": 3}]
    lines = [*USAGE_OF_10_AND_30, FEE_OF_100, line_item("1", "1", billing_month=NEXT)]
    workspace = make(month_of(tmp_path, [spread], lines, (MONTH, NEXT)), AccountCosts(), [MONTH, NEXT])
    third = Decimal("33.3333333333")
    columns = "owner_id, billed, allocated_out, allocated_in, final_cost"
    assert shown(workspace, AccountCosts, columns) == [
        ("1", 10, 0, third, 10 + third),
        ("2", 30, 0, 0, 30),
        ("9", 100, 100, 0, 0),
    ]
    assert shown(workspace, AccountCosts, columns, NEXT) == [("1", 1, 0, third, 1 + third)]


def test_a_saving_lowers_the_amortised_cost_of_who_gets_it(tmp_path):
    ri = {"category": "savings", "startMonth": MONTH, "criteria": [{"and": {"type": "RI"}}]}
    ri["allocator"] = [{"type": "account", "value": "1", "formula": "cost"}]
    workspace = make(month_of(tmp_path, [ri], [*USAGE_OF_10_AND_30, COVERED]), AccountCosts(), [MONTH])
    columns = "owner_id, savings_out, savings_in, final_cost, amortised_final_cost"
    assert shown(workspace, AccountCosts, columns) == [("1", 0, 3, 10, 7), ("2", 3, 0, 37, 40)]


def test_the_sections_of_a_group_that_matches_everything_add_up_to_the_final_costs(tmp_path):
    workspace = month_of(tmp_path, [fee_allocator(), SHARED])
    group(tmp_path, "all", account="re:.*")
    group(tmp_path, "eks", productCode="AmazonEKS")
    workspace = make(make(workspace, AccountCosts(), [MONTH]), CostGroupCosts(), [MONTH])
    (whole,) = shown(workspace, AccountCosts, "sum(final_cost)")[0]
    assert shown(workspace, CostGroupCosts, "sum(cost) FILTER (cost_group_id = 'all' AND section <> 'savings')") == [
        (whole,)
    ]
    columns = "cost_group_id, section, account, service_code, cost"
    eks = [row[1:] for row in shown(workspace, CostGroupCosts, columns) if row[0] == "eks"]
    # The 40 that moved are counted where they went; the 2 stay direct; account 8 has no fee of its own.
    assert eks == [
        ("account", "1", "AmazonEKS", 10),
        ("account", "7", "AmazonEKS", 30),
        ("direct", "8", "AmazonEKS", 2),
    ]


def test_a_group_has_an_account_that_only_a_booked_row_names(tmp_path):
    workspace = month_of(tmp_path, [SHARED | {"category": "fee", "criteria": [{"and": {"lineType": "Fee"}}]}])
    group(tmp_path, "named", account="7")
    group(tmp_path, "narrow", account="7", productCode="AmazonEC2")
    workspace = make(workspace, CostGroupCosts(), [MONTH])
    assert shown(workspace, CostGroupCosts, "cost_group_id, section, account, cost") == [("named", "fee", "7", 75)]


def test_restored_account_usage_stays_direct(tmp_path):
    failing = SHARED | {"allocator": [{"type": "account", "value": "1", "formula": "cost/(usage-usage)"}]}
    workspace = month_of(tmp_path, [failing])
    group(tmp_path, "eks", productCode="AmazonEKS")
    workspace = make(workspace, CostGroupCosts(), [MONTH])
    assert shown(workspace, CostGroupCosts, "section, account, cost") == [("direct", "8", 42)]


def test_without_cost_groups_the_month_is_an_empty_file(tmp_path):
    workspace = make(month_of(tmp_path, [fee_allocator(), SHARED]), CostGroupCosts(), [MONTH])
    assert workspace.lake.months("cost_group_costs") == [MONTH]
    assert shown(workspace, CostGroupCosts, "count(*)") == [(0,)]


def test_a_month_without_allocations_is_refused(tmp_path):
    with pytest.raises(OctoError, match="no allocations of 2024-01") as refused:
        materialise(workspace_in(tmp_path, LINES, []), AccountCosts(), MONTH)
    assert sentence(refused.value).endswith("Run `octo run --month 2024-01`.")


def test_an_edited_cost_group_makes_only_the_cost_groups_stale(tmp_path):
    workspace = month_of(tmp_path, [fee_allocator()])
    group(tmp_path, "one", account="1")
    make(make(workspace, AccountCosts(), [MONTH]), CostGroupCosts(), [MONTH])
    marts = (AccountCosts(), CostGroupCosts())
    assert stale(Workspace(workspace.settings), marts) == []
    group(tmp_path, "one", account="2")
    (found,) = stale(Workspace(workspace.settings), marts)
    assert (found.table, found.month, found.changed) == ("cost_group_costs", MONTH, ["cost_groups/one"])


def test_allocations_of_an_older_bill_are_not_shown(tmp_path):
    workspace = month_of(tmp_path, [fee_allocator()])
    write_lines(workspace, tmp_path, [*LINES, line_item("1", "3", "Fee", "Purchase", charge_description="late")])
    with pytest.raises(ProofError, match=r"everything are the bill.* USD is .* run 2024-01 again, allocations first"):
        materialise(workspace, CostGroupCosts(), MONTH)
    assert workspace.lake.months("cost_group_costs") == []


@pytest.mark.parametrize(
    ("wrong", "claim"),
    [
        (
            "SELECT * REPLACE (final_cost + 0.0000000001 AS final_cost) FROM {good} WHERE owner_id = '1'",
            "the final costs are the bill",
        ),
        (
            "SELECT * REPLACE (amortised_final_cost + 1 AS amortised_final_cost) FROM {good}",
            "the final costs are the bill",
        ),
        (
            "SELECT * REPLACE (CASE owner_id WHEN '1' THEN amortised_final_cost + 1 WHEN '2' THEN amortised_final_cost - 1 "
            "ELSE amortised_final_cost END AS amortised_final_cost) FROM {good}",
            "the final costs of each owner",
        ),
        (
            "SELECT * REPLACE (allocated_in + 1 AS allocated_in, billed - 1 AS billed) FROM {good}",
            "every row booked",
        ),
        (
            "SELECT * REPLACE (effective_in + 1 AS effective_in, effective - 1 AS effective) FROM {good}",
            "every row booked",
        ),
        ("SELECT * REPLACE (step_in + 1 AS step_in, allocated_in - 1 AS allocated_in) FROM {good}", "the steps take"),
    ],
)
def test_account_costs_that_do_not_add_up_are_refused(tmp_path, wrong, claim):
    workspace = make(month_of(tmp_path, [fee_allocator(), SHARED]), AccountCosts(), [MONTH])
    lake = workspace.lake
    lines = lake.scan("cost_line_items", [MONTH], CostLineItems.columns)
    rows = f"({explained_allocations(workspace, [MONTH])})"
    booked = lake.scan("allocations", [MONTH], Allocations.columns)
    good = lake.scan("account_costs", [MONTH], AccountCosts.columns)
    with lake.connect() as connection:
        corrections = lake.scan("corrections", [MONTH], Corrections.columns)
        pieces = {"line_items": lines, "booked": booked, "corrections": corrections} | BookedRows.of_rows(rows).pieces()
        prove(connection, "account_costs", MONTH, AccountCosts.proofs, staged=good, **pieces)
        with pytest.raises(ProofError, match=f"account_costs 2024-01 fails its proof that {claim}"):
            prove(
                connection, "account_costs", MONTH, AccountCosts.proofs, staged=f"({wrong.format(good=good)})", **pieces
            )


@pytest.mark.parametrize(
    ("wrong", "claim"),
    [
        ("SELECT * REPLACE (cost + 40 AS cost) FROM {good} WHERE section = 'direct'", "direct and account costs"),
        ("SELECT * FROM {good} WHERE section <> 'account'", "direct and account costs"),
        ("SELECT * REPLACE (effective_cost + 1 AS effective_cost) FROM {good}", "direct and account costs"),
        ("SELECT * FROM {good} WHERE section <> 'fee'", "fees, savings and steps are all"),
        ("FROM {good} UNION ALL FROM {good} WHERE section = 'savings'", "fees, savings and steps are all"),
    ],
)
def test_cost_groups_that_count_something_twice_or_not_at_all_are_refused(tmp_path, wrong, claim):
    workspace = month_of(tmp_path, [fee_allocator(), SHARED])
    group(tmp_path, "all", account="re:.*")
    workspace = make(workspace, CostGroupCosts(), [MONTH])
    lake = workspace.lake
    cost_groups: list[CostGroup] = list(workspace.configuration.cost_groups.values())
    lines = lake.scan("cost_line_items", [MONTH], CostLineItems.columns)
    rows = f"({explained_allocations(workspace, [MONTH])})"
    booked = lake.scan("allocations", [MONTH], Allocations.columns)
    good = lake.scan("cost_group_costs", [MONTH], CostGroupCosts.columns)
    members = "SELECT 'all' AS cost_group_id, unnest(['1', '2', '7', '8', '9']) AS account, NULL AS payer"
    with lake.connect() as connection:
        groups = tabled_groups(connection, lines, cost_groups)
        connection.execute(f"CREATE TEMP TABLE filtered_costs AS {filtered_costs_sql(lines, rows, groups)}")
        pieces = {"line_items": lines, "booked": booked, "members": members} | BookedRows.of_rows(rows).pieces()
        pieces |= {"filtered_costs": "filtered_costs", "families": []} | no_corrections(lake)
        prove(connection, "cost_group_costs", MONTH, CostGroupCosts.proofs, staged=good, **pieces)
        bad = f"({wrong.format(good=good)})"
        with pytest.raises(ProofError, match=f"cost_group_costs 2024-01 fails its proof that {claim}"):
            prove(connection, "cost_group_costs", MONTH, CostGroupCosts.proofs, staged=bad, **pieces)


def no_corrections(lake) -> dict:
    """What the proof of the corrections reads, where no month is closed."""
    none = lake.scan("cost_group_costs", [], CostGroupCosts.columns, month_as="month")
    return dict.fromkeys(("known_costs", "closed_costs", "earlier_corrections"), none)


FAMILY = {"id": "owners", "by": {"account": True}, "combinations": {"awsOptions": {}}}


@pytest.mark.parametrize(
    ("wrong", "claim"),
    [
        (
            "SELECT * FROM {good} WHERE NOT (cost_group_id = 'owners/2' AND section = 'direct')",
            "the groups of a family add up",
        ),
        (
            "SELECT * REPLACE ('owners/2' AS cost_group_id) FROM {good} WHERE account IS NOT NULL",
            "what is booked on a cost",
        ),
        ("SELECT * REPLACE (coalesce(account, '1') AS account) FROM {good}", "the groups of a family add up"),
    ],
)
def test_families_that_do_not_add_up_are_refused(tmp_path, wrong, claim):
    on_group = fee_allocator(allocator=[{"type": "group", "value": "owners/2", "formula": "cost*0.7"}])
    workspace = workspace_in(tmp_path, LINES, [on_group])
    (workspace.settings.config / "cost_groups" / "owners.json").write_text(json.dumps(FAMILY))
    workspace = make(run(workspace, [MONTH]), CostGroupCosts(), [MONTH])
    lake = workspace.lake
    lines = lake.scan("cost_line_items", [MONTH], CostLineItems.columns)
    rows = f"({explained_allocations(workspace, [MONTH])})"
    good = lake.scan("cost_group_costs", [MONTH], CostGroupCosts.columns)
    accounts = lake.scan("cost_group_costs", [MONTH], CostGroupCosts.columns)
    members = f"SELECT DISTINCT cost_group_id, account, NULL AS payer FROM {accounts} WHERE account IS NOT NULL"
    with lake.connect() as connection:
        groups = tabled_groups(connection, lines, list(workspace.configuration.cost_groups.values()))
        connection.execute(f"CREATE TEMP TABLE filtered_costs AS {filtered_costs_sql(lines, rows, groups)}")
        pieces = {
            "line_items": lines,
            "booked": lake.scan("allocations", [MONTH], Allocations.columns),
        }
        pieces |= {"members": members, "filtered_costs": "filtered_costs", "families": ["owners"]}
        pieces |= BookedRows.of_rows(rows).pieces()
        pieces |= no_corrections(lake)
        prove(connection, "cost_group_costs", MONTH, CostGroupCosts.proofs, staged=good, **pieces)
        proofs = [proof for proof in CostGroupCosts.proofs if proof.name in ("families", "booked_on_groups")]
        with pytest.raises(ProofError, match=f"cost_group_costs 2024-01 fails its proof that {claim}"):
            prove(connection, "cost_group_costs", MONTH, proofs, staged=f"({wrong.format(good=good)})", **pieces)


# A line that a Savings Plan covers: nothing on the invoice, 7 amortised, 10 on demand.
PLANNED = replace(
    line_item("2", "0", "SavingsPlanCoveredUsage", commitment_discount_type="SP", savings_kind="used",
              commitment_discount_id="s1"),
    effective_cost=Decimal(7),
    list_cost=Decimal(10),
)  # fmt: skip
USAGE = SHARED | {"criteria": [{"and": {"account": "2"}}]}
SAVINGS = fee_allocator() | {"category": "savings", "criteria": [{"and": {"arn": "s1"}}]}


def test_covered_usage_that_moves_together_with_its_savings_is_warned_of(tmp_path):
    lines = [*USAGE_OF_10_AND_30, PLANNED, replace(PLANNED, commitment_discount_id="s2")]
    check = run_check("covered_usage_once", month_of(tmp_path, [USAGE, SAVINGS], lines), MONTH)
    assert not check.passed
    assert check.summary == (
        "7.00 USD of usage that commitments cover is allocated by a0, and what it saved by a1: 2 pays on-demand prices for "
        "what others used. Leave out the usage or the savings."
    )
    assert check.details == (("2", "s1", "a0", "a1", "USD", Decimal(7)),)


@pytest.mark.parametrize("document", [USAGE, SAVINGS], ids=["usage alone", "savings alone"])
def test_covered_usage_that_moves_alone_is_fine(tmp_path, document):
    workspace = month_of(tmp_path, [document], [*USAGE_OF_10_AND_30, PLANNED])
    assert run_check("covered_usage_once", workspace, MONTH).passed


def test_the_unit_tests_of_the_models(tmp_path):
    (tmp_path / "dbt").mkdir()
    workspace = month_of(tmp_path, [fee_allocator()])
    rows = explained_allocations(workspace, [MONTH])
    absent = "SELECT '' AS cost_group_id, '' AS account"
    relations = {
        "lake.cost_line_items": f"FROM {workspace.lake.scan('cost_line_items', [MONTH], CostLineItems.columns)}",
        "lake.explained_allocations": rows,
        "lake.base_rates": "SELECT 'USD' AS currency, 'EUR' AS base_currency, 1::HUGEINT AS rate",
        "lake.corrections": f"FROM {workspace.lake.scan('corrections', [MONTH], Corrections.columns)}",
        "cost_groups.corrections": f"{absent}, '' AS section, '' AS vendor, '' AS service_code, '' AS service_name, "
        "'' AS currency, '' AS corrected_month, 0::DECIMAL(38,10) AS cost, 0::DECIMAL(38,10) AS effective_cost",
        "cost_groups.members": f"{absent}, '' AS payer",
        "cost_groups.charges": f"{absent}, '' AS part, '' AS vendor, '' AS service_code, '' AS service_name, "
        "'' AS currency, 0::DECIMAL(38,10) AS cost, 0::DECIMAL(38,10) AS effective_cost",
    }
    assert unit_tests(tmp_path / "dbt", relations, "account_costs", "cost_group_costs") == {
        "account_costs_move_items_from_their_source_to_their_targets": "pass",
        "account_costs_convert_half_away_from_zero": "pass",
        "cost_group_costs_count_nothing_twice": "pass",
    }


@pytest.fixture
def octo(tmp_path, monkeypatch):
    """The command line over a made month with two cost groups."""
    workspace = month_of(tmp_path, [fee_allocator(), SHARED])
    group(tmp_path, "eks", productCode="AmazonEKS")
    group(tmp_path, "nobody", account="0")
    make(make(workspace, AccountCosts(), [MONTH]), CostGroupCosts(), [MONTH])
    monkeypatch.setenv("OCTO_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("OCTO_CONFIG", str(tmp_path / "config"))

    def invoke(*arguments: str, typed: str | None = None) -> Result:
        return CliRunner().invoke(app, list(arguments), input=typed)

    return invoke


def test_show_a_cost_group(octo, tmp_path):
    rows = json.loads(octo("cost-groups", "show", "eks", "--month", MONTH, "--output", "json").stdout)
    assert [(r["month"], r["section"], r["account"], r["cost"]) for r in rows] == [
        (MONTH, "direct", "8", "2.0000000000"),
        (MONTH, "account", "1", "10.0000000000"),
        (MONTH, "account", "7", "30.0000000000"),
    ]
    table = octo("cost-groups", "show", "eks", "--month", MONTH).stdout
    assert "Cost 42.00 USD (direct, account and fee); savings, not included: 0.00 USD." in table
    assert "Cost groups that share an account share them" in table
    assert json.loads(octo("cost-groups", "show", "nobody", "--month", MONTH, "-o", "json").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["eks", "--month", NEXT],
            "The lake has no cost group costs of 2024-02. Run `octo run --month 2024-02`.",
        ),
        (["eks", "--month", MONTH, "--from", NEXT], "--from 2024-02 is after --month 2024-01."),
        (["gone", "--month", MONTH], "There is no cost group gone. Run `octo cost-groups list` to see all."),
    ],
)
def test_what_cannot_be_shown_is_a_sentence(octo, arguments, expected):
    assert sentence(octo("cost-groups", "show", *arguments).exception) == expected


def test_list_and_validate_cost_groups(octo, tmp_path):
    assert [row["id"] for row in json.loads(octo("cost-groups", "list", "-o", "json").stdout)] == ["eks", "nobody"]
    assert octo("cost-groups", "validate").stdout == "2 cost groups are valid.\n"
    bad = tmp_path / "config" / "cost_groups" / "bad.json"
    bad.write_text('{"combinations": {"awsOptions": {"filters": [{"andFilters": {"team": "a"}}]}}}')
    for arguments in ([], [str(bad)]):
        refused = octo("cost-groups", "validate", *arguments)
        assert refused.exit_code == 1
        assert "bad.json: combinations.awsOptions.filters[0].andFilters.team: unknown key" in str(refused.exception)


def test_account_costs_as_csv_and_as_a_table_with_a_total(octo):
    lines = octo("accounts", "costs", "--month", MONTH, "-o", "csv").stdout.splitlines()
    assert lines[0] == ",".join(AccountCosts.columns)
    assert len(lines) == 6
    total = octo("accounts", "costs", "--month", MONTH).stdout.splitlines()[-2].split()
    # The bill is 194; what is distributed this month is booked this month.
    assert total == ["total", "USD", "194.00", "140.00", "140.00", "194.00", "194.00"]


def test_sql_sees_every_table_and_explained_allocations(octo):
    query = "SELECT formula, tranche_cost FROM allocations WHERE kind = 'split' AND category = 'account'"
    assert octo("sql", query, "-o", "csv").stdout == "formula,tranche_cost\ncost*0.25,40.0000000000\n"
    query = "SELECT count(*) AS views FROM duckdb_views() WHERE NOT internal"
    assert octo("sql", query, "-o", "csv").stdout == "views\n11\n"
    assert octo("sql", "SELECT DISTINCT month FROM cost_group_costs", "-o", "csv").stdout == f"month\n{MONTH}\n"


def test_sql_reads_statements_until_one_fails(octo):
    typed = "SELECT 'é;' AS a\n;\nSELECT 2 AS b; -- ;\nSELECT 3 AS c"
    assert octo("sql", "-o", "csv", typed=typed).stdout == "a\né;\nb\n2\nc\n3\n"
    failed = octo("sql", "-o", "csv", typed="SELECT nope;\nSELECT 1;\n")
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert isinstance(failed.exception, OctoError)


def test_a_catalog_shows_months_that_come_after_it(octo, tmp_path):
    file = tmp_path / "catalog.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1 AS x")
    assert octo("catalog", str(file)).exit_code == 0
    workspace = Workspace(Settings(lake=tmp_path / "lake", config=tmp_path / "config"))
    write_lines(workspace, tmp_path, [*LINES, line_item("1", "4", billing_month=NEXT)])
    make(run(workspace, [NEXT]), AccountCosts(), [NEXT])
    with duckdb.connect(str(file), read_only=True) as connection:
        assert connection.execute("SELECT final_cost FROM account_costs WHERE month = '2024-02'").fetchall() == [(4,)]
        assert connection.execute("SELECT count(*) FROM allocations WHERE kind <> 'item'").fetchall() == [(4,)]
        assert connection.execute("FROM mine").fetchall() == [(1,)]


def test_a_catalog_of_an_empty_lake_and_a_file_that_is_none(workspace, tmp_path, monkeypatch):
    monkeypatch.setenv("OCTO_LAKE", str(workspace.settings.lake))
    monkeypatch.setenv("OCTO_CONFIG", str(workspace.settings.config))
    done = CliRunner().invoke(app, ["catalog", str(tmp_path / "empty.duckdb")])
    assert "These have no months yet" in done.stdout
    with duckdb.connect(str(tmp_path / "empty.duckdb")) as connection:
        assert connection.execute("SELECT count(*) FROM allocations").fetchone() == (0,)
    (tmp_path / "note.txt").write_text("no database")
    refused = CliRunner().invoke(app, ["catalog", str(tmp_path / "note.txt")])
    assert str(refused.exception).startswith(f"Cannot write the views to {tmp_path / 'note.txt'}: ")
