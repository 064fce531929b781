"""Charges by hand: what a file may say, the three ways to import it, and the line items that come of it."""

import csv
import io
import json
from datetime import date
from decimal import Decimal

import pytest
from typer.testing import CliRunner

from octo_pipeline.cli.main import app
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Actor
from octo_pipeline.services.charges import ImportMode, month_charges, plan_import, run_import
from octo_pipeline.vendors.landing import deliveries
from tests.support.focus_files import line_items
from tests.support.workspaces import administered

MONTH = "2024-03"
HEADER = "month,account,description,amount,currency,seller\n"
LICENCE = f"{MONTH},111111111111,Licence of the year,1200.50,USD,Big Vendor Inc.\n"
REFUND = f"{MONTH},222222222222,Goodwill,-20,EUR,\n"


def write(tmp_path, *rows, name="charges.csv", header=HEADER):
    path = tmp_path / name
    path.write_text(header + "".join(rows))
    return path


def imported(workspace, path, mode=ImportMode.replace_month):
    planned = plan_import(workspace, path, MONTH, mode)
    return run_import(workspace, planned, Actor("tester")), [
        (change.kind, change.charge.description, change.previous_amount) for change in planned.changes
    ]


def amounts(workspace):
    return {charge.description: charge.amount for charge in month_charges(workspace, MONTH)}


# -- line items -----------------------------------------------------------------------------------------------


def test_fees_and_credits_are_line_items(workspace, tmp_path):
    imported(workspace, write(tmp_path, LICENCE, REFUND))

    columns = "vendor, billing_account_id, sub_account_id, usage_date, line_type, charge_category, service_code, "
    columns += (
        "charge_description, billing_currency, publisher_name, billed_cost, effective_cost, list_cost, line_count"
    )
    assert line_items(workspace, columns) == [
        ("manual", "manual", "111111111111", date(2024, 3, 1), "Fee", "Purchase", "ManualCharge", "Licence of the year",
         "USD", "Big Vendor Inc.", Decimal("1200.5"), Decimal("1200.5"), Decimal("1200.5"), 1),
        ("manual", "manual", "222222222222", date(2024, 3, 1), "Credit", "Credit", "ManualCharge", "Goodwill", "EUR", None,
         Decimal(-20), Decimal(-20), Decimal(-20), 1),
    ]  # fmt: skip


def test_text_with_commas_quotes_and_line_breaks_stays_as_it_is(workspace, tmp_path):
    description = 'Support, "gold"\nper year, 2024'
    text = io.StringIO()
    csv.writer(text).writerow((MONTH, "0012345", description, "0.0000000001", "USD", "Ärzte & Söhne"))
    imported(workspace, write(tmp_path, text.getvalue()))

    assert line_items(workspace, "sub_account_id, charge_description, billed_cost, publisher_name") == [
        ("0012345", description, Decimal("0.0000000001"), "Ärzte & Söhne")
    ]


# -- the three ways -------------------------------------------------------------------------------------------


def test_replacing_the_month_takes_away_what_the_file_does_not_have(workspace, tmp_path):
    imported(workspace, write(tmp_path, LICENCE, REFUND))
    delivery, changes = imported(workspace, write(tmp_path, LICENCE.replace("1200.50", "1300")))

    assert delivery is not None
    assert changes == [
        ("changed", "Licence of the year", Decimal("1200.5")),
        ("removed", "Goodwill", Decimal(-20)),
    ]
    assert amounts(workspace) == {"Licence of the year": Decimal(1300)}


def test_merging_keeps_what_the_file_does_not_have(workspace, tmp_path):
    imported(workspace, write(tmp_path, LICENCE, REFUND))
    _, changes = imported(
        workspace, write(tmp_path, REFUND.replace("-20", "-25"), LICENCE.replace("year", "month")), ImportMode.merge
    )

    assert changes == [
        ("new", "Licence of the month", None),
        ("unchanged", "Licence of the year", Decimal("1200.5")),
        ("changed", "Goodwill", Decimal(-20)),
    ]
    assert amounts(workspace) == {
        "Licence of the month": Decimal("1200.5"),
        "Licence of the year": Decimal("1200.5"),
        "Goodwill": Decimal(-25),
    }


@pytest.mark.parametrize("mode", ImportMode)
def test_importing_a_file_twice_is_importing_it_once(workspace, tmp_path, mode):
    path = write(tmp_path, LICENCE, REFUND)
    first, _ = imported(workspace, path, mode)
    again, changes = imported(workspace, path, mode)
    reordered, _ = imported(workspace, write(tmp_path, REFUND, LICENCE, name="other.csv"), mode)

    assert (again, reordered) == (None, None)
    assert {kind for kind, *_ in changes} == {"unchanged"}
    assert [delivery.version for delivery in deliveries(workspace.lake.root)] == [first.version]


def test_charges_that_a_month_had_before_can_come_back(workspace, tmp_path):
    first = write(tmp_path, LICENCE, name="first.csv")
    second = write(tmp_path, REFUND, name="second.csv")
    for path in (first, second, first):
        imported(workspace, path)

    assert amounts(workspace) == {"Licence of the year": Decimal("1200.5")}
    assert line_items(workspace, "charge_description") == [("Licence of the year",)]


def test_a_file_without_rows_empties_the_month(workspace, tmp_path):
    imported(workspace, write(tmp_path, LICENCE))
    imported(workspace, write(tmp_path))

    assert amounts(workspace) == {}
    assert line_items(workspace, "billed_cost") == []


