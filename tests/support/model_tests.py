"""The unit tests of dbt models (given, expect), run by dbt in a database file that has their sources."""

from collections.abc import Mapping
from pathlib import Path

import duckdb

from octo_pipeline.tables.dbt import VARIABLES, project_folder

PROFILE = "octo: {{target: lake, outputs: {{lake: {{type: duckdb, path: {path}}}}}}}\n"


def unit_tests(folder: Path, sources: Mapping[str, str], *selected: str) -> dict[str, str]:
    """Test -> what came of it: "pass", or what dbt says.

    Args:
        folder: an empty folder.
        sources: ``schema.name`` -> SQL of the sources that the models read; only their columns count.
        selected: the models; their tests are run, and the models are made.
    """
    from dbt.cli.main import dbtRunner

    # The database has the name that it has when the models are compiled.
    with duckdb.connect(str(folder / "memory.db")) as connection:
        for name, query in sources.items():
            connection.execute(f"create schema if not exists {name.split('.')[0]}")
            connection.execute(f"create table {name} as select * from ({query}) limit 0")
    (folder / "profiles.yml").write_text(PROFILE.format(path=folder / "memory.db"))
    done = dbtRunner().invoke(
        ["build", "--select", *selected, "--project-dir", str(project_folder()), "--profiles-dir", str(folder),
         "--target-path", str(folder), "--log-path", str(folder), "--no-partial-parse", "--log-level", "none",
         "--no-send-anonymous-usage-stats", *VARIABLES]
    )  # fmt: skip
    assert done.exception is None
    results = [result for result in done.result.results if result.node.resource_type == "unit_test"]
    return {r.node.name: "pass" if r.status == "pass" else f"{r.status}: {r.message}" for r in results}
