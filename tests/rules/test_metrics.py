"""Metrics of the configuration: what is read, and every refusal with its line."""

from decimal import Decimal

import pytest

from octo_pipeline.rules.documents import DocumentError
from octo_pipeline.rules.metrics import Quantity, load_metrics, parse_metric


def parse(text: str):
    return parse_metric(text.encode(), "heads", file="metrics/heads.csv")


def test_rows_of_accounts_and_groups():
    metric = parse(
        "\ufeffmonth, quantity,account,group\n2024-02,1,,teams/a\n\n2024-01,30, 111 ,\n2024-01,0.12345678905,2,\n"
    )
    assert metric.quantities == (
        Quantity("2024-01", "account", "111", Decimal(30)),
        Quantity("2024-01", "account", "2", Decimal("0.1234567891")),
        Quantity("2024-02", "group", "teams/a", Decimal(1)),
    )
    assert sorted(metric.by_month) == ["2024-01", "2024-02"]


def test_the_digest_of_a_month_changes_with_its_rows_alone():
    before = parse("month,account,quantity\n2024-01,1,5\n2024-02,1,6\n")
    after = parse("month,account,quantity\n2024-02,1,7.0\n2024-01,1,5.00\n")
    assert before.digest("2024-01") == after.digest("2024-01")
    assert before.digest("2024-02") != after.digest("2024-02")


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", [("line 1", 'must be a header with month, quantity, and account or group or both, not ""')]),
        ("month,quantity\n", [("line 1", "must be a header with month, quantity, and account or group or both")]),
        ("month,account,quantity,unit\n", [("line 1", "must be a header")]),
        ("month,account,quantity\n2024-13,1,5\n", [("line 2", '"2024-13" is not a month')]),
        ("month,account,quantity\n2024-01,1,-5\n", [("line 2", '"-5" is not a quantity; write a number that is not')]),
        ("month,account,quantity\n2024-01,1,1e3\n", [("line 2", '"1e3" is not a quantity')]),
        ("month,account,quantity\n2024-01,1\n", [("line 2", "has fewer values than the header has columns")]),
        ("month,account,quantity\n2024-01,,5\n", [("line 2", "must have either an account or a group")]),
        ("month,account,group,quantity\n2024-01,1,g,5\n", [("line 2", "must have either an account or a group")]),
        (
            "month,account,quantity\n2024-01,1,5\n2024-02,1,5\n2024-01,1,6\n2024-01,2,x\n",
            [
                ("line 4", "account 1 has a quantity for 2024-01 in line 2 already; keep one"),
                ("line 5", '"x" is not a quantity'),
            ],
        ),
    ],
)
def test_refusals(text, problems):
    with pytest.raises(DocumentError) as caught:
        parse(text)
    found = caught.value.problems
    assert {p.file for p in found} == {"metrics/heads.csv"}
    assert [(p.path, p.message[: len(message)]) for p, (_, message) in zip(found, problems, strict=True)] == problems


def test_a_bad_file_is_left_out_and_the_others_stay(tmp_path):
    folder = tmp_path / "metrics"
    assert load_metrics(folder) == ({}, ())
    folder.mkdir()
    (folder / "good.csv").write_text("month,group,quantity\n2024-01,g,1\n")
    (folder / "bad.csv").write_bytes(b"\xff")
    (folder / "README.md").write_text("no metric")
    metrics, problems = load_metrics(folder)
    assert list(metrics) == ["good"]
    assert [(p.file, p.message) for p in problems] == [
        ("metrics/bad.csv", "is not UTF-8 text (invalid start byte); save it as UTF-8")
    ]
