"""The documentation site: it builds without a warning, leaves nothing out, and what its pages show is valid."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from mkdocs.commands.build import build
from mkdocs.config import load_config
from pydantic import BaseModel

from docs import reference
from octo_pipeline.cli.main import app
from octo_pipeline.definitions import defs
from octo_pipeline.rules.allocator import hints_of, load_allocators, parse_allocator
from octo_pipeline.rules.cost_group import load_cost_groups, parse_cost_group
from octo_pipeline.rules.formula import FormulaError, evaluate, parse_formula
from octo_pipeline.rules.metrics import parse_metric
from octo_pipeline.services.checks import CHECKS
from octo_pipeline.settings import SECRET_PREFIX, Settings
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.vendors.aws.cur_bucket import CurDocument
from octo_pipeline.vendors.azure.csp import AzureCspDocument
from octo_pipeline.vendors.azure.exports import AzureExportDocument
from octo_pipeline.vendors.gcp.billing_document import GcpSourceDocument

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
JOBS = [page for page in PAGES if page.parent.name == "jobs" and page.stem != "index"]
SAMPLE = ROOT / "allocator_configs"
MOST_BYTES = 160_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


def commands(group: typer.Typer = app, path: str = "octo") -> set[str]:
    """Every command, from how the program is put together."""
    own = {
        f"{path} {one.name or one.callback.__name__}"
        for one in group.registered_commands
        if one.callback and not one.hidden
    }
    return own.union(*(commands(one.typer_instance, f"{path} {one.name}") for one in group.registered_groups))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def documents(page: str) -> list[Any]:
    return [json.loads(text) for text in blocks(ROOT / "docs" / f"{page}.md", "json")]


def test_every_command_has_a_section_with_its_options() -> None:
    page = reference.commands_page()

    assert set(re.findall(r"^## (.*)$", page, re.MULTILINE)) == commands()
    simulate = page.partition("## octo allocators simulate\n")[2].partition("\n## ")[0]
    assert "| `FILE` | required | The allocator's JSON file; - reads it from standard input. |" in simulate
    assert "`--month TEXT`" in simulate
    output = (
        "table for people; csv for spreadsheets; json, or raw as CSV, for machines. Amounts in json are strings with all of "
        "their digits, because a JSON number loses some. One of `table`, `json`, `csv`, `raw`."
    )
    assert f"| `--output, -o TEXT` | `table` | {output} |" in simulate


def test_every_setting_stands_in_the_reference() -> None:
    page = reference.settings_page()

    for name, field in Settings.model_fields.items():
        assert f"| `OCTO_{name.upper()}` |" in page
        assert field.description in page
    assert "| `OCTO_WATCHED_MONTHS` | `2` |" in page


def test_every_table_and_column_stands_in_the_reference() -> None:
    sections = {part.partition("\n")[0]: part for part in reference.tables_page().split("\n## ")[1:]}

    for table in TABLES:
        for column, kind in table.columns.items():
            assert f"| `{column}` | `{kind.lower()}` | " in sections[table.name]
    assert (
        "| `source_account` | `varchar` | The account that the item was billed on. |"
        in sections["The view allocations"]
    )
    assert not re.search(r"\|  \|$", "".join(sections.values()), re.MULTILINE)


def test_every_check_stands_in_the_reference_and_has_advice() -> None:
    page, advice = reference.checks_page(), (ROOT / "docs" / "operation.md").read_text()

    assert all(f"| `{one.name}` | `{one.table}` | {one.severity} | {one.description} |" in page for one in CHECKS)
    for key in defs.resolve_asset_graph().asset_check_keys:
        assert f"| `{key.name}` |" in page
        assert f"| `{key.name}` |" in advice


def test_every_asset_job_schedule_and_sensor_stands_in_the_reference() -> None:
    page, repository = reference.assets_page(), defs.get_repository_def()

    names = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    names |= {one.name for one in (*repository.schedule_defs, *repository.sensor_defs)}
    names |= {job.name for job in repository.get_all_jobs() if not job.name.startswith("__")}
    assert {name for name in names if f"| `{name}` |" not in page} == set()


def test_the_site_has_every_page_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in PAGES] + list(reference.PAGES)

    assert [page for page in pages if not (site / page.replace(".md", ".html")).is_file()] == []
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|img|link|iframe)\b[^>]*(?:src|href)=\"?((?:https?:)?//[^\" >]+)", page.read_text()
        )
        assert loaded == [], page
    assert not list(site.rglob("*.py"))


def test_the_pictures_are_small() -> None:
    pictures = {path.name: path.stat().st_size for path in (ROOT / "docs" / "images").iterdir()}

    assert {name for name, size in pictures.items() if size > MOST_BYTES} == set()
    assert set(re.findall(r"images/([\w-]+\.png)", "".join(page.read_text() for page in PAGES))) == set(pictures)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_name_commands_that_there_are(page: Path) -> None:
    for text in written_as_code(page):
        for named in re.findall(r"\bocto(?: [a-z][a-z-]*)+", text):
            assert any(f"{named} ".startswith(f"{one} ") or f"{one} ".startswith(f"{named} ") for one in commands()), (
                named
            )


def written_as_code(page: Path) -> Iterator[str]:
    text = page.read_text()
    yield from blocks(page, "sh")
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("name", ["allocators", "first-allocator", "how-costs-are-allocated"])
def test_the_allocators_of_the_pages_are_valid(name: str) -> None:
    found = blocks(ROOT / "docs" / f"{name}.md", "json")

    assert (
        [parse_allocator(text, file="x.json").id for text in found] == [json.loads(text)["id"] for text in found] != []
    )


def test_the_cost_group_of_its_page_is_valid() -> None:
    [text] = blocks(ROOT / "docs" / "cost-groups.md", "json")

    options = parse_cost_group(text, file="x.json").combinations.by_vendor()
    assert {vendor for vendor, _ in options} == {"aws", "azure", "gcp"}


@pytest.mark.parametrize("page", JOBS, ids=lambda page: page.stem)
def test_the_documents_of_a_job_are_valid_beside_those_of_the_sample(page: Path, tmp_path: Path) -> None:
    text, folders = page.read_text(), {kind: tmp_path / kind for kind in ("allocators", "cost_groups")}
    shutil.copytree(SAMPLE / "cost_groups", folders["cost_groups"])
    folders["allocators"].mkdir()
    for document in (json.loads(block) for block in blocks(page, "json")):
        kind = "allocators" if "allocator" in document else "cost_groups"
        assert f"{document['id']}.json`" in text
        (folders[kind] / f"{document['id']}.json").write_text(json.dumps(document))

    groups, group_problems = load_cost_groups(folders["cost_groups"])
    rules, rule_problems = load_allocators(folders["allocators"], {group.id: group for group in groups})

    assert [*group_problems, *rule_problems] == []
    assert [hint for rule in rules for hint in hints_of(rule)] == []
    assert set(re.findall(r"^octo allocators add (\S+)\.json", text, re.MULTILINE)) <= {rule.id for rule in rules}
    for removed in re.findall(r"^octo allocators remove (\S+)", text, re.MULTILINE):
        assert (SAMPLE / "allocators" / f"{removed}.json").is_file()
    quantities = zip(
        blocks(page, "csv"), re.findall(r"^octo metrics put .* --id (\S+)", text, re.MULTILINE), strict=True
    )
    metrics = [parse_metric(block.encode(), name, file="x.csv") for block, name in quantities]
    assert {rule.usage_of.id for rule in rules if rule.usage_of.kind == "metric"} == {metric.id for metric in metrics}


def test_the_list_of_jobs_has_each() -> None:
    index = (ROOT / "docs" / "jobs" / "index.md").read_text()

    assert set(re.findall(r"\]\(([\w-]+)\.md\) \|", index)) == {page.stem for page in JOBS}


def test_the_example_in_numbers_is_the_tested_case() -> None:
    [text] = blocks(ROOT / "docs" / "how-costs-are-allocated.md", "json")
    case = ROOT / "tests" / "cases" / "02-seed-example" / "allocators" / "example.json"

    assert parse_allocator(text, file="x.json").document == parse_allocator(case.read_bytes(), file="x.json").document


def test_the_sources_of_the_pages_are_valid() -> None:
    aws, trust, rights, *transferred = documents("sources/aws")
    csp, exports = documents("sources/azure")
    [gcp] = documents("sources/gcp")

    assert CurDocument.model_validate(aws).account == "999988887777"
    assert [CurDocument.model_validate(one).domain for one in transferred] == [None, "BILLABLE"]
    assert AzureCspDocument.model_validate(csp).currencies == ("EUR",)
    assert AzureExportDocument.model_validate(exports).sas_variable == "OCTO_SOURCE_EXPORTS_SAS"
    assert GcpSourceDocument.model_validate(gcp).dataset == "billing_export"
    assert trust["Statement"][0]["Condition"] == {"StringEquals": {"sts:ExternalId": aws["external_id"]}}
    assert [one["Resource"] for one in rights["Statement"]] == [
        f"arn:aws:s3:::{aws['bucket']}",
        f"arn:aws:s3:::{aws['bucket']}/{aws['prefix']}/*",
    ]


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("aws", CurDocument),
        ("azure", AzureCspDocument),
        ("azure", AzureExportDocument),
        ("gcp", GcpSourceDocument),
    ],
)
def test_every_field_of_a_source_is_explained(name: str, model: type[BaseModel]) -> None:
    text = (ROOT / "docs" / "sources" / f"{name}.md").read_text()

    names = {field.alias or name for name, field in model.model_fields.items()}
    for name in names - {"vendor", "kind"}:
        assert f"| `{name}` |" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_name_settings_that_there_are(page: Path) -> None:
    # The seed is `make torture`'s, not the program's.
    known = {f"OCTO_{name.upper()}" for name in Settings.model_fields} | {"OCTO_TORTURE_SEED"}

    found = set(re.findall(r"\bOCTO_[A-Z_]+", page.read_text()))
    assert {name for name in found if not name.startswith(SECRET_PREFIX)} - known == set()


def test_the_formulas_of_their_page_mean_what_it_says() -> None:
    text = (ROOT / "docs" / "formulas.md").read_text()
    examples = re.findall(r"^\| `([^`]+)` \| (\d+) \|", text, re.MULTILINE)
    refused = re.findall(r"^\| `([^`]+)` \| (Column .*?) \|$", text, re.MULTILINE)

    given = {"cost": 900.0, "usage": 0.3, "accounts": 2.0, "group_usage": 0.4, "active_accounts": 1.0}
    assert len(examples) == 7
    assert {f: evaluate(parse_formula(f), **given) for f, _ in examples} == pytest.approx(
        {f: float(result) for f, result in examples}
    )
    assert len(refused) == 3
    for formula, sentence in refused:
        with pytest.raises(FormulaError) as raised:
            parse_formula(formula)
        assert str(raised.value) == sentence


# The pages on how to add something name files that are still to be written.
@pytest.mark.parametrize("page", [page for page in PAGES if page.stem[:6] != "add-a-"], ids=lambda page: page.stem)
def test_pages_name_files_that_there_are(page: Path) -> None:
    text = page.read_text()
    named = re.findall(r"`((?:tests|octo_pipeline|benchmarks|dbt_project)/[\w./-]+)`", text)
    if page.stem == "reliability":
        named += [f"tests/{name}" for name in re.findall(r"`(\w+/[\w/]+\.py)`", text)]

    assert [name for name in named if not (ROOT / name).exists()] == []
