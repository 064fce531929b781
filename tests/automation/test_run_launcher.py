"""Which runs the launcher takes for dead; a real code server is killed by `make several`."""

import dagster as dg
import pytest
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.base import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionResult
from dagster._serdes import serialize_value

from octo_pipeline.automation.run_launcher import WatchedRunLauncher


@pytest.fixture
def launcher() -> WatchedRunLauncher:
    """Of an instance with a run that is STARTED."""
    instance = dg.DagsterInstance.ephemeral()
    launched = WatchedRunLauncher()
    launched.register_instance(instance)
    launched.kept = instance  # the launcher has a weak reference only
    instance.add_run(
        dg.DagsterRun(
            job_name="monthly_allocation",
            run_id="a" * 8,
            status=dg.DagsterRunStatus.STARTED,
            tags={GRPC_INFO_TAG: '{"host": "code", "port": 4000}'},
        )
    )
    return launched


@pytest.mark.parametrize(
    ("has_it", "status"),
    [(True, WorkerStatus.RUNNING), (False, WorkerStatus.FAILED), (None, WorkerStatus.RUNNING)],
    ids=["the server has it", "the server started again", "no server answers"],
)
def test_a_run_that_the_code_server_lost_is_dead(launcher, monkeypatch, has_it, status):
    """Regression: runs of a code server that was killed stayed STARTED for good, and their months were not made."""

    def answer(*_: object, **__: object) -> str:
        if has_it is None:
            raise DagsterUserCodeUnreachableError("connection refused")
        return serialize_value(CanCancelExecutionResult(can_cancel=has_it))

    monkeypatch.setattr(DagsterGrpcClient, "can_cancel_execution", answer)
    run = launcher.kept.get_run_by_id("a" * 8)
    assert launcher.supports_check_run_worker_health
    assert launcher.check_run_worker_health(run).status is status


def test_a_run_that_has_ended_meanwhile_is_not_dead(launcher):
    run = launcher.kept.get_run_by_id("a" * 8)
    launcher.kept.report_run_failed(run)
    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
