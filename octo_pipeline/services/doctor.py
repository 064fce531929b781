"""Is everything there that a run needs, and what has to be fixed.

Each check looks at one thing and says one sentence; none stops the others. Nothing is changed.
"""

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.months import add_months, month_range
from octo_pipeline.model.vendors import VENDORS
from octo_pipeline.services.sources import sources
from octo_pipeline.tables.dbt import dbt_project
from octo_pipeline.tables.graph import stale
from octo_pipeline.workspace import Workspace

State = Literal["ok", "warning", "error"]

# A month's tables are some gigabytes at large companies; below this even small months fail.
_LEAST_BYTES = 2 * 1024**3
_PACKAGES = ("octo-pipeline", "dagster", "dagster-dbt", "dbt-core", "dbt-duckdb", "duckdb")


@dataclass(frozen=True)
class Finding:
    """What a check found; of anything but ok, the sentence says what to do."""

    area: str
    state: State
    sentence: str
    remedies: tuple[Remedy, ...] = ()


def examine(workspace: Workspace, now: datetime | None = None) -> Iterator[Finding]:
    """Check versions, configuration, lake, registry, sources and the months, in this order.

    Args:
        workspace: of the settings as they are.
        now: whose month is the current one; now if not given.
    """
    for area, check in _CHECKS.items():
        try:
            for state, sentence, *remedies in check(workspace, now or datetime.now(UTC)):
                yield Finding(area, state, sentence, tuple(remedies))
        except OctoError as error:
            yield Finding(area, "error", str(error), error.remedies)


# The state, the sentence, and what helps.
_Findings = Iterator[tuple[State, str, *tuple[Remedy, ...]]]


def _versions(workspace: Workspace, now: datetime) -> _Findings:
    found = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    yield "ok", f"Python {platform.python_version()}, {found}."
    yield "ok", f"The dbt manifest is in {dbt_project().manifest_folder}."


def _configuration(workspace: Workspace, now: datetime) -> _Findings:
    found = workspace.configuration
    for problem in found.problems:
        yield "error", f"{problem} It is left out until it is fixed."
    yield "ok", f"{len(found.allocators)} allocators, {len(found.cost_groups)} cost groups, {len(found.rates)} rates."
    if not found.allocators:
        yield "warning", "Without an allocator every cost stays where it was billed.", Remedy("allocators add", "FILE")


def _lake(workspace: Workspace, now: datetime) -> _Findings:
    lake = workspace.lake
    lake.check_writable()
    yield "ok", f"The lake {lake.root} can be written."
    for place in {lake.scratch, workspace.settings.temp or lake.scratch}:
        if place.exists() and (free := shutil.disk_usage(place).free) < _LEAST_BYTES:
            yield "warning", f"Only {free / 1024**3:.1f} GiB are free at {place}. Free some space."


def _registry(workspace: Workspace, now: datetime) -> _Findings:
    if not workspace.registry.exists():
        yield "ok", "There is no registry yet; the first decision or registration makes it."
        return
    decisions = len(workspace.registry.restored_items())
    yield "ok", f"The registry is of this version; {decisions} items are restored."


def _dagster(workspace: Workspace, now: datetime) -> _Findings:
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        yield "warning", "DAGSTER_HOME is not set: runs of the command line are not seen in the Dagster UI."
    elif not (Path(home) / "dagster.yaml").is_file():
        yield "warning", f"{home} has no dagster.yaml: copy the project's there, or runs of one month may overlap."
    else:
        yield "ok", f"Runs are kept in {home}."


def _sources(workspace: Workspace, now: datetime) -> _Findings:
    months = [add_months(f"{now:%Y-%m}", back) for back in (-1, 0)]
    none = True
    offering: dict[tuple[str, str], dict[str, None]] = {}
    for vendor in VENDORS:
        for source in sources(workspace, vendor):
            none = False
            try:
                found = {month: source.available(month) for month in months}
            except OctoError as error:
                yield "error", f"{source.name}: {error}", *error.remedies
                continue
            told = ", ".join(f"{len(exports)} for {month}" for month, exports in found.items())
            yield ("ok" if any(found.values()) else "warning"), f"{source.name} answers; exports: {told}."
            for export in (export for exports in found.values() for export in exports if export.account):
                offering.setdefault((vendor, str(export.account)), {})[source.name] = None
    for (vendor, account), names in offering.items():
        if len(names) > 1:
            yield (
                "warning",
                (
                    f"{vendor} {account} is exported by {' and by '.join(names)}: of each month the one that was landed "
                    "last counts. Take all but one away."
                ),
            )
    if none:
        yield (
            "warning",
            (
                f"No source is configured: write {workspace.settings.config / 'sources'}/<name>.json, or name a folder "
                "of exports."
            ),
            Remedy("set", setting="aws_exports", to="such a folder"),
        )


def _months(workspace: Workspace, now: datetime) -> _Findings:
    months = workspace.lake.months("cost_line_items")
    if not months:
        yield "warning", "The lake has no month yet.", Remedy("run", month="YYYY-MM")
        return
    yield "ok", f"{len(months)} months, {months[0]} … {months[-1]}."
    missing = [month for month in month_range(months[0], months[-1]) if month not in months]
    if missing:
        yield (
            "warning",
            f"{', '.join(missing[:12])} were never run.",
            Remedy("backfill", **{"from": missing[0], "to": missing[-1]}),
        )
    empty = [month for month in months if workspace.lake.rows("cost_line_items", month) == 0]
    if empty:
        yield (
            "warning",
            f"{', '.join(empty[:12])} have no line items. If that is wrong, look at the deliveries.",
            Remedy("deliveries list"),
        )
    if out_of_date := sorted({one.month for one in stale(workspace)}):
        yield "warning", f"{', '.join(out_of_date[:12])} are stale; run them again.", Remedy("stale", to="see why")


_CHECKS: dict[str, Callable[[Workspace, datetime], _Findings]] = {
    "versions": _versions,
    "configuration": _configuration,
    "lake": _lake,
    "registry": _registry,
    "dagster": _dagster,
    "sources": _sources,
    "months": _months,
}
