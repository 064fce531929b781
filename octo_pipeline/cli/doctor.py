"""`octo doctor`: checks what a run needs, and says what to fix."""

from typing import TYPE_CHECKING

import typer

from octo_pipeline.cli.output import Output, OutputOption, advice, print_rows
from octo_pipeline.model.errors import OctoError

if TYPE_CHECKING:
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
    for finding in examine(Workspace(load_settings())):
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


def _sentence(finding: "Finding") -> str:
    return " ".join(filter(None, (finding.sentence, advice(finding.remedies))))
