"""Texts of a bill and of the configuration are texts: none is run as SQL, and each comes out as it came in."""

import json
import string
from decimal import Decimal
from pathlib import Path

from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.decide import find_items
from octo_pipeline.settings import Settings
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.aws.cur import CurFolderSource
from octo_pipeline.workspace import Workspace
from tests.support.reports import NOW, ROW, csv_text, legacy_manifest, period, write_csv, write_json
from tests.torture.hostile import TEXTS

MONTH = "2024-01"


UNSEEN = (
    string.whitespace
    + "".join(chr(code) for code in range(0x80, 0x10000) if chr(code).isspace())
    + "\u180e\u200b\u2060\ufeff"
)


def test_texts_that_look_like_sql_are_kept_as_they_are_and_run_nothing(tmp_path):
    canary = tmp_path / "canary"
    run = f"COPY (SELECT 1) TO '{canary}'"
    hostile = [
        t for t in (*TEXTS, f"'; {run}; --", f'"; {run}; --', f"') TO 'x'; {run}; --", f"{{{{ {run} }}}}") if trimmed(t)
    ]
    workspace = installation(tmp_path, hostile)
    for table in TABLES:
        materialise(workspace, table, MONTH)
    assert not canary.exists()

    lake = workspace.lake
    with lake.connect() as connection:
        line_items = lake.scan("cost_line_items", [MONTH], TABLES[0].columns)
        for column in ("service_code", "charge_description"):
            kept = {text for (text,) in connection.execute(f"SELECT DISTINCT {column} FROM {line_items}").fetchall()}
            assert {trimmed(text) for text in hostile} <= {trimmed(text) for text in kept if text}, column
        tags = connection.execute(f"SELECT DISTINCT unnest(map_values(tags)) FROM {line_items}").fetchall()
        assert {trimmed(text) for text in hostile} <= {trimmed(tag) for (tag,) in tags if tag}
        items = connection.execute(
            f"SELECT count(*), sum(cost) FROM ({explained_allocations(workspace, [MONTH])}) WHERE kind = 'item' AND category = 'fee'"
        ).fetchone()
    assert items == (len({trimmed(t) for t in hostile}), Decimal(len(hostile)) * Decimal("1.5"))
    for number, text in enumerate(hostile):
        try:
            found = find_items(workspace, allocator=text, month=MONTH, account=account_id(number))
        except OctoError:
            continue
        assert len(found) == 1
    assert not canary.exists()


def trimmed(text: str) -> str:
    """A text without what nobody sees at its ends: white space and characters of no width."""
    return text.strip(UNSEEN)


def account_id(number: int) -> str:
    """An account of its own for each text: AWS's ids are digits, so a text cannot be one."""
    return f"{number:012d}"


def installation(folder: Path, hostile: list[str]) -> Workspace:
    """A lake with a bill and a configuration that are full of these texts."""
    rows = [
        ROW | {
            "identity/LineItemId": f"line-{number}", "lineItem/UsageAccountId": account_id(number),
            "lineItem/ProductCode": text,
            "lineItem/LineItemDescription": text, "lineItem/LineItemType": kind, "resourceTags/user:Team": text,
        }
        for number, text in enumerate(hostile)
        for kind in ("Usage", "Tax")
    ]  # fmt: skip
    name = "octo-'; DROP TABLE x; --[*]?{a,b}\u202e.csv.gz"
    key = f"cur/octo/{period(MONTH)}/{name}"
    write_csv(folder / "exports" / key, csv_text(rows))
    write_json((folder / "exports" / key).with_name("octo-Manifest.json"), legacy_manifest([key]))
    for kind in ("allocators", "cost_groups"):
        (folder / "config" / kind).mkdir(parents=True)
    for number, text in enumerate(hostile):
        allocator = {
            "id": text, "name": text, "startMonth": MONTH, "criteria": [{"and": {"productCode": text, "description": text}}],
            "allocator": [{"type": "account", "value": text}, {"type": "costgroup", "value": text}], "defaultAccount": text,
        }  # fmt: skip
        group = {
            "id": text,
            "combinations": {
                "awsOptions": {
                    "filters": [{"andFilters": {"productCode": text}}],
                    "tagFilters": [{"andFilters": {text: text}}],
                }
            },
        }
        (folder / "config" / "allocators" / f"{number}.json").write_text(json.dumps(allocator))
        (folder / "config" / "cost_groups" / f"{number}.json").write_text(json.dumps(group))
    workspace = Workspace(Settings(lake=str(folder / "lake"), config=folder / "config"))
    CurFolderSource(folder / "exports").land(folder / "lake", MONTH, NOW)
    assert len(workspace.configuration.allocators) > len(hostile) // 2
    return workspace


def test_the_names_of_folders_are_texts_too(tmp_path):
    odd = tmp_path / "it's a; --\u202e [*] lake\"{{x}}"
    workspace = installation(odd, ["x"])
    for table in TABLES:
        materialise(workspace, table, MONTH)
    for table in TABLES:
        assert workspace.lake.months(table.name) == [MONTH]
        assert workspace.lake.fingerprint(table.name, MONTH)
    assert workspace.lake.rows("account_costs", MONTH) > 0
