"""Files of a journal: CSV, XLSX, and texts by templates, of which mistakes are named with their line."""

import csv
from decimal import Decimal
from pathlib import Path

import pytest
from openpyxl import load_workbook

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.rows import Rows
from octo_pipeline.outputs.journal import Journal
from octo_pipeline.outputs.journal_file import rendered, write_journal, write_text

SHIPPED = Path(__file__).parents[2] / "allocator_configs" / "journal_templates"
COLUMNS = (
    "month", "state", "line", "entry", "kind", "charge_month", "vendor", "payer", "invoice_id", "invoice_issuer_name",
    "currency", "posting", "owner_type", "owner_id", "cost_centre", "ledger_account", "name", "debit", "credit",
    "description", "exact_amount",
)  # fmt: skip


def line(
    number: int, currency: str, posting: str, debit: str | None, credit: str | None, name: str = "Payments"
) -> tuple:
    entry = {"EUR": 1, "JPY": 2, "KWD": 3}[currency]
    exact_amount = Decimal(debit or f"-{credit}")
    return (
        "2024-02", "provisional", number, entry, "invoice", "2024-02", "aws", "9", f"i{entry}", "AWS",
        currency, posting, None, None, "CC-1", "6400", name, debit, credit,
        f"Invoice i{entry}", exact_amount,
    )  # fmt: skip


LINES = (
    line(1, "EUR", "cost", "1234.50", None, '=cmd|"x"'),
    line(2, "EUR", "invoice", None, "1234.50", "AWS"),
    line(3, "JPY", "cost", "7", None),
    line(4, "JPY", "invoice", None, "7", "AWS; Japan"),
    line(5, "KWD", "cost", "0.125", None),
    line(6, "KWD", "invoice", None, "0.125", "AWS"),
)
JOURNAL = Journal("2024-02", "provisional", Rows(COLUMNS, LINES), Rows((), ()), ())


