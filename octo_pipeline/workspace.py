"""What every table needs to be made: lake, configuration and registry, in one object per run."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from octo_pipeline.lake.lake import Lake
from octo_pipeline.lake.root import lake_root
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.permissions import share_folder
from octo_pipeline.registry.encryption import NEW_KEY, KeyFile, Keys, KeySetting
from octo_pipeline.registry.store import Registry
from octo_pipeline.registry.stored_secrets import Secrets
from octo_pipeline.rules.allocator import Allocator, load_allocators
from octo_pipeline.rules.cost_group import CostGroup, load_cost_groups
from octo_pipeline.rules.documents import Problem
from octo_pipeline.rules.metrics import Metric, load_metrics
from octo_pipeline.rules.rates import Rate, load_rates
from octo_pipeline.settings import Settings


@dataclass(frozen=True)
class Configuration:
    """The documents of the configuration folder at the time they were read."""

    allocators: tuple[Allocator, ...]
    cost_groups: dict[str, CostGroup]
    rates: tuple[Rate, ...]
    metrics: dict[str, Metric]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Workspace:
    """The lake and everything that determines what is in it.

    Attributes:
        run_id: identifies the run in the metadata of the files that it writes.
    """

    settings: Settings
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))

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
        return Lake(root, memory_limit=self.settings.memory_limit, temp=self.settings.temp)

    @cached_property
    def registry(self) -> Registry:
        """The registry of the settings.

        Raises:
            OctoError: the settings do not say where it is.
        """
        return Registry(self.settings.registry_url, group=self.settings.group)

    @cached_property
    def secrets(self) -> Secrets:
        """The secrets of the registry's accounts.

        Raises:
            OctoError: the setting ``secret_key`` has no valid key, or is not set for a registry on a server.
        """
        keys: Keys
        if self.settings.secret_key is not None:
            keys = KeySetting(self.settings.secret_key.get_secret_value())
        elif self.registry.path is not None:
            keys = KeyFile(self.registry.path.with_name("registry.key"))
        else:
            raise OctoError(
                "Secrets in a registry on a server need a key in the settings, because other machines cannot read a key "
                f"file of this machine. This makes a key: {NEW_KEY}",
                code="secret-key-not-set",
                place="secret_key",
                remedy=Remedy("set", setting="secret_key", to="it"),
            )
        return Secrets(self.registry, keys)

    @cached_property
    def configuration(self) -> Configuration:
        """The allocators, cost groups, rates and metrics. They are read once, so that the whole run sees the same ones.

        Raises:
            OctoError: the folder is missing, or the exchange rates cannot be read. An invalid allocator, cost group or
                metric raises nothing; it is left out and listed in `Configuration.problems`.
        """
        folder = self.settings.config
        cost_groups, cost_group_problems = load_cost_groups(folder / "cost_groups")
        groups = {group.id: group for group in cost_groups}
        allocators, allocator_problems = load_allocators(folder / "allocators", groups)
        metrics, metric_problems = load_metrics(folder / "metrics")
        return Configuration(
            allocators,
            groups,
            load_rates(folder / "exchange_rates.csv", self.settings.base_currency),
            metrics,
            (*allocator_problems, *cost_group_problems, *metric_problems),
        )

    def registered_accounts(self, payers: Sequence[str]) -> list[tuple[str, str]]:
        """(payer, account) of the accounts that are registered under these payers."""
        return list(self.registry.accounts.payer_members(payers)) if payers else []
