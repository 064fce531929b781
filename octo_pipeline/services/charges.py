"""Importing charges by hand: planning what an import changes, and running it.

A month's charges are one delivery of the vendor `manual`. An import makes the month's next delivery from the file and,
when it merges, from the charges that the month already has. An import that changes nothing lands nothing, so importing
a file twice is the same as importing it once.
"""

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Literal

from octo_pipeline.model.months import parse_month
from octo_pipeline.model.rows import Rows
from octo_pipeline.registry.records import Actor
from octo_pipeline.services.documents import read
from octo_pipeline.services.landing import landing_time
from octo_pipeline.vendors.downloads import SourceFile, fetch
from octo_pipeline.vendors.landing import (
    Delivery,
    delivery_path,
    find_delivery,
    newest_deliveries,
    publish,
    renew,
    staging,
)
from octo_pipeline.vendors.manual.charges import Charge, landed_charges, parse_charges, written
from octo_pipeline.workspace import Workspace

VENDOR = "manual"
_ACCOUNT = "charges"
_FILE = "charges.csv"


class ImportMode(StrEnum):
    """What happens to the month's charges that a file does not have."""

    replace_month = "replace-month"
    merge = "merge"


@dataclass(frozen=True)
class ChargeChange:
    """What an import does to one charge.

    Attributes:
        kind: what happens to it.
        charge: the charge after the import, or the one before it if it is removed.
        previous_amount: the amount before the import; None if the charge is new.
    """

    kind: Literal["new", "changed", "removed", "unchanged"]
    charge: Charge
    previous_amount: Decimal | None


@dataclass(frozen=True)
class ChargesImport:
    """What importing a file does to a month.

    Attributes:
        month: the month.
        file: the file that is imported.
        file_sha256: the digest of the file's bytes.
        mode: what happens to the other charges.
        charges: all charges of the month after the import.
        changes: one for each charge before or after the import, by account and description.
    """

    month: str
    file: Path
    file_sha256: str
    mode: ImportMode
    charges: tuple[Charge, ...]
    changes: tuple[ChargeChange, ...]

    @property
    def changes_nothing(self) -> bool:
        """Whether the month already has exactly these charges."""
        return all(change.kind == "unchanged" for change in self.changes)


def month_charges(workspace: Workspace, month: str) -> list[Charge]:
    """The charges that count for a month."""
    delivery = _newest(workspace, parse_month(month))
    return landed_charges(delivery) if delivery else []


def plan_import(workspace: Workspace, file: Path, month: str, mode: ImportMode) -> ChargesImport:
    """What importing the file would change; nothing is written.

    Raises:
        OctoError: the file cannot be read, or a row is not valid; the message names its line.
    """
    return plan_content(workspace, read(file), file, month, mode)


def plan_content(workspace: Workspace, content: bytes, file: Path, month: str, mode: ImportMode) -> ChargesImport:
    """What importing a file's content would change; nothing is written.

    Raises:
        OctoError: it is not text, or a row is not valid; the message names its line.
    """
    before = {charge.key: charge for charge in month_charges(workspace, month)}
    imported = {charge.key: charge for charge in parse_charges(content, file, month)}
    after = {**before, **imported} if mode is ImportMode.merge else imported
    changes = [_change(before.get(key), after.get(key)) for key in sorted(before.keys() | after.keys())]
    sha256 = hashlib.sha256(content).hexdigest()
    return ChargesImport(month, file, sha256, mode, tuple(sorted(after.values())), tuple(changes))


def run_import(workspace: Workspace, planned: ChargesImport, actor: Actor) -> Delivery | None:
    """Land what was planned and record it; None if it changes nothing.

    Raises:
        OctoError: the lake cannot be written.
    """
    if planned.changes_nothing:
        return None
    delivery = _land(workspace, planned)
    workspace.registry.note(
        actor,
        "import_charges",
        f"charges of {planned.month}",
        {
            "file": str(planned.file),
            "sha256": planned.file_sha256,
            "mode": str(planned.mode),
            "version": delivery.version,
            "changes": [_as_json(change) for change in planned.changes if change.kind != "unchanged"],
        },
    )
    return delivery


def listed_charges(month: Iterable[Charge]) -> Rows:
    """Charges as rows."""
    rows = [(c.account, c.description, c.seller, c.currency, c.amount) for c in month]
    return Rows(("account", "description", "seller", "currency", "amount"), tuple(rows))


def listed_changes(planned: ChargesImport) -> Rows:
    """The changes of an import as rows."""
    rows = [
        (
            change.kind,
            change.charge.account,
            change.charge.description,
            change.charge.seller,
            change.charge.currency,
            change.previous_amount,
            None if change.kind == "removed" else change.charge.amount,
        )
        for change in planned.changes
    ]
    names = ("change", "account", "description", "seller", "currency", "previous_amount", "amount")
    return Rows(names, tuple(rows))


def _land(workspace: Workspace, planned: ChargesImport) -> Delivery:
    root = workspace.lake.root
    content = written(planned.charges, planned.month)
    version = hashlib.sha256(content).hexdigest()[:32]
    fetched_at = landing_time(root, VENDOR, planned.month)
    delivery = find_delivery(root, vendor=VENDOR, month=planned.month, version=version, account=_ACCOUNT)
    if delivery is not None:
        # The month had these charges before, so that delivery becomes the newest again.
        renew(root, delivery, fetched_at)
        return delivery
    with staging(root) as folder:
        files = fetch([SourceFile(_FILE, lambda: io.BytesIO(content), len(content))], folder, str(planned.file))
        delivery = Delivery(
            vendor=VENDOR,
            account=_ACCOUNT,
            month=planned.month,
            version=version,
            format="csv",
            report=str(planned.mode),
            files=files,
            fetched_at=fetched_at,
            source=str(planned.file),
            path=delivery_path(root, vendor=VENDOR, account=_ACCOUNT, month=planned.month, version=version),
            details={"file_sha256": planned.file_sha256, "rows": len(planned.charges)},
        )
        return publish(root, folder, delivery).delivery


def _newest(workspace: Workspace, month: str) -> Delivery | None:
    return next(iter(newest_deliveries(workspace.lake.root, month, VENDOR)), None)


def _change(before: Charge | None, after: Charge | None) -> ChargeChange:
    if after is None:
        if before is None:
            raise ValueError("a charge that is neither before nor after the import")
        return ChargeChange("removed", before, before.amount)
    if before is None:
        return ChargeChange("new", after, None)
    return ChargeChange("unchanged" if before.amount == after.amount else "changed", after, before.amount)


def _as_json(change: ChargeChange) -> dict[str, str | None]:
    charge = change.charge
    return {
        "kind": change.kind,
        "account": charge.account,
        "description": charge.description,
        "currency": charge.currency,
        "seller": charge.seller,
        "amount": None if change.kind == "removed" else f"{charge.amount:f}",
        "previous_amount": None if change.previous_amount is None else f"{change.previous_amount:f}",
    }
