"""The tables of the lake: one file each, with what it reads, how a month is made and what is proved of it.

`table` is the form of a table and makes partitions, `graph` lists the tables and derives what follows from what they
read, `dbt` runs models. Nothing here knows Dagster.
"""
