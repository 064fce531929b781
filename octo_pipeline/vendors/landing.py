"""Deliveries: the vendors' files as they were delivered, complete or not there at all.

This module holds what every vendor's files have in common once they are fetched (`downloads`): the folder they are
kept in, finding the newest, keeping the last few, checking them again. What is inside a file, and which files make
a report, belongs in the vendor's module. Neither Dagster nor DuckDB is needed.

Layout: ``<root>/landing/<vendor>/<account>/month=YYYY-MM/<version>/`` with the files and ``_delivery.json``,
which describes them. A folder without that description does not exist for readers.

How a delivery gets there:

1. The files are copied to a staging folder of the lake and hashed on the way; sizes and checksums that the
   source announced must match.
2. A vendor's module that lands with `downloads.fetch` and `publish` instead of `land` inspects them there.
3. `publish` writes the description last, makes everything durable and passes the folder to the store, which
   moves it to its place in one rename, or uploads the description after everything else.

So a landing that fails or is killed leaves nothing readable. If two processes land one version, one publishes
the whole folder and the other finds it there. Staging is always a local folder.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from octo_pipeline.lake.staging import staging_folder, sync
from octo_pipeline.lake.store import Location, store_of
from octo_pipeline.model.errors import OctoError, combined
from octo_pipeline.model.months import parse_month
from octo_pipeline.model.wording import cut, reason
from octo_pipeline.vendors.downloads import DeliveredFile, SourceFile, fetch, safe_name

KEEP = 3
# The detail with the content of the delivery before, if this one has the same rows; see `content`.
CONTENT = "content"

_Export = TypeVar("_Export")

# Describes a delivery, and is the last of its files to appear.
DESCRIPTION = "_delivery.json"
# A message quotes at most so many characters of a damaged description.
_QUOTED = 200
# An attempt fails only if another process has put or removed the same folder in between.
_ATTEMPTS = 20


@dataclass(frozen=True)
class Delivery:
    """One version of one account's month.

    `report` and `source` say where it came from, in the vendor's words; `details` holds what the vendor's module
    recorded while landing, as JSON values.
    """

    vendor: str
    account: str
    month: str
    version: str
    format: str
    report: str
    files: tuple[DeliveredFile, ...]
    fetched_at: datetime
    source: str
    path: Location
    details: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def file_paths(self) -> list[Location]:
        """Where the files are, in the order of `files`."""
        return [self.path / file.name for file in self.files]

    @property
    def content(self) -> str:
        """Its version, or that of the first of several versions in a row with the same rows."""
        return str(self.details.get(CONTENT, self.version))

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.vendor} {self.account} {self.month} {self.version}"

    @property
    def order(self) -> tuple[datetime, str, str]:
        """The sort key of deliveries of one account and month; the greatest is the newest.

        Reports that were fetched together share `fetched_at`. Then the report's name decides, so that two
        reports of one payer do not take turns from refresh to refresh, and only then the version.
        """
        return (self.fetched_at, self.report, self.version)


@dataclass(frozen=True)
class Landed:
    """A delivery that is in the landing; `is_new` is False if it was there before."""

    delivery: Delivery
    is_new: bool


def delivery_path(root: Location, *, vendor: str, account: str, month: str, version: str) -> Location:
    """The folder of a delivery.

    Raises:
        OctoError: a part is not safe as a folder's name, or the month is not valid.
    """
    account_folder = _landing(root) / safe_name(vendor, "vendor") / safe_name(account, "account")
    return account_folder / f"month={parse_month(month)}" / safe_name(version, "version")


def deliveries(
    root: Location, *, vendor: str | None = None, account: str | None = None, month: str | None = None
) -> list[Delivery]:
    """All complete deliveries, oldest first.

    Raises:
        OctoError: a description cannot be read, or does not match its folder.
    """
    complete = [
        delivery
        for vendor_folder in _subfolders(_landing(root), vendor)
        for account_folder in _subfolders(vendor_folder, account)
        for month_folder in _subfolders(account_folder, month and f"month={month}")
        for folder in _subfolders(month_folder, None)
        if (delivery := _read_description(folder)) is not None
    ]
    return sorted(complete, key=lambda delivery: delivery.order)


def newest_deliveries(root: Location, month: str, vendor: str | None = None) -> list[Delivery]:
    """The newest complete delivery of each vendor and account in the month, by vendor and account."""
    return newest_of(deliveries(root, vendor=vendor, month=month))


def newest_of(oldest_first: Iterable[Delivery]) -> list[Delivery]:
    """The newest delivery of each vendor and account among those of one month, by vendor and account."""
    newest = {(delivery.vendor, delivery.account): delivery for delivery in oldest_first}
    return [newest[key] for key in sorted(newest)]


def find_delivery(
    root: Location, *, vendor: str, month: str, version: str, account: str | None = None
) -> Delivery | None:
    """The delivery of this version if all its files are in place; of any account if none is given."""
    candidates = deliveries(root, vendor=vendor, account=account, month=month)
    return next((delivery for delivery in candidates if delivery.version == version and not damage(delivery)), None)


def land(
    root: Location,
    *,
    vendor: str,
    account: str,
    month: str,
    version: str,
    format: str,
    report: str,
    source: str,
    files: Sequence[SourceFile],
    fetched_at: datetime,
) -> Landed:
    """Fetch the files and publish them as one delivery; do nothing if this version is there already.

    Raises:
        OctoError: a name is not safe, a file cannot be read or does not match what the source announced, or the lake
            cannot be written. Nothing of the delivery is left behind.
    """
    delivery = Delivery(
        vendor=vendor,
        account=account,
        month=month,
        version=version,
        format=format,
        report=report,
        files=(),
        fetched_at=fetched_at,
        source=source,
        path=delivery_path(root, vendor=vendor, account=account, month=month, version=version),
    )
    known = find_delivery(root, vendor=vendor, account=account, month=month, version=version)
    if known is not None:
        return Landed(known, is_new=False)
    with staging(root) as folder:
        return publish(root, folder, replace(delivery, files=fetch(files, folder, source)))


@contextmanager
def staging(root: Location) -> Iterator[Path]:
    """A local folder for the files of one delivery, removed at the end unless it was published.

    Raises:
        OctoError: the file system refuses to write; the message says why.
    """
    with _translate_disk_errors(root), staging_folder(store_of(root).scratch) as parent:
        folder = parent / "delivery"
        folder.mkdir()
        yield folder


def publish(root: Location, folder: Path, delivery: Delivery) -> Landed:
    """Move a staged folder to the delivery's place, then remove all but the last `KEEP` deliveries.

    Returns:
        The delivery that is in place; another process may have put it there first.

    Raises:
        OctoError: other processes keep putting and removing the same delivery.
    """
    _write_description(folder, delivery)
    store = store_of(root)
    for _ in range(_ATTEMPTS):
        try:
            is_new = store.publish_folder(folder, delivery.path, last=DESCRIPTION)
        except FileNotFoundError:
            continue  # `remove` has deleted the empty folder of the month
        if is_new:
            _remove_surplus(root, delivery)
            return Landed(delivery, is_new=True)
        present = _read_description(delivery.path)
        if present is not None and not damage(present):
            return Landed(present, is_new=False)
        store.remove_folder(delivery.path, first=DESCRIPTION)
    raise OctoError(
        f"{delivery.path} is being landed and removed by other processes; run this again later.",
        code="delivery-contended",
    )


def land_each(exports: Iterable[_Export], land_export: Callable[[_Export], Landed | None]) -> list[Landed]:
    """Land a source's exports one after the other; one that fails does not stop the others.

    Args:
        exports: reports, exports or accounts of a month.
        land_export: lands one of them; returns None if it has nothing.

    Raises:
        OctoError: the messages of all that could not be landed.
    """
    landed: list[Landed] = []
    failures: list[OctoError] = []
    for export in exports:
        try:
            delivery = land_export(export)
        except OctoError as error:
            failures.append(error)
        else:
            landed += [delivery] if delivery else []
    if failures:
        raise combined(failures)
    return landed


def first_refusal(deliveries: Iterable[Delivery], check: Callable[[Delivery], None]) -> OctoError | None:
    """The error of the first delivery that does not pass a check; None if all pass."""
    for delivery in deliveries:
        try:
            check(delivery)
        except OctoError as refusal:
            return refusal
    return None


def remove(root: Location, delivery: Delivery) -> None:
    """Remove a delivery; readers no longer see it at once. It is not an error if it is gone already."""
    with _translate_disk_errors(root):
        store_of(root).remove_folder(delivery.path, first=DESCRIPTION)


def damage(delivery: Delivery) -> str | None:
    """A message about the first file that is gone or has another size; None if all files are in place."""
    sizes = store_of(delivery.path).sizes(delivery.path)
    for file in delivery.files:
        path, size = delivery.path / file.name, sizes.get(file.name)
        if size is None:
            return f"{path} is gone since it was landed. {_again(delivery)}"
        if size != file.size:
            return f"{path} was cut off or changed: {size} bytes, not the {file.size} landed. {_again(delivery)}"
    return None


def verify(delivery: Delivery) -> None:
    """Read all files again and compare them with the sizes and checksums that were landed.

    Raises:
        OctoError: a file is gone or differs.
    """
    if sentence := damage(delivery):
        raise OctoError(sentence, code="delivery-damaged")
    for file in delivery.files:
        path = delivery.path / file.name
        if describe(path).sha256 != file.sha256:
            raise OctoError(
                f"{path} is not what was landed: its SHA-256 differs. {_again(delivery)}", code="delivery-damaged"
            )


def describe(path: Location) -> DeliveredFile:
    """Name, size and checksum of a file; reads every byte of it."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
        return DeliveredFile(path.name, stream.tell(), digest.hexdigest())


