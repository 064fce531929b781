"""Several AWS accounts on loopback: moto, with what it lacks for registering accounts.

moto lets anybody assume any role; here a role's trust policy is evaluated (principal's account and ExternalId).
moto knows neither Cost and Usage Reports nor Data Exports; here what a launched stack defines is listed. And a
launch link can be opened as a person would: its template becomes a stack in the account signed in to.
"""

import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from octo_pipeline.vendors.aws.launch_links import TEMPLATES

OWN = "123456789012"
PRINCIPAL = f"arn:aws:iam::{OWN}:role/octo-pipeline"
TEMPLATE_URL = "https://company-templates.s3.amazonaws.com/octo"


@dataclass
class AwsAccounts:
    """The emulated accounts.

    Attributes:
        reports: the Cost and Usage Reports of each account, as AWS describes them.
        exports: the Data Exports of each account.
        log: what was asked, as account and operation.
        fails: an answer to give instead: operation -> (status, error code).
    """

    reports: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    exports: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    log: list[tuple[str, str]] = field(default_factory=list)
    fails: dict[str, tuple[int, str]] = field(default_factory=dict)

    def client(self, service: str, account: str) -> Any:
        """A client of an administrator of the account."""
        import boto3
        from moto.sts.models import sts_backends

        role = sts_backends[OWN]["aws"].assume_role(
            "us-east-1", "admin", f"arn:aws:iam::{account}:role/Administrator", "", 3600, ""
        )
        return boto3.client(
            service,
            region_name="us-east-1",
            aws_access_key_id=role.access_key_id,
            aws_secret_access_key=role.secret_access_key,
            aws_session_token=role.session_token,
        )

    def organization(self, payer: str, *names: str) -> list[str]:
        """Make the account the payer of an organization with these linked accounts; returns their ids."""
        organizations = self.client("organizations", payer)
        organizations.create_organization(FeatureSet="ALL")
        return [
            organizations.create_account(AccountName=name, Email=f"{number}@example.com")["CreateAccountStatus"][
                "AccountId"
            ]
            for number, name in enumerate(names)
        ]

    def open(self, link: str, account: str) -> dict[str, str]:
        """Create the stack of a launch link; returns the parameters it was filled in with."""
        url = urlsplit(link)
        assert (url.scheme, url.netloc, url.query) == ("https", "console.aws.amazon.com", "region=us-east-1")
        path, _, query = url.fragment.partition("?")
        assert path == "/stacks/create/review"
        given = dict(parse_qsl(query, keep_blank_values=True))
        folder, _, template = given.pop("templateURL").rpartition("/")
        assert folder == TEMPLATE_URL
        stack = given.pop("stackName")
        parameters = {name.removeprefix("param_"): value for name, value in given.items()}
        self.create(template, stack, parameters, account)
        return parameters

    def create(self, template: str, stack: str, parameters: dict[str, str], account: str) -> None:
        if template == "linked-accounts.yaml":
            self._create_stack_set(parameters, account)
            return
        body = (TEMPLATES / template).read_text()
        self.client("cloudformation", account).create_stack(
            StackName=stack,
            TemplateBody=body,
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        if template == "cur.yaml":
            self._define_report(parameters, account)

    def _create_stack_set(self, parameters: dict[str, str], payer: str) -> None:
        organizations = self.client("organizations", payer)
        assert parameters["RootId"] == organizations.list_roots()["Roots"][0]["Id"]
        template = parameters["ApiAccessTemplateUrl"].rpartition("/")[2]
        given = {name: parameters[name] for name in ("Principal", "ExternalId", "RoleName")}
        for account in organizations.list_accounts()["Accounts"]:
            # A StackSet with the organization's own permissions leaves the management account out.
            if account["Id"] != payer:
                self.create(template, "StackSet-octo", given, account["Id"])

    def _define_report(self, parameters: dict[str, str], account: str) -> None:
        place = {
            "S3Bucket": parameters["CurS3BucketName"],
            "S3Prefix": parameters["CurS3Prefix"],
            "S3Region": parameters["CurS3BucketRegion"],
        }
        if parameters["ReportOption"] == "CREATE_CUR":
            report = {"ReportName": parameters["CurReportName"], "TimeUnit": "HOURLY", **place}
            self.reports.setdefault(account, []).append(report)
        if parameters["ReportOption"] == "CREATE_DATA_EXPORT":
            self.exports.setdefault(account, []).append({"Name": parameters["CurReportName"], "place": place})


class _Application:
    """moto's application behind the emulated parts."""

    def __init__(self, accounts: AwsAccounts) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._accounts = accounts
        self._moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        account, target = _caller(environ), environ.get("HTTP_X_AMZ_TARGET", "")
        form = {name: values[0] for name, values in parse_qs(body.decode("latin-1")).items()}
        operation = target.rpartition(".")[2] or form.get("Action", environ["REQUEST_METHOD"])
        self._accounts.log.append((account, operation))
        if operation in self._accounts.fails:
            status, code = self._accounts.fails[operation]
            return _answer(start, status, {"__type": code, "message": "as the test says"}, code)
        if operation == "AssumeRole" and not _trusts(form, account):
            text = (
                "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not authorized to perform: "
                f"sts:AssumeRole on resource: {form['RoleArn']}</Message></Error></ErrorResponse>"
            )
            start("403 Forbidden", [("Content-Type", "text/xml")])
            return [text.encode()]
        if target.startswith("AWSOrigamiServiceGatewayService."):
            return _answer(start, 200, {"ReportDefinitions": self._accounts.reports.get(account, [])})
        if target.startswith("AWSBillingAndCostManagementDataExports."):
            return _answer(start, 200, _exports(operation, json.loads(body or b"{}"), self._accounts, account))
        return self._moto(environ, start)


def _caller(environ: dict[str, Any]) -> str:
    from moto.iam.models import get_account_id_from

    _, _, credential = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")
    return str(get_account_id_from(credential.partition("/")[0]))


def _trusts(form: dict[str, str], caller: str) -> bool:
    from moto.iam.models import iam_backends

    account = form["RoleArn"].split(":")[4]
    try:
        role = iam_backends[account]["aws"].get_role_by_arn(form["RoleArn"])
    except Exception:
        return False
    policy = role.assume_role_policy_document
    document = json.loads(policy) if isinstance(policy, str) else policy
    return any(_allows(one, caller, form.get("ExternalId")) for one in document["Statement"])


def _allows(statement: dict[str, Any], caller: str, external_id: str | None) -> bool:
    if statement["Effect"] != "Allow" or statement["Principal"]["AWS"].split(":")[4] != caller:
        return False
    for operator, conditions in statement.get("Condition", {}).items():
        assert operator in ("StringEquals", "StringLike")
        assert list(conditions) == ["sts:ExternalId"]
        wanted = conditions["sts:ExternalId"]
        if external_id is None or (wanted != external_id and (operator, wanted) != ("StringLike", "*")):
            return False
    return True


def _exports(operation: str, asked: dict[str, Any], accounts: AwsAccounts, account: str) -> dict[str, Any]:
    found = accounts.exports.get(account, [])
    arns = {one["Name"]: f"arn:aws:bcm-data-exports:us-east-1:{account}:export/{one['Name']}" for one in found}
    if operation == "ListExports":
        return {"Exports": [{"ExportName": name, "ExportArn": arn} for name, arn in arns.items()]}
    export = next(one for one in found if arns[one["Name"]] == asked["ExportArn"])
    return {"Export": {"Name": export["Name"], "DestinationConfigurations": {"S3Destination": export["place"]}}}


def _answer(start: Callable[..., Any], status: int, document: dict[str, Any], code: str = "") -> list[bytes]:
    headers = [("Content-Type", "application/x-amz-json-1.1")] + ([("x-amzn-ErrorType", code)] if code else [])
    start(f"{status} -", headers)
    return [json.dumps(document).encode()]


@pytest.fixture
def aws_accounts(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsAccounts]:
    """Accounts that nobody has yet, where the program's own clients ask as account `OWN`."""
    from moto.moto_api._internal.models import moto_api_backend
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from moto.organizations.models import organizations_backends
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto_api_backend.reset()
    # moto's own reset leaves behind who was in which organization.
    organizations_backends.master_accounts.clear()
    accounts = AwsAccounts()
    server = make_server("127.0.0.1", 0, _Application(accounts), threaded=True, request_handler=MotoRequestHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    yield accounts
    server.shutdown()
    thread.join()
    server.server_close()
