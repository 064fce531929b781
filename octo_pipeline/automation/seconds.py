"""How long the last run took for each table, as Dagster recorded it."""

import os

import dagster as dg


def seconds_by_table(tables: list[str]) -> dict[str, float]:
    """Table -> seconds of its newest materialization; without those that have none, and empty without DAGSTER_HOME."""
    if not os.environ.get("DAGSTER_HOME"):
        return {}
    seconds: dict[str, float] = {}
    with dg.DagsterInstance.get() as instance:
        for table in tables:
            event = instance.get_latest_materialization_event(dg.AssetKey(table))
            materialization = event.asset_materialization if event else None
            value = materialization.metadata.get("seconds") if materialization else None
            if value is not None and isinstance(value.value, int | float):
                seconds[table] = float(value.value)
    return seconds
