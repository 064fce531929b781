"""What a vendor's registration works with: the settings, the registry's accounts and their secrets."""

from typing import Protocol

from octo_pipeline.registry.store import Registry
from octo_pipeline.registry.stored_secrets import Secrets
from octo_pipeline.settings import Settings


class Registrar(Protocol):
    """Where accounts and their secrets are recorded; a workspace is one."""

    @property
    def settings(self) -> Settings:
        """The settings of this installation."""
        ...

    @property
    def registry(self) -> Registry:
        """The registry."""
        ...

    @property
    def secrets(self) -> Secrets:
        """The secrets of its accounts."""
        ...
