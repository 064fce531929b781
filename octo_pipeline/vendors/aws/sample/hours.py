"""The hours of a month, in which the sample's resources run."""

import calendar

import duckdb

from octo_pipeline.model.templates import render


def hours_of(month: str) -> int:
    """The number of hours of a month, YYYY-MM."""
    return 24 * calendar.monthrange(int(month[:4]), int(month[5:]))[1]


def create_hours(con: duckdb.DuckDBPyConnection, month: str) -> None:
    """Create the table of the hours of a month."""
    con.execute(render("vendors/aws/sample/hours", month=month, hour_count=hours_of(month)))
