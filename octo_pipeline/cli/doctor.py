"""`octo doctor`: what a run needs, and what is to be mended."""

import typer

from octo_pipeline.cli.output import Output, OutputOption, print_rows
from octo_pipeline.model.errors import OctoError

_MARKS = {"ok": "ok", "warning": "look", "error": "mend"}


def doctor(output: OutputOption = Output.table) -> None:
    """Check versions, configuration, lake, registry, sources and months, and say what to mend.

    Exit codes: 0 nothing has to be mended, 1 something has.
    """
    from octo_pipeline.services.doctor import Finding, examine
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    found: list[Finding] = []
    for one in examine(Workspace(load_settings())):
        found.append(one)
        if output is Output.table:
            typer.echo(f"{_MARKS[one.state]:5} {one.area:14} {one.sentence}")
    if output is not Output.table:
        print_rows("", ("area", "state", "sentence"), [(f.area, f.state, f.sentence) for f in found], output)
    errors = sum(one.state == "error" for one in found)
    if errors:
        raise OctoError(f"{errors} {'things have' if errors > 1 else 'thing has'} to be mended, see above.")
