"""What people see in a terminal: nothing is cut, and nothing that a bill holds acts on it."""

import sys
from decimal import Decimal

import pytest

from octo_pipeline.cli.output import Output, cell_width, print_rows
from octo_pipeline.model.wording import plain

COLUMNS = ("account", "service", "what it is", "currency", "cost")
ROWS = [
    (
        "400000000001",
        "AmazonElasticComputeCloud",
        "an instance hour of a machine that is large",
        "USD",
        Decimal("1234567.8900000000"),
    ),
    ("400000000002", "AmazonS3", "requests", "USD", Decimal("-0.0000000001")),
]


def printed(capsys, rows=ROWS, columns=COLUMNS) -> list[str]:
    print_rows("Costs", columns, rows, Output.table)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("width", ["60", "80", "100", "200", None])
def test_ids_amounts_and_currencies_are_never_cut(capsys, monkeypatch, width):
    monkeypatch.delenv("COLUMNS", raising=False)
    if width:
        monkeypatch.setenv("COLUMNS", width)
    text = "\n".join(printed(capsys))
    for whole in ("400000000001", "400000000002", "AmazonElasticComputeCloud", "1,234,567.89", "-0.0000000001"):
        assert whole in text, whole
    assert "…" not in text
    assert text.count("USD") == 2


@pytest.mark.parametrize("width", [80, 100, 200])
def test_lines_fit_the_width_that_is_given(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = printed(capsys)
    assert max(map(cell_width, lines)) <= width
    # 100 columns hold all but the sentences in one line; these are folded between words. 80 hold a block for each row.
    assert any("an instance hour of a machine that is large" in line for line in lines) == (width != 100)


def test_a_terminal_that_is_too_narrow_gets_a_block_for_each_row(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    lines = printed(capsys)
    assert lines[0] == "Costs"
    assert " account     400000000001" in lines
    assert " cost        1,234,567.89" in lines
    assert sum(line.startswith(" account") for line in lines) == len(ROWS)


def test_without_a_terminal_there_is_no_width(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    long = "arn:aws:eks:eu-central-1:400000000001:cluster/" + "x" * 300
    text = "\n".join(printed(capsys, [(long, "a b", "c d", "EUR", Decimal(1))]))
    assert long in text


@pytest.mark.parametrize(
    "hostile",
    [
        "[/subscriptions/x]",
        "[link=https://example.com]AmazonEC2[/link]",
        "[bold red]x[/]",
        ":warning:",
        "\x1b]8;;https://example.com\x1b\\AmazonEC2\x1b]8;;\x1b\\",
        "\x1b[2J\x1b[H",
        "a\rb",
        "tab\tand\nnewline",
        "\x9b31m",
        "\u202eDSU\u202c",
        "zero\x00byte",
    ],
)
@pytest.mark.parametrize("width", ["50", "200"])
def test_nothing_that_a_bill_holds_acts_on_the_terminal(capsys, monkeypatch, hostile, width):
    """Regression: a cell that looks like markup ended a run with a MarkupError, and escape sequences passed through."""
    monkeypatch.setenv("COLUMNS", width)
    lines = printed(capsys, [("400000000001", hostile, "x", "USD", Decimal(1))])
    text = "\n".join(lines)
    assert not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or 0x202A <= ord(c) <= 0x202E for c in text if c != "\n")
    assert plain(hostile) in text.replace("\n", "")


def test_wide_characters_take_two_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = printed(capsys, [("東京のアカウント", "日本語 サービス の 名前", "説明 です " * 8, "JPY", Decimal(100))])
    assert max(map(cell_width, lines)) <= 80
    assert "東京のアカウント" in "\n".join(lines)
