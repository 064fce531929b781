"""Checks what a run needs and says what to fix.

Each check looks at one thing. Some write something small, and remove it or take it back, because only that tells whether it
is possible; nothing stays, and no folder is made. A check that fails does not stop the others.
"""

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Literal

from octo_pipeline.engine.engine import Payload
from octo_pipeline.engine.worker import greet
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.months import month_range
from octo_pipeline.model.templates import render
from octo_pipeline.model.vendors import VENDORS
from octo_pipeline.model.wording import counted
from octo_pipeline.registry.records import Actor
from octo_pipeline.rules.rates import newest_rates
from octo_pipeline.services.access import needs_token
from octo_pipeline.services.backups import unfinished_restore
from octo_pipeline.services.months import watched_months
from octo_pipeline.services.periods import unaccepted_months, waiting_months
from octo_pipeline.services.sources import sources
from octo_pipeline.services.targets import unknown_targets
from octo_pipeline.tables.dbt import DbtProject
from octo_pipeline.tables.graph import stale
from octo_pipeline.tables.table import KEPT, require_as_closed
from octo_pipeline.workspace import Workspace

State = Literal["ok", "warning", "error"]

# The tables of a month take gigabytes at large companies. With less than this, even small months fail.
_LEAST_BYTES = 2 * 1024**3
# More than a lease or a token's time can be wrong by without harm.
_CLOCKS_APART = 60.0
# How many tasks ask for the engine's workers, and for how many seconds an answer is waited for.
_GREETINGS, _PATIENCE = 8, 120
# Variables of AWS's clients that send the requests of all of them elsewhere.
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_PACKAGES = ("octo-pipeline", "dagster", "dbt-core", "dbt-duckdb", "duckdb")


@dataclass(frozen=True)
class Finding:
    """The result of a check. Unless the state is ok, the sentence or the remedies say what to do."""

    area: str
    state: State
    sentence: str
    remedies: tuple[Remedy, ...] = ()


def examine(workspace: Workspace, now: datetime | None = None) -> Iterator[Finding]:
    """Check versions, configuration, lake, engine, registry, secrets, closed months, rates, sources and months, in this order.

    Args:
        workspace: the installation to check.
        now: the time that says which month is the current one; the clock's if left out.
    """
    if workspace.settings.group is not None and not _has_lake(workspace):
        # Opening the lake would make its folder to give it to the group.
        workspace = Workspace(workspace.settings.model_copy(update={"group": None}))
    for area, check in _CHECKS.items():
        try:
            for state, sentence, *remedies in check(workspace, now or datetime.now(UTC)):
                yield Finding(area, state, sentence, tuple(remedies))
        except OctoError as error:
            yield Finding(area, "error", str(error), error.remedies)


# State, sentence and remedies of each finding.
_Findings = Iterator[tuple[State, str, *tuple[Remedy, ...]]]


def _versions(workspace: Workspace, now: datetime) -> _Findings:
    versions = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    yield "ok", f"Python {platform.python_version()}, {versions}."
    folder = DbtProject().manifest_target
    if folder.is_dir():
        yield "ok", f"The dbt manifest is in {folder}."
    else:
        yield "ok", f"The dbt manifest is not built yet; the first run builds it in {folder}."


def _configuration(workspace: Workspace, now: datetime) -> _Findings:
    configuration = workspace.configuration
    for problem in configuration.problems:
        yield "error", f"{problem} It is left out until it is fixed."
    counts = (
        counted(len(configuration.allocators), "allocator"),
        counted(len(configuration.cost_groups), "cost group"),
        counted(len(configuration.rates), "exchange rate"),
        counted(len(configuration.cost_centres), "cost centre line"),
    )
    yield "ok", f"{', '.join(counts)}."
    for target in unknown_targets(workspace, configuration.allocators):
        yield "warning", f"{target} of {target.allocator_id} was never billed in any month and is not registered."
    folder = workspace.settings.config
    # As a ConfigMap of several folders is mounted, which has none.
    if flat := sorted(path.name for path in folder.glob("*.json")):
        yield (
            "error",
            f"{flat[0]} is in {folder} itself, where nothing is read. Rules belong in {folder / 'allocators'}, cost groups in "
            f"{folder / 'cost_groups'}, sources in {folder / 'sources'}.",
        )
    if not configuration.allocators:
        where = "" if (folder / "allocators").is_dir() else f"; {folder / 'allocators'} does not exist"
        yield (
            "warning",
            f"There is no allocator{where}, so every cost stays where it was billed.",
            Remedy("allocators add", "FILE"),
        )


