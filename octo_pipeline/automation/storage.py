"""Whether Dagster's own storage keeps what is stored in it, where it is a PostgreSQL server."""

import os
import uuid
from pathlib import Path

import dagster as dg

from octo_pipeline.model.errors import OctoError

_KEY = dg.AssetKey(["octo", "doctor"])


def store_an_event() -> str | None:
    """Store an event in Dagster's PostgreSQL storage, read it again and remove it.

    Returns:
        A sentence; None if DAGSTER_HOME names no PostgreSQL storage, as in an installation for one person.

    Raises:
        OctoError: the server cannot be reached, or the event cannot be read again.
    """
    file = Path(os.environ.get("DAGSTER_HOME", "")) / "dagster.yaml"
    # Opening an instance on files would make folders.
    if not file.is_file() or "postgres" not in file.read_text():
        return None
    text = uuid.uuid4().hex
    try:
        with dg.DagsterInstance.get() as instance:
            storage = instance.get_ref().storage_data
            if storage is None or storage.module_name != "dagster_postgres":
                return None
            try:
                instance.report_runless_asset_event(dg.AssetObservation(_KEY, metadata={"text": text}))
                (record,) = instance.fetch_observations(_KEY, limit=1).records
                observation = record.asset_observation
                if observation is None or observation.metadata["text"].value != text:
                    raise ValueError("another event was read than the one that was stored")
            finally:
                instance.wipe_assets([_KEY])
    except Exception as error:
        # Drivers add their advice in further lines, and their messages hold no password.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise OctoError(
            f"Dagster's storage on PostgreSQL, as {file} names it, does not keep events: {reason}. Runs of the daemon fail "
            "there too.",
            code="dagster-storage-broken",
            place=str(file),
        ) from error
    return "Dagster's storage on PostgreSQL keeps events: one was stored, read and removed."
