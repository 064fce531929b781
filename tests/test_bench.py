"""What the benchmarks say of two runs, and that they name a slower commit."""

import json

import pytest

from benchmarks.bench import SHORT, parts
from benchmarks.measure import Row
from benchmarks.table import differences, main, written


def row(what: str, ratio: float, cpu: float | None = None, target: str = "≤ 2") -> Row:
    return Row(what, f"{ratio} s", "1 s", ratio, cpu, target)


def run_of(tmp_path, name, *rows, lines=1):
    file = tmp_path / name
    written(rows, {"lines": lines}, file)
    return file


def test_a_row_says_whether_it_meets_its_target():
    assert row("a", 2.0).meets_target
    assert not row("a", 2.01).meets_target
    assert row("a", 3.0, target="≥ 3").meets_target
    assert not row("a", 2.9, target="≥ 3").meets_target
    assert not row("a", 0.51, target="≤ 0.5 s").meets_target
    assert row("a", 2.0, target="").meets_target is None


def test_a_run_records_what_it_was_measured_on(tmp_path):
    document = json.loads(run_of(tmp_path, "a.json", row("a", 1.5, 1.25), lines=7).read_text())

    assert document["sizes"] == {"lines": 7}
    assert document["cores"] >= 1
    assert document["commit"]
    assert document["rows"] == [
        {"what": "a", "ours": "1.5 s", "other": "1 s", "ratio": 1.5, "cpu_ratio": 1.25, "target": "≤ 2", "meets": True}
    ]


@pytest.mark.parametrize(
    ("old", "new", "quotient", "word"),
    [
        (row("a", 1.0), row("a", 1.2), "1.20", "SLOWER"),
        (row("a", 1.2), row("a", 1.0), "0.83", "faster"),
        (row("a", 1.0), row("a", 1.05), "1.05", ""),
        # Of processor time it did not change; the machine was busy.
        (row("a", 1.0, 1.0), row("a", 3.0, 1.0), "1.00", ""),
        (row("a", 1.0, 1.0), row("a", 1.0, 1.5), "1.50", "SLOWER"),
        # A rate that falls is slower.
        (row("a", 40.0, target="≥ 40"), row("a", 20.0, target="≥ 40"), "0.50", "SLOWER"),
        (row("a", 20.0, target="≥ 40"), row("a", 40.0, target="≥ 40"), "2.00", "faster"),
        (row("files", 0.0, target="0"), row("files", 3.0, target="0"), "inf", "SLOWER"),
    ],
)
def test_what_changed_is_said_row_by_row(tmp_path, old, new, quotient, word):
    files = run_of(tmp_path, "old.json", old), run_of(tmp_path, "new.json", new)

    ((what, *_, change, marked),) = differences(*(json.loads(file.read_text()) for file in files))

    assert (what, change, marked) == (old.what, quotient, word)


def test_rows_of_one_run_alone_and_other_sizes_are_named(tmp_path, capsys):
    old = run_of(tmp_path, "old.json", row("a", 1.0), row("gone", 1.0))
    new = run_of(tmp_path, "new.json", row("a", 2.0), row("added", 1.0), lines=2)

    main(old, new)

    printed = capsys.readouterr().out
    assert printed.count("only in one") == 2
    assert "The runs differ in sizes or cores: {'lines': 1}" in printed
    assert "Slower by more than 10%: a." in printed


def test_the_parts_of_the_bench_are_those_of_the_page(tmp_path):
    assert list(parts(tmp_path, SHORT)) == [
        "normalisation",
        "matching",
        "splitting",
        "exporting",
        "processes",
        "serving",
        "staleness",
        "joining",
        "growth",
        "memory",
    ]
