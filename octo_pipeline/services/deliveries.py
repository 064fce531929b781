"""What came when, from which source, and what is late."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import add_months
from octo_pipeline.model.rows import Rows
from octo_pipeline.services import charges
from octo_pipeline.services.sources import sources
from octo_pipeline.tables.landed_charges import counted_deliveries
from octo_pipeline.vendors.catalog import VENDORS
from octo_pipeline.vendors.documents import SourceDocument, source_documents
from octo_pipeline.vendors.landing import Delivery, deliveries
from octo_pipeline.workspace import Workspace

# Vendors write the first export of a month within days.
_FIRST_EXPORT = timedelta(days=3)
# What a source's document says of where exports lie; none of these fields has a secret.
_SHOWN = ("account", "tenant_id", "billing_account_id", "bucket", "container", "dataset", "folder", "prefix", "report")


@dataclass(frozen=True)
class SourceState:
    """A place that exports come from.

    Attributes:
        vendor: whose exports they are.
        name: what messages call it.
        account: the account that they are of; None if only the data can tell.
        is_used: whether its exports count.
        last_month: the newest month that was delivered, of its account or else of its vendor.
        last_delivery: when it was landed.
        late: what is late, as a sentence; None if nothing is.
        problem: why it cannot be used.
    """

    vendor: str
    name: str
    account: str | None
    is_used: bool
    last_month: str | None
    last_delivery: datetime | None
    late: str | None
    problem: str | None


def listed_deliveries(workspace: Workspace, month: str | None = None) -> Rows:
    """The landed deliveries, oldest first, and which of them count."""
    landed = deliveries(workspace.lake.root, month=month)
    counted = {d.title for m in {d.month for d in landed} for d in counted_deliveries(workspace, m)}
    rows = [
        (
            d.vendor,
            d.account,
            d.month,
            d.version,
            len(d.files),
            sum(f.size for f in d.files),
            d.fetched_at,
            d.title in counted,
        )
        for d in landed
    ]
    return Rows(("vendor", "account", "month", "version", "files", "bytes", "landed_at", "counts"), tuple(rows))


def delivery_values(delivery: Delivery) -> dict[str, Any]:
    """A delivery with its files, for programs."""
    return {
        "vendor": delivery.vendor,
        "account": delivery.account,
        "month": delivery.month,
        "version": delivery.version,
        "report": delivery.report,
        "source": delivery.source,
        "landed_at": delivery.fetched_at.isoformat(),
        "files": [{"name": file.name, "bytes": file.size, "sha256": file.sha256} for file in delivery.files],
    }


def source_states(workspace: Workspace, now: datetime) -> list[SourceState]:
    """The sources of all vendors and what they delivered; also documents that are not used or not valid."""
    landed = [d for d in deliveries(workspace.lake.root) if d.vendor != charges.VENDOR]
    states: list[SourceState] = []
    for vendor in VENDORS:
        try:
            for source in sources(workspace, vendor):
                its = [d for d in landed if d.vendor == vendor and source.account in (None, d.account)]
                states.append(_state(vendor, source.name, source.account, its, now))
        except OctoError as error:
            states.append(SourceState(vendor, error.place or vendor, None, True, None, None, None, str(error)))
    try:
        documents = source_documents(workspace.settings.config)
    except OctoError:
        # The vendors above said so.
        documents = []
    states += [
        SourceState(document.reader, _title(document), None, False, None, None, None, None)
        for document in documents
        if not document.is_used
    ]
    return states


def listed_sources(states: Iterable[SourceState]) -> Rows:
    """Sources as rows."""
    names = ("vendor", "name", "account", "is_used", "last_month", "last_delivery", "late", "problem")
    return Rows(names, tuple(tuple(getattr(state, name) for name in names) for state in states))


def _state(vendor: str, name: str, account: str | None, landed: list[Delivery], now: datetime) -> SourceState:
    newest = max(landed, key=lambda delivery: (delivery.month, delivery.fetched_at), default=None)
    if newest is None:
        return SourceState(vendor, name, account, True, None, None, "It has delivered nothing yet.", None)
    late = _late(vendor, landed, newest, now)
    return SourceState(vendor, name, account, True, newest.month, newest.fetched_at, late, None)


def _late(vendor: str, landed: list[Delivery], newest: Delivery, now: datetime) -> str | None:
    month = f"{now:%Y-%m}"
    ended = add_months(month, -1)
    begins = datetime.fromisoformat(f"{month}-01T00:00:00+00:00")
    if newest.month < ended:
        return f"It delivered {newest.month} last and nothing of {ended}."
    closing = begins + timedelta(days=VENDORS[vendor].closing_day - 1)
    last = max((d.fetched_at for d in landed if d.month == ended), default=None)
    if last is not None and last < closing <= now - _FIRST_EXPORT:
        return f"It delivered {ended} last on {last:%Y-%m-%d}, before its closing day {closing:%Y-%m-%d}."
    if newest.month < month and now >= begins + _FIRST_EXPORT:
        return f"It delivered nothing of {month} yet."
    return None


def _title(document: SourceDocument) -> str:
    places = ", ".join(str(document.fields[name]) for name in _SHOWN if name in document.fields)
    return f"{document.origin} ({places})" if places else document.origin