def _landing(root: Location) -> Location:
    return root / "landing"


def _subfolders(folder: Location, name: str | None) -> list[Location]:
    """The subfolder of that name, or all subfolders; empty if the folder does not exist."""
    return [folder / subfolder for subfolder in store_of(folder).subfolders(folder) if name in (None, subfolder)]


def _read_description(folder: Location) -> Delivery | None:
    """The delivery in the folder, None if it is not complete."""
    path = folder / DESCRIPTION
    try:
        text = store_of(folder).read_text(path)
        if text is None:
            return None
        document = json.loads(text)
        files = tuple(DeliveredFile(**file) for file in document.pop("files"))
        fetched_at = datetime.fromisoformat(document.pop("fetched_at"))
        delivery = Delivery(**document, files=files, fetched_at=fetched_at, path=folder)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OctoError(
            f"{path} does not describe a delivery ({cut(str(error), _QUOTED)}). Remove the folder and land the report again.",
            code="delivery-description-wrong",
        ) from error
    if folder.parts[-4:] != (delivery.vendor, delivery.account, f"month={delivery.month}", delivery.version):
        described = cut(f"{delivery.vendor} {delivery.account} {delivery.month} {delivery.version}", _QUOTED)
        raise OctoError(
            f"{path} describes {described}, which is not the delivery of its folder. Remove the folder and land the report "
            "again.",
            code="delivery-description-wrong",
        )
    return delivery