def _lake(workspace: Workspace, now: datetime) -> _Findings:
    lake = workspace.lake
    if made_at := unfinished_restore(lake):
        yield (
            "error",
            f"The backup of {made_at} is being restored to this lake, or that was interrupted.",
            Remedy("backup restore", "FILE", to="restore the rest of it"),
        )
    elsewhere = next((name for name in _ENDPOINTS if os.environ.get(name)), None)
    if not isinstance(lake.root, Path) and elsewhere and workspace.settings.lake_endpoint is None:
        yield (
            "warning",
            f"{elsewhere} is set for the lake, so requests for AWS's bills go there too, with its keys.",
            Remedy("set", setting="lake_endpoint", to="that address instead"),
        )
    lake.check_writable()
    if isinstance(lake.root, Path):
        exists = lake.root.is_dir()
        yield "ok", f"The lake {lake.root} can be {'written' if exists else 'made; the first run makes it'}."
    else:
        yield "ok", f"The lake {lake.root} can be written, and its store keeps to conditions."
    for folder in {lake.scratch, workspace.settings.temp or lake.scratch}:
        if folder.exists() and (free := shutil.disk_usage(folder).free) < _LEAST_BYTES:
            yield "warning", f"Only {free / 1024**3:.1f} GiB are free in {folder}. Free some space."


def _engine(workspace: Workspace, now: datetime) -> _Findings:
    settings = workspace.settings
    if settings.engine == "local":
        return
    answers: Queue[list[Payload] | Exception] = Queue()

    def ask() -> None:
        try:
            answers.put(workspace.engine.map(greet, [{}] * _GREETINGS))
        except Exception as error:
            answers.put(error)

    # A cluster without workers queues tasks and says nothing; no other thread can end this one, so it must not be waited for.
    Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=_PATIENCE)
    except Empty:
        yield (
            "error",
            f"The engine was given {_GREETINGS} small tasks and ran none in {_PATIENCE} seconds. Look at the cluster's pages "
            "whether it has workers that are free.",
        )
        return
    if isinstance(answer, OctoError):
        raise answer
    if isinstance(answer, Exception):
        yield "error", f"The engine cannot run tasks ({type(answer).__name__}: {answer})."
        return
    hosts = sorted({str(greeting["host"]) for greeting in answer})
    yield "ok", f"The engine runs tasks with this version on {', '.join(hosts)}."
    if settings.task_memory_limit is None:
        yield (
            "warning",
            "Nothing limits DuckDB's memory in the engine's tasks, so each takes most of its machine's.",
            Remedy("set", setting="memory_limit", to="what one task may have"),
        )


def _registry(workspace: Workspace, now: datetime) -> _Findings:
    registry = workspace.registry
    is_on_server = registry.path is None
    if not is_on_server and not isinstance(workspace.lake.root, Path):
        yield (
            "warning",
            f"The lake is in a bucket and the registry is the file {registry.path} of this machine: other machines that make "
            "months of this lake do not see the decisions.",
            Remedy("set", setting="database_url", to="a PostgreSQL server if there are any"),
        )
    if not registry.exists():
        yield "ok", "There is no registry yet; the first decision or registration creates it."
        return
    if is_on_server:
        registry.check_writable(Actor("octo doctor"))
        yield from _clock(registry.server_time())
    restored = len(registry.restored_items())
    yield (
        "ok",
        f"The registry has this program's version; {counted(restored, 'item')} {'is' if restored == 1 else 'are'} restored.",
    )
    if needs_token(workspace) and not registry.users.all():
        yield (
            "warning",
            "The registry has no users, so nobody can change anything.",
            Remedy("registry init", admin="NAME", to="make the first administrator"),
        )


