"""The core: allocation semantics, and nothing that knows Dagster or a cloud.

Documents (allocators, cost groups, formulas) are parsed here into frozen objects; tables are computed here
by SQL over an in-memory DuckDB connection that the caller has given the input views. Nothing in this
package reads the environment, the network or the clock.
"""
