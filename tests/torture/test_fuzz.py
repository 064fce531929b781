"""Documents, manifests and exports that are broken or hostile: a sentence or the right result, and nothing else."""

import gzip
import json
import random
import resource
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from octo_pipeline.model.errors import OctoError
from octo_pipeline.rules.allocator import parse_allocator
from octo_pipeline.rules.cost_group import parse_cost_group
from octo_pipeline.rules.formula import evaluate, parse_formula
from octo_pipeline.rules.rates import load_rates
from octo_pipeline.services.sources import sources
from octo_pipeline.settings import Settings
from octo_pipeline.tables.landed_charges import explanation, landed_relations
from octo_pipeline.vendors.aws.cur import CurFolderSource
from octo_pipeline.vendors.azure.blobs import FolderListing
from octo_pipeline.vendors.azure.csp import AzureCspFolderSource
from octo_pipeline.vendors.azure.exports import AzureExportSource
from octo_pipeline.vendors.gcp.billing_folder import GcpFolderSource
from octo_pipeline.vendors.landing import deliveries, newest_deliveries
from octo_pipeline.vendors.source import Source
from octo_pipeline.workspace import Workspace
from tests.support.reports import legacy_manifest, legacy_report, period, write_json
from tests.torture.chance import SEED, fuzz, pick
from tests.torture.hostile import bounded, changed, damaged, texts
from tests.torture.worlds import MONTHS, World

NOW = datetime(2024, 3, 1, tzinfo=UTC)
MONTH = MONTHS[0]

ALLOCATOR: dict[str, Any] = {
    "id": "support", "name": "Support", "createTime": "2024-01-05T00:00:00Z", "startMonth": "2024-01", "expiration": 12,
    "criteria": [{"and": {"productCode": "re:^AWSSupport", "account": "111122223333"}}], "defaultAccount": "9",
    "allocator": [{"type": "payer", "value": "999988887777", "months": 3, "formula": "cost*usage"}],
}  # fmt: skip
COST_GROUP: dict[str, Any] = {
    "id": "web", "combinations": {
        "awsOptions": {"filters": [{"andFilters": {"account": "1"}}], "tagFilters": [{"andFilters": {"Team": "re:^web"}}]},
        "gcpOptions": {"labelFilters": [{"andFilters": {"team": "web"}}]},
    },
}  # fmt: skip
SOURCES: tuple[dict[str, Any], ...] = (
    {"vendor": "aws", "account": "999988887777", "bucket": "company-cur", "prefix": "reports", "role_arn": None},
    {"vendor": "azure", "kind": "csp", "tenant_id": "t", "client_id": "c", "client_secret_variable": "S", "currencies": ["GBP"]},
    {"vendor": "gcp", "account": "0D1DR5-ADE21G-RF09W1", "project": "p", "dataset": "d"},
)  # fmt: skip
AZURE_MANIFEST: dict[str, Any] = {
    "manifestVersion": "2024-04-01", "blobCount": 1, "exportConfig": {"type": "ActualCost", "resourceId": "/providers/x/1"},
    "runInfo": {"startDate": "2024-01-01T00:00:00", "submittedTime": "2024-02-01", "runId": "r"},
    "blobs": [{"blobName": "run/part.csv", "byteCount": 3, "dataRowCount": 1}],
}  # fmt: skip


def text_of(value: object) -> str:
    return json.dumps(value)


@fuzz(50, 3_000)
@given(changed(ALLOCATOR), st.sampled_from(["a.json", "'.json", "\u202e.json"]))
def test_any_allocator(document, file):
    with bounded():
        parse_allocator(text_of(document), file=file)


@fuzz(25, 1_500)
@given(changed(COST_GROUP))
def test_any_cost_group(document):
    with bounded():
        parse_cost_group(text_of(document), file="a.json")


TOKENS = st.sampled_from(
    ["cost", "usage", "accounts", "group_usage", "active_accounts", "1", "0", "1e308", ".5", "+", "-", "*", "/", "%", "**", "(", ")", "<", "==",
     "&&", "||", "!", "?", ":", "if", "else", "min(", "round(", ",", "ceil(", "__import__('os')", "cost.__class__", "lambda",
     "9" * 50, "9**9**9**9", "[", "'a'*10**9", "\0"]
)  # fmt: skip


@fuzz(200, 20_000)
@example("9**9**9**9")
@example("(" * 1990)
@example("1" + "+1" * 990)
@given(st.lists(TOKENS, max_size=12).map(" ".join) | texts)
def test_any_formula(text):
    with bounded():
        formula = parse_formula(text)
        try:
            result = evaluate(formula, cost=1.5, usage=0.25, accounts=3, group_usage=0.0, active_accounts=2)
        except Exception as error:
            assert type(error).__name__ == "FormulaFailed"
        else:
            assert isinstance(result, float)


