"""A month of several payers of three vendors, landed once and made by any engine, in many tasks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from octo_pipeline.engine.engine import Engine
from octo_pipeline.services.landing import land_month
from octo_pipeline.services.sources import sources
from octo_pipeline.settings import Settings
from octo_pipeline.tables import item_parts, matched_items, parts
from octo_pipeline.tables.graph import order
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.aws.cur import land_cur
from octo_pipeline.vendors.aws.sample import write_cur
from octo_pipeline.vendors.azure.sample import write_csp
from octo_pipeline.vendors.gcp.sample import write_billing_export
from octo_pipeline.vendors.landing import newest_deliveries
from octo_pipeline.workspace import Workspace
from tests.support.reports import NOW, row, write_csv
from tests.support.reports import csv_text as text_of

ROOT = Path(__file__).parents[2]
MONTH = "2024-03"
PARTS = 7
# Rows of allocations, roughly.
_SPLITS = 500


@dataclass(frozen=True)
class Month:
    """What there is of a month: of each table its fingerprint, the facts that do not say how it was made, and its rows."""

    fingerprints: dict[str, str]
    facts: dict[str, dict[str, Any]]
    rows: dict[str, list[tuple]]


def landed_month(folder: Path) -> Settings:
    """March of the sample with a large payer of AWS in six files, a small one, Azure and Google Cloud; the shipped rules."""
    write_cur(folder, months=[MONTH], accounts=6, lines=600, files=6)
    write_csp(folder, months=[MONTH], lines=300)
    write_billing_export(folder, months=[MONTH], lines=300)
    exports = {f"{vendor}_exports": folder / vendor for vendor in ("aws", "azure", "gcp")}
    settings = Settings(lake=str(folder / "lake"), config=ROOT / "allocator_configs", **exports)
    workspace = Workspace(settings)
    for vendor in ("aws", "azure", "gcp"):
        assert land_month(workspace, vendor, sources(workspace, vendor), MONTH).failures == ()
    started = {
        "bill_BillingPeriodStartDate": f"{MONTH}-01T00:00:00Z",
        "lineItem_UsageStartDate": f"{MONTH}-15T13:00:00Z",
    }
    small = [row(lineItem_UnblendedCost=f"{n}.5", identity_LineItemId=f"line-{n}", **started) for n in range(9)]
    land_cur(workspace.lake.root, write_csv(folder / "small.csv", text_of(small)), fetched_at=NOW)
    return settings


def month_by(
    engine: Engine | None, settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch | None = None
) -> Month:
    """The month made in a lake of its own; of an engine in tasks that are so small that there are about seven for each step."""
    folder.mkdir()
    (folder / "landing").symlink_to(Path(settings.lake) / "landing")
    workspace = Workspace(settings.model_copy(update={"lake": str(folder)}), own_engine=engine)
    if monkeypatch is not None:
        size = max(sum(file.size for file in d.files) for d in newest_deliveries(workspace.lake.root, MONTH, "aws"))
        monkeypatch.setattr(parts, "TASK_BYTES", -(-size // PARTS))
        monkeypatch.setattr(matched_items, "LINES_PER_PART", 1)
        monkeypatch.setattr(item_parts, "SPLITS_PER_PART", _SPLITS // PARTS)
    for table in order():
        materialise(workspace, table, MONTH)
    return _read(workspace)


def _read(workspace: Workspace) -> Month:
    lake = workspace.lake
    month = Month({}, {}, {})
    for table in order():
        metadata = lake.metadata(table.name, MONTH)
        month.fingerprints[table.name] = metadata.fingerprint
        # How a table was cut is in facts of its own.
        month.facts[table.name] = {name: fact for name, fact in metadata.facts.items() if "parts" not in name}
        with lake.connect() as connection:
            rows = connection.execute(f"FROM {lake.scan(table.name, [MONTH], table.columns)} ORDER BY ALL")
            month.rows[table.name] = rows.fetchall()
    return month


def parts_of(folder: Path, table: str, fact: str = "parts") -> int:
    """How many parts a table was made of."""
    metadata = Workspace(Settings(lake=str(folder))).lake.metadata(table, MONTH)
    return len(metadata.facts.get(fact, [None]))
