"""Closing, reopening and finalising months, what stands against it, and what is booked of a closed month later."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from octo_pipeline.lake.lake import PartitionMetadata
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import rows_sql
from octo_pipeline.registry.records import Actor
from octo_pipeline.services import periods
from octo_pipeline.services.charges import ImportMode, plan_import, run_import
from octo_pipeline.services.decide import decide, find_items, story
from octo_pipeline.services.months import Failed, Materialised, make_months
from octo_pipeline.services.rules import frozen_note
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.closings import write_closing
from octo_pipeline.tables.corrections import Corrections
from octo_pipeline.tables.graph import order, stale
from octo_pipeline.tables.invoice_costs import InvoiceCosts
from octo_pipeline.workspace import Workspace
from tests.support.closing import close_months, reopen_months
from tests.support.small_month import FEE_OF_100, MONTH, fee_allocator, line_item
from tests.support.workspaces import run_check, workspace_in, write_allocators, write_lines

NEXT, THIRD = "2024-02", "2024-03"
LATER = datetime(2024, 6, 1, tzinfo=UTC)
FINANCE, CONTROLLER = Actor("finance"), Actor("controller")


def lines_of(month: str, *costs: str) -> list:
    """Usage of accounts 1 and 2 and a fee on account 9."""
    one, two, fee = costs
    return [
        line_item("1", one, billing_month=month),
        line_item("2", two, billing_month=month),
        replace(FEE_OF_100, billing_month=month, billed_cost=Decimal(fee), effective_cost=Decimal(fee)),
    ]


@pytest.fixture
def two_months(tmp_path: Path) -> Workspace:
    """January is closed: the fee of 100 went to accounts 1 and 2 as 25 and 75. February is open."""
    workspace = workspace_in(
        tmp_path, [*lines_of(MONTH, "10", "30", "100"), *lines_of(NEXT, "10", "10", "50")], [fee_allocator()]
    )
    made(workspace, [MONTH, NEXT])
    close_months(workspace, [MONTH])
    return Workspace(workspace.settings)


def made(workspace: Workspace, months: list[str]) -> list[Materialised]:
    """Make everything from the published line items."""
    fresh = Workspace(workspace.settings)
    tables = [table for table in order() if table.name not in ("cost_line_items", "container_usage")]
    events = list(make_months(fresh, months, tables))
    assert not [event.error for event in events if isinstance(event, Failed)]
    return [event for event in events if isinstance(event, Materialised)]


def account_costs(workspace: Workspace, month: str) -> dict[str, tuple[Decimal, ...]]:
    """Account -> billed, corrections out and in, and the final cost."""
    relation = Workspace(workspace.settings).lake.scan(AccountCosts.name, [month], AccountCosts.columns)
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"SELECT owner_id, billed, corrections_out, corrections_in, final_cost FROM {relation}"
        ).fetchall()
    return {account: tuple(map(int, amounts)) for account, *amounts in rows}


def restate(workspace: Workspace, tmp_path: Path, *costs: str) -> None:
    """Deliver January again, and bring everything up to date."""
    write_lines(workspace, tmp_path, lines_of(MONTH, *costs))
    made(workspace, [MONTH, NEXT])


def test_a_restated_closed_month_stays_and_is_corrected_in_the_open_one(two_months, tmp_path):
    before = account_costs(two_months, MONTH)
    restate(two_months, tmp_path, "30", "30", "120")
    assert account_costs(two_months, MONTH) == before
    assert account_costs(two_months, NEXT) == {
        # Half of 120 instead of a quarter of 100, and 20 more of usage.
        "1": (10, 0, 55, 10 + 25 + 55),
        "2": (10, 0, -15, 10 + 25 - 15),
        # The fee is 20 more on the bill, and handed on again.
        "9": (50, 20, 20, 0),
    }


def test_a_rule_that_is_edited_never_corrects_a_closed_month_and_a_preview_shows_what_it_would_change(two_months):
    config = two_months.settings.config
    write_allocators(config, [fee_allocator("cost*0.5")])
    made(two_months, [MONTH, NEXT])
    workspace = Workspace(two_months.settings)
    assert workspace.lake.rows(Corrections.name, NEXT) == 0
    assert periods.drift(workspace, MONTH) == ("", periods.Rows(periods.DRIFT_COLUMNS, ()))
    _, rows = periods.drift(workspace, MONTH, with_current_rules=True)
    assert {(owner, int(change)) for owner, change in rows.select("owner", "difference")} == {("1", 25), ("2", -25)}
    # Nothing of it is left, and nothing of it is booked.
    assert workspace.lake.overlay("preview", {"allocations"}).overlaid_months("allocations") == []
    assert not [partition for partition in stale(workspace) if partition.table == Corrections.name]


def test_a_closed_month_keeps_its_cost_centres_and_one_closed_without_any_has_those_of_today(two_months):
    def cost_centre(month: str) -> str | None:
        line = Workspace(two_months.settings).configuration_of(month).cost_centres.of("account", "1")
        return line and line.cost_centre

    file = two_months.settings.config / "cost_centres.csv"
    header = "owner_type,owner_id,cost_centre,ledger_account,name,email"
    file.write_text(f"{header}\naccount,1,CC-1,6400,Payments,\n")
    close_months(Workspace(two_months.settings), [NEXT])
    file.write_text(f"{header}\naccount,1,CC-2,6400,Payments,\n")
    assert {month: cost_centre(month) for month in (MONTH, NEXT, THIRD)} == {
        MONTH: "CC-2",
        NEXT: "CC-1",
        THIRD: "CC-2",
    }


def test_an_item_that_is_restored_in_a_closed_month_is_two_corrections_of_the_item_and_those_of_its_splits(two_months):
    (item,) = find_items(two_months, allocator="a0", month=MONTH)
    made_again = [
        e
        for e in decide(two_months, "restore", [item], reason="wrong team", actor=FINANCE)
        if isinstance(e, Materialised)
    ]
    assert {e.month for e in made_again if e.outcome == "published"} == {NEXT}
    assert account_costs(two_months, NEXT) == {
        "1": (10, 0, -25, 10 + 25 - 25),
        "2": (10, 0, -75, 10 + 25 - 75),
        "9": (50, -100, 0, 100),
    }
    sentences = story(Workspace(two_months.settings), item.item_id)
    assert any("In 2024-02 it is corrected for 2024-01, which is closed: the split on 1, -25" in s for s in sentences)
    assert any("the item, listed as unchecked_allocated, +100" in s for s in sentences)


def test_two_versions_of_one_rule_in_one_month_are_corrected_each_by_itself(tmp_path):
    spread = fee_allocator("cost*usage")
    for entry in spread["allocator"]:
        entry["months"] = 2
    lines = [*lines_of(MONTH, "10", "30", "100"), *lines_of(NEXT, "10", "10", "60"), *lines_of(THIRD, "1", "1", "0.5")]
    workspace = workspace_in(tmp_path, lines, [spread])
    made(workspace, [MONTH])
    close_months(workspace, [MONTH])
    # In February the rule is another one: one month, all to account 1. January's fee keeps its two instalments.
    edited = fee_allocator("cost")
    edited["allocator"] = edited["allocator"][:1]
    write_allocators(workspace.settings.config, [edited])
    made(workspace, [MONTH, NEXT, THIRD])
    close_months(workspace, [NEXT])
    restate_of_january = lines_of(MONTH, "10", "30", "200")
    write_lines(workspace, tmp_path, restate_of_january)
    made(workspace, [MONTH, NEXT, THIRD])
    relation = Workspace(workspace.settings).lake.scan(Corrections.name, [THIRD], Corrections.columns)
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"SELECT corrected_month, corrected_kind, coalesce(target_account, source_account), cost FROM {relation} ORDER BY ALL"
        ).fetchall()
    assert [(*row, Decimal(cost)) for *row, cost in rows] == [
        ("2024-01", "item", "9", 100),
        ("2024-01", "split", "1", Decimal("12.5")),
        ("2024-01", "split", "2", Decimal("37.5")),
        ("2024-02", "split", "1", 25),
        ("2024-02", "split", "2", 25),
    ]


def test_a_month_that_is_reopened_is_made_again_with_the_rules_of_today(two_months):
    write_allocators(two_months.settings.config, [fee_allocator("cost*0.5")])
    made(two_months, [MONTH, NEXT])
    reopen_months(two_months, [MONTH])
    made(two_months, [MONTH, NEXT])
    assert account_costs(two_months, MONTH)["1"][-1] == 10 + 50
    assert Workspace(two_months.settings).periods[MONTH].state == "reopened"


def test_corrections_wait_where_the_lake_has_no_open_month(two_months, tmp_path):
    close_months(two_months, [NEXT])
    restate(two_months, tmp_path, "30", "30", "120")
    workspace = Workspace(two_months.settings)
    assert periods.waiting_months(workspace) == [MONTH]
    check = run_check("closed_as_known", workspace, MONTH)
    assert not check.passed
    assert "no open month to correct it in" in check.summary
    write_lines(workspace, tmp_path, lines_of(THIRD, "1", "1", "2"))
    made(workspace, [THIRD])
    assert account_costs(workspace, THIRD)["1"] == (1, 0, 55, 1 + 1 + 55)
    assert periods.waiting_months(Workspace(workspace.settings)) == []


def test_a_new_version_of_the_program_alone_corrects_nothing_before_it_is_accepted(two_months, monkeypatch):
    from octo_pipeline.tables import known

    monkeypatch.setattr(known, "code_version", lambda *parts: "another")
    workspace = Workspace(two_months.settings)
    assert periods.drift(workspace, MONTH)[0] == "code"
    assert periods.unaccepted_months(workspace) == [MONTH]
    assert not run_check("closed_as_known", workspace, MONTH).passed
    periods.accept(workspace, MONTH, FINANCE, reason="rounding was wrong")
    assert periods.unaccepted_months(Workspace(workspace.settings)) == []


def test_a_rule_says_which_closed_months_it_does_not_reach(two_months):
    (allocator,) = two_months.configuration.allocators
    assert frozen_note(two_months, allocator) == [
        "It does not apply to the items of 2024-01, which is closed; what no rule took there is distributed only after "
        "reopening."
    ]


def refusal(call) -> str:
    with pytest.raises(OctoError) as raised:
        call()
    return str(raised.value)


def test_what_cannot_be_reopened_or_finalised_is_refused_in_a_sentence(two_months):
    def again() -> Workspace:
        return Workspace(two_months.settings)

    assert "2024-02 is not closed" in refusal(lambda: periods.reopen(again(), NEXT, FINANCE, reason="x"))
    assert "for a reason" in refusal(lambda: periods.reopen(again(), MONTH, FINANCE, reason=" "))
    close_months(again(), [NEXT])
    assert "2024-02 was closed after 2024-01" in refusal(lambda: periods.reopen(again(), MONTH, FINANCE, reason="x"))
    periods.finalise(again(), NEXT, FINANCE)
    assert "final and is never reopened" in refusal(lambda: periods.reopen(again(), NEXT, FINANCE, reason="x"))
    assert "2024-03 is not closed" in refusal(lambda: periods.finalise(again(), THIRD, FINANCE))


def test_a_closing_that_is_killed_leaves_the_month_open_and_the_next_one_sweeps_it(two_months):
    left = write_closing(two_months, NEXT)
    assert not Workspace(two_months.settings).is_closed(NEXT)
    close_months(two_months, [NEXT])
    workspace = Workspace(two_months.settings)
    assert left not in workspace.lake.folders("closings", f"month={NEXT}")
    assert workspace.closing(NEXT).rules.allocators


def test_a_lake_without_what_was_kept_is_refused(two_months):
    closing = two_months.closing(MONTH)
    two_months.lake.remove_folder(*closing.folder, first="closing.json")
    with pytest.raises(OctoError, match=r"finance closed 2024-01 on .* lacks what was kept then .* same backup"):
        Workspace(two_months.settings).configuration_of(MONTH)


def test_a_closed_table_that_is_another_one_is_refused(two_months, tmp_path):
    two_months.lake.remove("account_costs", MONTH)
    events = list(make_months(Workspace(two_months.settings), [MONTH], [AccountCosts()]))
    (failed,) = [event for event in events if isinstance(event, Failed)]
    assert "2024-01 is closed, and account_costs is not as it was closed" in str(failed.error)


def test_two_people_close_a_month_where_that_is_asked_for(two_months):
    settings = two_months.settings.model_copy(update={"four_eyes": True})
    workspace = Workspace(settings)
    assert "nobody has proposed it" in refusal(lambda: periods.finalise(workspace, MONTH, FINANCE))
    periods.finalise(workspace, MONTH, FINANCE, is_proposal=True)
    assert "finance proposed to finalise 2024-01, so somebody else" in refusal(
        lambda: periods.finalise(workspace, MONTH, FINANCE)
    )
    periods.finalise(workspace, MONTH, CONTROLLER)
    assert Workspace(settings).periods[MONTH].state == "final"


@pytest.fixture
def landed(tmp_path: Path, workspace: Workspace) -> Workspace:
    """January and February from deliveries, as an installation has them: charges by hand."""
    for month in (MONTH, NEXT):
        path = tmp_path / f"{month}.csv"
        path.write_text(f"month,account,description,amount,currency,seller\n{month},111111111111,Licence,100,USD,\n")
        run_import(workspace, plan_import(workspace, path, month, ImportMode.replace_month), FINANCE)
    list(make_months(workspace, [MONTH, NEXT], order()))
    return Workspace(workspace.settings)


def test_months_close_in_order_and_once(landed):
    assert "2024-01 is open, and months close in order" in refusal(
        lambda: periods.close(landed, [NEXT], FINANCE, despite="x", now=LATER)
    )
    assert "The lake has no" in refusal(lambda: periods.close(landed, ["2024-05"], FINANCE, despite="x"))
    periods.close(landed, [MONTH, NEXT], FINANCE, now=LATER)
    workspace = Workspace(landed.settings)
    assert workspace.closed_months == (MONTH, NEXT)
    assert "2024-01 is closed already" in refusal(lambda: periods.close(workspace, [MONTH], FINANCE, now=LATER))


def test_a_month_that_vendors_still_bill_is_not_ready_and_closes_for_a_reason_that_is_kept(landed):
    early = datetime(2024, 2, 2, tzinfo=UTC)
    assert periods.readiness(landed, MONTH, early) == ["Vendors bill 2024-01 until 2024-02-05."]
    assert "is not ready to be closed. Vendors bill" in refusal(
        lambda: periods.close(landed, [MONTH], FINANCE, now=early)
    )
    periods.close(landed, [MONTH], FINANCE, despite="the auditors come", now=early)
    (status, _) = periods.periods_of(Workspace(landed.settings))
    assert (status.state, status.decided_by, status.reason) == ("closed", "finance", "the auditors come")


def test_a_stale_month_is_not_closed(landed):
    write_allocators(landed.settings.config, [fee_allocator()])
    assert "is stale" in refusal(
        lambda: periods.close(Workspace(landed.settings), [MONTH], FINANCE, despite="x", now=LATER)
    )


def test_several_months_are_proposed_and_confirmed_together(landed):
    workspace = Workspace(landed.settings.model_copy(update={"four_eyes": True}))
    periods.close(workspace, [MONTH, NEXT], FINANCE, now=LATER, is_proposal=True)
    assert [status.proposal for status in periods.periods_of(Workspace(workspace.settings))] == [
        "finance proposed to close it"
    ] * 2
    periods.close(Workspace(workspace.settings), [MONTH, NEXT], CONTROLLER, now=LATER)
    assert Workspace(workspace.settings).closed_months == (MONTH, NEXT)


def test_charges_by_hand_are_not_missed_in_the_next_month(landed, tmp_path):
    run_import(landed, plan_import(landed, no_charges(tmp_path), NEXT, ImportMode.replace_month), FINANCE)
    list(make_months(Workspace(landed.settings), [NEXT], order()))
    periods.close(Workspace(landed.settings), [MONTH, NEXT], FINANCE, now=LATER)


def no_charges(folder: Path) -> Path:
    """A file that takes the month's charges back."""
    path = folder / "none.csv"
    path.write_text("month,account,description,amount,currency,seller\n")
    return path


def test_costs_without_an_invoice_stand_against_closing_where_the_payer_is_invoiced(two_months):
    lake = two_months.lake
    rows = {
        MONTH: [("aws", "999999999999", "in-1", "100"), ("gcp", "billing-1", None, "7")],
        NEXT: [("aws", "999999999999", None, "80"), ("gcp", "billing-1", None, "7")],
    }
    for month, invoices in rows.items():
        values = [(month, vendor, payer, invoice, None, "USD", cost) for vendor, payer, invoice, cost in invoices]
        with lake.connect() as connection, lake.stage(InvoiceCosts.name, month) as staged:
            inputs = {"of": "the test"}
            query = rows_sql(InvoiceCosts.columns, values)
            lake.copy(connection, query, staged, PartitionMetadata(inputs, "test"))
            lake.publish(staged, still_current=lambda inputs=inputs: inputs)
    # Google names no invoices here, so nothing of it is waited for.
    assert periods._missing_invoices(two_months, NEXT) == [
        "80.00 USD of the aws payer 999999999999 has no invoice yet, and the payer is invoiced."
    ]
    assert periods._missing_invoices(two_months, MONTH) == []
