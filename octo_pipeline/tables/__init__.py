"""The tables of the lake: one file each, with what it reads, how a month is made and what is proved about it.

`table` defines what a table is and makes partitions, `graph` lists the tables and derives their order and more from
what they read, `dbt` runs models. Nothing here knows Dagster.
"""
