"""The journal of a month: what is posted where, in which currency's cents, and what is refused."""

import json
from dataclasses import replace
from decimal import Decimal

import duckdb
import pytest

from octo_pipeline.allocation.proofs import ProofError, prove
from octo_pipeline.model.currency import minor_digits
from octo_pipeline.model.errors import OctoError
from octo_pipeline.outputs.journal import PROOFS, Journal, journal_of
from octo_pipeline.rules.documents import DocumentError
from octo_pipeline.workspace import Workspace
from tests.support.case import make, run
from tests.support.closing import close_months
from tests.support.small_month import MONTH, fee_allocator, invoiced, line_item
from tests.support.tables import MART_TABLES
from tests.support.workspaces import workspace_in, write_lines

NEXT = "2024-02"
HEADER = "owner_type,owner_id,cost_centre,ledger_account,name,email"
CENTRES = (
    "account,1,CC-1,6400,Payments,",
    "account,2,CC-2,6400,Search,",
    "payer,p,,2100,AWS,",
    "prepayments,p,,1900,Prepaid,",
)


def lines_of(month: str, fee: str, invoice: str = "inv") -> list:
    """Usage of accounts 1 and 2 in proportion 1 to 2, and a fee on account 9, on an invoice."""
    rows = [
        line_item("1", "10", billing_month=month),
        line_item("2", "20", billing_month=month),
        line_item("9", fee, "Fee", "Purchase", billing_month=month),
    ]
    return [invoiced(replace(row, billing_account_id="p"), invoice) for row in rows]


def write_centres(workspace: Workspace, *lines: str) -> None:
    (workspace.settings.config / "cost_centres.csv").write_text("\n".join([HEADER, *lines]))


def made(workspace: Workspace, *months: str) -> Workspace:
    fresh = run(workspace, list(months))
    for table in MART_TABLES:
        fresh = make(fresh, table, list(months))
    return fresh


