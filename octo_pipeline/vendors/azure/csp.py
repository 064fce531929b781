"""The months of a cloud solution provider's (CSP) partner tenant in Azure, from Graph or from a folder.

This module knows which exports make a month and the layout of a folder of them. Requests to Graph belong in `graph`,
which rows count in `usage`.

A month is one delivery with one version:

1. If the month has invoices, it is the billed daily usage and the reconciliation of each of them. They replace the
   unbilled usage.
2. If it has none yet, it is the unbilled daily usage of the current or the last billing period, in each currency. Its
   purchases come with the invoice.
3. An older month without an invoice has no exports; its landed delivery stays.

The version is made of the eTags of all exports, so a changed export makes a new version of the month.

Layout of a folder, at any depth below it::

    <partner tenant>/<YYYY-MM>/<export>/manifest.json   the manifest as Graph gave it, with or without SAS
    <partner tenant>/<YYYY-MM>/<export>/<blob name>     the blobs as downloaded, gzipped JSON lines

where ``<export>`` is ``usage-unbilled-<currency>``, ``usage-billed-<invoice>`` or ``reconciliation-billed-<invoice>``.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from octo_pipeline.lake.store import Location
from octo_pipeline.model.currency import CURRENCY
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import add_months, parse_month
from octo_pipeline.vendors.azure.azure_http import Http
from octo_pipeline.vendors.azure.blobs import Entry, FolderListing, open_blob
from octo_pipeline.vendors.azure.delivery import VENDOR, Month, Part, land_month, version_of
from octo_pipeline.vendors.azure.graph import Manifest, PartnerBilling, parse_manifest
from octo_pipeline.vendors.azure.usage_columns import CSP_RECONCILIATION, CSP_USAGE
from octo_pipeline.vendors.downloads import SourceFile
from octo_pipeline.vendors.landing import Landed, land_each
from octo_pipeline.vendors.listing import is_litter
from octo_pipeline.vendors.source import Available

REPORT = "partner billing"

_GUID = r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
_EXPORT = re.compile(r"(?P<kind>usage|reconciliation)-(?P<state>unbilled|billed)-(?P<key>[A-Za-z0-9_.]+)")


class AzureCspDocument(BaseModel):
    """The configuration of one partner tenant; secrets are named, never written.

    Attributes:
        client_secret_variable: the environment variable with the application's secret.
        currencies: in which the partner is billed; unbilled usage is exported in each.
        sign_in: ``app`` (the application alone) or ``user`` (with the refresh token of someone who signed in).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    vendor: Literal["azure"]
    kind: Literal["csp"]
    tenant_id: str = Field(pattern=f"^{_GUID}$")
    client_id: str = Field(pattern=f"^{_GUID}$")
    client_secret_variable: str = Field(pattern=_VARIABLE)
    currencies: tuple[Annotated[str, Field(pattern=f"^{CURRENCY}$")], ...] = Field(min_length=1)
    sign_in: Literal["app", "user"] = "app"


class Export(NamedTuple):
    """One export of a month: its name, version and blobs."""

    name: str
    etag: str
    files: tuple[SourceFile, ...]


@dataclass(frozen=True)
class AzureCspSource:
    """A partner tenant's months, from Graph.

    Attributes:
        billing: the exports and invoices of Graph and Partner Center.
        http: reads the blobs.
        currencies: in which unbilled usage is exported.
        today: returns the current day in UTC, which determines the current billing period.
    """

    billing: PartnerBilling
    http: Http
    currencies: tuple[str, ...]
    today: Callable[[], date] = lambda: datetime.now(UTC).date()

    vendor = VENDOR

    @property
    def account(self) -> str:
        """The partner tenant."""
        return self.billing.tenant_id.lower()

    @property
    def name(self) -> str:
        """What messages and sensors call it."""
        return f"azure partner {self.account}"

    def available(self, month: str) -> list[Available]:
        """The month's current version; Graph makes each of its exports for that, but no blob is read.

        Raises:
            OctoError: Graph or Partner Center cannot be reached or refuses.
        """
        exports = self._exports(parse_month(month))
        return [Available(VENDOR, self.account, month, REPORT, _version(exports))] if exports else []

    def land(self, root: Location, month: str, fetched_at: datetime) -> list[Landed]:
        """Land the month's current version, unless it is landed already.

        Raises:
            OctoError: an export fails, or is incomplete or wrong. Nothing is landed.
        """
        exports = self._exports(parse_month(month))
        if not exports:
            return []
        landed = land_month(root, _month(self.account, month, exports, REPORT), fetched_at=fetched_at)
        return [landed] if landed else []

    def _exports(self, month: str) -> list[Export]:
        exports: list[Export] = []
        for invoice in self.billing.invoices(month):
            exports.append(self._export(f"usage-billed-{invoice}", self.billing.billed_usage(invoice)))
            exports.append(self._export(f"reconciliation-billed-{invoice}", self.billing.reconciliation(invoice)))
        period = _period(month, self.today())
        if not exports and period:
            for currency in self.currencies:
                manifest = self.billing.unbilled_usage(currency=currency, period=period)
                exports.append(self._export(f"usage-unbilled-{currency}", manifest))
        return exports

    def _export(self, name: str, manifest: Manifest) -> Export:
        current = [manifest]

        def address(blob: str, fresh: bool) -> str:
            if fresh:
                current.append(self.billing.renewed(manifest))
            return current[-1].blob_url(blob)

        def opener(blob: str) -> SourceFile:
            return SourceFile(_flat(blob), lambda: open_blob(self.http, lambda fresh: address(blob, fresh)))

        return Export(name, manifest.etag, tuple(opener(blob) for blob in manifest.blobs))


