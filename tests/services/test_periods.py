"""Closing, reopening and finalising months, what stands against it, and what is booked of a closed month later."""

import fcntl
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from octo_pipeline.lake.lake import PartitionMetadata
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import rows_sql
from octo_pipeline.registry.records import Actor, Decision
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
from octo_pipeline.vendors.landing import Delivery
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


def test_a_closed_month_that_is_not_in_the_lake_is_not_corrected_away(two_months):
    """Regression: where the lake was restored without its line items, the next month took back all that was booked."""
    for table in ("cost_line_items", "matched_items"):
        two_months.lake.remove(table, MONTH)
    tables = [table for table in order() if table.name not in ("cost_line_items", "container_usage")]
    events = list(make_months(Workspace(two_months.settings), [NEXT], tables))
    (failed,) = [event for event in events if isinstance(event, Failed)]
    assert str(failed.error) == f"The lake has no cost line items of {MONTH}."
    assert two_months.lake.rows(Corrections.name, NEXT) == 0


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


def test_an_item_that_no_delivery_has_any_more_is_told_as_it_was_closed(two_months, tmp_path):
    (item,) = find_items(two_months, allocator="a0", month=MONTH)
    write_lines(two_months, tmp_path, lines_of(MONTH, "10", "30", "100")[:2])
    made(two_months, [MONTH, NEXT])
    sentences = story(Workspace(two_months.settings), item.item_id)
    assert sentences[0] == (
        f"Item {item.item_id}: a fee item of 2024-01, x, 100.0000000000 USD, on account 9 of payer 999999999999 (aws)."
    )
    assert "No current delivery has it; this is what it was when its last month was closed." in sentences
    assert "In 2024-01 it is listed as checked_allocated." in sentences
    assert any("In 2024-02 it is corrected for 2024-01, which is closed: the split on 2, -75" in s for s in sentences)


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


def test_without_the_second_person_nothing_is_computed_or_written(landed):
    workspace = Workspace(landed.settings.model_copy(update={"four_eyes": True}))
    assert "nobody has proposed it" in refusal(lambda: periods.close(workspace, [MONTH], FINANCE, now=LATER))
    periods.close(Workspace(workspace.settings), [MONTH], FINANCE, now=LATER, is_proposal=True)
    assert "somebody else has to confirm it" in refusal(lambda: periods.close(workspace, [MONTH], FINANCE, now=LATER))
    assert workspace.lake.folders("closings") == []


def test_a_month_that_a_run_makes_is_not_closed_or_reopened(landed, monkeypatch):
    monkeypatch.setattr(periods, "PATIENCE_SECONDS", 0.1)
    # A lock of another process: this one would not wait for its own.
    with (landed.lake.root / ".locks" / f"making-{MONTH}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for action in (
            lambda: periods.close(landed, [MONTH], FINANCE, now=LATER),
            lambda: periods.reopen(landed, MONTH, FINANCE, reason="x"),
        ):
            assert refusal(action) == (
                "Another process is making, closing or reopening 2024-01. Try again when it has ended."
            )


def test_a_month_that_changes_while_it_is_closed_stays_open(two_months, tmp_path, monkeypatch):
    def written(workspace: Workspace, month: str) -> str:
        closing_id = write_closing(workspace, month)
        write_lines(workspace, tmp_path, lines_of(NEXT, "1", "2", "3"))
        made(workspace, [NEXT])
        return closing_id

    monkeypatch.setattr(periods, "write_closing", written)
    assert refusal(lambda: close_months(two_months, [NEXT])) == (
        "resolved_accounts 2024-02 changed while the month was being closed, so it is still open. Close it again."
    )
    assert not Workspace(two_months.settings).is_closed(NEXT)


