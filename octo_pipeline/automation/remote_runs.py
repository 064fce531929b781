"""Runs that another process's Dagster does: launched over its GraphQL, and followed until they end.

Importing this module does not import Dagster, which takes seconds.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests

from octo_pipeline.model.errors import OctoError, Remedy

JOB = "monthly_allocation"
_SECONDS, _TIMEOUT_SECONDS = 2, 20
_ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
_STATES = {"STARTED": "has started", "SUCCESS": "succeeded", "FAILURE": "failed", "CANCELED": "was terminated"}

WHERE = """
query OctoJobs {
  repositoriesOrError {
    __typename
    ... on RepositoryConnection { nodes { name location { name } pipelines { name } } }
    ... on PythonError { message }
  }
}
"""
LAUNCH = """
mutation OctoLaunch($executionParams: ExecutionParams!) {
  launchRun(executionParams: $executionParams) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on UnauthorizedError { message }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on PipelineNotFoundError { message }
    ... on PythonError { message }
  }
}
"""
FOLLOW = """
query OctoRun($runId: ID!) {
  runOrError(runId: $runId) {
    __typename
    ... on Run { status stepStats { stepKey status } }
    ... on RunNotFoundError { message }
    ... on PythonError { message }
  }
}
"""


@dataclass(frozen=True)
class RemoteRun:
    """A run of another process's Dagster.

    Attributes:
        id: of the run.
        link: its page.
    """

    url: str
    id: str

    @property
    def link(self) -> str:
        """The page of the run."""
        return f"{self.url}/runs/{self.id}"

    def follow(self) -> Iterator[str]:
        """What happens, a sentence each, until the run has ended.

        Raises:
            OctoError: the run failed or was terminated, or the webserver cannot be asked any more.
        """
        states: dict[str, str] = {}
        status = ""
        while True:
            run = _member(_asked(self.url, FOLLOW, {"runId": self.id}), "runOrError", "Run", self.url)
            if run["status"] != status:
                status = run["status"]
                yield f"The run {self.id[:8]} {_STATES.get(status, f'is {status.lower()}')}."
            for step in run["stepStats"]:
                state = step["status"] or ""
                if state in ("SUCCESS", "FAILURE", "SKIPPED") and states.get(step["stepKey"]) != state:
                    states[step["stepKey"]] = state
                    yield f"{step['stepKey']}: {state.lower()}"
            if status in _ENDED:
                break
            time.sleep(_SECONDS)
        if status != "SUCCESS":
            ending = "was terminated" if status == "CANCELED" else "failed"
            raise OctoError(
                f"The run {self.id} {ending}; its page {self.link} says why.", code="remote-run-failed", place=self.id
            )


def launch_month(url: str, month: str, actor: str) -> RemoteRun:
    """Have Dagster bring a month up to date.

    Args:
        url: of the webserver.
        month: the month.
        actor: who asked for it, for the tags of the run.

    Raises:
        OctoError: the webserver cannot be asked, or has not this product's job, or refuses.
    """
    url = url.rstrip("/")
    nodes = _member(_asked(url, WHERE, {}), "repositoriesOrError", "RepositoryConnection", url)["nodes"]
    repository = next((node for node in nodes if JOB in {job["name"] for job in node["pipelines"]}), None)
    if repository is None:
        raise OctoError(
            f"The Dagster at {url} has no job {JOB}. Load this product's code location there.",
            code="remote-job-missing",
            place=url,
        )
    selector = {
        "repositoryLocationName": repository["location"]["name"],
        "repositoryName": repository["name"],
        "jobName": JOB,
    }
    tags = [{"key": "dagster/partition", "value": month}, {"key": "octo/asked_by", "value": actor}]
    parameters = {"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": tags}, "mode": "default"}
    answer = _asked(url, LAUNCH, {"executionParams": parameters})
    return RemoteRun(url, _member(answer, "launchRun", "LaunchRunSuccess", url)["run"]["runId"])


def _asked(url: str, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    try:
        response = requests.post(
            f"{url}/graphql", json={"query": query, "variables": variables}, timeout=_TIMEOUT_SECONDS
        )
        answer = response.json()
        if answer.get("data") is None:
            raise ValueError((answer.get("errors") or [{"message": "no data"}])[0]["message"])
    except (requests.RequestException, ValueError) as error:
        # The address may hold a password, and so may what requests says of it.
        reason = "it did not answer" if isinstance(error, requests.RequestException) else str(error)
        raise OctoError(
            f"The Dagster that months are run by cannot be asked: {reason}.",
            code="dagster-not-asked",
            remedy=Remedy("set", setting="dagster_url", to="the address of its webserver"),
        ) from None
    return dict(answer["data"])


def _member(data: dict[str, Any], name: str, kind: str, url: str) -> dict[str, Any]:
    """A member of an answer that is of this type.

    Raises:
        OctoError: it is an error.
    """
    member = data[name]
    if member["__typename"] != kind:
        errors = member.get("errors") or [member]
        message = errors[0].get("message", member["__typename"])
        raise OctoError(f"Dagster refuses the run: {message.splitlines()[0]}", code="dagster-refuses", place=url)
    return dict(member)
