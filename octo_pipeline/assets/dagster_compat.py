"""The parts of Dagster that may change with any release: names from `dagster._core`, beta and preview features.

Besides the launcher of runs, which Dagster's own processes load, this is the only module that imports from `dagster._core`; a
test enforces it. When an upgrade of Dagster breaks something, look here first. It belongs to the assets, because they use it
too and must not import from the automation above them.
"""

import logging
import os
import socket
import time
import warnings
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import dagster as dg
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    NULL_DATA_VERSION,
    NULL_EVENT_POINTER,
    extract_data_version_from_entry,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from dagster._core.definitions.dependency import NodeHandle
from dagster._core.definitions.metadata import normalize_metadata
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.events import AssetObservationData, StepMaterializationData
from dagster._core.execution.plan.handle import StepHandle
from dagster._core.execution.plan.objects import ErrorSource, StepFailureData, StepSuccessData, UserFailureData
from dagster._core.execution.plan.outputs import StepOutputData, StepOutputHandle
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    MAX_RETRIES_TAG,
    PARTITION_NAME_TAG,
)

# As in workspace.yaml and pyproject.toml.
CODE_LOCATION = "octo_pipeline"


def accept_unstable_features() -> None:
    """Do not warn about the beta and preview features that are used on purpose and covered by tests.

    Beta: backfill policies, source code references, observable source assets. Preview: partitioned asset checks.
    """
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    warnings.filterwarnings("ignore", category=dg.PreviewWarning)


def month_range_tags(first: str, last: str) -> dict[str, str]:
    """The tags that make one run cover the months from first to last; a run request has no field for a range."""
    return {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}


