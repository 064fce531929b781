"""What the environment says: one validated object, read once by whoever starts the program.

Nothing else in the project reads environment variables of ours (``OCTO_*``).
"""

from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from octo_pipeline.allocation.months import is_month
from octo_pipeline.errors import OctoError


class Settings(BaseSettings):
    """The settings of one installation; every field is the environment variable ``OCTO_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="OCTO_", env_ignore_empty=True, frozen=True, extra="forbid")

    lake: Path = Field(default=Path("lake"), description="Root folder of the lake.")
    config: Path = Field(default=Path("allocator_configs"), description="Allocators, cost groups, rates.")
    database_url: str | None = Field(default=None, description="Registry; SQLite beside the lake if unset.")
    base_currency: str = Field(default="USD", description="Currency in which mixed usage is compared.")
    start_month: str = Field(default="2018-01", description="First monthly partition.")
    memory_limit: str | None = Field(default=None, description="DuckDB memory limit, such as 8GB.")
    temp: Path | None = Field(default=None, description="Folder where DuckDB spills.")
    watched_months: int = Field(
        default=2,
        ge=1,
        le=36,
        description="How many months, the current one included, the daily schedule and the sensors look after.",
    )
    alert_webhook: SecretStr | None = Field(
        default=None, description="Where failed runs and checks are posted; nothing is posted if unset."
    )
    alert_format: Literal["slack", "teams"] = Field(default="slack", description="What the webhook takes.")
    aws_exports: Path | None = Field(
        default=None,
        description="Folder laid out as the S3 bucket of the CUR; raw_cur lands what is new in it.",
    )

    @field_validator("start_month")
    @classmethod
    def _start_is_month(cls, value: str) -> str:
        if not is_month(value):
            raise ValueError("must be a month YYYY-MM")
        return value

    @field_validator("base_currency")
    @classmethod
    def _currency_is_code(cls, value: str) -> str:
        if len(value) != 3 or not value.isascii() or not value.isupper():
            raise ValueError("must be a three-letter currency code such as USD")
        return value

    @cached_property
    def registry_url(self) -> str:
        """The registry's database: the URL that is set, or SQLite in the lake's root."""
        return self.database_url or f"sqlite:///{self.lake.absolute() / 'registry.sqlite'}"


def load_settings() -> Settings:
    """Read the environment.

    Raises:
        OctoError: a variable has a value that is not allowed; the sentence names the variable.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "OCTO_" + "_".join(str(part) for part in first["loc"]).upper()
        raise OctoError(
            f"The environment variable {name} is wrong: {first['msg'].removeprefix('Value error, ')}."
        ) from None
