"""The environment as one validated object, read once when the program starts.

Nothing else in the project reads the ``OCTO_*`` variables or looks for the user's cache.
"""

import json
import os
import re
from functools import cached_property
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, create_model, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from octo_pipeline.model.currency import is_currency
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.months import is_month
from octo_pipeline.model.s3_url import split_url
from octo_pipeline.model.vendors import VENDORS

# How the names of the variables with secrets of sources begin. They are no settings: documents name them.
SECRET_PREFIX = "OCTO_SOURCE_"  # noqa: S105 - the beginning of a name

if TYPE_CHECKING:
    _VendorSettings = BaseSettings
else:
    # A folder of exports for each vendor: OCTO_AWS_EXPORTS and so on.
    _VendorSettings = create_model(
        "_VendorSettings",
        __base__=BaseSettings,
        **{
            f"{vendor.name}_exports": (
                Path | None,
                Field(default=None, description=f"{vendor.exports}; new exports in it are landed."),
            )
            for vendor in VENDORS.values()
            if vendor.exports
        },
    )


class Settings(_VendorSettings):
    """The settings of one installation. Each field is the environment variable ``OCTO_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="OCTO_", env_ignore_empty=True, frozen=True, extra="forbid")

    lake: str = Field(default="lake", description="Root of the lake: a folder, or s3://bucket/prefix.")
    lake_endpoint: str | None = Field(
        default=None,
        description="Address of the store of the lake's bucket, if that is not AWS; requests for bills do not go there.",
    )
    lake_access_key: str | None = Field(
        default=None, description="Access key for the lake's bucket; what boto3 finds, as for AWS's bills, if unset."
    )
    lake_secret_key: SecretStr | None = Field(
        default=None, validate_default=True, description="The secret key that belongs to it."
    )
    config: Path = Field(default=Path("allocator_configs"), description="Allocators, cost groups, rates.")
    database_url: str | None = Field(default=None, description="Registry; SQLite in the lake's folder if unset.")
    base_currency: str = Field(default="USD", description="Currency in which mixed usage is compared.")
    start_month: str = Field(default="2018-01", description="First monthly partition.")
    memory_limit: str | None = Field(default=None, description="DuckDB memory limit, such as 8GB.")
    temp: Path | None = Field(default=None, description="Folder where DuckDB spills and files for a bucket are made.")
    engine: str = Field(
        default="local",
        description="Where large months are made: local, spark://host:7077, k8s://https://host:443, sc://host:15002, or spark "
        "for the cluster that this program was submitted to.",
    )
    engine_options: str = Field(
        default="",
        description='Spark\'s settings as a JSON object, such as {"spark.executor.memoryOverhead": "13g"}; no secrets.',
    )
    distribute_from: int = Field(
        default=200_000_000,
        ge=0,
        description="How many lines a month has at least to be made there, for deliveries roughly by the size of their files; a "
        "smaller one is made in one process.",
    )
    watched_months: int = Field(
        default=2,
        ge=1,
        le=36,
        description="How many months the daily schedule and the sensors watch, including the current one.",
    )
    alert_webhook: SecretStr | None = Field(
        default=None, description="Where failed runs and checks are posted; nothing is posted if unset."
    )
    alert_format: Literal["slack", "teams"] = Field(default="slack", description="The format that the webhook accepts.")
    log_format: Literal["text", "json"] = Field(
        default="text",
        description="How the console and the API log: sentences, or a JSON object a line, with one for each request.",
    )
    smtp_host: str | None = Field(
        default=None, description="Mail server that statements are sent by; nothing is sent if unset."
    )
    smtp_port: int = Field(default=587, ge=1, le=65535, description="Its port.")
    smtp_security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="How the connection to it is encrypted; none only on this machine."
    )
    smtp_user: str | None = Field(default=None, description="Who signs in to it; nobody does if unset.")
    smtp_password: SecretStr | None = Field(default=None, description="The password of that user.")
    smtp_from: str | None = Field(default=None, description="Address that statements are sent from.")
    token: SecretStr | None = Field(
        default=None, description="Token of the person who acts; the user of this machine if unset."
    )
    require_token: bool = Field(
        default=False,
        description="Whether only holders of tokens may change anything, and the user of this machine does not count; "
        "always so if the registry is on a server.",
    )
    public_url: str | None = Field(
        default=None, description="Address of the console for browsers, if a proxy with TLS stands before it."
    )
    four_eyes: bool = Field(
        default=False,
        description="Whether a month is closed, reopened and finalised by two people: one proposes it, another confirms it.",
    )
    trusted_proxies: str = Field(
        default="",
        description="Addresses or networks, with commas, of the proxies whose X-Forwarded-For says who asks `octo serve`; "
        "nobody is believed if unset.",
    )
    oidc_issuer: str | None = Field(
        default=None, description="Provider of OpenID Connect that people sign in to the console by; none if unset."
    )
    oidc_client_id: str | None = Field(default=None, description="What the provider calls this installation.")
    oidc_client_secret: SecretStr | None = Field(
        default=None, description="Its secret at the provider; a client without one is told apart by PKCE alone."
    )
    oidc_groups_claim: str = Field(
        default="groups", description="The claim of the ID token that has a person's groups."
    )
    oidc_roles: str = Field(
        default="",
        validate_default=True,
        description="Which group has which role, such as finance=editor,platform=admin; the highest one counts.",
    )
    group: str | None = Field(
        default=None,
        description="Group of this machine that may read the tables and the registry, which only their owner may if unset.",
    )
    secret_key: SecretStr | None = Field(
        default=None,
        description="Keys of stored secrets, of which the first encrypts; a file beside the registry if unset.",
    )
    allowed_hosts: str = Field(
        default="",
        description="Hosts that documents of sources may name besides those of the vendors' clouds, with commas; also "
        "those of private endpoints.",
    )
    aws_principal: str | None = Field(
        default=None, description="ARN that assumes the roles of registered AWS accounts; named in their trust policy."
    )
    aws_template_url: str | None = Field(
        default=None, description="HTTPS folder in S3 that has this installation's CloudFormation templates."
    )
    azure_redirect_uri: str = Field(
        default="http://localhost:8400",
        description="Address that the browser ends at after a partner's sign-in; registered with its application.",
    )
    dagster_url: str | None = Field(
        default=None,
        description="Address of Dagster's webserver, by which the API and the console run months; if unset, they do so "
        "themselves.",
    )
    gcp_service_account: str | None = Field(
        default=None, description="Service account that reads BigQuery; named when an account is registered."
    )

    @field_validator("lake", mode="before")
    @classmethod
    def _lake_is_folder_or_bucket(cls, value: object) -> str:
        text = str(value)
        if "://" in text:
            split_url(text)
        if not text:
            raise ValueError("must be a folder or s3://bucket/prefix")
        return text

    @field_validator("memory_limit")
    @classmethod
    def _memory_limit_has_unit(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"\d+(\.\d+)?\s*[KMGT](i?B)?", value.strip(), re.IGNORECASE):
            raise ValueError("must be a number with a unit, such as 8GB")
        return value

    @field_validator("engine")
    @classmethod
    def _engine_is_known(cls, value: str) -> str:
        kind, _, address = value.partition("://")
        if value not in ("local", "spark") and (kind not in ("spark", "k8s", "sc") or not address):
            raise ValueError(
                "must be local, spark, or an address such as spark://host:7077, k8s://https://host:443 or sc://host:15002"
            )
        return value

    @field_validator("engine_options")
    @classmethod
    def _options_are_of_spark(cls, value: str) -> str:
        try:
            options = json.loads(value) if value.strip() else {}
        except ValueError:
            options = None
        if not isinstance(options, dict) or not all(isinstance(v, str | int | float) for v in options.values()):
            raise ValueError('must be a JSON object of texts and numbers, such as {"spark.executor.memory": "1g"}')
        if others := [name for name in options if not name.startswith("spark.")]:
            raise ValueError(f"{others[0]} does not begin with 'spark.' as Spark's settings do")
        return value

    @field_validator("dagster_url")
    @classmethod
    def _dagster_is_address(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
                raise ValueError("must be the address of a server, such as https://dagster.example.com")
        return value

    @field_validator("lake_endpoint", "public_url")
    @classmethod
    def _is_address_of_server(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError("must be the address of a server, such as https://store.example.com:9000")
        return value.rstrip("/")

    @field_validator("lake_secret_key")
    @classmethod
    def _keys_are_a_pair(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if (value is None) != (info.data.get("lake_access_key") is None):
            raise ValueError("must be set together with the access key, or not at all")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_networks(cls, value: str) -> str:
        for text in filter(None, (part.strip() for part in value.split(","))):
            try:
                ip_network(text)
            except ValueError:
                raise ValueError(f"{text} is not an address or network such as 10.0.0.5 or 10.1.0.0/16") from None
        return value

    @field_validator("oidc_issuer")
    @classmethod
    def _issuer_is_address(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            is_local = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")
            if not (parts.scheme == "https" or is_local) or not parts.hostname or parts.query or parts.fragment:
                raise ValueError(
                    "must be the https address of a provider, such as https://login.example.com/realms/octo"
                )
        return value

    @field_validator("oidc_roles")
    @classmethod
    def _roles_are_pairs(cls, value: str, info: ValidationInfo) -> str:
        pairs = [pair.rpartition("=") for pair in value.split(",") if pair.strip()]
        if any(not group.strip() or role.strip() not in ("viewer", "editor", "admin") for group, _, role in pairs):
            raise ValueError("must be groups with viewer, editor or admin, such as finance=editor,platform=admin")
        if info.data.get("oidc_issuer") and not (pairs and info.data.get("oidc_client_id")):
            raise ValueError("must be set together with the provider and the client's id")
        return value

    @field_validator("start_month")
    @classmethod
    def _start_is_month(cls, value: str) -> str:
        if not is_month(value):
            raise ValueError("must be a month YYYY-MM")
        return value

    @field_validator("base_currency")
    @classmethod
    def _currency_is_code(cls, value: str) -> str:
        if not is_currency(value):
            raise ValueError("must be a three-letter currency code such as USD")
        return value

    @property
    def allowed_host_names(self) -> tuple[str, ...]:
        """The hosts of `allowed_hosts`, in lower case."""
        return tuple(name.strip().lower() for name in self.allowed_hosts.split(",") if name.strip())

    @property
    def roles_of_groups(self) -> "dict[str, Literal['viewer', 'editor', 'admin']]":
        """The groups of `oidc_roles` and their roles."""
        pairs = (pair.rpartition("=") for pair in self.oidc_roles.split(",") if pair.strip())
        return {group.strip(): cast("Literal['viewer', 'editor', 'admin']", role.strip()) for group, _, role in pairs}

    @property
    def spark_options(self) -> dict[str, str]:
        """The settings of `engine_options` as Spark takes them."""
        options = json.loads(self.engine_options) if self.engine_options.strip() else {}
        return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in options.items()}

    @property
    def task_memory_limit(self) -> str | None:
        """What limits DuckDB's memory in the engine's tasks, as far as these settings say."""
        return self.spark_options.get("spark.executorEnv.OCTO_MEMORY_LIMIT", self.memory_limit)

    def for_tasks(self) -> dict[str, str | None]:
        """What a task in another process needs to open the lake, as JSON. No secret is in it.

        A folder has its whole path, because other processes work elsewhere.
        """
        return {
            "lake": self.lake if "://" in self.lake else str(Path(self.lake).absolute()),
            "lake_endpoint": self.lake_endpoint,
            "memory_limit": self.memory_limit,
            "temp": None if self.temp is None else str(self.temp.absolute()),
        }

    @property
    def lake_keys(self) -> tuple[str, str] | None:
        """The access key and the secret key of the lake's bucket; None if boto3 is to find them."""
        if self.lake_access_key is None or self.lake_secret_key is None:
            return None
        return self.lake_access_key, self.lake_secret_key.get_secret_value()

    def exports(self, vendor: str) -> Path | None:
        """The folder of a vendor's exports; None if none is set."""
        return cast("Path | None", getattr(self, f"{vendor}_exports", None))

    @property
    def has_registry(self) -> bool:
        """Whether these settings say where the registry is; see `registry_url`."""
        return bool(self.database_url) or "://" not in self.lake

    @cached_property
    def registry_url(self) -> str:
        """The registry's database: the URL that is set, or SQLite in the lake's folder.

        Raises:
            OctoError: no URL is set and the lake is not a folder. There is no default then, because another machine that
                uses the same lake would not see the decisions in a file of this machine.
        """
        if self.database_url:
            return self.database_url
        if "://" in self.lake:
            raise OctoError(
                f"The lake {self.lake} is in a bucket, which cannot hold the registry of decisions and accounts.",
                code="registry-place-not-set",
                place="database_url",
                remedy=Remedy(
                    "set",
                    setting="database_url",
                    to="postgresql://user:password@host/database if several machines use this lake, or to "
                    "sqlite:////folder/registry.sqlite if one does",
                ),
            )
        return f"sqlite:///{Path(self.lake).absolute() / 'registry.sqlite'}"


def cache_folder() -> Path:
    """The folder of this program in the user's cache, which ``XDG_CACHE_HOME`` moves."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "octo-pipeline"


def load_settings(**overrides: Any) -> Settings:
    """Read the environment.

    Args:
        overrides: settings that replace those of the environment.

    Raises:
        OctoError: a variable has a value that is not allowed; the message names the variable.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        name = "OCTO_" + "_".join(str(part) for part in first["loc"]).upper()
        raise OctoError(
            f"The environment variable {name} is not valid: {first['msg'].removeprefix('Value error, ')}.",
            code="setting-wrong",
            place=name,
        ) from None