def run_months(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """The first and the last month of a run, from its tags; None for a run without months."""
    if month := tags.get(PARTITION_NAME_TAG):
        return month, month
    if first := tags.get(ASSET_PARTITION_RANGE_START_TAG):
        return first, tags.get(ASSET_PARTITION_RANGE_END_TAG, first)
    return None


class _Recorded(NamedTuple):
    """An event of an asset: its number, which grows, its partition and its data version."""

    number: int
    month: str | None
    version: str | None


def _recorded(record: dg.EventLogRecord) -> _Recorded:
    materialisation = record.asset_materialization
    tags = materialisation.tags or {} if materialisation else {}
    return _Recorded(record.storage_id, record.partition_key, tags.get(DATA_VERSION_TAG))


class RecordedVersions:
    """The versions of assets that an instance has recorded, each looked up once.

    A lookup takes about ten milliseconds, and most assets of a run are read by several others.

    Args:
        instance: where they were recorded.
    """

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self._read: dict[dg.AssetKey, tuple[str, str]] = {}
        self._last: dict[dg.AssetKey, _Recorded] | None = None
        self._partitions: dict[dg.AssetKey, dict[str, _Recorded]] = {}

    def tags(self, spec: dg.AssetSpec, version: str) -> dict[str, str]:
        """The tags with the versions of an asset and its inputs, which Dagster adds by itself only in an asset's own step.

        Without the versions of the inputs, Dagster compares times and expects all partitions: every asset that reads
        earlier months would be unsynced as long as one of these months was never made.

        Args:
            spec: the asset that was made.
            version: its data version.
        """
        tags = {
            DATA_VERSION_TAG: version,
            DATA_VERSION_IS_USER_PROVIDED_TAG: "true",
            CODE_VERSION_TAG: spec.code_version or version,
        }
        for dep in spec.deps:
            data_version, pointer = self._of(dep.asset_key)
            tags[get_input_data_version_tag(dep.asset_key)] = data_version
            tags[get_input_event_pointer_tag(dep.asset_key)] = pointer
        return tags

    def forget(self, asset: dg.AssetKey) -> None:
        """Look an asset up again, because a new version was recorded."""
        self._read.pop(asset, None)
        self._last = None
        self._partitions.pop(asset, None)

    def is_recorded(self, spec: dg.AssetSpec, month: str, version: str) -> bool:
        """Whether a version of a month is the one last recorded, and nothing that it is made from was recorded since.

        Then Dagster shows the month as it is, and recording it again would say nothing.

        Args:
            spec: the asset.
            month: its partition.
            version: its data version.
        """
        recorded = self._last_of(spec.key)
        if recorded is None or recorded.month != month:
            recorded = self._partitions_of(spec.key).get(month)
        if recorded is None or recorded.version != version:
            return False
        return not any(self._has_newer(dep.asset_key, month, recorded.number) for dep in spec.deps)

    def last_results(
        self, checks: Collection[dg.AssetCheckKey], month: str | None
    ) -> Mapping[dg.AssetCheckKey, dg.AssetCheckEvaluation]:
        """The results of checks that were recorded last.

        Args:
            checks: those that are looked up, at once.
            month: their partition; None for checks without partitions.
        """
        storage = self.instance.event_log_storage
        records = storage.get_latest_asset_check_execution_by_key([*checks], PartitionKeyFilter(key=month))
        events = {key: record.event and record.event.dagster_event for key, record in records.items()}
        data = {key: event.event_specific_data for key, event in events.items() if event}
        return {key: result for key, result in data.items() if isinstance(result, dg.AssetCheckEvaluation)}

    def _has_newer(self, asset: dg.AssetKey, month: str, number: int) -> bool:
        """Whether an event of an asset that a month can be made from came after another; months read earlier ones."""
        last = self._last_of(asset)
        if last is None or last.month is None:
            _, pointer = self._of(asset)
            return pointer != NULL_EVENT_POINTER and int(pointer) > number
        if last.number < number or last.month <= month:
            return last.number > number
        return any(recorded.number > number for other, recorded in self._partitions_of(asset).items() if other <= month)

    def _last_of(self, asset: dg.AssetKey) -> _Recorded | None:
        """The last event of an asset. Those of all assets take as long to read as the one of a single asset."""
        if self._last is None:
            records = [record.asset_entry for record in self.instance.event_log_storage.get_asset_records()]
            self._last = {
                record.asset_key: _recorded(record.last_materialization_record)
                for record in records
                if record.last_materialization_record
            }
        return self._last.get(asset)

    def _partitions_of(self, asset: dg.AssetKey) -> dict[str, _Recorded]:
        """The last event of each partition of an asset. Reading them takes ten times as long as `_last_of`."""
        if asset not in self._partitions:
            storage, kind = self.instance.event_log_storage, dg.DagsterEventType.ASSET_MATERIALIZATION
            tags = storage.get_latest_tags_by_partition(asset, kind, [DATA_VERSION_TAG])
            self._partitions[asset] = {
                month: _Recorded(number, month, tags.get(month, {}).get(DATA_VERSION_TAG))
                for month, number in storage.get_latest_storage_id_by_partition(asset, kind).items()
            }
        return self._partitions[asset]

    def _of(self, asset: dg.AssetKey) -> tuple[str, str]:
        if asset not in self._read:
            record = self.instance.get_latest_data_version_record(asset)
            read = extract_data_version_from_entry(record.event_log_entry) if record else None
            pointer = str(record.storage_id) if record else NULL_EVENT_POINTER
            self._read[asset] = (read or NULL_DATA_VERSION).value, pointer
        return self._read[asset]


def observation_tags(version: str) -> dict[str, str]:
    """The tags of an observation that say which version was seen."""
    return {DATA_VERSION_TAG: version, DATA_VERSION_IS_USER_PROVIDED_TAG: "true"}


def recorded_version(instance: dg.DagsterInstance, asset: dg.AssetKey, partition: str | None = None) -> str | None:
    """The data version that was last recorded for an asset, or for a partition of one; None if there is none."""
    record = instance.get_latest_data_version_record(asset, partition_key=partition)
    version = extract_data_version_from_entry(record.event_log_entry) if record else None
    return version.value if version else None


# Tags of runs that a command records. Dagster has no process for them.
_HOST_TAG = "octo/host"
_PROCESS_TAG = "octo/process"


def is_of_a_command(run: dg.DagsterRun) -> bool:
    """Whether a command records the run."""
    return _PROCESS_TAG in run.tags


def cancel_abandoned_runs(instance: dg.DagsterInstance) -> None:
    """End the runs of killed commands of this machine, which would otherwise stay started for ever."""
    filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED], tags={_HOST_TAG: socket.gethostname()})
    for run in instance.get_runs(filters):
        try:
            os.kill(int(run.tags[_PROCESS_TAG]), 0)
        except ProcessLookupError:
            instance.report_run_canceled(run, "The command was killed.")
        except PermissionError:
            # The process exists and is another user's.
            continue


