"""The options in a document of the configuration for a payer's reports, in a bucket or a folder.

With Billing Transfer, a payer's report can move to another account within a year, and its costs are either estimates or
what AWS invoices. So a payer can have several documents, each for some months.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from octo_pipeline.model.errors import OctoError
from octo_pipeline.vendors.aws.cur_columns import Costs
from octo_pipeline.vendors.aws.cur_manifest import Domain
from octo_pipeline.vendors.aws.cur_reports import CurReport

_MONTH = r"^\d{4}-(0[1-9]|1[0-2])$"


class CurOptions(BaseModel):
    """A payer's reports.

    Attributes:
        account: the payer.
        report: the report's or export's name, if there are several.
        costs: ``net`` takes each cost after discounts.
        first_month: the first month that this source has; `from` in the document.
        last_month: the last one; `to` in the document.
        domain: of the billing view, if the export does not say it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    vendor: Literal["aws"]
    account: str = Field(pattern=r"^\d{12,13}$")
    report: str | None = None
    costs: Costs = "unblended"
    first_month: str | None = Field(default=None, alias="from", pattern=_MONTH)
    last_month: str | None = Field(default=None, alias="to", pattern=_MONTH)
    domain: Domain | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.first_month and self.last_month and self.first_month > self.last_month:
            raise ValueError(f"from is {self.first_month}, which is after to, {self.last_month}")
        return self

    @property
    def label(self) -> str:
        """The payer, and the report and months if the document names them, so that each source has a different label."""
        months = f"{self.first_month or ''}…{self.last_month or ''}" if self.first_month or self.last_month else None
        return " ".join(part for part in (self.account, self.report, months) if part)

    def is_of(self, month: str) -> bool:
        """Whether the source has the month."""
        return (self.first_month or month) <= month <= (self.last_month or month)

    def wants(self, report: str) -> bool:
        """Whether the document is about a report of this name."""
        return self.report in (None, report)

    def applied(self, report: CurReport) -> CurReport:
        """A report with the options of the document.

        Raises:
            OctoError: the export has another domain than the document.
        """
        if self.domain and report.domain and self.domain != report.domain:
            raise OctoError(
                f"{report.source} is of a billing view of the domain {report.domain}, but its source's document says "
                f"{self.domain}. Correct the document, or point it to the other view.",
                code="domain-differs",
                place=report.source,
            )
        # A manifest names the owner of the report, but the rows must be of the document's payer.
        return replace(report, account=self.account, costs=self.costs, domain=report.domain or self.domain)


class CurFolderDocument(CurOptions):
    """A payer's reports in a folder of this machine."""

    folder: Path
