"""A text of a bill never becomes a formula in a spreadsheet."""

from decimal import Decimal
from typing import Any

import duckdb
import pytest

from octo_pipeline.cli.output import Output, print_rows
from octo_pipeline.model.spreadsheet import csv_column_sql, csv_value

FORMULAS = [
    '=HYPERLINK("http://evil","x")',
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "+1+1",
    "-1+1",
    "\t=1",
    "\r=1",
    "\n=1",
    "\x1b]0;x\x07",
    " =1+1",
    "\u00a0=1",
    "\ufeff=1",
    "\u200b=1",
    "＝1+1",
    "＠SUM(1)",
    "−1",
    "=",
]
TEXTS = ["", "a=1", "Amazon EC2", "1+1", "'=1", "{=1}", "é=", "ab-c", "2024-01", "[/x]", "#N/A", " a"]


@pytest.mark.parametrize("text", [*FORMULAS, *TEXTS])
def test_python_and_sql_agree_on_what_is_a_formula(text: str) -> None:
    expected = f"'{text}" if text in FORMULAS else text
    assert csv_value(text) == expected
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT {csv_column_sql('t')} FROM (SELECT ? AS t)", [text]).fetchone()
    assert found == (expected,)


def test_amounts_are_amounts(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[tuple[Any, ...]] = [(Decimal("-1.50"), -2, None, "=1"), (Decimal(1), 2, True, "a")]
    print_rows("", ("cost", "n", "x", "=name"), rows, Output.csv)
    assert capsys.readouterr().out == "cost,n,x,'=name\n-1.50,-2,,'=1\n1,2,True,a\n"
    print_rows("", ("cost", "n", "x", "=name"), rows, Output.raw)
    assert capsys.readouterr().out == "cost,n,x,=name\n-1.50,-2,,=1\n1,2,True,a\n"
