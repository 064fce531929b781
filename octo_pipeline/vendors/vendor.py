"""What the rest of the package knows of a vendor: one object that says where its exports come from and how they are read.

This module only declares its attributes. A vendor's package exports ``VENDOR``, and `catalog` finds it. The functions of
a `Vendor` import what they need when they are called, because SDKs take seconds to load.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import duckdb

    from octo_pipeline.lake.store import Location
    from octo_pipeline.model.errors import OctoError, Remedy
    from octo_pipeline.registry.records import Account, Actor
    from octo_pipeline.settings import Settings
    from octo_pipeline.vendors.landing import Delivery, Landed
    from octo_pipeline.vendors.listing import Listing, Place
    from octo_pipeline.vendors.registrar import Registrar
    from octo_pipeline.vendors.source import Source

# Exports are refreshed a few times a day; checking for them costs a few requests.
LOOK_SECONDS = 600
# Vendors bill a month for some days after its end.
CLOSING_DAY = 5
# The smallest sample with every kind of line.
LEAST_SAMPLE_LINES = 200


class Link(str):
    """A step of a registration: an address to open."""


class Command(str):
    """A step of a registration: a line to copy into a terminal."""


class LandedFiles(Protocol):
    """A module that reads the vendor's landed files."""

    def relations(self, con: "duckdb.DuckDBPyConnection", deliveries: "Sequence[Delivery]") -> dict[str, str]:
        """The rows as they were delivered: the name of dbt's source -> SELECT, without rows if there are no files.

        Raises:
            OctoError: a file is gone, has changed in size since it was landed, or lacks a required column.
        """
        ...

    def source_costs(self, relations: Mapping[str, str]) -> str:
        """SQL of what the files say was billed: vendor, billing_account_id, billing_currency, cost.

        The columns invoice_id and invoice_issuer_name, if present, go into `invoice_costs`. A row is of one line, or of
        as many as its line_count says.
        """
        ...

    def explain_failure(self, con: "duckdb.DuckDBPyConnection", deliveries: "Sequence[Delivery]") -> "OctoError | None":
        """An error that names the first bad file and its line or row; None if all files are valid."""
        ...


class Registration(Protocol):
    """A module with the steps of a vendor's registration after an account is registered."""

    def confirm(self, registrar: "Registrar", actor: "Actor", account: "Account") -> "Account":
        """Verify the account's steps with the vendor; a failure is the `problem` of the account that is returned.

        Raises:
            OctoError: the vendor could not be asked; nothing was changed.
        """
        ...

    def next_step(self, settings: "Settings", account: "Account") -> "list[str | Remedy]":
        """What the user must do next, as sentences, `Link`s, `Command`s and actions; empty for a completed account."""
        ...

    def left_behind(self, account: "Account") -> list[str]:
        """What stays with the vendor when the account is removed here, as sentences that say where to remove it."""
        ...


class WriteSample(Protocol):
    """Writes sample months in the vendor's own format."""

    def __call__(self, folder: Path, *, months: Sequence[str], accounts: int, lines: int, seed: int) -> None:
        """Write them to the folder with the vendor's name in ``folder``.

        Args:
            folder: where the samples of all vendors are.
            months: YYYY-MM each.
            accounts: the number of accounts of the largest vendor.
            lines: the number of usage lines per month of the largest vendor.
            seed: the same seed gives the same months.
        """
        ...


@dataclass(frozen=True)
class Sample:
    """The vendor's sample months: their title for users, and the function that writes them."""

    title: str
    write: WriteSample


@dataclass(frozen=True)
class Vendor:
    """One vendor.

    By convention its dbt models are ``int_<name>__charges`` and what that reads, and the names of its relations begin
    with its name.

    Attributes:
        name: as in `model.vendors`.
        raw_asset: the Dagster asset of its raw exports.
        raw_kind: the kind that Dagster shows on that asset.
        raw_description: the description of that asset.
        deliveries: what its sensor looks for, to follow "new versions of".
        files: the module that reads its landed files.
        model_relations: the relations that dbt and `source_costs` of `files` read, from a connection, deliveries and their
            `files` relations. None if they read those.
        container_usage: SQL over its relations of the rows that split costs by container; see `container_usage` of
            aws. None if its exports have no such rows.
        row_sources: the files in its folder that the rows of a month depend on. When one of them changes, every month
            is made again.
        folder_source: the source of a folder laid out as the vendor lays out its exports, or of one data file.
        document_source: the source of a document of the configuration or of a registration, and the hosts that the
            setting ``allowed_hosts`` adds to the vendor's own; raises pydantic's ValidationError.
        registered_source: the source of a completed account, if its document alone does not define it.
        registration: the module with the steps of an account's registration; None if accounts cannot be registered.
        sample: its sample months; None if it has none.
        look_seconds: the interval of its sensor.
        closing_day: the day of the next month from which on a delivery of a month is complete, as far as the vendor says.
        storage: lists the files at a place in the vendor's storage, which may hold exports of any vendor; its further
            arguments are the name of the source and the allowed hosts. None if the vendor has no storage.
        disagreements: the errors of deliveries of one account and month that several sources offer and that differ; it
            removes the new ones from the landing. None if the vendor's sources cannot offer one account twice.
    """

    name: str
    raw_asset: str
    raw_kind: str
    raw_description: str
    deliveries: str
    files: Callable[[], LandedFiles]
    row_sources: tuple[str, ...]
    folder_source: "Callable[[Path], Source]"
    document_source: "Callable[[object, Sequence[str]], Source]"
    model_relations: "Callable[[duckdb.DuckDBPyConnection, Sequence[Delivery], Mapping[str, str]], dict[str, str]] | None" = None
    container_usage: Callable[[Mapping[str, str]], str] | None = None
    registered_source: "Callable[[Registrar, Account], Source] | None" = None
    registration: Callable[[], Registration] | None = None
    sample: Sample | None = None
    look_seconds: int = LOOK_SECONDS
    closing_day: int = CLOSING_DAY
    storage: "Callable[[Place, str, Sequence[str]], Listing] | None" = None
    disagreements: "Callable[[Location, Sequence[Landed]], list[OctoError]] | None" = None
