"""The arguments of a sample, checked, and the sizes that follow from them."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self, get_args

from octo_pipeline.model.errors import OctoError
from octo_pipeline.vendors.aws.sample.accounts import DATA_PLATFORM, PLATFORM, SANDBOX
from octo_pipeline.vendors.sample_months import require_months

REPORT_NAME = "octo-sample"
LINES_PER_RESOURCE = 24

Format = Literal["parquet", "csv.gz"]

_MIN_ACCOUNTS = 3  # payer, platform, one product team
_MIN_LINES = 100
_COVERED_PERCENT = 15  # share of the usage lines that a reservation or a Savings Plan covers
_SHORTEST_MONTH = 28 * 24


@dataclass(frozen=True)
class SampleSettings:
    """What a sample is made of.

    Attributes:
        first: the earliest month.
        last: the latest month.
        accounts: the number of accounts including the payer.
        lines: usage lines per month.
        seed: what the draws depend on.
        format: of the data files.
        files: the number of data files per month.
    """

    first: str
    last: str
    accounts: int
    lines: int
    seed: int
    format: Format
    files: int

    @classmethod
    def checked(cls, months: Sequence[str], accounts: int, lines: int, seed: int, format: Format, files: int) -> Self:
        """The settings of these arguments.

        Raises:
            OctoError: an argument is out of range.
        """
        require_months(months)
        if accounts < _MIN_ACCOUNTS:
            raise OctoError(
                f"A sample of {accounts} accounts is too small; give at least {_MIN_ACCOUNTS}:"
                " the payer, the platform account and one product team.",
                code="sample-settings-wrong",
            )
        if lines < _MIN_LINES:
            raise OctoError(
                f"A sample of {lines} usage lines a month is too small; give at least {_MIN_LINES}.",
                code="sample-settings-wrong",
            )
        if not 1 <= files <= lines:
            raise OctoError(
                f"A month cannot be written to {files} files; give 1 up to the number of lines, {lines}.",
                code="sample-settings-wrong",
            )
        if format not in get_args(Format):
            raise OctoError(
                f"{format!r} is not a format of the sample; give one of {', '.join(get_args(Format))}.",
                code="sample-settings-wrong",
            )
        return cls(min(months), max(months), accounts, lines, seed, format, files)

    @property
    def teams(self) -> int:
        """The number of product teams."""
        return self.accounts - 1 - len(self.roles)

    @property
    def roles(self) -> tuple[str, ...]:
        """The linked accounts with a role, as far as the number of accounts allows beside one team."""
        return (PLATFORM, DATA_PLATFORM, SANDBOX)[: self.accounts - 2]

    @property
    def covered(self) -> int:
        """The number of lines that a commitment covers."""
        return self.lines * _COVERED_PERCENT // 100

    @property
    def reservations(self) -> int:
        """The number of reservations, and also that of Savings Plans."""
        return 2 + self.lines // 400_000

    @property
    def commitments(self) -> int:
        """The number of reservations and Savings Plans."""
        return 2 * self.reservations

    @property
    def on_demand(self) -> int:
        """The number of lines on demand."""
        return self.lines - self.covered

    @property
    def lines_of_commitment(self) -> int:
        """The greatest number of lines that share what a commitment promises."""
        return -(-self.covered // self.commitments)

    @property
    def instances_of_commitment(self) -> int:
        """Enough instances that even the shortest month has at most one line an hour for each of them."""
        return max(4, -(-self.lines_of_commitment // _SHORTEST_MONTH))

    @property
    def resources(self) -> int:
        """The number of resources that are billed on demand."""
        return max(1, self.on_demand // LINES_PER_RESOURCE)

    def assembly_id(self, month: str) -> str:
        """The same for the same rows: two different samples of a month are two deliveries."""
        story = (self.first, month == self.last)
        size = (self.accounts, self.lines, self.seed, self.format, self.files)
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{REPORT_NAME}/{month}/{story}/{size}"))
