"""The CloudFormation templates as documents; `make check` holds them against AWS's schemas with cfn-lint."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from octo_pipeline.vendors.aws import access
from octo_pipeline.vendors.aws.cur_columns import COLUMNS
from octo_pipeline.vendors.aws.launch_links import API_ACCESS, CUR, LINKED_ACCOUNTS, TEMPLATES
from octo_pipeline.vendors.data_columns import folded


class _Loader(yaml.SafeLoader):
    """Reads ``!Ref x`` and its like as {"Ref": x}."""


def _intrinsic(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        return {suffix: loader.construct_scalar(node)}
    assert isinstance(node, yaml.SequenceNode)
    return {suffix: loader.construct_sequence(node, deep=True)}


_Loader.add_multi_constructor("!", _intrinsic)


def template(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.load((TEMPLATES / name).read_text(), _Loader)
    return document


@pytest.mark.parametrize("name", [API_ACCESS, CUR])
def test_a_role_trusts_one_principal_with_the_external_id_and_nobody_else(name: str) -> None:
    roles = [one for one in template(name)["Resources"].values() if one["Type"] == "AWS::IAM::Role"]
    (role,) = roles
    assert role["Properties"]["AssumeRolePolicyDocument"] == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": {"Ref": "Principal"}},
                "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"sts:ExternalId": {"Ref": "ExternalId"}}},
            }
        ],
    }


@pytest.mark.parametrize("name", [API_ACCESS, CUR, LINKED_ACCOUNTS])
def test_principal_and_external_id_have_no_default(name: str) -> None:
    parameters = template(name)["Parameters"]
    assert "Default" not in parameters["Principal"]
    assert "Default" not in parameters["ExternalId"]
    assert parameters["ExternalId"]["MinLength"] >= 16


def test_the_role_of_api_access_may_do_what_the_program_calls_and_nothing_else() -> None:
    (policy,) = template(API_ACCESS)["Resources"]["Role"]["Properties"]["Policies"]
    (statement,) = policy["PolicyDocument"]["Statement"]
    code = Path(str(access.__file__)).read_text()
    # A client is asked by a method, or by a paginator of its name. STS lets everybody ask who they are.
    call = r'\.(?:get_paginator\("(\w+)"\)|(?!get_paginator)(\w+)\()'
    calls = re.findall(r'client\("([\w-]+)", access\)' + call, code)
    calls += [("bcm-data-exports", *names) for names in re.findall("exports" + call, code)]
    called = {
        f"{service}:{''.join(part.capitalize() for part in (paged or method).split('_'))}"
        for service, paged, method in calls
        if service != "sts"
    }
    assert set(statement["Action"]) == called


def test_the_cur_role_reads_the_reports_prefix_only() -> None:
    (policy,) = template(CUR)["Resources"]["Role"]["Properties"]["Policies"]
    bucket = "arn:${AWS::Partition}:s3:::${CurS3BucketName}"
    list_reports, read_reports = policy["PolicyDocument"]["Statement"]
    assert list_reports == {
        "Effect": "Allow",
        "Action": "s3:ListBucket",
        "Resource": {"Sub": bucket},
        "Condition": {"StringLike": {"s3:prefix": {"If": ["HasPrefix", {"Sub": "${CurS3Prefix}/*"}, "*"]}}},
    }
    assert read_reports == {
        "Effect": "Allow",
        "Action": "s3:GetObject",
        "Resource": {"If": ["HasPrefix", {"Sub": f"{bucket}/${{CurS3Prefix}}/*"}, {"Sub": f"{bucket}/*"}]},
    }


def test_the_buckets_policy_lets_billing_of_this_account_write_only() -> None:
    resources = template(CUR)["Resources"]
    statements = resources["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    for statement in statements:
        assert statement["Principal"] == {"Service": ["billingreports.amazonaws.com", "bcm-data-exports.amazonaws.com"]}
        assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    assert [statement["Action"] for statement in statements] == [
        ["s3:GetBucketAcl", "s3:GetBucketPolicy"],
        "s3:PutObject",
    ]
    assert set(resources["Bucket"]["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}
    assert resources["Bucket"]["DeletionPolicy"] == "Retain"


def test_a_new_report_is_hourly_with_resources_and_overwritten() -> None:
    resources = template(CUR)["Resources"]
    report = resources["Report"]["Properties"]
    assert (report["TimeUnit"], report["AdditionalSchemaElements"]) == ("HOURLY", ["RESOURCES"])
    assert report["ReportVersioning"] == "OVERWRITE_REPORT"
    export = resources["DataExport"]["Properties"]["Export"]
    settings = export["DataQuery"]["TableConfigurations"]["COST_AND_USAGE_REPORT"]
    assert (settings["TIME_GRANULARITY"], settings["INCLUDE_RESOURCES"]) == ("HOURLY", "TRUE")
    assert settings["INCLUDE_SPLIT_COST_ALLOCATION_DATA"] == "FALSE"


def test_a_new_data_export_has_every_column_that_is_read() -> None:
    query = template(CUR)["Resources"]["DataExport"]["Properties"]["Export"]["DataQuery"]["QueryStatement"]
    assert query.startswith("SELECT ")
    assert query.endswith(" FROM COST_AND_USAGE_REPORT")
    has = {folded(name) for name in query[len("SELECT ") : -len(" FROM COST_AND_USAGE_REPORT")].split(",")}
    # CUR 2.0 keeps these two in its map `product`, and tags in `resource_tags`. Rows of containers are an option of their own.
    others = {"productproductname", "productregion", "tagsjson"}
    wanted = {name for column in COLUMNS if not (name := folded(column)).startswith("splitlineitem")} - others
    assert wanted <= has
    assert {"product", "productregioncode", "resourcetags"} <= has


def test_the_stack_set_reaches_all_accounts_of_the_root_with_the_same_parameters() -> None:
    stack_set = template(LINKED_ACCOUNTS)["Resources"]["StackSet"]["Properties"]
    assert stack_set["PermissionModel"] == "SERVICE_MANAGED"
    assert stack_set["AutoDeployment"]["Enabled"] is True
    assert stack_set["TemplateURL"] == {"Ref": "ApiAccessTemplateUrl"}
    given = {one["ParameterKey"]: one["ParameterValue"] for one in stack_set["Parameters"]}
    assert given == {name: {"Ref": name} for name in template(API_ACCESS)["Parameters"]}
    (group,) = stack_set["StackInstancesGroup"]
    assert group == {
        "DeploymentTargets": {"OrganizationalUnitIds": [{"Ref": "RootId"}]},
        "Regions": ["us-east-1"],
    }
