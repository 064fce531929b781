"""A CSV file whose lines end in different ways is read as one whose lines end alike, whichever vendor's it is."""

import csv
import gzip
import io
from datetime import UTC, datetime
from decimal import Decimal

import duckdb
import pytest

from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.aws.cur import land_cur
from octo_pipeline.vendors.aws.cur_relations import relation_sql
from octo_pipeline.vendors.data_files import unify_line_ends
from octo_pipeline.vendors.landing import verify
from tests.support.azure_exports import MONTH, USAGE, csv_bytes, export, manifest, write
from tests.support.reports import cost, csv_text

NOW = datetime(2024, 6, 1, tzinfo=UTC)

MIXED = {
    "a header before rows with CRLF": "a,b\n1,x\r\n2,y\r\n",
    "a header before rows with LF": "a,b\r\n1,x\n2,y\n",
    "files put one after the other": "a,b\n1,x\n2,y\r\n3,z\n4,",
    "a last line without an end": 'a,b\r\n1,x\n2,"y"',
    "blank lines": "a,b\n\r\n1,x\r\n\n2,y\r\n",
    "line breaks in values": 'a,b\n1,"x\r\ny"\r\n2,"p\nq, ""r"""\n3,"s\rt"\n',
    "CR alone": "a,b\n1,x\r2,y\r",
}


@pytest.mark.parametrize("text", MIXED.values(), ids=MIXED)
@pytest.mark.parametrize("packed", [True, False])
def test_the_values_stay_and_lines_end_alike(tmp_path, text, packed):
    path = tmp_path / ("rows.csv.gz" if packed else "rows.csv")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert unify_line_ends(path, "rows")
    assert not unify_line_ends(path, "rows") or '"' in text
    with duckdb.connect() as con:
        rows = con.execute(
            f"SELECT * FROM read_csv('{path}', columns = {{'a': 'VARCHAR', 'b': 'VARCHAR'}}, auto_detect = false, "
            "header = true, delim = ',', quote = '\"', escape = '\"', strict_mode = true)"
        ).fetchall()
    expected = [row for row in csv.reader(io.StringIO(text, newline="")) if row][1:]
    assert [[value or "" for value in row] for row in rows] == expected


@pytest.mark.parametrize("text", ["a,b\n1,x\n", "a,b\r\n1,x\r\n", "a,b\r1,x\r", "a,b"])
def test_a_file_whose_lines_end_alike_is_not_touched(tmp_path, text):
    path = tmp_path / "rows.csv"
    path.write_bytes(text.encode())
    assert not unify_line_ends(path, "rows")
    assert path.read_bytes() == text.encode()


def mixed(content: bytes) -> bytes:
    """A header that ends in LF before rows that end in CRLF."""
    header, *rows = content.splitlines()
    return header + b"\n" + b"".join(row + b"\r\n" for row in rows)


@pytest.mark.parametrize("name", ["cur.csv", "cur.csv.gz"])
def test_an_aws_report(tmp_path, name):
    """Regression: the source was refused, its file "damaged or not what its name says"."""
    content = mixed(csv_text([cost("10.5"), cost("4.25"), cost("8.25")]).encode())
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    (landed,) = land_cur(tmp_path / "lake", tmp_path / name, month="2024-01", fetched_at=NOW)
    with duckdb.connect() as con:
        sql = relation_sql(con, [landed.delivery])
        total = con.execute(f"SELECT count(*), sum(line_item_unblended_cost) FROM ({sql})").fetchone()
    assert total == (3, Decimal("23.0000000000"))
    verify(landed.delivery)


def test_azure_exports(tmp_path, workspace):
    """Loose and behind a manifest; the manifest's size is that of the file as it was exported."""
    content = mixed(csv_bytes(USAGE, USAGE | {"Cost": "2"}))
    blobs = export(USAGE)
    data = next(name for name in blobs if name.endswith(".csv"))
    listed = {data: content, data.replace("part_0_0001.csv", "manifest.json"): manifest([(data, content, 2)])}
    for number, files in enumerate((listed, {"actual.csv": content})):
        (landed,) = write(tmp_path / str(number), files).land(workspace.lake.root, MONTH, NOW)
        verify(landed.delivery)
        materialise(workspace, CostLineItems(), MONTH)
        with workspace.lake.connect() as con:
            table = workspace.lake.scan("cost_line_items", [MONTH], CostLineItems.columns)
            assert con.execute(f"SELECT sum(billed_cost), sum(line_count) FROM {table}").fetchone() == (
                Decimal("3.5"),
                2,
            )
