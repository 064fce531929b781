"""Months that are run by another process's Dagster, over its GraphQL."""

from types import SimpleNamespace

import pytest
import requests

from octo_pipeline.automation import remote_runs
from octo_pipeline.automation.remote_runs import RemoteRun, launch_month
from octo_pipeline.definitions import defs
from octo_pipeline.model.errors import OctoError

URL = "http://dagster.internal:3000"


@pytest.fixture
def dagster(monkeypatch):
    """A webserver that gives these answers in turn; what it was asked is kept."""
    server = SimpleNamespace(answers=[], asked=[])

    def post(url: str, *, json: dict, timeout: float) -> SimpleNamespace:
        server.asked.append((url, json["variables"]))
        answer = server.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(json=lambda: answer)

    monkeypatch.setattr(requests, "post", post)
    monkeypatch.setattr(remote_runs.time, "sleep", lambda _: None)
    return server


def repositories(job: str = remote_runs.JOB) -> dict:
    node = {"name": "__repository__", "location": {"name": "octo_pipeline"}, "pipelines": [{"name": job}]}
    return {"data": {"repositoriesOrError": {"__typename": "RepositoryConnection", "nodes": [node]}}}


def run_of(status: str, **steps: str) -> dict:
    stats = [{"stepKey": key, "status": state} for key, state in steps.items()]
    return {"data": {"runOrError": {"__typename": "Run", "status": status, "stepStats": stats}}}


def test_the_queries_are_valid_for_the_installed_dagster():
    from dagster_graphql.schema import create_schema
    from graphql import parse, validate

    schema = create_schema().graphql_schema
    for query in (remote_runs.WHERE, remote_runs.LAUNCH, remote_runs.FOLLOW):
        assert validate(schema, parse(query)) == []


def test_the_job_exists():
    assert defs.resolve_job_def(remote_runs.JOB).partitions_def is not None


def test_a_month_is_launched_and_followed_until_it_ends(dagster):
    launched = {"data": {"launchRun": {"__typename": "LaunchRunSuccess", "run": {"runId": "0123456789"}}}}
    dagster.answers += [repositories(), launched]
    run = launch_month(f"{URL}/", "2024-01", "ana")
    assert run.link == f"{URL}/runs/0123456789"
    url, variables = dagster.asked[-1]
    assert url == f"{URL}/graphql"
    parameters = variables["executionParams"]
    assert parameters["selector"]["jobName"] == "monthly_allocation"
    assert {"key": "dagster/partition", "value": "2024-01"} in parameters["executionMetadata"]["tags"]
    dagster.answers += [
        run_of("QUEUED"),
        run_of("STARTED", aws_raw="SUCCESS", allocations="IN_PROGRESS"),
        run_of("SUCCESS", aws_raw="SUCCESS", allocations="SUCCESS"),
    ]
    assert list(run.follow()) == [
        "The run 01234567 is queued.",
        "The run 01234567 has started.",
        "aws_raw: success",
        "The run 01234567 succeeded.",
        "allocations: success",
    ]


@pytest.mark.parametrize(("status", "ending"), [("FAILURE", "failed"), ("CANCELED", "was terminated")])
def test_a_run_that_does_not_succeed_is_an_error_with_its_page(dagster, status, ending):
    dagster.answers.append(run_of(status, allocations="FAILURE"))
    with pytest.raises(OctoError, match=f"The run r1 {ending}; its page {URL}/runs/r1 says why") as error:
        list(RemoteRun(URL, "r1").follow())
    assert error.value.code == "remote-run-failed"


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([requests.ConnectionError("http://user:hush@dagster")], "dagster-not-asked"),
        ([{"errors": [{"message": "no"}]}], "dagster-not-asked"),
        ([repositories("another")], "remote-job-missing"),
        (
            [repositories(), {"data": {"launchRun": {"__typename": "UnauthorizedError", "message": "no"}}}],
            "dagster-refuses",
        ),
    ],
)
def test_what_goes_wrong_is_said_without_secrets(dagster, answers, code):
    dagster.answers += answers
    with pytest.raises(OctoError) as error:
        launch_month(URL, "2024-01", "ana")
    assert (error.value.code, "hush" in str(error.value)) == (code, False)