@pytest.mark.parametrize("is_before", [True, False])
def test_a_decision_that_comes_while_a_month_is_closed_is_not_lost(two_months, monkeypatch, is_before):
    (item,) = find_items(two_months, allocator="a0", month=NEXT)
    decision = Decision("restore", item.item_id, NEXT, item.category, FINANCE, "x", datetime.now(UTC))
    name = "write_closing" if is_before else "_require_as_kept"
    original = getattr(periods, name)

    def disturbed(*arguments: Any) -> Any:
        if is_before:
            two_months.registry.record_decisions([decision])
        result = original(*arguments)
        if not is_before:
            two_months.registry.record_decisions([decision])
        return result

    monkeypatch.setattr(periods, name, disturbed)
    if is_before:
        assert "allocations 2024-02 changed while the month was being closed" in refusal(
            lambda: close_months(two_months, [NEXT])
        )
    else:
        close_months(two_months, [NEXT])
        cause, rows = periods.drift(Workspace(two_months.settings), NEXT)
        assert cause == "decision"
        assert {(owner, int(change)) for owner, change in rows.select("owner", "difference")} == {
            ("9", 50),
            ("1", -25),
            ("2", -25),
        }


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


def test_a_month_that_has_not_ended_is_not_ready_and_closes_for_a_reason_that_is_kept(landed):
    early = datetime(2024, 1, 31, tzinfo=UTC)
    assert periods.readiness(landed, MONTH, early) == ["2024-01 has not ended."]
    assert "is not ready to be closed. 2024-01 has not ended." in refusal(
        lambda: periods.close(landed, [MONTH], FINANCE, now=early)
    )
    periods.close(landed, [MONTH], FINANCE, despite="the auditors come", now=early)
    (status, _) = periods.periods_of(Workspace(landed.settings))
    assert (status.state, status.decided_by, status.reason) == ("closed", "finance", "the auditors come")


def test_a_delivery_counts_from_its_vendors_closing_day_on_and_later_where_exports_name_no_invoice(
    two_months, monkeypatch, tmp_path
):
    def fetched(vendor: str, account: str, day: int) -> Delivery:
        at = datetime(2024, 2, day, tzinfo=UTC)
        return Delivery(vendor, account, MONTH, "1", "parquet", "", (), at, "", tmp_path)

    def reasons(*deliveries: Delivery, on: int = 20) -> list[str]:
        monkeypatch.setattr(periods, "counted_deliveries", lambda w, month: deliveries if month == MONTH else [])
        return periods.late_deliveries(two_months, MONTH, datetime(2024, 2, on, tzinfo=UTC))

    invoiced = [(MONTH, "aws", "payer", "in-1", None, "USD", "100")]
    publish_invoices(two_months, MONTH, invoiced)
    assert reasons(fetched("aws", "payer", 8), fetched("gcp", "billing", 8), fetched("focus", "any", 5)) == []
    # Support of AWS comes on the 6th or 7th.
    assert reasons(fetched("aws", "payer", 7)) == [
        "The aws account payer delivered 2024-01 last on 2024-02-07, before its closing day 2024-02-08."
    ]
    assert reasons(fetched("gcp", "billing", 7)) == [
        "The gcp account billing delivered 2024-01 last on 2024-02-07, before 2024-02-08, 3 days after its closing day, as its "
        "exports name no invoice."
    ]
    assert reasons(fetched("aws", "payer", 2), on=3) == [
        "What the aws account payer is billed of 2024-01 may change until its closing day 2024-02-08."
    ]


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


def publish_invoices(workspace: Workspace, month: str, rows: list[tuple]) -> None:
    lake, inputs = workspace.lake, {"of": "the test"}
    with lake.connect() as connection, lake.stage(InvoiceCosts.name, month) as staged:
        lake.copy(connection, rows_sql(InvoiceCosts.columns, rows), staged, PartitionMetadata(inputs, "test"))
        lake.publish(staged, still_current=lambda: inputs)


def test_costs_without_an_invoice_stand_against_closing_where_the_payer_is_invoiced(two_months):
    rows = {
        MONTH: [("aws", "999999999999", "in-1", "100"), ("gcp", "billing-1", None, "7")],
        NEXT: [("aws", "999999999999", None, "80"), ("gcp", "billing-1", None, "7")],
    }
    for month, invoices in rows.items():
        values = [(month, vendor, payer, invoice, None, "USD", cost) for vendor, payer, invoice, cost in invoices]
        publish_invoices(two_months, month, values)
    # Google names no invoices here, so nothing of it is waited for.
    assert periods._missing_invoices(two_months, NEXT) == [
        "80.00 USD of the aws payer 999999999999 has no invoice yet, and the payer is invoiced."
    ]
    assert periods._missing_invoices(two_months, MONTH) == []
