"""Landing a month's deliveries from where a vendor puts them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from octo_pipeline.sources import aws_cur
from octo_pipeline.sources.landing import Delivery, newest_deliveries
from octo_pipeline.tables.workspace import Workspace


@dataclass(frozen=True)
class LandedMonth:
    """What is landed for a month after looking for more.

    Attributes:
        deliveries: the newest complete delivery of each account.
        new: how many deliveries were not there before.
    """

    deliveries: tuple[Delivery, ...]
    new: int

    @property
    def sentence(self) -> str:
        """What happened, in a few words."""
        if not self.deliveries:
            return "no delivery"
        return f"{self.new} new" if self.new else "unchanged"


def land_month(workspace: Workspace, vendor: str, source: Path | None, month: str) -> LandedMonth:
    """Land what the source has for the month and say what is there now.

    Args:
        workspace: whose lake it is landed in.
        vendor: aws, azure or gcp.
        month: the billing month.
        source: a folder laid out as the vendor's bucket, or one file; None looks nowhere.

    Raises:
        OctoError: a delivery is damaged, or not of this month; nothing of it is landed.
    """
    root = workspace.lake.root
    landed = aws_cur.land_cur(root, source, month=month, fetched_at=datetime.now(UTC)) if source is not None else []
    return LandedMonth(tuple(newest_deliveries(root, month, vendor)), sum(one.is_new for one in landed))
