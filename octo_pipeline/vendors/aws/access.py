"""What AWS says about a registered account: its roles, its payer, its report.

Each function calls AWS and returns the result, or raises the error that becomes the account's problem. What follows for
the account's steps belongs in `registration`.
"""

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from octo_pipeline.lake.s3_errors import error_code, refusal_of
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.months import add_months
from octo_pipeline.vendors.aws.client import AwsAccess, client, cur_source, translate_aws_errors
from octo_pipeline.vendors.aws.cur_bucket import CurDocument

_SESSION = "octo-pipeline-confirm"


def require_role(access: AwsAccess) -> None:
    """Check that a role can be assumed with its ExternalId and not without it.

    Raises:
        OctoError: it cannot be assumed, belongs to another account, or can be assumed without the ExternalId or
            with any other.
    """
    with translate_aws_errors(access, "find out which account the role belongs to"):
        account = client("sts", access).get_caller_identity()["Account"]
    if account != access.account:
        raise OctoError(
            f"AWS account {access.account}: the role {access.role_arn} belongs to account {account}.",
            code="role-of-another-account",
        )
    own = client("sts", AwsAccess(access.account))
    for condition, arguments in (
        ("without the ExternalId", {}),
        ("with any ExternalId", {"ExternalId": f"octo-{secrets.token_hex(16)}"}),
    ):
        if _lets_in(own, access, arguments):
            raise OctoError(
                f"AWS account {access.account}: the role {access.role_arn} can be assumed {condition}, so somebody else "
                "could make octo-pipeline read this account for them. Create its stack again with our template and do "
                "not change the role's trust policy.",
                code="role-without-external-id",
            )


def _lets_in(own: Any, access: AwsAccess, arguments: Mapping[str, str]) -> bool:
    from botocore.exceptions import ClientError

    with translate_aws_errors(AwsAccess(access.account), f"see whether {access.role_arn} refuses"):
        try:
            own.assume_role(RoleArn=access.role_arn, RoleSessionName=_SESSION, **arguments)
        except ClientError as error:
            if refusal_of(error_code(error)) == "forbidden":
                return False
            raise
    return True


def management_account(access: AwsAccess) -> str:
    """The payer: the management account of the organization, or the account itself if it is in none.

    Raises:
        OctoError: AWS refuses or cannot be reached.
    """
    from botocore.exceptions import ClientError

    with translate_aws_errors(access, "ask AWS Organizations who pays for it"):
        try:
            organization = client("organizations", access).describe_organization()["Organization"]
        except ClientError as error:
            if error_code(error) == "AWSOrganizationsNotInUseException":
                return access.account
            raise
    return str(organization["MasterAccountId"])


def linked_accounts(access: AwsAccess) -> list[tuple[str, str]]:
    """Id and name of the organization's active accounts, without the payer.

    Raises:
        OctoError: AWS refuses or cannot be reached.
    """
    with translate_aws_errors(access, "list the accounts of its organization"):
        pages = client("organizations", access).get_paginator("list_accounts").paginate()
        accounts = [account for page in pages for account in page["Accounts"]]
    return [
        (account["Id"], account.get("Name", ""))
        for account in accounts
        if account["Status"] == "ACTIVE" and account["Id"] != access.account
    ]


def organization_root(access: AwsAccess) -> str:
    """The id of the organization's root.

    Raises:
        OctoError: AWS refuses or cannot be reached.
    """
    with translate_aws_errors(access, "find the root of its organization"):
        return str(client("organizations", access).list_roots()["Roots"][0]["Id"])


def require_report(access: AwsAccess, setup: Mapping[str, Any]) -> None:
    """Check that the report or export exists in AWS, and that it is written where the settings say.

    Args:
        access: the API access of the payer.
        setup: kind, report, bucket, prefix and region of the settings.

    Raises:
        OctoError: there is no such report, or it is written elsewhere.
    """
    find_destination = _cur_destination if setup["kind"] == "cur" else _export_destination
    destination = find_destination(access, setup["report"])
    title = "Cost and Usage Report" if setup["kind"] == "cur" else "Data Export"
    if destination is None:
        raise OctoError(
            f"AWS account {access.account} has no {title} named {setup['report']!r}. Create the stack, or enter its name "
            "in AWS Billing.",
            code="report-unknown",
        )
    registered = {"bucket": setup["bucket"], "prefix": setup["prefix"], "region": setup["region"]}
    differing = [name for name, value in registered.items() if destination[name] != value]
    if differing:
        differences = ", ".join(
            f"{name} {destination[name]!r} (registered: {registered[name]!r})" for name in differing
        )
        raise OctoError(
            f"AWS account {access.account}: the {title} {setup['report']!r} has {differences}. Register these values.",
            code="report-registered-wrong",
            place=access.account,
            remedy=Remedy("accounts edit", access.account),
        )


def _cur_destination(access: AwsAccess, report: str) -> dict[str, str] | None:
    with translate_aws_errors(access, "list its Cost and Usage Reports"):
        pages = client("cur", access).get_paginator("describe_report_definitions").paginate()
        definitions = [
            definition
            for page in pages
            for definition in page["ReportDefinitions"]
            if definition["ReportName"] == report
        ]
    return _destination(definitions[0]) if definitions else None


def _export_destination(access: AwsAccess, report: str) -> dict[str, str] | None:
    with translate_aws_errors(access, "list its Data Exports"):
        exports = client("bcm-data-exports", access)
        pages = exports.get_paginator("list_exports").paginate()
        summaries = [summary for page in pages for summary in page["Exports"] if summary["ExportName"] == report]
        if not summaries:
            return None
        export = exports.get_export(ExportArn=summaries[0]["ExportArn"])["Export"]
    return _destination(export["DestinationConfigurations"]["S3Destination"])


def _destination(destination: Mapping[str, Any]) -> dict[str, str]:
    return {
        "bucket": destination["S3Bucket"],
        "prefix": destination["S3Prefix"].strip("/"),
        "region": destination["S3Region"],
    }


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
            f"{document.report} for this or the last month yet. AWS writes the first one within a day; confirm again then.",
            code="report-not-written-yet",
        )
