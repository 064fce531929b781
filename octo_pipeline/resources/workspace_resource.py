"""The workspace of a run as a Dagster resource, and the lake, configuration and registry that it consists of.

The fields have the names of their settings and get their values from the environment when the definitions load; a run
cannot change them. Nothing is opened or read before a run uses it.
"""

from collections.abc import Mapping
from typing import Any, Self

import dagster as dg
from pydantic import Field

from octo_pipeline.model.errors import OctoError
from octo_pipeline.settings import Settings, load_settings
from octo_pipeline.workspace import Workspace


def _setting(name: str) -> Any:
    """A text that stands for a setting, with its default and description."""
    setting = Settings.model_fields[name]
    default = None if setting.default is None else str(setting.default)
    return Field(default=default, description=f"OCTO_{name.upper()}: {setting.description}")


class _SettingsResource(dg.ConfigurableResource[Any]):
    """A resource whose fields are settings."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The resource with what the environment sets, so that Dagster shows it."""
        names = cls.model_fields.keys() & settings.model_fields_set
        return cls(**{name: str(getattr(settings, name)) for name in names})

    def overrides(self) -> dict[str, str]:
        """The settings that differ from their defaults."""
        return self.model_dump(exclude_defaults=True)


class LakeResource(_SettingsResource):
    """Where the tables are, and what DuckDB may use to make them."""

    lake: str = _setting("lake")
    memory_limit: str | None = _setting("memory_limit")
    temp: str | None = _setting("temp")


class ConfigurationResource(_SettingsResource):
    """The folder of allocators, cost groups, exchange rates and sources, and the currency that usage is compared in."""

    config: str = _setting("config")
    base_currency: str = _setting("base_currency")


class RegistryResource(_SettingsResource):
    """The database of decisions, accounts and users. Its URL may hold a password, so Dagster only shows the variable."""

    database_url: str | None = _setting("database_url")

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The resource with the name of the variable in place of its value."""
        return cls(database_url=dg.EnvVar("OCTO_DATABASE_URL")) if settings.database_url else cls()


class WorkspaceResource(dg.ConfigurableResource[Workspace]):
    """Everything a run works with. One workspace per run, so that a run sees one configuration from start to end."""

    lake: LakeResource
    configuration: ConfigurationResource
    registry: RegistryResource

    def create_resource(self, context: dg.InitResourceContext) -> Workspace:
        """The workspace of the run, which carries the run's id. Nothing is opened before it is used.

        Raises:
            OctoError: the run's configuration sets a resource. Dagster would accept and ignore it, so the run would use
                another lake than the one it was started for.
        """
        run_config: Mapping[str, Any] = context.run.run_config if context.run else {}
        if run_config.get("resources", {}).keys() & type(self).model_fields.keys():
            raise OctoError(
                "A run cannot choose its lake, configuration or registry. Remove them from the run's configuration; "
                "OCTO_LAKE, OCTO_CONFIG and OCTO_DATABASE_URL of the code location set them for all runs.",
                code="run-chooses-workspace",
            )
        overrides = self.lake.overrides() | self.configuration.overrides() | self.registry.overrides()
        return Workspace(load_settings(**overrides), run_id=context.run.run_id if context.run else "adhoc")


def run_resources(settings: Settings) -> dict[str, Any]:
    """The resources of every run, by the names that assets, ops and sensors ask for."""
    lake, registry = LakeResource.of(settings), RegistryResource.of(settings)
    configuration = ConfigurationResource.of(settings)
    workspace = WorkspaceResource(lake=lake, configuration=configuration, registry=registry)
    return {"workspace": workspace, "lake": lake, "configuration": configuration, "registry": registry}
