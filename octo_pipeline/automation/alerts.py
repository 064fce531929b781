"""Alerts: failed runs, failed checks, sources that are down and stale months are posted to a webhook, if one is set.

The webhook's address is a secret: it is never logged.
"""

import json
from collections.abc import Sequence
from typing import Any

import dagster as dg

from octo_pipeline.assets.dagster_compat import run_months
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import counted
from octo_pipeline.services.reasons import in_words
from octo_pipeline.settings import load_settings
from octo_pipeline.tables.graph import stale
from octo_pipeline.workspace import Workspace

_TIMEOUT_SECONDS = 10
_TRIES = 3
_MOST_CHARACTERS = 2_000
_STALE_SECONDS = 3_600


def post(title: str, lines: Sequence[str]) -> bool:
    """Post an alert to OCTO_ALERT_WEBHOOK.

    Returns:
        Whether a webhook is set.

    Raises:
        OctoError: the webhook does not accept the alert. The sentence does not contain the address.
    """
    settings = load_settings()
    if settings.alert_webhook is None:
        return False
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util.retry import Retry

    retries = Retry(
        total=_TRIES, backoff_factor=0.5, backoff_jitter=0.5, status_forcelist=[429, 502, 503], allowed_methods=["POST"]
    )
    body = _BODIES[settings.alert_format](title, "\n".join(lines)[:_MOST_CHARACTERS])
    with requests.Session() as session:
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(max_retries=retries))
        failure = None
        try:
            response = session.post(settings.alert_webhook.get_secret_value(), json=body, timeout=_TIMEOUT_SECONDS)
        except requests.RequestException as error:
            failure = type(error).__name__
    if failure:
        # Raised outside the handler, because the exception of requests contains the address.
        raise OctoError(
            f"The alert {title!r} could not be posted to OCTO_ALERT_WEBHOOK ({failure}). Check the address and the network.",
            code="alert-not-posted",
        )
    if not response.ok:
        raise OctoError(
            f"The alert {title!r} could not be posted: OCTO_ALERT_WEBHOOK answered {response.status_code}. Check the "
            f"address and that it accepts the format {settings.alert_format}.",
            code="alert-refused",
        )
    return True


def _slack(title: str, text: str) -> dict[str, Any]:
    return {"text": f"*{title}*\n{text}"}


def _teams(title: str, text: str) -> dict[str, Any]:
    """An adaptive card, which workflows in Teams accept."""
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            {"type": "TextBlock", "text": title, "weight": "Bolder", "wrap": True},
            {"type": "TextBlock", "text": text, "wrap": True},
        ],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return {"type": "message", "attachments": [attachment]}


_BODIES = {"slack": _slack, "teams": _teams}


@dg.run_failure_sensor(
    name="alert_on_failed_runs",
    monitor_all_code_locations=False,
    description="Posts each failed run to OCTO_ALERT_WEBHOOK, with its months and the first sentence of each failed "
    "step. Does nothing if that setting is missing.",
)
def alert_on_failed_runs(context: dg.RunFailureSensorContext) -> None:
    """Post what failed and why."""
    post(f"{context.dagster_run.job_name} {_months(context)} failed".replace("  ", " "), _reasons(context))


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    name="alert_on_failed_checks",
    monitor_all_code_locations=False,
    description="Posts the checks of a run that failed with severity ERROR to OCTO_ALERT_WEBHOOK: which money they "
    "concern and what to do. Does nothing if that setting is missing.",
)
def alert_on_failed_checks(context: dg.RunStatusSensorContext) -> None:
    """Post the failed checks of a run that otherwise succeeded."""
    records = context.instance.get_records_for_run(
        context.dagster_run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ).records
    failed = []
    for record in records:
        event = record.event_log_entry.dagster_event
        check = event.asset_check_evaluation_data if event else None
        if check and not check.passed and check.severity is dg.AssetCheckSeverity.ERROR:
            failed.append(f"{check.asset_key.to_user_string()} {check.check_name}: {check.description}")
    if failed:
        checks = "1 failed check" if len(failed) == 1 else f"{len(failed)} failed checks"
        post(f"{checks} in {context.dagster_run.job_name} {_months(context)}".rstrip(), failed)


@dg.sensor(
    name="alert_on_stale_months",
    minimum_interval_seconds=_STALE_SECONDS,
    description="Posts months to OCTO_ALERT_WEBHOOK that are stale and still were not made again an hour later, once per "
    "change. Does nothing if that setting is missing.",
)
def alert_on_stale_months(
    context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]
) -> dg.SkipReason | None:
    """Post what nobody makes again: `restated_months` is off, or its run failed or cannot be made."""
    # Fingerprint of each stale partition -> whether it was posted. What is not in here was not seen by the last look.
    seen: dict[str, bool] = json.loads(context.cursor or "{}")
    partitions = {
        f"{partition.table}/{partition.month}/{partition.fingerprint}": partition for partition in stale(workspace)
    }
    due = [partition for name, partition in partitions.items() if seen.get(name) is False]
    if due:
        months = sorted({partition.month for partition in due})
        changed = sorted({in_words(name) for partition in due for name in partition.changed})
        post(
            f"{counted(len(months), 'stale month')}: {', '.join(months)}",
            [
                f"Changed and not made again for an hour or more: {', '.join(changed)}. Look at the sensor restated_months."
            ],
        )
    context.update_cursor(json.dumps({name: name in seen for name in partitions}))
    return None if due else dg.SkipReason(f"{len(partitions)} stale, none of them new to an earlier look.")


def _months(context: dg.RunStatusSensorContext) -> str:
    months = run_months(context.dagster_run.tags)
    if months is None:
        return ""
    first, last = months
    return first if first == last else f"{first} … {last}"


def _reasons(context: dg.RunFailureSensorContext) -> list[str]:
    reasons = []
    for event in context.get_step_failure_events():
        failure = event.step_failure_data
        reason = failure.user_failure_data.description if failure.user_failure_data else None
        if not reason and failure.error:
            reason = failure.error.message.strip().partition("\n")[0]
        reasons.append(f"{event.step_key}: {reason or 'no reason given'}")
    return reasons or [context.failure_event.message or "The run failed before its first step."]
