"""`octo doctor`: checks what a run needs, and says what to fix."""

import os
from itertools import chain
from typing import TYPE_CHECKING

import typer

from octo_pipeline.cli.output import Output, OutputOption, advice, print_rows
from octo_pipeline.model.errors import OctoError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from octo_pipeline.services.doctor import Finding

_MARKS = {"ok": "ok", "warning": "look", "error": "fix"}


def doctor(output: OutputOption = Output.table) -> None:
    """Check versions, configuration, lake, registry, sources and months, and say what to fix.

    Exit codes: 0 nothing to fix, 1 something to fix.
    """
    from octo_pipeline.services.doctor import examine
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    findings: list[Finding] = []
    for finding in chain(examine(Workspace(load_settings())), _dagster_storage()):
        findings.append(finding)
        if output is Output.table:
            typer.echo(f"{_MARKS[finding.state]:5} {finding.area:14} {_sentence(finding)}")
    if output is not Output.table:
        print_rows("", ("area", "state", "sentence"), [(f.area, f.state, _sentence(f)) for f in findings], output)
    errors = sum(finding.state == "error" for finding in findings)
    if errors:
        raise OctoError(
            f"{errors} {'problems' if errors > 1 else 'problem'} to fix; see above.", code="installation-has-problems"
        )


def _dagster_storage() -> "Iterator[Finding]":
    """What is found of Dagster's storage, which services do not know; nothing where it is not on a server."""
    if not os.environ.get("DAGSTER_HOME"):
        return
    from octo_pipeline.automation.storage import store_an_event
    from octo_pipeline.services.doctor import Finding

    try:
        if message := store_an_event():
            yield Finding("dagster", "ok", message)
    except OctoError as error:
        yield Finding("dagster", "error", str(error), error.remedies)


def _sentence(finding: "Finding") -> str:
    return " ".join(filter(None, (finding.sentence, advice(finding.remedies))))