@dataclass(frozen=True)
class AzureCspFolderSource:
    """The months of partner tenants whose exports were downloaded to a folder."""

    path: Path

    vendor = VENDOR
    account = None

    @property
    def name(self) -> str:
        """What messages and sensors call it."""
        return f"azure at {self.path}"

    def available(self, month: str) -> list[Available]:
        """The version of each tenant's month.

        Raises:
            OctoError: the folder has no exports, or one is incomplete.
        """
        return [
            Available(VENDOR, payer_month.account, payer_month.month, payer_month.report, payer_month.version)
            for payer_month in self._months(parse_month(month))
        ]

    def land(self, root: Location, month: str, fetched_at: datetime) -> list[Landed]:
        """Land each tenant's month.

        Raises:
            OctoError: an export is incomplete or wrong; those of other tenants are still landed.
        """
        return land_each(self._months(parse_month(month)), partial(land_month, root, fetched_at=fetched_at))

    def _months(self, month: str) -> list[Month]:
        entries = {
            entry.name: entry for entry in FolderListing(self.path).entries() if not is_litter(entry.name.split("/"))
        }
        exports: dict[str, list[Export]] = defaultdict(list)
        for name, entry in entries.items():
            match name.split("/"):
                case [*_, tenant, folder_month, export, "manifest.json"] if folder_month == month and _EXPORT.fullmatch(
                    export
                ):
                    exports[tenant.lower()].append(self._export(entry, export, entries))
        return [_month(tenant, month, _superseded(exports[tenant]), str(self.path)) for tenant in sorted(exports)]

    def _export(self, entry: Entry, name: str, entries: dict[str, Entry]) -> Export:
        source = f"{self.path}/{entry.name}"
        try:
            document = json.loads(entry.read())
        except (ValueError, RecursionError) as error:
            raise OctoError(
                f"{source} is not JSON ({error}). Download the export again.", code="manifest-malformed"
            ) from error
        manifest = parse_manifest(document, source)
        files = []
        for blob in manifest.blobs:
            blob_entry = entries.get(entry.name.removesuffix("manifest.json") + blob)
            if blob_entry is None:
                raise OctoError(
                    f"{source} lists {blob}, which is not beside it. Download the whole export again.",
                    code="export-incomplete",
                )
            files.append(SourceFile(_flat(blob), blob_entry.open, blob_entry.size))
        return Export(name, manifest.etag, tuple(files))


def has_csp_exports(path: Path) -> bool:
    """Whether a folder has exports in the layout that `AzureCspFolderSource` reads."""
    return path.is_dir() and any(_EXPORT.fullmatch(manifest.parent.name) for manifest in path.rglob("manifest.json"))


def _superseded(exports: Sequence[Export]) -> list[Export]:
    """The exports that count: unbilled usage does not count once the month has billed exports."""
    billed = [export for export in exports if "-billed-" in export.name]
    return billed or list(exports)


def _month(tenant: str, month: str, exports: Sequence[Export], source: str) -> Month:
    kinds = {"usage": CSP_USAGE, "reconciliation": CSP_RECONCILIATION}
    parts = []
    for export in exports:
        kind = export.name.split("-")[0]
        parts.append(Part(kinds[kind], kind, export.name, export.files))
    return Month(tenant, tenant, month, _version(exports), REPORT, f"{source} of {tenant}", tuple(parts))


def _version(exports: Sequence[Export]) -> str:
    return version_of(f"{export.name} {export.etag}" for export in exports)


def _period(month: str, today: date) -> str | None:
    """Graph's name of the unbilled period that is this month; None if there is none."""
    current = f"{today:%Y-%m}"
    return {current: "current", add_months(current, -1): "last"}.get(month)


def _flat(blob: str) -> str:
    """A blob's name as a file name, which must end in its packing."""
    name = blob.replace("/", "_")
    return name if name.lower().endswith(".json.gz") else f"{name.removesuffix('.gz')}.json.gz"