@pytest.fixture(scope="module")
def spread_fee(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """January's fee of 100 is due in three months; January is closed, and delivered again with a fee of 130."""
    folder = tmp_path_factory.mktemp("journal")
    spread = fee_allocator()
    for entry in spread["allocator"]:
        entry["months"] = 3
    months = [*lines_of(MONTH, "100"), *lines_of(NEXT, "0.005", "inv-2")]
    workspace = workspace_in(folder, months, [spread])
    write_centres(workspace, *CENTRES)
    made(workspace, MONTH, NEXT)
    close_months(Workspace(workspace.settings), [MONTH])
    write_lines(workspace, folder, lines_of(MONTH, "130"))
    return made(workspace, MONTH, NEXT)


def posted(journal: Journal) -> list[tuple]:
    columns = ("kind", "charge_month", "invoice_id", "posting", "cost_centre", "ledger_account", "debit", "credit")
    return journal.lines.select(*columns)


def test_a_closed_month_is_posted_as_it_was_closed(spread_fee):
    journal = journal_of(spread_fee, MONTH, "cost-centre")
    assert posted(journal) == [
        ("invoice", MONTH, "inv", "cost", "CC-1", "6400", "21.11", None),
        ("invoice", MONTH, "inv", "cost", "CC-2", "6400", "42.22", None),
        ("invoice", MONTH, "inv", "prepayments", "", "1900", "66.67", None),
        ("invoice", MONTH, "inv", "invoice", "", "2100", None, "130.00"),
    ]
    assert not journal.is_provisional
    assert journal.state.startswith("closed on ")
    assert journal.unmapped == ()


def test_an_open_month_posts_its_invoice_instalments_and_corrections(spread_fee):
    journal = journal_of(spread_fee, NEXT, "account")
    assert posted(journal) == [
        ("invoice", NEXT, "inv-2", "cost", "CC-1", "6400", "10.00", None),
        # The invoice's half of a cent is rounded up. What is due later of it, a third of a cent, is no cent.
        ("invoice", NEXT, "inv-2", "cost", "CC-2", "6400", "20.01", None),
        ("invoice", NEXT, "inv-2", "invoice", "", "2100", None, "30.01"),
        ("instalment", MONTH, None, "cost", "CC-1", "6400", "14.44", None),
        ("instalment", MONTH, None, "cost", "CC-2", "6400", "28.89", None),
        ("instalment", MONTH, None, "prepayments", "", "1900", None, "43.33"),
        # 30 more, of which 10 were due in January.
        ("correction", MONTH, None, "cost", "CC-1", "6400", "3.33", None),
        ("correction", MONTH, None, "cost", "CC-2", "6400", "6.67", None),
        ("correction", MONTH, None, "prepayments", "", "1900", "20.00", None),
        ("correction", MONTH, None, "invoice", "", "2100", None, "30.00"),
    ]
    assert journal.is_provisional
    sums = journal.sums.select("description", "invoiced", "costs", "prepayments", "rounded_by")
    assert sums[0] == ("Invoice inv-2", Decimal("30.01"), Decimal("30.01"), Decimal(0), Decimal("0.005"))


def test_an_owner_without_a_cost_centre_is_posted_as_unmapped(spread_fee, tmp_path):
    settings = spread_fee.settings.model_copy(update={"config": tmp_path})
    for name in ("allocators", "cost_groups"):
        (tmp_path / name).mkdir()
    (tmp_path / "cost_centres.csv").write_text("\n".join([HEADER, CENTRES[0]]))
    journal = journal_of(Workspace(settings), NEXT, "cost-centre")
    assert journal.unmapped == ("account 2", "payer p", "prepayments p")
    assert {row[4:6] for row in posted(journal)} == {("CC-1", "6400"), ("unmapped", "unmapped"), ("", "unmapped")}


def test_what_is_missing_is_said(spread_fee, tmp_path):
    settings = spread_fee.settings.model_copy(update={"config": tmp_path})
    for name in ("allocators", "cost_groups"):
        (tmp_path / name).mkdir()
    with pytest.raises(
        OctoError, match=r"There are no cost centres to post 2024-02 to: .*cost_centres\.csv does not exist"
    ):
        journal_of(Workspace(settings), NEXT, "cost-centre")
    assert {row[4:6] for row in posted(journal_of(Workspace(settings), NEXT, "account"))} == {("", "")}
    (tmp_path / "cost_centres.csv").write_text("account;1;CC")
    with pytest.raises(DocumentError, match=r"cost_centres\.csv: line 1: must be the header"):
        journal_of(Workspace(settings), NEXT, "account")
    with pytest.raises(OctoError, match="The lake has no invoice costs of 2024-03"):
        journal_of(spread_fee, "2024-03", "account")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "UPDATE account_costs SET final_cost = final_cost + 1 WHERE owner_id = '1'",
            "each owner is charged what it pays",
        ),
        ("UPDATE prepayments SET closing = closing + 0.001", "prepayments change by what is due later"),
        ("UPDATE journal SET debit = '1.00' WHERE line = 1", "the debits of each entry are its credits"),
        ("UPDATE invoices SET billed_cost = 10.005", "each invoice is credited with its cents"),
        (
            "UPDATE journal SET debit = CASE line WHEN 1 THEN '9.96' ELSE '0.04' END WHERE line < 3",
            "no line is three cents away",
        ),
    ],
)
def test_each_proof_refuses_what_it_is_about(change, message):
    columns = "kind, charge_month, vendor, payer, invoice_id, invoice_issuer_name, currency, description"
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE currencies AS SELECT 'USD' AS currency, 2 AS digits, 100::DECIMAL(5, 0) AS minor_units"
        )
        connection.execute(
            "CREATE TABLE amounts AS SELECT 'cost' AS posting, 'account' AS owner_type, '1' AS owner_id, 'USD' AS currency, "
            "10::DECIMAL(38, 10) AS amount, 'aws' AS vendor, 'p' AS payer"
        )
        connection.execute(
            "CREATE TABLE account_costs AS SELECT 'account' AS owner_type, '1' AS owner_id, 'USD' AS currency, "
            "10::DECIMAL(38, 10) AS final_cost"
        )
        connection.execute(
            "CREATE TABLE prepayments AS SELECT 'aws' AS vendor, 'p' AS payer, 'USD' AS currency, "
            "5::DECIMAL(38, 10) AS opening, 5::DECIMAL(38, 10) AS closing"
        )
        connection.execute(
            "CREATE TABLE invoices AS SELECT 'aws' AS vendor, 'p' AS billing_account_id, 'i' AS invoice_id, "
            "'AWS' AS invoice_issuer_name, 'USD' AS currency, 10::DECIMAL(38, 10) AS billed_cost"
        )
        connection.execute(
            f"CREATE TABLE journal AS SELECT *, '{MONTH}' AS month FROM (VALUES "
            f"('invoice', '{MONTH}', 'aws', 'p', 'i', 'AWS', 'USD', 'Invoice i', 1, 'cost', '9.99', NULL, 9.99), "
            f"('invoice', '{MONTH}', 'aws', 'p', 'i', 'AWS', 'USD', 'Invoice i', 2, 'cost', '0.01', NULL, 0.01), "
            f"('invoice', '{MONTH}', 'aws', 'p', 'i', 'AWS', 'USD', 'Invoice i', 3, 'invoice', NULL, '10.00', -10)"
            f") AS lines({columns}, line, posting, debit, credit, exact_amount)"
        )
        relations = {name: name for name in ("journal", "currencies", "prepayments", "invoices", "account_costs")}
        prove(connection, "journal", MONTH, PROOFS, journal_amounts="amounts", **relations)
        connection.execute(change)
        with pytest.raises(ProofError, match=message):
            prove(connection, "journal", MONTH, PROOFS, journal_amounts="amounts", **relations)