def test_an_import_is_on_the_record_with_what_was_before(workspace, tmp_path):
    imported(workspace, write(tmp_path, LICENCE))
    imported(workspace, write(tmp_path, LICENCE.replace("1200.50", "7")))

    event = workspace.registry.audit()[0]
    assert event.action == "import_charges"
    assert event.subject == "charges of 2024-03"
    (change,) = event.details["changes"]
    assert (change["kind"], change["amount"], change["previous_amount"]) == ("changed", "7", "1200.50")


# -- the file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (
            [LICENCE, LICENCE.replace("1200.50", "1")],
            "lines 2 and 3 have the same account, description, currency and seller",
        ),
        ([LICENCE.replace(MONTH, "2024-02")], "line 2: month is 2024-02, but the import is of 2024-03"),
        ([LICENCE.replace(MONTH, "March")], "line 2: month is 'March', which is not a month such as 2024-03"),
        ([LICENCE.replace("1200.50", '"1,200.50"')], "line 2: amount is '1,200.50', which is not an amount"),
        ([LICENCE.replace("1200.50", "1e3")], "line 2: amount is '1e3', which is not an amount"),
        ([LICENCE.replace("1200.50", "0.12345678901")], "at most ten decimals"),
        ([LICENCE.replace("1200.50", "=1+1")], "line 2: amount is '=1[+]1', which is not an amount"),
        ([LICENCE.replace("1200.50", "0.00")], "line 2: amount is 0. Leave the row out"),
        ([LICENCE.replace("1200.50", "")], "line 2: amount is empty"),
        ([LICENCE, REFUND.replace("222222222222", "")], "line 3: account is empty"),
        ([LICENCE.replace("USD", "Dollar")], "line 2: currency is 'Dollar', which is not a code such as USD"),
        ([LICENCE.replace("111111111111", "1.11111E+11")], "to which a spreadsheet shortened an id"),
        ([LICENCE.replace(",USD", "")], "line 2: the row has 5 fields, the header has 6"),
        (["\n", '"a' + LICENCE], "line 3: the row is not CSV|line 3: the row has"),
    ],
)
def test_a_row_that_is_not_right_is_refused_by_line(workspace, tmp_path, rows, sentence):
    with pytest.raises(OctoError, match=sentence):
        imported(workspace, write(tmp_path, *rows))
    assert deliveries(workspace.lake.root) == []


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("", "has no header. Its first line must be month,account,description,amount,currency,seller"),
        ("account,description,amount\n", "lacks currency. A file of charges has the columns"),
        ("account,description,amount,currency,cost_centre\n", "has the unknown columns cost_centre"),
        ("account,amount,description,amount,currency\n", "repeats amount"),
        ("account;description;amount;currency\n", "Its fields must be separated by commas"),
    ],
)
def test_a_header_that_is_not_right_is_refused(workspace, tmp_path, header, sentence):
    with pytest.raises(OctoError, match=sentence):
        imported(workspace, write(tmp_path, header=header))


def test_month_and_seller_may_be_left_out_and_columns_stand_in_any_order(workspace, tmp_path):
    path = tmp_path / "excel.csv"
    path.write_bytes("\ufeffAmount,Currency,Account,Description\r\n5,USD,1,Licence\r\n\r\n".encode())
    imported(workspace, path)

    assert amounts(workspace) == {"Licence": Decimal(5)}


def test_a_file_that_is_not_there_or_not_text_is_refused(workspace, tmp_path):
    with pytest.raises(OctoError, match="cannot be read"):
        imported(workspace, tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes(HEADER.encode() + LICENCE.replace("Big", "Bög").encode("latin-1"))
    with pytest.raises(OctoError, match="is not text in UTF-8"):
        imported(workspace, tmp_path / "latin.csv")


# -- the command ----------------------------------------------------------------------------------------------


@pytest.fixture
def octo(workspace, monkeypatch):
    administered(workspace)
    monkeypatch.setenv("OCTO_LAKE", str(workspace.settings.lake))
    monkeypatch.setenv("OCTO_CONFIG", str(workspace.settings.config))
    return lambda *arguments: CliRunner().invoke(app, [*map(str, arguments)])


def test_the_command_shows_previous_values_and_imports(octo, workspace, tmp_path):
    path = write(tmp_path, LICENCE)
    tried = octo("charges", "import", path, "--month", MONTH, "--dry-run")
    assert tried.exit_code == 0
    assert "Nothing was imported." in tried.output
    assert deliveries(workspace.lake.root) == []

    done = octo("charges", "import", path, "--month", MONTH, "--replace-month")
    assert "octo run --month 2024-03" in done.output
    again = octo("charges", "import", path, "--month", MONTH, "--replace-month")
    assert "The month already has them." in again.output

    write(tmp_path, LICENCE.replace("1200.50", "99"))
    changed = octo("charges", "import", path, "--month", MONTH, "--merge", "--output", "json")
    (row,) = json.loads(changed.stdout)
    assert (row["change"], row["previous_amount"], row["amount"]) == ("changed", "1200.50", "99")
    listed = json.loads(octo("charges", "list", "--month", MONTH, "--output", "json").stdout)
    assert [row["amount"] for row in listed] == ["99"]


def test_the_command_wants_one_way(octo, tmp_path):
    path = write(tmp_path, LICENCE)
    neither = octo("charges", "import", path, "--month", MONTH)
    both = octo("charges", "import", path, "--month", MONTH, "--merge", "--replace-month")

    assert "Say what happens to the charges" in str(neither.exception)
    assert "Give either --replace-month or --merge" in str(both.exception)
