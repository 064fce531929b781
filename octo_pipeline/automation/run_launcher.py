"""Starts runs in the code server, as Dagster's own launcher does, and sees which of them died with it.

Dagster's own launcher cannot tell whether the process of a run still lives. When the code server was killed or its container was
replaced, its runs stayed STARTED for good: nobody started them again, and the sensors waited for them to end. deploy/dagster.yaml
names this launcher; on Kubernetes each run has a pod, and Dagster's launcher for that looks at the pod.

The server must be ``dagster api grpc``. Behind ``dagster code-server start``, which starts another server to reload the code, runs
of the one before would be taken for dead.
"""

from dagster import DagsterRun
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's launcher, which asks the code server whether it still has a run."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes: run monitoring asks, and fails a run that is gone, which is then retried."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the run's process lives; while the code server does not answer, nobody knows, and it counts as alive."""
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "It has just ended.")
        try:
            answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id))
        except DagsterUserCodeUnreachableError:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "The code server does not answer.", transient=True)
        if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, "The code server has no such run any more.")