def test_currencies_have_the_decimals_of_iso_4217():
    assert [minor_digits(currency) for currency in ("USD", "JPY", "KRW", "KWD", "BHD", "CLF", "ABC")] == [
        2,
        0,
        0,
        3,
        3,
        4,
        2,
    ]


@pytest.mark.parametrize(
    ("centres", "expected"),
    [
        # Account 1 is in one group, account 2 in two of them.
        ((), [("account", "2", "86.67"), ("group", "pair", "43.33")]),
        (("group,half,CC-3,6400,,",), [("account", "1", "43.33"), ("group", "half", "86.67")]),
        (("group,none,CC-3,6400,,",), [("account", "2", "86.67"), ("group", "pair", "43.33")]),
        (("group,re:.,CC-3,6400,,",), [("account", "2", "86.67"), ("group", "pair", "43.33")]),
    ],
)
def test_accounts_that_are_wholly_in_one_cost_group_stand_under_it(tmp_path, centres, expected):
    workspace = workspace_in(tmp_path, lines_of(MONTH, "100"), [fee_allocator()])
    for name, condition in (("pair", "re:^[12]$"), ("half", "2")):
        filters = [{"andFilters": {"account": condition}}]
        document = {"id": name, "combinations": {"awsOptions": {"filters": filters}}}
        (workspace.settings.config / "cost_groups" / f"{name}.json").write_text(json.dumps(document))
    partly = {"combinations": {"awsOptions": {"filters": [{"andFilters": {"account": "1", "lineType": "Fee"}}]}}}
    (workspace.settings.config / "cost_groups" / "partly.json").write_text(json.dumps(partly | {"id": "partly"}))
    write_centres(workspace, "payer,p,,2100,AWS,", *centres)
    journal = journal_of(made(workspace, MONTH), MONTH, "group")
    costs = [row for row in journal.lines.select("posting", "owner_type", "owner_id", "debit") if row[0] == "cost"]
    assert sorted(row[1:] for row in costs) == expected


def test_a_closing_that_kept_no_bill_is_said(spread_fee):
    (bill,) = spread_fee.lake.root.glob(f"closings/month={MONTH}/*/bill.parquet")
    away = bill.rename(bill.with_suffix(".away"))
    try:
        with pytest.raises(
            OctoError, match=r"2024-01 was closed by an earlier version .* Reopen it and close it again"
        ):
            journal_of(spread_fee, MONTH, "account")
    finally:
        away.rename(bill)
