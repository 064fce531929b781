"""Copies, refreshes and parts are told apart by the rows they share."""

import duckdb
import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import Relation
from octo_pipeline.vendors.shared_rows import FileRows, files_that_count


def days(first: int, last: int, cost: str = "1.00") -> Relation:
    return Relation(f"(SELECT unnest(range({first}, {last + 1})) AS day, {cost}::DECIMAL(38,10) AS cost)")


def counted(*rows: Relation) -> list[str]:
    files = [FileRows(f"file-{number}", relation) for number, relation in enumerate(rows)]
    with duckdb.connect() as con:
        return [files[index].name for index in files_that_count(con, files, "the folder")]


def test_parts_are_added_up():
    assert counted(days(1, 10), days(11, 20), days(21, 31)) == ["file-0", "file-1", "file-2"]


def test_of_month_to_date_files_the_last_counts():
    assert counted(days(1, 5), days(1, 31), days(1, 10)) == ["file-1"]


def test_of_copies_the_first_counts():
    assert counted(days(1, 5), days(1, 5), days(1, 5)) == ["file-0"]


def test_a_row_that_stands_twice_in_a_file_is_not_a_copy_of_one_that_stands_once():
    twice = Relation("(SELECT 1 AS day, 1.00::DECIMAL(38,10) AS cost FROM range(2))")
    assert counted(twice, days(1, 1)) == ["file-0"]
    assert counted(days(1, 1), twice) == ["file-1"]


def test_an_older_refresh_of_one_that_is_in_parts_does_not_count():
    assert counted(days(1, 10), days(1, 4), days(5, 20)) == ["file-1", "file-2"]
    assert counted(days(8, 12), days(1, 9), days(10, 31), days(1, 4)) == ["file-1", "file-2"]


def test_of_two_refreshes_in_other_parts_the_newer_counts():
    assert counted(days(1, 5), days(6, 10), days(1, 3), days(4, 9), days(10, 31)) == ["file-2", "file-3", "file-4"]


def test_the_same_rows_in_other_parts_count_once():
    assert counted(days(1, 20), days(21, 31), days(1, 10), days(11, 31)) in (["file-0", "file-1"], ["file-2", "file-3"])


def test_a_few_rows_alike_do_not_make_a_refresh_of_a_part():
    assert counted(days(1, 10), Relation(f"(FROM {days(10, 10)} UNION ALL FROM {days(20, 31)})")) == [
        "file-0",
        "file-1",
    ]


def test_a_restated_refresh_beside_the_older_one_is_refused_by_name():
    restated = Relation(f"(FROM {days(1, 8)} UNION ALL FROM {days(9, 31, '2.00')})")
    with pytest.raises(OctoError, match=r"file-0 and file-1 in the folder share 8 rows.*Keep the newer one"):
        counted(days(1, 10), restated)


def test_files_without_rows_count_for_nothing():
    assert counted(days(1, 0), days(1, 5)) == ["file-0", "file-1"]
    assert counted() == []
