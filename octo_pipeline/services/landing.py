"""Landing a month's deliveries from their sources, and finding out what could be landed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain

from octo_pipeline.lake.store import Location
from octo_pipeline.model.errors import OctoError, Remedy, combined
from octo_pipeline.registry.records import Actor
from octo_pipeline.services.sources import NotConfirmedError, sources
from octo_pipeline.vendors.catalog import VENDORS
from octo_pipeline.vendors.landing import (
    Delivery,
    Landed,
    deliveries,
    find_delivery,
    newest_deliveries,
    remove,
    renew,
)
from octo_pipeline.vendors.source import Available, Source, TellsPassedOver
from octo_pipeline.workspace import Workspace


@dataclass(frozen=True)
class LandedMonth:
    """What is landed for a month after all its sources were asked.

    Attributes:
        deliveries: the newest complete delivery of each account.
        new: how many deliveries were landed now.
        offered: how many deliveries of the month the sources offer, whether or not they were landed before.
        passed_over: a sentence for each export of costs that another kind of source reads.
        failures: for each source that could not be landed, why.
        is_complete: False if one of these sources has no earlier delivery of the month to use instead.
    """

    deliveries: tuple[Delivery, ...]
    new: int
    offered: int
    passed_over: tuple[str, ...] = ()
    failures: tuple[OctoError, ...] = ()
    is_complete: bool = True

    def require_complete(self) -> None:
        """Refuse a month that would lack a source's costs.

        Raises:
            OctoError: with the sentences of the sources that failed.
        """
        if not self.is_complete:
            raise combined(self.failures)

    @property
    def sentence(self) -> str:
        """What happened, in a few words."""
        if not self.deliveries:
            return "no delivery"
        return f"{self.new} new" if self.new else "unchanged"


def land_month(workspace: Workspace, vendor: str, sources: Iterable[Source], month: str) -> LandedMonth:
    """Land what the sources have for the month and say what is landed now.

    A source that fails does not stop the others. If it delivered the month before, its last good delivery stays.

    Args:
        workspace: the lake to land in.
        vendor: the vendor's name.
        sources: sources of this vendor.
        month: the billing month.
    """
    root = workspace.lake.root
    offered: list[Landed] = []
    failures: list[tuple[Source, OctoError]] = []
    asked = list(sources)
    for source in asked:
        try:
            offered += source.land(root, month, landing_time(root, vendor, month))
        except OctoError as error:
            failures.append((source, error))
    if asked and (disagreements := VENDORS[vendor].disagreements):
        failures += [(asked[-1], error) for error in disagreements(root, offered)]
    renewed = _renew(root, vendor, month, offered) if not failures else 0
    newest = tuple(newest_deliveries(root, month, vendor))
    accounts = {delivery.account for delivery in newest}
    passed_over = (source.passed_over(month) for source in asked if isinstance(source, TellsPassedOver))
    return LandedMonth(
        newest,
        sum(landed.is_new for landed in offered) + renewed,
        len(offered),
        tuple(chain.from_iterable(passed_over)),
        tuple(error for _, error in failures),
        is_complete=all(
            _has_delivered(source.account, accounts) or not _is_expected(root, source, error)
            for source, error in failures
        ),
    )


def _renew(root: Location, vendor: str, month: str, offered: Sequence[Landed]) -> int:
    """If the newest delivery of an account is no longer offered, make the offered ones the newest again.

    A source that withdraws a refresh offers a version that was landed before the withdrawn one. Several reports of one
    account are renewed together, because otherwise they would take turns as the newest.

    Returns:
        For how many accounts.
    """
    renewed = 0
    now = landing_time(root, vendor, month)
    for newest in newest_deliveries(root, month, vendor):
        own = [landed.delivery for landed in offered if landed.delivery.account == newest.account]
        if own and newest.version not in {delivery.version for delivery in own}:
            for delivery in own:
                renew(root, delivery, now)
            renewed += 1
    return renewed


def _is_expected(root: Location, source: Source, error: OctoError) -> bool:
    """Whether the month needs the source. An account that was never confirmed and fetched is not needed."""
    if not isinstance(error, NotConfirmedError):
        return True
    return bool(deliveries(root, vendor=source.vendor, account=source.account))


def landing_time(root: Location, vendor: str, month: str) -> datetime:
    """The current time, or one after all landed deliveries if the clock was set back.

    Otherwise the new delivery would not be the newest.
    """
    newest = newest_deliveries(root, month, vendor)
    return max([datetime.now(UTC), *(delivery.fetched_at + timedelta(microseconds=1) for delivery in newest)])


def _has_delivered(account: str | None, accounts: set[str]) -> bool:
    return account in accounts if account else bool(accounts)


def new_versions(workspace: Workspace, source: Source, months: Sequence[str]) -> list[Available]:
    """The versions that a source offers for the months and that are not the landed ones.

    They were never landed, or were landed before a refresh that the source has withdrawn since.

    Raises:
        OctoError: the source cannot be reached or refuses.
    """
    root = workspace.lake.root
    unlanded = []
    for month in months:
        offered = source.available(month)
        newest = {delivery.account: delivery.version for delivery in newest_deliveries(root, month, source.vendor)}
        versions = {export.version for export in offered}
        for export in offered:
            landed = find_delivery(
                root, vendor=export.vendor, month=month, version=export.version, account=export.account
            )
            if landed is None or newest.get(landed.account) not in versions:
                unlanded.append(export)
    return unlanded


def is_offered(workspace: Workspace, month: str) -> bool:
    """Whether a source has something of the month, or cannot say."""
    for vendor in VENDORS:
        for source in sources(workspace, vendor):
            try:
                if source.available(month):
                    return True
            except OctoError:
                return True
    return False


def delivery_of(workspace: Workspace, version: str) -> Delivery:
    """The delivery whose version begins with `version`.

    Raises:
        OctoError: there is none, or several.
    """
    matching = [delivery for delivery in deliveries(workspace.lake.root) if delivery.version.startswith(version)]
    if len(matching) != 1:
        raise OctoError(
            f"{len(matching)} deliveries have a version that begins with {version!r}."
            if matching
            else f"No delivery has a version that begins with {version!r}.",
            code="delivery-version-not-one",
            remedy=Remedy("deliveries list", to="see them all"),
        )
    return matching[0]


def remove_delivery(workspace: Workspace, delivery: Delivery, actor: Actor) -> None:
    """Remove a delivery and record it. The next run uses the newest one that is left."""
    remove(workspace.lake.root, delivery)
    _note(workspace, delivery, actor, "remove_delivery")


def reland(workspace: Workspace, delivery: Delivery, sources: Iterable[Source], actor: Actor) -> LandedMonth:
    """Fetch a delivery again from the source that offers its version.

    Raises:
        OctoError: no source offers that version any more, so what is landed stays; or it cannot be fetched.
    """
    offering = [source for source in sources if _offers(source, delivery)]
    if not offering:
        raise OctoError(
            f"No source offers {delivery.title} any more, so it stays as it is.",
            code="delivery-no-longer-offered",
            place=delivery.version,
            remedy=Remedy("deliveries show", delivery.version, to="verify its files"),
        )
    remove(workspace.lake.root, delivery)
    landed = land_month(workspace, delivery.vendor, offering, delivery.month)
    _note(workspace, delivery, actor, "reland_delivery")
    if landed.failures:
        raise OctoError(
            f"{delivery.title} was removed, but could not be fetched again: {combined(landed.failures)} The next run "
            "will try to fetch it.",
            code="delivery-not-fetched-again",
            place=delivery.version,
            remedy=combined(landed.failures).remedies,
        )
    return landed


def _offers(source: Source, delivery: Delivery) -> bool:
    if source.account not in (None, delivery.account):
        return False
    return any(export.version == delivery.version for export in source.available(delivery.month))


def _note(workspace: Workspace, delivery: Delivery, actor: Actor, action: str) -> None:
    details = {"report": delivery.report, "source": delivery.source}
    workspace.registry.note(actor, action, delivery.title, details)