class RecordedRun:
    """A run that this process makes by itself, recorded so that Dagster's pages show it as a run of a job.

    The job has one op; everything is recorded as events of its step. Dagster finds a job's runs by the name of the
    code location and repository, so the origin needs no more than these names.

    Args:
        instance: where it is recorded.
        job: of one op, as in the code location.
        config: the run's configuration.
        run_id: a UUID.
        months: the first and the last; None if they are not known.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        job: dg.JobDefinition,
        config: Mapping[str, Any],
        run_id: str,
        months: tuple[str, str] | None,
    ) -> None:
        first, last = months or ("", "")
        self._instance = instance
        (self._step,) = [node.name for node in job.nodes]
        self._run = instance.create_run_for_job(
            job,
            run_id=run_id,
            run_config=config,
            tags=({} if not months else {PARTITION_NAME_TAG: first} if first == last else month_range_tags(first, last))
            | {_HOST_TAG: socket.gethostname(), _PROCESS_TAG: str(os.getpid()), MAX_RETRIES_TAG: "0"},
            remote_job_origin=RemoteRepositoryOrigin(
                RegisteredCodeLocationOrigin(CODE_LOCATION), SINGLETON_REPOSITORY_NAME
            ).get_job_origin(job.name),
        )
        self._started = time.time()
        self._report(dg.DagsterEventType.PIPELINE_START, f'Started execution of run for "{job.name}".')
        self._report(dg.DagsterEventType.STEP_START, f'Started execution of step "{self._step}".', of_step=True)

    def record(self, event: dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation) -> None:
        """Record what happened to an asset."""
        if isinstance(event, dg.AssetObservation):
            observed = AssetObservationData(event)
            self._report(dg.DagsterEventType.ASSET_OBSERVATION, "Observed value.", observed, of_step=True)
        elif isinstance(event, dg.AssetMaterialization):
            self._report(
                dg.DagsterEventType.ASSET_MATERIALIZATION,
                "Materialized value.",
                StepMaterializationData(event),
                of_step=True,
            )
        else:
            self._report(dg.DagsterEventType.ASSET_CHECK_EVALUATION, "Evaluated a check.", event, of_step=True)

    def log(self, level: int, message: str) -> None:
        """Write a line into the run's log."""
        entry = dg.EventLogEntry(  # type: ignore[no-untyped-call]
            None, level, message, self._run.run_id, time.time(), step_key=self._step, job_name=self._run.job_name
        )
        self._instance.handle_new_event(entry)

    def succeed(self, metadata: Mapping[str, Any]) -> None:
        """End the run; the metadata is its op's output."""
        output = StepOutputData(StepOutputHandle(self._step, "result"), metadata=normalize_metadata(metadata))
        self._report(dg.DagsterEventType.STEP_OUTPUT, 'Yielded output "result".', output, of_step=True)
        duration = StepSuccessData((time.time() - self._started) * 1000)  # type: ignore[no-untyped-call]
        self._report(
            dg.DagsterEventType.STEP_SUCCESS, f'Finished execution of step "{self._step}".', duration, of_step=True
        )
        self._report(dg.DagsterEventType.PIPELINE_SUCCESS, f'Finished execution of run for "{self._run.job_name}".')

    def fail(self, reason: str) -> None:
        """End the run, for a reason in a sentence."""
        described = UserFailureData("Failure", reason)  # type: ignore[no-untyped-call]
        failure = StepFailureData(None, described, ErrorSource.USER_CODE_ERROR)  # type: ignore[no-untyped-call]
        self._report(
            dg.DagsterEventType.STEP_FAILURE, f'Execution of step "{self._step}" failed.', failure, of_step=True
        )
        self._instance.report_run_failed(self._run, f"Steps failed: ['{self._step}'].")

    def cancel(self) -> None:
        """End the run as one that was interrupted."""
        self._instance.report_run_canceled(self._run, "The command was interrupted.")

    def _report(self, kind: dg.DagsterEventType, message: str, data: Any = None, *, of_step: bool = False) -> None:
        handle = StepHandle(NodeHandle(self._step, None)) if of_step else None
        event = dg.DagsterEvent(
            kind.value,
            self._run.job_name,
            step_handle=handle,
            node_handle=handle.node_handle if handle else None,
            event_specific_data=data,
            message=message,
            pid=os.getpid(),
        )
        level = logging.ERROR if kind is dg.DagsterEventType.STEP_FAILURE else logging.DEBUG
        self._instance.report_dagster_event(event, self._run.run_id, level)