def _clock(server_time: datetime | None) -> _Findings:
    if server_time is not None and (seconds := abs((datetime.now(UTC) - server_time).total_seconds())) > _CLOCKS_APART:
        yield (
            "warning",
            f"The clock of this machine and that of the registry's server are {seconds:,.0f} seconds apart. Set both by the "
            "network's time.",
        )


def _secrets(workspace: Workspace, now: datetime) -> _Findings:
    if not workspace.registry.exists():
        return
    if unreadable := workspace.secrets.without_key():
        yield (
            "error",
            f"{counted(len(unreadable), 'stored secret')}, such as {unreadable[0]}, cannot be read: the key is another one than "
            "when they were stored.",
            Remedy("set", setting="secret_key", to="the key of that time, and after a comma the one of now"),
        )
    else:
        yield "ok", "The stored secrets can be read."


def _registration(workspace: Workspace, now: datetime) -> _Findings:
    """What people who register accounts from another machine than the one that runs cannot set themselves."""
    if workspace.registry.path is not None:
        return
    settings = workspace.settings
    if settings.aws_principal is None:
        remedy = Remedy("set", setting="aws_principal", to="the ARN of the role that reads bills")
        yield "warning", "AWS accounts cannot be registered.", remedy
    if settings.gcp_service_account is None:
        remedy = Remedy("set", setting="gcp_service_account", to="the service account that reads bills")
        yield "warning", "Google Cloud billing accounts cannot be registered.", remedy


def _periods(workspace: Workspace, now: datetime) -> _Findings:
    for month in workspace.closed_months:
        for table in sorted(KEPT):
            require_as_closed(workspace, table, month)
    newest = workspace.closed_months[-1] if workspace.closed_months else None
    yield "ok", f"Months up to {newest} are closed." if newest else "No month is closed."
    for month in waiting_months(workspace):
        yield "warning", f"{month} differs from what was closed; the lake has no later month yet to correct it in."
    for month in unaccepted_months(workspace):
        yield (
            "warning",
            f"Only another version of the program computes {month} otherwise than it was closed.",
            Remedy("periods drift", month, to="look at it"),
            Remedy("periods accept", month, to="book it"),
        )


def _rates(workspace: Workspace, now: datetime) -> _Findings:
    made = workspace.lake.months(LINE_ITEMS)
    watched = watched_months(workspace.settings, now)
    # What is billed in a month that is not made yet is what the newest month is billed in.
    looked_at = [month for month in made if month in watched] or made[-1:]
    line_items = workspace.lake.scan(LINE_ITEMS, looked_at, LINE_ITEM_COLUMNS)
    with workspace.lake.connect() as connection:
        billed = connection.execute(render("services/billed_currencies", line_items=line_items)).fetchall()
    currencies = [currency for (currency,) in billed if currency != workspace.settings.base_currency]
    needed = "needed where the accounts of one allocator are billed in several currencies"
    missing = False
    for currency in currencies:
        for month in watched:
            rate = newest_rates(workspace.configuration.rates, month).get(currency)
            if rate is None:
                yield "warning", f"exchange_rates.csv has no rate of {currency} in {month} or earlier; it is {needed}."
            elif rate.month != month:
                yield (
                    "warning",
                    f"exchange_rates.csv has no rate of {currency} in {month}; that of {rate.month} is used.",
                )
            missing = missing or rate is None or rate.month != month
    if not missing:
        names = (
            f"{' and '.join(currencies)} {'has' if len(currencies) == 1 else 'have'} rates"
            if currencies
            else "No rate is needed"
        )
        yield "ok", f"{names} for {' and '.join(watched[-2:])}."


def _has_lake(workspace: Workspace) -> bool:
    return "://" in workspace.settings.lake or Path(workspace.settings.lake).is_dir()


