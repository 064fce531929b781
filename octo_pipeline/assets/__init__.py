"""Dagster's assets and asset checks. They are thin: read inputs, call services, report what happened."""
