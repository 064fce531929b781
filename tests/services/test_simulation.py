"""Simulations of small months, asserted on what they say; and that they leave the lake as it was."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from octo_pipeline.lake.lake import Lake
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.rows import Rows
from octo_pipeline.registry.records import Decision, NewAccount
from octo_pipeline.rules.allocator import Allocator, parse_allocator
from octo_pipeline.services import prepared_months
from octo_pipeline.services.simulate import Simulation, simulate
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.workspace import Workspace
from tests.support.case import Case, prepare, run
from tests.support.oracle import Line
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.workspaces import workspace_in

CASES = Path(__file__).parent.parent / "cases"
NEXT, LATER = "2024-02", "2024-03"


def candidate(document: dict, name: str = "new") -> Allocator:
    return parse_allocator(json.dumps(document), file=f"{name}.json")


def simulation(
    folder: Path, document: dict, lines: list[Line] | None = None, live: list[dict] | None = None, name: str = "new"
) -> Simulation:
    return simulate(
        workspace_in(folder, lines or [*USAGE_OF_10_AND_30, FEE_OF_100], live or []), candidate(document, name), MONTH
    )


def picked(rows: Rows, *names: str) -> list[tuple]:
    return list(zip(*(rows.column(name) for name in names), strict=True))


def entry(account: str, formula: str = "cost*usage", **more) -> dict:
    return {"type": "account", "value": account, "formula": formula} | more


def files(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def case_without_its_allocators(name: str, folder: Path) -> tuple[Workspace, Case, dict[str, Allocator]]:
    case = Case(CASES / name)
    workspace = prepare(case, folder)
    documents = {}
    for path in (workspace.settings.config / "allocators").iterdir():
        documents[path.stem] = parse_allocator(path.read_bytes(), file=path.name)
        path.unlink()
    return workspace, case, documents


def booked(rows: Rows) -> list[tuple]:
    names = ("booking_month", "kind", "source_account", "target_account", "currency", "cost")
    return sorted(picked(rows, *names))


def test_the_seed_example_books_what_the_case_expects_and_writes_nothing(tmp_path):
    workspace, case, documents = case_without_its_allocators("02-seed-example", tmp_path)
    before = files(tmp_path)
    found = simulate(workspace, documents["example"], "2024-01")

    wanted = sorted(
        (r["booking_month"], r["kind"], r["source_account"], r["target_account"], r["currency"], Decimal(r["cost"]))
        for r in case.rows("expected_allocations.csv")
        if r["status"] == "checked_splitted"
    )
    assert [row for row in wanted if row[0] == "2024-01"]
    assert booked(found.bookings) == wanted
    assert found.matched_costs.rows == (("USD", 1, Decimal(900), Decimal(900)),)
    assert picked(found.matched_items, "account", "service_code", "cost", "taken_by") == [
        ("111111111111", "AWSSupportBusiness", Decimal(900), "example")
    ]
    # The seed's default account is billed nothing.
    assert found.warnings == (
        "Nobody knows defaultAccount 333333333333: never billed in any month and not registered. A mistyped id takes money "
        "without a word.",
    )
    assert (len(found.later_instalments), found.replaces) == (0, None)
    assert files(tmp_path) == before


@pytest.mark.parametrize("name", ["01-fee-by-usage", "04-costgroup-and-payer", "05-account-usage", "06-savings"])
def test_a_live_allocator_simulated_alone_books_what_a_run_books(name, tmp_path):
    case = Case(CASES / name)
    workspace = run(prepare(case, tmp_path), case.months)
    month = case.months[0]
    with duckdb.connect() as connection:
        for live in workspace.configuration.allocators:
            found = simulate(workspace, live, month)
            ran = connection.execute(
                "SELECT booking_month, kind, source_account, target_account, currency, cost FROM "
                f"({explained_allocations(workspace, case.months)}) "
                "WHERE kind <> 'item' AND allocator_id = $1 AND origin_month = $2",
                [live.id, month],
            ).fetchall()
            taken = [
                row[:-1]
                for row in picked(
                    found.bookings,
                    "booking_month", "kind", "source_account", "target_account", "currency", "cost", "taken_by",
                )
                if row[-1] == live.id
            ]  # fmt: skip
            assert sorted(taken) == sorted(ran)
            assert (len(found.differences), found.replaces) == (0, live.version)


@pytest.mark.parametrize("name", ["01-fee-by-usage", "05-account-usage", "06-savings"])
def test_few_line_items_are_kept_and_looked_at_by_one_thread_and_many_say_the_same(name, tmp_path, monkeypatch):
    workspace, case, documents = case_without_its_allocators(name, tmp_path)
    month = case.months[0]
    threads, made = [], []
    connect, create = Lake.connect, prepared_months.create_temp_table
    monkeypatch.setattr(Lake, "connect", lambda self, **how: threads.append(how.get("threads")) or connect(self, **how))
    monkeypatch.setattr(prepared_months, "create_temp_table", lambda *of: made.append(of[1]) or create(*of))
    document = next(iter(documents.values()))

    few = simulate(workspace, document, month)
    monkeypatch.setattr(prepared_months, "_SMALL_MONTH", 0)
    many = simulate(workspace, document, month)

    assert few.values == many.values
    assert (threads.count(1), made.count("simulated_lines")) == (1, 1)


def test_instalments_of_months_without_usage_data_are_listed(tmp_path):
    document = fee_allocator() | {"allocator": [entry("1", "cost", months=3)]}
    found = simulation(tmp_path, document, [*USAGE_OF_10_AND_30, FEE_OF_100, line_item("1", "5", billing_month=NEXT)])
    assert booked(found.bookings) == [
        (MONTH, "split", "9", "1", "USD", Decimal("33.3333333333")),
        (NEXT, "split", "9", "1", "USD", Decimal("33.3333333333")),
    ]
    assert found.later_instalments.rows == ((LATER, "USD", Decimal("33.3333333334"), Decimal("33.3333333334")),)


def test_a_start_after_the_month_books_nothing_in_it(tmp_path):
    document = fee_allocator(createTime="2024-01-01T00:00:00Z", startMonth=LATER)
    document["allocator"] = [entry("1", "cost", months=2)]
    found = simulation(tmp_path, document)
    assert len(found.matched_items) == 1
    assert len(found.bookings) == 0
    assert picked(found.later_instalments, "booking_month", "cost") == [(LATER, Decimal(50)), ("2024-04", Decimal(50))]


def test_the_difference_per_account_to_what_is_live(tmp_path):
    live = fee_allocator() | {"id": "new"}
    changed = fee_allocator("usage > 0.5 ? cost*0.9 : cost*0.1")
    found = simulation(tmp_path, changed, live=[live])
    assert found.replaces == candidate(live).version
    assert picked(found.differences, "booking_month", "account", "live", "simulated", "difference") == [
        (MONTH, "1", Decimal(25), Decimal(10), Decimal(-15)),
        (MONTH, "2", Decimal(75), Decimal(90), Decimal(15)),
    ]


def test_the_difference_takes_the_cost_from_its_own_account(tmp_path):
    found = simulation(tmp_path, fee_allocator())
    assert picked(found.differences, "category", "account", "currency", "difference") == [
        ("fee", "1", "USD", Decimal(25)),
        ("fee", "2", "USD", Decimal(75)),
        ("fee", "9", "USD", Decimal(-100)),
    ]
    assert sum(found.differences.column("difference")) == 0


def test_a_replacement_of_another_category_gives_back_what_the_old_one_took(tmp_path):
    changed = fee_allocator(category="account", criteria=[{"and": {"account": "1"}}]) | {
        "allocator": [entry("2", "cost")]
    }
    found = simulation(tmp_path, changed, live=[fee_allocator() | {"id": "new"}])
    assert picked(found.differences, "category", "account", "difference") == [
        ("account", "1", Decimal(-10)),
        ("account", "2", Decimal(10)),
        ("fee", "1", Decimal(-25)),
        ("fee", "2", Decimal(-75)),
        ("fee", "9", Decimal(100)),
    ]


UNUSED_FEE = replace(
    line_item("444444444444", "90", "RIFee", "Purchase", commitment_discount_type="RI", commitment_discount_id="r1"),
    effective_cost=Decimal(10),
    savings_kind="unused",
)
FAILING_FEE_RULE = {
    "startMonth": MONTH,
    "criteria": [{"and": {"lineType": "RIFee"}}],
    "allocator": [entry("111111111111", "cost/(usage-usage)")],
}
SAVINGS_RULE = {
    "category": "savings",
    "startMonth": MONTH,
    "criteria": [{"and": {"type": "RI"}}],
    "allocator": [entry("222222222222", "cost")],
}


def test_a_fee_that_is_distributed_at_last_keeps_its_saving(tmp_path):
    # Regression: the saving is taken by the same rule, and what moves its cost is the same fee, so it was left out.
    document = FAILING_FEE_RULE | {"priority": -1, "allocator": [entry("111111111111", "cost")]}
    differences = simulation(tmp_path, document, [UNUSED_FEE], [FAILING_FEE_RULE, SAVINGS_RULE]).differences
    assert picked(differences, "category", "account", "difference", "effective_difference") == [
        ("fee", "111111111111", 90, 10),
        ("fee", "444444444444", -90, -10),
        ("savings", "222222222222", 10, 0),
        ("savings", "444444444444", -10, 0),
    ]


def test_a_saving_beside_a_fee_that_fails_is_booked(tmp_path):
    # Regression: the fee stays where it is, so it was not booked, and nobody saw that it distributes nothing.
    result = simulation(tmp_path, SAVINGS_RULE, [UNUSED_FEE], [FAILING_FEE_RULE])
    assert picked(result.differences, "category", "account", "difference") == [
        ("savings", "222222222222", -10),
        ("savings", "444444444444", 10),
    ]
    assert picked(result.bookings, "target_account", "cost") == [("222222222222", -10)]


def test_a_conflict_is_won_by_the_earlier_one(tmp_path):
    live = [fee_allocator(createTime="2024-01-02T00:00:00Z")]
    later = simulation(tmp_path / "later", fee_allocator("cost", createTime="2024-01-03T00:00:00Z"), live=live)
    assert later.conflicts.rows == (("a0", "new", "USD", 1, Decimal(100), Decimal(100)),)
    assert later.matched_items.column("taken_by") == ["a0"]
    assert later.warnings[0] == "It would take nothing: a0 comes first. Give it a lower priority to put it before."
    assert set(later.bookings.column("taken_by")) == {"a0"}
    assert len(later.differences) == 0

    earlier = simulation(tmp_path / "earlier", fee_allocator("0", createTime="2024-01-01T00:00:00Z"), live=live)
    assert earlier.conflicts.rows == (("new", "a0", "USD", 1, Decimal(100), Decimal(100)),)
    assert picked(earlier.differences, "account", "difference") == [
        ("1", Decimal(-25)),
        ("2", Decimal(-75)),
        ("9", Decimal(100)),
    ]


def test_it_says_what_it_takes_from_whom_and_how_many_pay_more(tmp_path):
    lines = [*USAGE_OF_10_AND_30, FEE_OF_100, line_item("8", "60", "Fee", "Purchase")]
    live = [fee_allocator(id="live", criteria=[{"and": {"account": "8"}}])]
    result = simulation(tmp_path, fee_allocator(priority=-1, allocator=[entry("1")]), lines, live)
    assert result.headline == "new (fee) on 2024-01: matches 2 items of 160.00 USD."
    # Account 1 has 15 of the 60 now, account 2 has 45, and the 100 are borne by account 9.
    assert result.consequence == (
        "It would take 2 items (160.00 USD), 1 of them away from live; 1 account pays more and 2 less."
    )
    changes = result.account_changes.select("account", "difference")
    assert changes == [("1", Decimal(145)), ("9", Decimal(-100)), ("2", Decimal(-45))]


def test_it_says_nothing_of_what_it_takes_if_it_takes_nothing(tmp_path):
    result = simulation(tmp_path, fee_allocator(createTime="2024-01-02"), live=[fee_allocator(id="live")])
    assert result.consequence == ""
    assert result.warnings[0] == "It would take nothing: live comes first. Give it a lower priority to put it before."


def test_a_rule_that_stays_as_it_is_changes_no_cost(tmp_path):
    result = simulation(tmp_path, fee_allocator(id="same"), live=[fee_allocator(id="same")], name="same")
    assert result.consequence == "It would take 1 item (100.00 USD); no account's cost changes."


def test_an_id_that_nobody_knows_is_a_warning(tmp_path):
    """Regression: a mistyped account took 54 USD without a word."""
    entries = [{"type": "account", "value": value, "formula": "cost/2"} for value in ("1", "2222")]
    document = fee_allocator() | {"allocator": entries, "defaultAccount": "3"}
    lines = [*USAGE_OF_10_AND_30, FEE_OF_100, line_item("22223", "1")]
    assert simulation(tmp_path, document, lines).warnings[-1] == (
        "Nobody knows account 2222 (is it 22223?), defaultAccount 3: never billed in any month and not registered. "
        "A mistyped id takes money without a word."
    )


def test_conflicts_between_live_allocators_are_not_the_candidates(tmp_path):
    live = [fee_allocator(), fee_allocator()]
    other = fee_allocator(criteria=[{"and": {"lineType": "Tax"}}])
    lines = [*USAGE_OF_10_AND_30, FEE_OF_100, line_item("9", "7", "Tax", "Tax")]
    assert len(simulation(tmp_path, other, lines, live).conflicts) == 0


def test_items_of_months_outside_the_window(tmp_path):
    earlier = [line_item("9", "40", "Fee", "Purchase", billing_month=m) for m in ("2023-11", "2023-12")]
    found = simulation(
        tmp_path,
        fee_allocator(),
        [*USAGE_OF_10_AND_30, FEE_OF_100, *earlier, line_item("9", "1", "Tax", billing_month="2023-12")],
    )
    assert found.not_reached.rows == (
        ("2023-11", "USD", 1, Decimal(40), Decimal(40)),
        ("2023-12", "USD", 1, Decimal(40), Decimal(40)),
    )
    assert found.warnings == (
        "It would match 2 items of 2023-11 to 2023-12 (80.00 USD), but it is only valid "
        "from 2024-01. Adjust startMonth, endMonth or expiration to include them.",
    )


def test_instalments_of_items_of_earlier_months_are_named(tmp_path):
    earlier = [line_item("9", "40", "Fee", "Purchase", billing_month=m) for m in ("2023-11", "2023-12")]
    document = fee_allocator(startMonth="2023-11") | {"allocator": [entry("1", "cost", months=2)]}
    found = simulation(tmp_path, document, [*USAGE_OF_10_AND_30, FEE_OF_100, *earlier])
    assert found.earlier_origins.rows == (("2023-12", "USD", 1, Decimal(40), Decimal(40)),)
    assert found.warnings == (
        "It also matches 1 item of 2023-12 (40.00 USD) with instalments due in 2024-01. They are not shown here; "
        "simulate the months in which they were billed.",
    )


def test_what_each_account_gets(tmp_path):
    other = line_item("9", "20", "Fee", "Purchase", charge_description="y")
    found = simulation(tmp_path, fee_allocator("cost*usage*0.5"), [*USAGE_OF_10_AND_30, FEE_OF_100, other])
    assert found.accounts.rows == (
        (MONTH, "1", "split", "USD", 2, Decimal(15), Decimal(15)),
        (MONTH, "2", "split", "USD", 2, Decimal(45), Decimal(45)),
        (MONTH, "9", "remainder", "USD", 2, Decimal(60), Decimal(60)),
    )


def test_a_month_outside_the_window_matches_nothing_and_says_what_it_would(tmp_path):
    found = simulation(tmp_path, fee_allocator(startMonth=NEXT))
    assert (len(found.matched_items), len(found.bookings), len(found.differences)) == (0, 0, 0)
    assert found.not_reached.rows == ((MONTH, "USD", 1, Decimal(100), Decimal(100)),)
    assert found.warnings[0].startswith("It matches no item of 2024-01.")


@pytest.mark.parametrize("cost", ["100", "-100"])
def test_over_allocation(cost, tmp_path):
    found = simulation(
        tmp_path, fee_allocator("cost*usage*1.5"), [*USAGE_OF_10_AND_30, line_item("9", cost, "Fee", "Purchase")]
    )
    assert picked(found.over_allocated, "booking_month", "target_account", "cost") == [(MONTH, "9", -Decimal(cost) / 2)]
    assert found.warnings == (
        "It hands out 50.00 USD more than there is; the default account, or the item's own account, bears the difference. Check the formulas.",
    )


def test_over_allocation_is_judged_on_all_items_together(tmp_path):
    small_fee = line_item("9", "3", "Fee", "Purchase", charge_description="small")
    lines = [*USAGE_OF_10_AND_30, small_fee, FEE_OF_100]
    assert not simulation(tmp_path / "fits", fee_allocator("5"), lines).over_allocated
    found = simulation(tmp_path / "exceeds", fee_allocator("30"), lines)
    assert picked(found.over_allocated, "tranche_cost", "cost", "net_cost") == [
        (Decimal(3), Decimal(-57), Decimal(-17))
    ]
    assert found.warnings[0].startswith("It hands out 17.00 USD more than there is;")


def test_a_text_that_looks_like_a_pattern_is_pointed_out(tmp_path):
    found = simulation(tmp_path, fee_allocator(criteria=[{"and": {"lineType": "Fe*"}}]))
    assert found.warnings == (
        "It matches no item of 2024-01. Compare its criteria and its months with the items.",
        '"Fe*" is compared as it is written, sign by sign; for a pattern write "re:^Fe".',
    )


def test_entries_that_resolve_to_nobody(tmp_path):
    document = fee_allocator() | {
        "allocator": [entry("1"), {"type": "payer", "value": "5"}, {"type": "costgroup", "value": "gone"}]
    }
    found = simulation(tmp_path, document)
    assert picked(found.unresolved, "booking_month", "entry_index", "entry_type", "entry_value") == [
        (MONTH, 1, "payer", "5"),
        (MONTH, 2, "costgroup", "gone"),
    ]
    assert found.warnings == (
        "Nobody gets the share of payer 5, costgroup gone in 2024-01: it resolves to no account. Check the value.",
        "Nobody knows payer 5: never billed in any month and not registered. A mistyped id takes money without a word.",
    )


def test_registered_accounts_are_members_of_their_payer(tmp_path):
    workspace = workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [])
    workspace.registry.accounts.add([NewAccount("aws", "7", "Seven", payer_id="5")], "test")
    document = fee_allocator() | {"allocator": [{"type": "payer", "value": "5", "formula": "cost"}]}
    found = simulate(workspace, candidate(document), MONTH)
    assert picked(found.bookings, "target_account", "cost") == [("7", Decimal(100))]


@pytest.mark.parametrize("months", [1, 2])
def test_failed_formulas(months, tmp_path):
    document = fee_allocator() | {"allocator": [entry("1", "cost/(usage-usage)", months=months)]}
    found = simulation(tmp_path, document)
    assert picked(found.failed, "booking_month", "cost") == [(MONTH, Decimal(100) / months)]
    assert found.warnings == (
        f"{100 / months:.2f} USD could not be distributed: a formula fails (division by zero, overflow).",
    )


def test_covered_usage_without_its_negation(tmp_path):
    lines = [
        line_item("1", "10", "SavingsPlanCoveredUsage"),
        line_item("1", "-10", "SavingsPlanNegation"),
        line_item("2", "30", "SavingsPlanCoveredUsage"),
        line_item("2", "-30", "SavingsPlanNegation", charge_description="SavingsPlanNegation"),
    ]
    document = fee_allocator(category="account", criteria=[{"and": {"description": "x"}}]) | {"allocator": [entry("1")]}
    found = simulation(tmp_path, document, lines)
    assert found.commitment_lines.rows == (("2", "USD", Decimal(30), Decimal(0), Decimal(30)),)
    assert [w for w in found.warnings if w.startswith("It takes 30.00 USD of usage that a savings plan covers")]

    whole = simulation(tmp_path / "whole", document | {"criteria": [{"and": {"account": "re:."}}]}, lines)
    assert len(whole.commitment_lines) == 0


def test_a_restored_item_stays_undistributed(tmp_path):
    workspace = workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [])
    item = simulate(workspace, candidate(fee_allocator()), MONTH).matched_items.column("item_id")[0]
    workspace.registry.record_decisions(
        [Decision("restore", item, MONTH, "fee", "test", "test", datetime(2024, 1, 31, tzinfo=UTC))]
    )
    found = simulate(workspace, candidate(fee_allocator()), MONTH)
    assert (len(found.matched_items), len(found.bookings), len(found.differences)) == (1, 0, 0)
    assert found.warnings == ("1 of the items it matches is restored and stays undistributed until re-applied.",)


def test_a_month_the_lake_does_not_have(tmp_path):
    workspace = workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [])
    with pytest.raises(OctoError, match=r"no cost line items of 2030-01.*2024-01 to 2024-01"):
        simulate(workspace, candidate(fee_allocator()), "2030-01")


TEAMS = {
    "by": {"account": True},
    "combinations": {"awsOptions": {"filters": [{"andFilters": {"account": "re:^[12]$"}}]}},
}
EVERYTHING = {"combinations": {"awsOptions": {"filters": [{"andFilters": {"account": "re:."}}]}}}


def with_groups(folder: Path, document: dict, **groups: dict) -> Simulation:
    workspace = workspace_in(folder, [*USAGE_OF_10_AND_30, FEE_OF_100], [])
    for name, group in groups.items():
        (workspace.settings.config / "cost_groups" / f"{name}.json").write_text(json.dumps(group))
    return simulate(workspace, candidate(document), MONTH)


def test_cost_groups_that_overlap_are_warned_of(tmp_path):
    entries = [{"type": "group", "value": "all"}, {"type": "group", "value": "teams/1"}]
    found = with_groups(tmp_path, fee_allocator(allocator=entries), teams=TEAMS, all=EVERYTHING)
    assert picked(found.accounts, "account", "cost") == [("all", Decimal(80)), ("teams/1", Decimal(20))]
    assert found.warnings == (
        "Several of its targets have 10.00 USD of the usage of 2024-01 in common, which counts for each of them.",
    )
    found = with_groups(
        tmp_path / "b", fee_allocator(allocator=[{"type": "group", "value": "re:^teams/"}]), teams=TEAMS
    )
    assert found.warnings == ()


def test_a_pattern_that_takes_what_has_no_tag_says_its_share(tmp_path):
    family = {"by": {"tag": "team"}, "combinations": {"awsOptions": {}}}
    found = with_groups(tmp_path, fee_allocator(allocator=[{"type": "group", "value": "re:^teams/"}]), teams=family)
    assert found.warnings == (
        "re:^teams/ has the rest without a value among its targets: teams/ has 100.00% of the usage in 2024-01. A pattern "
        "that ends in '/.' leaves it out.",
    )


def test_a_metric_without_a_row_is_warned_of(tmp_path):
    found = simulation(tmp_path, fee_allocator(usageOf={"metric": "heads"}))
    assert found.warnings == (
        "100.00 USD could not be distributed: its metric has no row in the month.",
        "The metric heads has no row of 2024-01, so nothing is distributed in it. Deliver it.",
    )