@fuzz(50, 3_000)
@given(
    content=st.binary(max_size=200)
    | texts.map(lambda text: f"month,currency,rate\n2024-01,{text},1.1\n".encode("utf-8", "replace"))
)
def test_any_exchange_rates(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("rates") / "exchange_rates.csv"
    file.write_bytes(content)
    with bounded():
        load_rates(file, "USD")


@fuzz(25, 800)
@example(document=legacy_manifest(["cur/octo/20240101-20240201/octo-1.csv.gz"]) | {"assemblyId": "\ud800"})
@given(document=changed(legacy_manifest(["cur/octo/20240101-20240201/octo-1.csv.gz"])))
def test_any_manifest_of_aws(tmp_path_factory, document):
    folder = tmp_path_factory.mktemp("cur")
    legacy_report(folder / "exports")
    write_json(folder / "exports" / "cur" / "octo" / period(MONTH) / "octo-Manifest.json", document)
    land(CurFolderSource(folder / "exports"), folder)


@fuzz(25, 800)
@given(document=changed(AZURE_MANIFEST))
def test_any_manifest_of_azure(tmp_path_factory, document):
    folder = tmp_path_factory.mktemp("azure")
    write_json(folder / "exports" / "run" / "manifest.json", document)
    (folder / "exports" / "run" / "part.csv").write_text("a,b")
    land(AzureExportSource(FolderListing(folder / "exports")), folder)


@fuzz(25, 1_500)
@given(document=st.sampled_from(SOURCES).flatmap(changed))
def test_any_document_of_a_source(tmp_path_factory, document):
    folder = tmp_path_factory.mktemp("sources")
    write_json(folder / "config" / "sources" / "a.json", document)
    for vendor in ("aws", "azure", "gcp"):
        with bounded():
            sources(Workspace(Settings(lake=str(folder / "lake"), config=folder / "config")), vendor)


@fuzz(25, 1_500)
@given(data=st.data())
def test_any_description_of_a_delivery(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("landing")
    legacy_report(folder / "exports")
    CurFolderSource(folder / "exports").land(folder / "lake", MONTH, NOW)
    description = next((folder / "lake").rglob("_delivery.json"))
    write_json(description, data.draw(changed(json.loads(description.read_text()))))
    with bounded():
        newest_deliveries(folder / "lake", MONTH)


def land(source: Source, folder: Path) -> None:
    """Land in the folder's lake; whatever happens, nothing is written outside of it."""
    before = outside(folder)
    with bounded():
        source.land(folder / "lake", MONTH, NOW)
    assert outside(folder) == before


def outside(folder: Path) -> set[Path]:
    """What is in the folder but not in its lake, and what is beside it."""
    # Higher up other workers of these tests come and go.
    near = folder.parent.iterdir()
    below = [path for path in folder.rglob("*") if path != folder / "lake" and folder / "lake" not in path.parents]
    return {*near, *below}


EXPORTS: dict[str, Callable[[Path], Source]] = {
    "aws": CurFolderSource,
    "azure": AzureCspFolderSource,
    "gcp": GcpFolderSource,
}


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("delivered"))
    world.deliver([MONTH], seed=3)
    return world


@pytest.mark.parametrize("vendor", EXPORTS)
def test_exports_with_damaged_bytes(delivered, tmp_path, vendor):
    dice = random.Random(f"{SEED}/{vendor}")
    files = sorted(
        path.relative_to(delivered.exports) for path in (delivered.exports / vendor).rglob("*") if path.is_file()
    )
    for number in range(pick(15, 600)):
        folder = tmp_path / str(number)
        shutil.copytree(delivered.exports / vendor, folder / "exports")
        broken = folder / "exports" / dice.choice(files).relative_to(vendor)
        broken.write_bytes(damaged(broken.read_bytes(), dice))
        land(EXPORTS[vendor](folder / "exports"), folder)
        with duckdb.connect() as connection, bounded():
            landed = newest_deliveries(folder / "lake", MONTH)
            try:
                _, costs = landed_relations(connection, landed, folder)
                connection.execute(f"SELECT count(*), sum(cost) FROM ({costs})").fetchall()
            except duckdb.Error as error:
                raise explanation(connection, landed, error) from error
        shutil.rmtree(folder)


def peak() -> int:
    """The most memory this process ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("vendor", ["aws", "azure"])
def test_a_file_that_unpacks_to_a_thousand_times_its_size_takes_neither_memory_nor_disk(delivered, tmp_path, vendor):
    if vendor == "aws":
        legacy_report(tmp_path / "exports")
    else:
        shutil.copytree(delivered.exports / vendor, tmp_path / "exports")
    packed = list((tmp_path / "exports").rglob("*.gz"))
    assert packed
    for path in packed:
        with gzip.open(path, "wb", compresslevel=9) as stream:
            for _ in range(150):
                stream.write(b"0" * (1 << 20))
    before = peak()
    land(EXPORTS[vendor](tmp_path / "exports"), tmp_path)
    assert peak() - before < 100 << 20


@pytest.mark.parametrize("vendor", EXPORTS)
def test_a_link_out_of_the_folder_is_not_followed(delivered, tmp_path, vendor):
    shutil.copytree(delivered.exports / vendor, tmp_path / "exports")
    data = next(p for p in sorted((tmp_path / "exports").rglob("*")) if p.name.endswith((".parquet", ".gz")))
    data.rename(tmp_path / "elsewhere")
    data.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OctoError, match=r"leads out|link"):
        EXPORTS[vendor](tmp_path / "exports").land(tmp_path / "lake", MONTH, NOW)
    assert deliveries(tmp_path / "lake") == []
