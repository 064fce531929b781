"""What each table of the lake is made from and how: shared by the assets, the command line and the checks.

A table is a `Table`: its inputs (for fingerprints) and its making. `materialise` is the one way to make a
partition. Nothing here knows Dagster.
"""
