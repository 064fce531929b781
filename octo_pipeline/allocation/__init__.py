"""The core: allocation semantics, and nothing that knows Dagster or a cloud.

Each module makes SQL for an in-memory DuckDB connection of the caller, which also passes the input relations. The
documents (allocators, cost groups, formulas) come parsed from `rules`. Nothing in this package reads the environment,
the network or the clock.
"""