def renew(root: Location, delivery: Delivery, fetched_at: datetime) -> None:
    """Make a landed delivery the newest again, because its source offers this version again.

    Args:
        root: the lake.
        delivery: as it was landed.
        fetched_at: when the source was read; later than that of every other delivery of the account and month.

    Raises:
        OctoError: the lake cannot be written.
    """
    with staging(root) as folder:
        description = _staged_description(folder, replace(delivery, fetched_at=fetched_at))
        store_of(root).replace(description, delivery.path / DESCRIPTION, lambda: True)


def _write_description(folder: Path, delivery: Delivery) -> None:
    """Make the files durable, then the description; each gets its final name only when it is complete."""
    for file in delivery.files:
        sync(folder / file.name)
    _staged_description(folder, delivery).replace(folder / DESCRIPTION)
    sync(folder)


def _staged_description(folder: Path, delivery: Delivery) -> Path:
    """Write the description to a durable file beside its final name."""
    document = {
        "vendor": delivery.vendor,
        "account": delivery.account,
        "month": delivery.month,
        "version": delivery.version,
        "format": delivery.format,
        "report": delivery.report,
        "source": delivery.source,
        "fetched_at": delivery.fetched_at.astimezone(UTC).isoformat(),
        "files": [{"name": file.name, "size": file.size, "sha256": file.sha256} for file in delivery.files],
        "details": delivery.details,
    }
    unfinished = folder / f"{DESCRIPTION}.tmp"
    unfinished.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
    sync(unfinished)
    return unfinished


def _remove_surplus(root: Location, landed: Delivery) -> None:
    """Keep the newest deliveries and the one just landed, which is not the newest when a backfill landed it."""
    others = [
        other
        for other in deliveries(root, vendor=landed.vendor, account=landed.account, month=landed.month)
        if other.version != landed.version
    ]
    for surplus in others[: max(0, len(others) + 1 - KEEP)]:
        remove(root, surplus)


def _again(delivery: Delivery) -> str:
    return f"Remove this delivery ({delivery.version}) and land the report of {delivery.month} again."


@contextmanager
def _translate_disk_errors(root: Location) -> Iterator[None]:
    """Turn a refusal of the file system into an error that says why."""
    try:
        yield
    except OSError as error:
        raise OctoError(
            f"The {store_of(root).scratch_name} cannot be written: {reason(error)}. Nothing was landed; run this again "
            "when it can.",
            code="landing-not-writable",
            place=str(root),
        ) from error
