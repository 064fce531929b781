"""Dagster resources: what a run works with, and how Dagster shows and configures it."""