def test_csv_has_exact_amounts_and_no_formulas_unless_it_is_raw(tmp_path):
    write_journal(JOURNAL, tmp_path / "j.csv")
    with (tmp_path / "j.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["debit"] or row["credit"] for row in rows] == ["1234.50", "1234.50", "7", "7", "0.125", "0.125"]
    assert [row["name"] for row in rows[:2]] == ['\'=cmd|"x"', "AWS"]
    assert rows[1]["exact_amount"] == "-1234.50"
    write_journal(JOURNAL, tmp_path / "raw.csv", is_raw=True)
    with (tmp_path / "raw.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["name"] == '=cmd|"x"'
    assert {path.name for path in tmp_path.iterdir()} == {"j.csv", "raw.csv"}


def test_xlsx_has_numbers_with_the_decimals_of_their_currency(tmp_path):
    write_journal(JOURNAL, tmp_path / "j.xlsx")
    sheet = load_workbook(tmp_path / "j.xlsx").active
    debit, name = COLUMNS.index("debit") + 1, COLUMNS.index("name") + 1
    cells = [sheet.cell(row, debit) for row in (2, 4, 6)]
    assert [(cell.value, cell.number_format) for cell in cells] == [
        (1234.5, "#,##0.00"),
        (7, "#,##0"),
        (0.125, "#,##0.000"),
    ]
    assert (sheet.cell(2, name).value, sheet.cell(2, name).data_type) == ('=cmd|"x"', "s")
    assert (sheet.freeze_panes, sheet.auto_filter.ref) == ("A2", "A1:U7")


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(OctoError, match=r"j\.pdf must end in \.csv or \.xlsx; other texts are written with a template"):
        write_journal(JOURNAL, tmp_path / "j.pdf")
    with pytest.raises(OctoError, match=r"Cannot write the journal to .*: No such file or directory"):
        write_text(tmp_path / "none" / "j.txt", "x")


def test_a_template_has_lines_entries_and_days(tmp_path):
    template = tmp_path / "t.j2"
    template.write_text(
        "{{ month }} {{ state }} {{ is_provisional }} {{ first_day }} {{ last_day.strftime('%d%m') }}\n"
        "{% for entry in entries %}\n"
        "{{ entry.entry }} {{ entry.currency }}{% for line in entry.lines %} {{ line.debit or '-' ~ line.credit }}{% endfor %}\n"
        "\n"
        "{% endfor %}\n"
        "{{ lines | length }} {{ lines[0].name | csv }} {{ lines[3].name | csv }}[{{ lines[0].owner_id }}]\n"
    )
    assert rendered(JOURNAL, template) == (
        "2024-02 provisional True 2024-02-01 2902\n1 EUR 1234.50 -1234.50\n2 JPY 7 -7\n3 KWD 0.125 -0.125\n"
        '6 "=cmd|""x""" "AWS; Japan"[]\n'
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n{{ lines[0].debti }}", "line 2: 'dict object' has no attribute 'debti'."),
        ("a\n\n{% for line in lines %}\n{{ line.debit }}", "line 4: Unexpected end of template. Jinja was looking for"),
        ("{{ lines[0].debit + 1 }}", "line 1: can only concatenate str"),
        ("\n{{ 1 / 0 }}", "line 2: division by zero."),
        ("{{ lines.__class__.__mro__ }}", "line 1: access to attribute '__class__' of 'list' object is unsafe."),
        ("{{ lines.append(1) }}", "line 1: access to attribute 'append' of 'list' object is unsafe."),
        ("{% include '/etc/passwd' %}", "line 1: no loader for this environment specified."),
        ("{% macro a() %}{{ a() }}{% endmacro %}\n{{ a() }}", "maximum recursion depth exceeded"),
    ],
)
def test_a_wrong_template_is_named_with_its_line(tmp_path, text, message):
    template = tmp_path / "t.j2"
    template.write_text(text)
    with pytest.raises(OctoError) as caught:
        rendered(JOURNAL, template)
    assert str(caught.value).startswith(f"{template}: line ")
    assert message in str(caught.value)
    assert caught.value.place == str(template)


def test_a_template_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(OctoError, match="cannot be read: No such file or directory"):
        rendered(JOURNAL, tmp_path / "none.j2")
    (tmp_path / "t.j2").write_bytes(b"\xff")
    with pytest.raises(OctoError, match="cannot be read: it is not UTF-8 text"):
        rendered(JOURNAL, tmp_path / "t.j2")


def shipped_rows(name: str, delimiter: str, skipped: int = 0) -> list[dict[str, str]]:
    lines = rendered(JOURNAL, SHIPPED / name).splitlines()[skipped:]
    return list(csv.DictReader(lines, delimiter=delimiter))


def test_the_shipped_template_for_sap():
    rows = shipped_rows("sap.csv.j2", ";")
    assert [(row["WAERS"], row["SHKZG"], row["WRBTR"], row["BUZEI"]) for row in rows] == [
        ("EUR", "S", "1234.50", "1"),
        ("EUR", "H", "1234.50", "2"),
        ("JPY", "S", "7", "1"),
        ("JPY", "H", "7", "2"),
        ("KWD", "S", "0.125", "1"),
        ("KWD", "H", "0.125", "2"),
    ]
    assert (rows[0]["BUDAT"], rows[0]["XBLNR"], rows[0]["SGTXT"]) == ("20240229", "2024-02-1", 'Invoice i1, =cmd|"x"')


def test_the_shipped_template_for_netsuite():
    rows = shipped_rows("netsuite.csv.j2", ",")
    assert [(row["External ID"], row["Debit"], row["Credit"]) for row in rows[:3]] == [
        ("octo-2024-02-1", "1234.50", ""),
        ("octo-2024-02-1", "", "1234.50"),
        ("octo-2024-02-2", "7", ""),
    ]
    assert (rows[0]["Date"], rows[3]["Line Memo"]) == ("02/29/2024", "AWS; Japan")


def test_the_shipped_template_for_datev_has_one_currency_and_its_line_ends():
    text = rendered(JOURNAL, SHIPPED / "datev.csv.j2")
    assert text.count("\r\n") == text.count("\n") == 4
    header = next(csv.reader([text.splitlines()[0]], delimiter=";"))
    assert (len(header), header[:5], header[14:16]) == (
        31,
        ["EXTF", "700", "21", "Buchungsstapel", "13"],
        ["20240201", "20240229"],
    )
    rows = shipped_rows("datev.csv.j2", ";", 1)
    assert [(row["Umsatz (ohne Soll/Haben-Kz)"], row["Soll/Haben-Kennzeichen"]) for row in rows] == [
        ("1234,50", "S"),
        ("1234,50", "H"),
    ]
    assert [(row["Belegdatum"], row["KOST1 - Kostenstelle"]) for row in rows] == [("2902", "CC-1")] * 2
    assert not any(None in row for row in rows)
