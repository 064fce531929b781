"""The links that open an AWS account's CloudFormation console with one of our templates and its parameters.

The templates are files beside this module. The console reads templates only from S3, so an installation copies them to
a bucket of its own and sets aws_template_url.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlencode

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.registry.records import Account
from octo_pipeline.settings import Settings

TEMPLATES = Path(__file__).parent / "templates"
API_ACCESS = "api-access.yaml"
CUR = "cur.yaml"
LINKED_ACCOUNTS = "linked-accounts.yaml"

# AWS defines cost reports only here, so our templates are for this region.
_REGION = "us-east-1"
_CONSOLE = f"https://console.aws.amazon.com/cloudformation/home?region={_REGION}#/stacks/create/review"
_PRINCIPAL = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:(root|role/.+|user/.+)", re.ASCII)
_TEMPLATE_URL = re.compile(r"https://[^/?#]+/?[^?#]*", re.ASCII)
_REPORT_OPTIONS = {"cur": "CREATE_CUR", "data_export": "CREATE_DATA_EXPORT"}


def role_name(purpose: str, external_id: str) -> str:
    """The name of a role and its stack, which belongs to one ExternalId.

    What an earlier registration or a StackSet left in the account has another one, so nothing is in the way.
    """
    return f"octo-pipeline-{purpose}-{external_id[-8:]}"


def api_role(account: Account) -> str:
    """The name of the role of API access; accounts that an earlier edition registered have one without an ending."""
    return str(account.settings.get("api_role", "octo-pipeline-api-access"))


def linked_stack(external_id: str) -> str:
    """The name of the stack with the StackSet."""
    return role_name("linked-accounts", external_id)


def require_settings(settings: Settings) -> None:
    """Check the settings from which links are made.

    Raises:
        OctoError: the principal or the address of the templates is not set or not valid.
    """
    if settings.aws_principal is None or _PRINCIPAL.fullmatch(settings.aws_principal) is None:
        raise OctoError(
            "The setting aws_principal must be the ARN of the role or user that octo-pipeline runs as, such as "
            f"arn:aws:iam::111122223333:role/octo-pipeline; it is {settings.aws_principal or 'not set'}.",
            code="aws-principal-wrong",
            place="aws_principal",
            remedy=Remedy("set", setting="aws_principal"),
        )
    if settings.aws_template_url is None or _TEMPLATE_URL.fullmatch(settings.aws_template_url) is None:
        raise OctoError(
            f"The setting aws_template_url must be the https address of an S3 folder with the files of {TEMPLATES}, such "
            f"as https://company-templates.s3.amazonaws.com/octo; it is {settings.aws_template_url or 'not set'}.",
            code="aws-template-url-wrong",
            place="aws_template_url",
            remedy=Remedy("set", setting="aws_template_url"),
        )


def api_access(settings: Settings, account: Account) -> str:
    """The link that creates the role of API access.

    Raises:
        OctoError: as in `require_settings`.
    """
    role = api_role(account)
    return _link(settings, API_ACCESS, role, {"ExternalId": account.external_id or "", "RoleName": role})


def cur(settings: Settings, account: Account) -> str:
    """The link that creates a payer's report, its bucket and the role that reads them, as its settings say.

    Raises:
        OctoError: as in `require_settings`.
    """
    setup = account.settings["cur"]
    role = account.settings["source"]["role_arn"].rpartition("/")[2]
    parameters = {
        "ExternalId": account.external_id or "",
        "RoleName": role,
        "ReportOption": _REPORT_OPTIONS[setup["kind"]] if setup["makes_report"] else "USE_EXISTING",
        "CurReportName": setup["report"],
        "CurS3BucketOption": "CREATE_NEW" if setup["makes_bucket"] else "USE_EXISTING",
        "CurS3BucketName": setup["bucket"],
        "CurS3BucketRegion": setup["region"],
        "CurS3Prefix": setup["prefix"],
    }
    return _link(settings, CUR, role, parameters)


def linked_accounts(settings: Settings, external_id: str, root_id: str) -> str:
    """The link that creates the StackSet of API access in all linked accounts; to be opened in the payer.

    Raises:
        OctoError: as in `require_settings`.
    """
    parameters = {
        "ExternalId": external_id,
        "RoleName": role_name("api-access", external_id),
        "RootId": root_id,
        "ApiAccessTemplateUrl": _template_url(settings, API_ACCESS),
    }
    return _link(settings, LINKED_ACCOUNTS, linked_stack(external_id), parameters)


def _link(settings: Settings, template: str, stack: str, parameters: Mapping[str, str]) -> str:
    require_settings(settings)
    query = {"templateURL": _template_url(settings, template), "stackName": stack}
    query |= {
        f"param_{name}": value for name, value in {"Principal": settings.aws_principal or "", **parameters}.items()
    }
    return f"{_CONSOLE}?{urlencode(query, quote_via=quote, safe='')}"


def _template_url(settings: Settings, template: str) -> str:
    return f"{(settings.aws_template_url or '').rstrip('/')}/{template}"
