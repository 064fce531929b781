"""The configuration of one Google Cloud source: which billing account's export, and where it is."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

# Google's ids have six characters in each part; the known example of Octo has five in the last.
BILLING_ACCOUNT_ID = "^[0-9A-Z]{5,6}-[0-9A-Z]{5,6}-[0-9A-Z]{5,6}$"
BillingAccountId = Annotated[str, StringConstraints(pattern=BILLING_ACCOUNT_ID)]


class GcpSourceDocument(BaseModel):
    """Where the Cloud Billing export of one billing account is in BigQuery.

    Its tables are found by their names. Without `credentials`, Google's application default credentials are used. With
    `impersonate`, the credentials are only used to act as that service account.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    vendor: Literal["gcp"] = "gcp"
    billing_account_id: BillingAccountId = Field(description="Such as 0D1DR5-ADE21G-RF09W1.")
    # Both stand within backticks in SQL.
    project: str = Field(
        pattern=r"^[a-z][a-z0-9.:-]*$", description="Project of the dataset; it also runs the queries."
    )
    dataset: str = Field(pattern=r"^[0-9A-Za-z_]+$", description="Dataset the export is written to.")
    location: str | None = Field(default=None, description="Location of the dataset, such as EU; found if unset.")
    credentials: Path | None = Field(default=None, description="Key file of a service account.")
    impersonate: str | None = Field(default=None, description="E-mail of a service account to act as.")

    @property
    def place(self) -> str:
        """What messages call it."""
        return f"the billing export of {self.billing_account_id} in {self.project}.{self.dataset}"
