"""What every vendor's source of exports can be asked, whatever is behind it: a folder, a bucket, an API.

Here belongs the shape alone; how a vendor's export is found, fetched and read is its own module's matter.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from octo_pipeline.lake.store import Location
from octo_pipeline.vendors.landing import Landed


@dataclass(frozen=True)
class Available:
    """A version of one account's month that a source offers, known without fetching it.

    Attributes:
        account: the payer, partner tenant or billing account; None if only the data can tell.
        report: the export's name in the vendor's words.
        version: the version as it will be called in the landing.
    """

    vendor: str
    account: str | None
    month: str
    report: str
    version: str


class Source(Protocol):
    """One place that one vendor's exports come from."""

    @property
    def vendor(self) -> str:
        """The vendor's name."""
        ...

    @property
    def account(self) -> str | None:
        """The payer, partner tenant or billing account whose exports these are; None if only the data can tell."""
        ...

    @property
    def name(self) -> str:
        """What sentences and sensors call it; no two sources of an installation share a name."""
        ...

    def available(self, month: str) -> list[Available]:
        """The current version of each export of the month; cheap enough for a sensor.

        Raises:
            OctoError: the source cannot be reached or refuses; the sentence names it and what to do.
        """
        ...

    def land(self, root: Location, month: str, fetched_at: datetime) -> list[Landed]:
        """Land the current version of each export of the month; what is landed already is not fetched again.

        Args:
            root: the lake.
            month: the billing month.
            fetched_at: when this was begun, with a time zone.

        Raises:
            OctoError: an export cannot be reached or is not right; the others are landed all the same.
        """
        ...


@runtime_checkable
class TellsMonths(Protocol):
    """A source that can say of which months its exports are, for people who name the wrong one."""

    def months(self) -> list[str]:
        """The months, YYYY-MM, in order; none if only the data could tell."""
        ...


@runtime_checkable
class TellsPassedOver(Protocol):
    """A source that lies beside other exports with costs, which another kind of source reads."""

    def passed_over(self, month: str) -> list[str]:
        """A sentence for each such export that the last landing of the month did not read."""
        ...
