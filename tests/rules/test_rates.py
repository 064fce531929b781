"""Exchange rates: what is read, and what is refused with its line."""

from decimal import Decimal
from pathlib import Path

import pytest

from octo_pipeline.rules.documents import DocumentError
from octo_pipeline.rules.rates import Rate, load_rates


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "exchange_rates.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_rates_are_exact_and_sorted(tmp_path):
    path = write(
        tmp_path,
        "\ufeffmonth, currency, rate\r\n2024-02,EUR,1.0842\r\n\r\n2024-01,JPY,0.0067512345\r\n"
        '"2024-01","EUR","999999999.9999999999"\r\n',
    )
    assert load_rates(path, "USD") == (
        Rate("2024-01", "EUR", Decimal("999999999.9999999999")),
        Rate("2024-01", "JPY", Decimal("0.0067512345")),
        Rate("2024-02", "EUR", Decimal("1.0842")),
    )


def test_a_missing_file_has_no_rates(tmp_path):
    assert load_rates(tmp_path / "exchange_rates.csv", "USD") == ()


def test_the_shipped_file_is_valid():
    # What the sample's three months are billed in besides the base currency.
    rates = load_rates(Path(__file__).parents[2] / "allocator_configs" / "exchange_rates.csv", "USD")
    assert {(rate.month, rate.currency) for rate in rates} == {
        (month, currency) for month in ("2024-01", "2024-02", "2024-03") for currency in ("EUR", "GBP")
    }


def test_every_bad_line_is_reported_at_once(tmp_path):
    lines = {
        "2024-13,EUR,1": '"2024-13" is not a month; write it as YYYY-MM',
        "2024-1,EUR,1": '"2024-1" is not a month',
        "2024-01,EURO,1": '"EURO" is not a currency; write its three capital letters',
        "2024-01,eur,1": '"eur" is not a currency',
        "2024-01,,1": '"" is not a currency',
        "2024-01,EUR,0": '"0" is not a rate; write a positive number below 1,000,000,000',
        "2024-01,EUR,0.0000000000": '"0.0000000000" is not a rate',
        "2024-01,EUR,-1": '"-1" is not a rate',
        "2024-01,EUR,1e9": '"1e9" is not a rate',
        "2024-01,EUR,NaN": '"NaN" is not a rate',
        "2024-01,EUR,1000000000": '"1000000000" is not a rate',
        "2024-01,EUR,1e-17": '"1e-17" is not a rate',
        "2024-01,EUR,٣": '"٣" is not a rate',
        '2024-01,EUR,"1,5"': '"1,5" is not a rate',
        "2024-01,EUR": "has 2 values; it must have 3: month,currency,rate",
        "2024-01,EUR,1,5": "has 4 values",
        "2024-01,GBP,1": None,
        "2024-01,GBP,1.0": "GBP has a rate for 2024-01 in an earlier line; keep one",
    }
    with pytest.raises(DocumentError) as caught:
        load_rates(write(tmp_path, "\n".join(["month,currency,rate", *lines])), "USD")
    expected = [(f"line {i}", message) for i, message in enumerate(lines.values(), 2) if message]
    problems = caught.value.problems
    assert [p.path for p in problems] == [place for place, _ in expected]
    for problem, (_, message) in zip(problems, expected, strict=True):
        assert message in problem.message
    assert str(caught.value).startswith('exchange_rates.csv: line 2: "2024-13" is not a month')


def test_a_rate_of_the_base_currency_is_1(tmp_path):
    lines = ["month,currency,rate", "2024-01,EUR,1.08", "2024-01,USD,1.0"]
    assert len(load_rates(write(tmp_path, "\n".join(lines)), "USD")) == 2
    with pytest.raises(
        DocumentError,
        match=r"line 2: EUR is the base currency, so its rate is 1, not 1\.08; a rate is how many EUR one unit of the "
        r"currency is worth\. Remove the line, or set the base currency that the rates are for",
    ):
        load_rates(write(tmp_path, "\n".join(lines)), "EUR")


@pytest.mark.parametrize("header", ["", "month;currency;rate", "month,rate,currency", "2024-01,EUR,1.1"])
def test_a_wrong_header_is_refused(tmp_path, header):
    with pytest.raises(DocumentError, match="line 1: must be the header month,currency,rate, not") as caught:
        load_rates(write(tmp_path, header), "USD")
    assert len(caught.value.problems) == 1


def test_a_file_that_is_no_text_is_refused(tmp_path):
    with pytest.raises(DocumentError, match=r"exchange_rates\.csv: is not UTF-8 text .*; save it as UTF-8"):
        load_rates(write(tmp_path, "month,currency,rate\n2024-01,EUR,1".encode("utf-16")), "USD")
    with pytest.raises(DocumentError, match="cannot be read"):
        load_rates(tmp_path, "USD")


def test_a_field_without_end_is_refused(tmp_path):
    with pytest.raises(DocumentError, match="line 2: field larger than field limit"):
        load_rates(write(tmp_path, "month,currency,rate\n" + "x" * 200_000), "USD")
