"""The payer that registrations of AWS accounts are tested with, and its reports."""

from datetime import UTC, datetime
from pathlib import Path

from octo_pipeline.vendors.aws.sample import write_cur
from tests.emulators.aws import upload
from tests.emulators.aws_accounts import AwsAccounts

SAMPLE_PAYER = "999988887777"
CUR_BUCKET = f"octo-cur-{SAMPLE_PAYER}"
CURRENT_MONTH = f"{datetime.now(UTC):%Y-%m}"


def deliver_report(aws_accounts: AwsAccounts, folder: Path, month: str = CURRENT_MONTH) -> None:
    """Write a month's report into the payer's bucket, as AWS would."""
    write_cur(folder, months=[month], accounts=4, lines=200)
    upload(aws_accounts.client("s3", SAMPLE_PAYER), folder / "aws", bucket=CUR_BUCKET)
