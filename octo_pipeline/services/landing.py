"""Landing a month's deliveries from where the vendors put them, and what could be landed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

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
    """What is landed for a month after looking for more.

    Attributes:
        deliveries: the newest complete delivery of each account.
        new: how many deliveries were not there before.
        offered: how many deliveries of the month the sources offer, landed before or not.
        passed_over: a sentence for each export of costs that another kind of source reads.
        failures: why a source could not be landed, for each that could not.
        is_complete: False if such a source has no earlier delivery of the month to go on with.
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
    """Land what the sources have for the month and say what is there now.

    A source that fails stops no other: where it has delivered the month before, its last good delivery stays.

    Args:
        workspace: whose lake it is landed in.
        vendor: the vendor's name.
        sources: of this vendor.
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
    accounts = {one.account for one in newest}
    return LandedMonth(
        newest,
        sum(one.is_new for one in offered) + renewed,
        len(offered),
        tuple(one for source in asked if isinstance(source, TellsPassedOver) for one in source.passed_over(month)),
        tuple(error for _, error in failures),
        is_complete=all(
            _has_delivered(source.account, accounts) or not _is_expected(root, source, error)
            for source, error in failures
        ),
    )


def _renew(root: Location, vendor: str, month: str, offered: Sequence[Landed]) -> int:
    """Where the newest delivery of an account is none that is offered, make those the newest that are.

    A source that takes a refresh back offers a version that was landed before the one it took back. Several
    reports of one account are renewed together, so that they do not take turns.
    """
    renewed = 0
    now = landing_time(root, vendor, month)
    for newest in newest_deliveries(root, month, vendor):
        of_account = [one.delivery for one in offered if one.delivery.account == newest.account]
        if of_account and newest.version not in {one.version for one in of_account}:
            for delivery in of_account:
                renew(root, delivery, now)
            renewed += 1
    return renewed


def _is_expected(root: Location, source: Source, error: OctoError) -> bool:
    """Whether the month lacks something without the source: not if nobody ever confirmed and fetched it."""
    if not isinstance(error, NotConfirmedError):
        return True
    return bool(deliveries(root, vendor=source.vendor, account=source.account))


def landing_time(root: Location, vendor: str, month: str) -> datetime:
    """The clock's time, but after all that is landed: of a clock that was set back the newest delivery would be old."""
    now = datetime.now(UTC)
    return max([now, *(one.fetched_at + timedelta(microseconds=1) for one in newest_deliveries(root, month, vendor))])


def _has_delivered(account: str | None, accounts: set[str]) -> bool:
    return account in accounts if account else bool(accounts)


def new_versions(workspace: Workspace, source: Source, months: Sequence[str]) -> list[Available]:
    """What a source offers for the months that is not landed yet, or was landed and taken back since.

    Raises:
        OctoError: the source cannot be reached or refuses.
    """
    root = workspace.lake.root
    found = []
    for month in months:
        offered = source.available(month)
        newest = {one.account: one.version for one in newest_deliveries(root, month, source.vendor)}
        versions = {one.version for one in offered}
        for one in offered:
            landed = find_delivery(root, vendor=one.vendor, month=month, version=one.version, account=one.account)
            if landed is None or newest.get(landed.account) not in versions:
                found.append(one)
    return found


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
    """The delivery whose version begins so.

    Raises:
        OctoError: there is none, or several.
    """
    found = [one for one in deliveries(workspace.lake.root) if one.version.startswith(version)]
    if len(found) != 1:
        raise OctoError(
            f"{len(found) or 'No'} deliveries have a version that begins with {version!r}.",
            code="delivery-version-not-one",
            remedy=Remedy("deliveries list", to="see them all"),
        )
    return found[0]


def remove_delivery(workspace: Workspace, delivery: Delivery, actor: Actor) -> None:
    """Remove a delivery, on the record; the next newest one counts from the next run on."""
    remove(workspace.lake.root, delivery)
    _note(workspace, delivery, actor, "remove_delivery")


def reland(workspace: Workspace, delivery: Delivery, sources: Iterable[Source], actor: Actor) -> LandedMonth:
    """Fetch a delivery again from the source that offers its version.

    Raises:
        OctoError: no source offers that version any more, so what is landed stays; or it cannot be fetched.
    """
    offering = [one for one in sources if _offers(one, delivery)]
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
            "tries it.",
            code="delivery-not-fetched-again",
            place=delivery.version,
            remedy=combined(landed.failures).remedies,
        )
    return landed


def _offers(source: Source, delivery: Delivery) -> bool:
    if source.account not in (None, delivery.account):
        return False
    return any(one.version == delivery.version for one in source.available(delivery.month))


def _note(workspace: Workspace, delivery: Delivery, actor: Actor, action: str) -> None:
    details = {"report": delivery.report, "source": delivery.source}
    workspace.registry.note(actor, action, delivery.title, details)
