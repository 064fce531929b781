"""What every table needs to be made: lake, configuration and registry, in one object per run."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from octo_pipeline.engine import worker
from octo_pipeline.engine.engine import Engine, engine_of
from octo_pipeline.engine.local import LocalEngine
from octo_pipeline.lake.lake import Lake
from octo_pipeline.lake.root import lake_root
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.permissions import share_folder
from octo_pipeline.registry.encryption import NEW_KEY, KeyFile, Keys, KeySetting
from octo_pipeline.registry.periods import Period
from octo_pipeline.registry.store import Registry
from octo_pipeline.registry.stored_secrets import Secrets
from octo_pipeline.rules.allocator import Allocator, load_allocators
from octo_pipeline.rules.cost_centres import FILE as COST_CENTRES
from octo_pipeline.rules.cost_centres import CostCentres, load_cost_centres
from octo_pipeline.rules.cost_group import CostGroup, load_cost_groups
from octo_pipeline.rules.documents import DocumentError, Problem
from octo_pipeline.rules.frozen import FrozenRules, read_frozen_rules
from octo_pipeline.rules.metrics import Metric, load_metrics
from octo_pipeline.rules.rates import Rate, load_rates
from octo_pipeline.settings import Settings

# Where closings are kept, and the file of one that is there when all others are.
CLOSINGS, CLOSING_FILE = "closings", "closing.json"


@dataclass(frozen=True)
class Configuration:
    """The documents of the configuration folder at the time they were read, or those that a closing kept.

    Attributes:
        closed_month: the month whose closing kept them; None for the documents of the folder.
        registered_accounts: (payer, account) at the closing; None for the documents of the folder.
    """

    allocators: tuple[Allocator, ...]
    cost_groups: Mapping[str, CostGroup]
    rates: tuple[Rate, ...]
    metrics: Mapping[str, Metric]
    problems: tuple[Problem, ...]
    base_currency: str
    cost_centres: CostCentres
    closed_month: str | None = None
    registered_accounts: tuple[tuple[str, str], ...] | None = None


@dataclass(frozen=True)
class Closing:
    """What was kept when a month was closed.

    Attributes:
        folder: the names of its folder below the lake's root.
        rules: what computes the month while it is closed.
        state: what the month was computed from (`octo_pipeline.tables.known.state_of`).
        fingerprints: of its result tables.
    """

    month: str
    folder: tuple[str, ...]
    rules: FrozenRules
    state: dict[str, Any]
    fingerprints: dict[str, str]


@dataclass(frozen=True)
class Overlay:
    """Tables with partitions of their own that no other workspace sees; see `Lake.overlay`.

    Attributes:
        has_rules_of_today: closed months are computed with the configuration folder instead of what their closings kept.
    """

    name: str
    tables: frozenset[str]
    has_rules_of_today: bool = False


@dataclass(frozen=True)
class Workspace:
    """The lake and everything that determines what is in it.

    Attributes:
        settings: with the folder of the configuration that links lead to now.
        run_id: identifies the run in the metadata of the files that it writes.
        overlay: the tables that are made aside: a closed month as it would be now.
        own_engine: makes the tasks of every month, whatever its size, instead of the engine of the settings.
    """

    settings: Settings
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    overlay: Overlay | None = None
    own_engine: Engine | None = None

    def engine_for(self, lines: int) -> Engine:
        """What runs the tasks of a month with so many lines: small months are made in this process.

        Raises:
            OctoError: the engine of the settings cannot be had.
        """
        if self.own_engine is not None:
            return self.own_engine
        return self.engine if lines >= self.settings.distribute_from else LocalEngine()

    @cached_property
    def engine(self) -> Engine:
        """What runs tasks whatever their size: the workspace's own engine, or that of the settings.

        Raises:
            OctoError: it cannot be had.
        """
        return self.own_engine or engine_of(self.settings)

    def __post_init__(self) -> None:
        """Stay with one version of the configuration, where a link leads to it that git-sync exchanges."""
        folder = self.settings.config
        if (version := folder.resolve()) != folder.absolute():
            object.__setattr__(self, "settings", self.settings.model_copy(update={"config": version}))

    @cached_property
    def lake(self) -> Lake:
        """The lake of the settings; a group of the settings is given its root.

        Raises:
            OctoError: there is no such lake, or no such group.
        """
        root = lake_root(
            self.settings.lake,
            self.settings.temp,
            endpoint=self.settings.lake_endpoint,
            keys=self.settings.lake_keys,
        )
        if self.settings.group is not None and isinstance(root, Path):
            share_folder(root, self.settings.group)
        lake = Lake(root, memory_limit=self.settings.memory_limit, temp=self.settings.temp, threads=worker.threads)
        return lake.overlay(self.overlay.name, self.overlay.tables) if self.overlay else lake

    @cached_property
    def registry(self) -> Registry:
        """The registry of the settings.

        Raises:
            OctoError: the settings do not say where it is.
        """
        return Registry(self.settings.registry_url, group=self.settings.group)

    @cached_property
    def keys(self) -> Keys:
        """The keys that the registry's secrets are encrypted with.

        Raises:
            OctoError: the setting ``secret_key`` has no valid key, or is not set for a registry on a server.
        """
        if self.settings.secret_key is not None:
            return KeySetting(self.settings.secret_key.get_secret_value())
        if self.registry.path is not None:
            return KeyFile(self.registry.path.with_name("registry.key"))
        raise OctoError(
            "Secrets in a registry on a server need a key in the settings, because other machines cannot read a key "
            f"file of this machine. This makes a key: {NEW_KEY}",
            code="secret-key-not-set",
            place="secret_key",
            remedy=Remedy("set", setting="secret_key", to="it"),
        )

    @cached_property
    def secrets(self) -> Secrets:
        """The secrets of the registry's accounts.

        Raises:
            OctoError: as `keys`.
        """
        return Secrets(self.registry, self.keys)

    @cached_property
    def configuration(self) -> Configuration:
        """The documents of the folder. They are read once, so that the whole run sees the same ones.

        Raises:
            OctoError: the folder is missing, or the exchange rates cannot be read. An invalid allocator, cost group or
                metric raises nothing, nor do invalid cost centres; they are left out and listed in
                `Configuration.problems`.
        """
        folder = self.settings.config
        cost_groups, cost_group_problems = load_cost_groups(folder / "cost_groups")
        groups = {group.id: group for group in cost_groups}
        allocators, allocator_problems = load_allocators(folder / "allocators", groups)
        metrics, metric_problems = load_metrics(folder / "metrics")
        cost_centres, cost_centre_problems = CostCentres(), tuple[Problem, ...]()
        try:
            cost_centres = load_cost_centres(folder / COST_CENTRES)
        except DocumentError as error:
            # Nothing is distributed by them, so a mistake in them stops no month.
            cost_centre_problems = error.problems
        return Configuration(
            allocators,
            groups,
            load_rates(folder / "exchange_rates.csv", self.settings.base_currency),
            metrics,
            (*allocator_problems, *cost_group_problems, *metric_problems, *cost_centre_problems),
            self.settings.base_currency,
            cost_centres,
        )

    def configuration_of(self, month: str) -> Configuration:
        """The configuration that a month is computed with: of its items the allocators, and all else that it books.

        Months close in order. So a month that is closed, or earlier than a closed one, has the rules of the first closing
        that is not before it.

        Raises:
            OctoError: as `configuration`, or the lake lacks a closing.
        """
        closed = next((m for m in self.closed_months if m >= month), None)
        if closed is None or (self.overlay and self.overlay.has_rules_of_today):
            return self.configuration
        rules = self.closing(closed).rules
        return replace(
            self.configuration,
            allocators=rules.allocators,
            cost_groups=rules.cost_groups,
            rates=rules.rates,
            metrics=rules.metrics,
            base_currency=rules.base_currency,
            # Nothing was posted by a closing without any, so those of today are of more use.
            cost_centres=rules.cost_centres if len(rules.cost_centres) else self.configuration.cost_centres,
            closed_month=closed,
            registered_accounts=rules.registered_accounts,
        )

    @cached_property
    def periods(self) -> dict[str, Period]:
        """The months that were ever closed, in order. Read once, so that the whole run sees the same.

        Without a place for a registry none was: closing needs one, and so does whatever writes results.
        """
        return self.registry.periods.all() if self.settings.has_registry else {}

    @cached_property
    def closed_months(self) -> tuple[str, ...]:
        """The closed months, in order."""
        return tuple(month for month, period in self.periods.items() if period.is_closed)

    def is_closed(self, month: str) -> bool:
        """Whether the results of a month stay as they are. In an overlay they are made aside instead."""
        return month in self.closed_months and self.overlay is None

    def closing(self, month: str) -> Closing:
        """What was kept of a closed month.

        Raises:
            OctoError: the month is not closed, or the lake lacks its closing.
        """
        event = self.periods[month].closing if month in self.periods else None
        if event is None:
            raise OctoError(f"{month} is not closed.", code="month-not-closed", place=month)
        if month not in self._closings:
            folder = (CLOSINGS, f"month={month}", event.closing)
            text = self.lake.read_text(*folder, CLOSING_FILE)
            if text is None:
                raise OctoError(
                    f"{event.actor} closed {month} on {event.at:%Y-%m-%d}, and the lake {self.settings.lake} lacks what was "
                    f"kept then ({'/'.join(folder)}). Restore it from the same backup as the registry.",
                    code="closing-missing",
                    place=month,
                )
            values = json.loads(text)
            rules = read_frozen_rules(values["rules"])
            self._closings[month] = Closing(month, folder, rules, values["state"], values["fingerprints"])
        return self._closings[month]

    @cached_property
    def _closings(self) -> dict[str, Closing]:
        return {}

    def registered_accounts(self, payers: Sequence[str], month: str) -> list[tuple[str, str]]:
        """(payer, account) of the accounts that are registered under these payers, or were when the month was closed."""
        if not payers:
            return []
        kept = self.configuration_of(month).registered_accounts
        if kept is None:
            return list(self.registry.accounts.payer_members(payers))
        return [account for account in kept if account[0] in payers]
