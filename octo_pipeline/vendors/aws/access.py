"""What AWS itself says about an account that is registered: its roles, its payer, its report.

Each function asks AWS and returns what it found or raises the sentence that becomes the account's problem.
What follows from it for the account's steps is `aws.py`'s matter.
"""

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.months import add_months
from octo_pipeline.vendors.aws.client import AwsAccess, client, cur_source, translate_aws_errors
from octo_pipeline.vendors.aws.cur_bucket import CurDocument

_SESSION = "octo-pipeline-confirm"


def require_role(access: AwsAccess) -> None:
    """Check that a role lets us in with its ExternalId, and nobody who does not know it.

    Raises:
        OctoError: it cannot be assumed, is another account's, or can be assumed without the ExternalId or
            with any other.
    """
    with translate_aws_errors(access, "find out who the role is"):
        found = client("sts", access).get_caller_identity()["Account"]
    if found != access.account:
        raise OctoError(
            f"AWS account {access.account}: the role {access.role_arn} is of account {found}.",
            code="role-of-another-account",
        )
    own = client("sts", AwsAccess(access.account))
    for what, given in (
        ("without the ExternalId", {}),
        ("with any ExternalId", {"ExternalId": f"octo-{secrets.token_hex(16)}"}),
    ):
        if _lets_in(own, access, given):
            raise OctoError(
                f"AWS account {access.account}: the role {access.role_arn} can be assumed {what}, so somebody else "
                "could make octo-pipeline read this account for them. Create its stack again with our template and "
                "leave the role's trust policy as it is.",
                code="role-without-external-id",
            )


def _lets_in(own: Any, access: AwsAccess, given: Mapping[str, str]) -> bool:
    from botocore.exceptions import ClientError

    with translate_aws_errors(AwsAccess(access.account), f"see whether {access.role_arn} refuses"):
        try:
            own.assume_role(RoleArn=access.role_arn, RoleSessionName=_SESSION, **given)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "AccessDenied":
                return False
            raise
    return True


def management_account(access: AwsAccess) -> str:
    """The account that pays: of its organization, or itself if it is in none.

    Raises:
        OctoError: AWS cannot be asked.
    """
    from botocore.exceptions import ClientError

    with translate_aws_errors(access, "ask AWS Organizations who pays for it"):
        try:
            found = client("organizations", access).describe_organization()["Organization"]
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "AWSOrganizationsNotInUseException":
                return access.account
            raise
    return str(found["MasterAccountId"])


def linked_accounts(access: AwsAccess) -> list[tuple[str, str]]:
    """Id and name of the organization's active accounts but the payer.

    Raises:
        OctoError: AWS cannot be asked.
    """
    with translate_aws_errors(access, "list the accounts of its organization"):
        pages = client("organizations", access).get_paginator("list_accounts").paginate()
        found = [one for page in pages for one in page["Accounts"]]
    return [
        (one["Id"], one.get("Name", "")) for one in found if one["Status"] == "ACTIVE" and one["Id"] != access.account
    ]


def organization_root(access: AwsAccess) -> str:
    """The id of the organization's root.

    Raises:
        OctoError: AWS cannot be asked.
    """
    with translate_aws_errors(access, "find the root of its organization"):
        return str(client("organizations", access).list_roots()["Roots"][0]["Id"])


def require_report(access: AwsAccess, given: Mapping[str, Any]) -> None:
    """Check that AWS defines the report or export, and that it goes where the settings say.

    Args:
        access: the API access of the payer.
        given: kind, report, bucket, prefix and region of the settings.

    Raises:
        OctoError: there is no such report, or it is written elsewhere.
    """
    ask = _cur_destination if given["kind"] == "cur" else _export_destination
    found = ask(access, given["report"])
    title = "Cost and Usage Report" if given["kind"] == "cur" else "Data Export"
    if found is None:
        raise OctoError(
            f"AWS account {access.account}: it has no {title} called {given['report']!r}. Create the stack, or give the "
            "name that it has in AWS Billing.",
            code="report-unknown",
        )
    wanted = {"bucket": given["bucket"], "prefix": given["prefix"], "region": given["region"]}
    differing = [name for name, value in wanted.items() if found[name] != value]
    if differing:
        said = ", ".join(f"{name} {found[name]!r} (registered: {wanted[name]!r})" for name in differing)
        raise OctoError(
            f"AWS account {access.account}: the {title} {given['report']!r} has {said}. Register what AWS says.",
            code="report-registered-wrong",
            place=access.account,
            remedy=Remedy("accounts edit", access.account),
        )


def _cur_destination(access: AwsAccess, report: str) -> dict[str, str] | None:
    with translate_aws_errors(access, "list its Cost and Usage Reports"):
        pages = client("cur", access).get_paginator("describe_report_definitions").paginate()
        found = [one for page in pages for one in page["ReportDefinitions"] if one["ReportName"] == report]
    return _destination(found[0]) if found else None


def _export_destination(access: AwsAccess, report: str) -> dict[str, str] | None:
    with translate_aws_errors(access, "list its Data Exports"):
        exports = client("bcm-data-exports", access)
        pages = exports.get_paginator("list_exports").paginate()
        found = [one for page in pages for one in page["Exports"] if one["ExportName"] == report]
        if not found:
            return None
        export = exports.get_export(ExportArn=found[0]["ExportArn"])["Export"]
    return _destination(export["DestinationConfigurations"]["S3Destination"])


def _destination(found: Mapping[str, Any]) -> dict[str, str]:
    return {"bucket": found["S3Bucket"], "prefix": found["S3Prefix"].strip("/"), "region": found["S3Region"]}


def require_delivery(document: CurDocument) -> None:
    """Check that the report's bucket can be read, by reading a manifest of the last two months.

    Raises:
        OctoError: the bucket refuses, or there is no manifest yet.
    """
    source = cur_source(document)
    current = f"{datetime.now(UTC):%Y-%m}"
    if not (source.available(current) or source.available(add_months(current, -1))):
        raise OctoError(
            f"AWS account {document.account}: s3://{document.bucket}/{document.prefix} has no manifest of "
            f"{document.report} of this or the last month yet. AWS writes the first within a day: confirm again then.",
            code="report-not-written-yet",
        )