def _dagster(workspace: Workspace, now: datetime) -> _Findings:
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        yield "warning", "DAGSTER_HOME is not set, so the Dagster UI does not show runs of the command line."
        return
    file = Path(home) / "dagster.yaml"
    if not file.is_file():
        yield "warning", f"{home} has no dagster.yaml, so runs of one month may overlap. Copy the project's file there."
        return
    import yaml  # type: ignore[import-untyped,unused-ignore]

    instance = yaml.safe_load(file.read_text()) or {}
    logs = instance.get("compute_logs", {}).get("config", {}).get("base_dir", home)
    unwritable = [str(folder) for folder in dict.fromkeys((home, logs)) if not _is_writable(Path(str(folder)))]
    if unwritable:
        yield (
            "error",
            f"{' and '.join(unwritable)} cannot be written by this user, so Dagster keeps no logs of its runs. Give it the "
            "right to write there.",
        )
    if not instance.get("run_retries", {}).get("enabled"):
        yield "warning", f"{file} has no run_retries, so a run whose process was killed is not started again."
    limits = instance.get("concurrency", {}).get("runs", {}).get("tag_concurrency_limits", [])
    if not any(limit.get("key") == "dagster/partition" for limit in limits):
        yield "warning", f"{file} has no limit of dagster/partition, so two runs make one month at the same time."
    if not unwritable:
        yield "ok", f"Runs are recorded in {home}."


def _is_writable(folder: Path) -> bool:
    """Whether a folder can be written, or made by the first that needs it."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return os.access(there, os.W_OK | os.X_OK)


def _sources(workspace: Workspace, now: datetime) -> _Findings:
    months = watched_months(workspace.settings, now)
    has_sources = False
    exporters: dict[tuple[str, str], dict[str, None]] = {}
    for vendor in VENDORS:
        for source in sources(workspace, vendor):
            has_sources = True
            try:
                exports_by_month = {month: source.available(month) for month in months}
            except OctoError as error:
                yield "error", f"{source.name}: {error}", *error.remedies
                continue
            counts = ", ".join(f"{len(exports)} for {month}" for month, exports in exports_by_month.items())
            yield ("ok" if any(exports_by_month.values()) else "warning"), f"{source.name} answers; exports: {counts}."
            for export in (export for exports in exports_by_month.values() for export in exports if export.account):
                exporters.setdefault((vendor, str(export.account)), {})[source.name] = None
    for (vendor, account), names in exporters.items():
        if len(names) > 1:
            yield (
                "warning",
                (
                    f"{vendor} {account} is exported by {' and by '.join(names)}. For each month, the export that was "
                    "landed last counts. Remove all but one of them."
                ),
            )
    if not has_sources:
        yield (
            "warning",
            (
                f"No source is configured. Write {workspace.settings.config / 'sources'}/<name>.json, or name a folder "
                "of exports."
            ),
            Remedy("set", setting="aws_exports", to="such a folder"),
        )


def _months(workspace: Workspace, now: datetime) -> _Findings:
    months = workspace.lake.months("cost_line_items")
    if not months:
        yield "warning", "The lake has no month yet.", Remedy("run", month="YYYY-MM")
        return
    yield "ok", f"{counted(len(months), 'month')}, {months[0]} … {months[-1]}."
    missing = [month for month in month_range(months[0], months[-1]) if month not in months]
    if missing:
        yield (
            "warning",
            f"{', '.join(missing[:12])} {'was' if len(missing) == 1 else 'were'} never run.",
            Remedy("backfill", **{"from": missing[0], "to": missing[-1]}),
        )
    empty = [month for month in months if workspace.lake.rows("cost_line_items", month) == 0]
    if empty:
        yield (
            "warning",
            f"{', '.join(empty[:12])} {'has' if len(empty) == 1 else 'have'} no line items. If that is wrong, look at the "
            "deliveries.",
            Remedy("deliveries list"),
        )
    if out_of_date := sorted({partition.month for partition in stale(workspace)}):
        sentence = "is stale; run it again" if len(out_of_date) == 1 else "are stale; run them again"
        yield "warning", f"{', '.join(out_of_date[:12])} {sentence}.", Remedy("stale", to="see why")


_CHECKS: dict[str, Callable[[Workspace, datetime], _Findings]] = {
    "versions": _versions,
    "configuration": _configuration,
    "lake": _lake,
    "engine": _engine,
    "registry": _registry,
    "secrets": _secrets,
    "registration": _registration,
    "periods": _periods,
    "rates": _rates,
    "dagster": _dagster,
    "sources": _sources,
    "months": _months,
}
