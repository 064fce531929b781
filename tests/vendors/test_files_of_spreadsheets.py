"""What programs make of exports and leave beside them, for every vendor: refused with what to do, or passed over."""

import codecs
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.sources import folder_source
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.table import materialise
from tests.support import azure_exports, billing_exports, focus_files, reports

NOW = datetime(2024, 7, 1, tzinfo=UTC)
CSV = {
    "aws": ("2024-01", reports.csv_text([reports.ROW]), Decimal("1.5")),
    "azure": ("2024-05", azure_exports.csv_bytes(azure_exports.USAGE).decode("utf-8-sig"), Decimal("1.5")),
    "focus": ("2024-03", focus_files.csv_text(focus_files.ROW), Decimal(10)),
}
LITTER = {
    ".DS_Store": b"\0\0\0\1Bud1",
    "._a.csv": b"\0\5\x16\7",
    "~$a.xlsx": b"\5me",
    "__MACOSX/._a.csv": b"\0\5\x16\7",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def billed(workspace, folder):
    """Lands a vendor's folder and adds up its month."""

    def land(vendor: str, month: str) -> Decimal:
        folder_source(vendor, folder).land(workspace.lake.root, month, NOW)
        materialise(workspace, CostLineItems(), month)
        with workspace.lake.connect() as con:
            table = workspace.lake.scan("cost_line_items", [month], CostLineItems.columns)
            return con.execute(f"SELECT sum(billed_cost) FROM {table}").fetchone()[0]

    return land


@pytest.mark.parametrize("vendor", CSV)
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (";", "has its columns separated by semicolons, as spreadsheets save it"),
        ("\t", "has its columns separated by tabs, as spreadsheets save it"),
        ("utf-16", "is text in UTF-16, as spreadsheets save it"),
        ("utf-16-be", "is text in UTF-16, as spreadsheets save it"),
        ("cp1252", "is not .*UTF-8.*save"),
        ("empty", "(has no header line|is empty)"),
    ],
)
def test_a_file_that_was_saved_otherwise_is_refused_with_what_to_do(workspace, folder, billed, vendor, name, sentence):
    month, text, _ = CSV[vendor]
    match name:
        case "empty":
            content = b""
        case "cp1252":
            content = (
                text.replace("mazon", "m\u00e0zon")
                .replace("irtual", "\u00efrtual")
                .replace("Blob", "Bl\u00f6b")
                .encode(name)
            )
        case "utf-16" | "utf-16-be":
            content = (codecs.BOM_UTF16_BE if name.endswith("be") else b"") + text.encode(name)
        case separator:
            content = text.replace(",", separator).encode()
    (folder / "a.csv").write_bytes(content)
    with pytest.raises(OctoError, match=rf"a\.csv.*{sentence}"):
        billed(vendor, month)
    assert not (workspace.lake.root / "landing").exists()


@pytest.mark.parametrize("vendor", CSV)
def test_what_programs_leave_beside_a_file_is_passed_over(folder, billed, vendor):
    month, text, cost = CSV[vendor]
    (folder / "a.csv").write_text(text)
    (folder / "old.csv").mkdir()
    for name, content in LITTER.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    assert billed(vendor, month) == cost


def test_what_programs_leave_beside_a_table_is_passed_over(folder, billed):
    table = folder / billing_exports.ACCOUNT / billing_exports.DETAILED
    billing_exports.write_export(table / "a.parquet", [billing_exports.row()])
    for place in (folder, table.parent, table):
        (place / "~$a.xlsx").write_bytes(b"\5me")
        (place / "._a.parquet").write_bytes(b"\0\5\x16\7")
    assert billed("gcp", "2024-01") == Decimal("1.5")


def test_copies_of_attributes_beside_a_manifest_are_passed_over(folder, billed):
    at = reports.legacy_report(folder)
    at = at if at.is_file() else next(folder.rglob("*anifest.json"))
    (at.parent / f"._{at.name}").write_bytes(b"\0\5\x16\7")
    assert billed("aws", "2024-01") == Decimal("1.5")


def test_a_line_of_json_that_cannot_be_read_is_named(folder, billed):
    table = folder / billing_exports.ACCOUNT / billing_exports.DETAILED
    table.mkdir(parents=True)
    rows = [billing_exports.row(), billing_exports.row() | {"cost": "1,234.56"}]
    (table / "a.json").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.raises(OctoError, match=r'a\.json, line 2 cannot be read: .*"1,234\.56"\. Correct it') as refused:
        billed("gcp", "2024-01")
    assert refused.value.place.endswith("a.json, line 2")


def test_a_file_of_a_run_is_called_as_in_its_manifest(folder, billed):
    for name, content in azure_exports.export(azure_exports.USAGE | {"Cost": "(5.00)"}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    with pytest.raises(OctoError, match=r"^part_0_0001\.csv of .*manifest\.json, line 2: Cost is '\(5\.00\)'"):
        billed("azure", azure_exports.MONTH)
