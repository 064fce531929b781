"""What each of dbt's cursors is given."""

import duckdb

from octo_pipeline.tables import dbt
from octo_pipeline.tables.dbt_plugin import Plugin


def test_the_views_of_a_session_are_made_once(tmp_path, monkeypatch):
    """A view opens the files that it reads, and dbt has a cursor for every model."""
    file = tmp_path / "rows.parquet"
    duckdb.execute(f"copy (select 1 as n) to '{file}' (format parquet)")
    plugin = Plugin.__new__(Plugin)
    session = dbt.Session(variables={"octo_month": "2024-03"}, relations={"landing.rows": f"from '{file}'"})
    monkeypatch.setattr(dbt, "_session", session)
    with duckdb.connect() as connection:
        plugin.configure_cursor(connection.cursor())
        content = file.read_bytes()
        file.unlink()
        later = connection.cursor()
        plugin.configure_cursor(later)
        file.write_bytes(content)
        assert later.execute("select n, getvariable('octo_month') from landing.rows").fetchall() == [(1, "2024-03")]


def test_another_session_replaces_the_views(monkeypatch):
    plugin = Plugin.__new__(Plugin)
    with duckdb.connect() as connection:
        for number in (1, 2):
            monkeypatch.setattr(dbt, "_session", dbt.Session(relations={"landing.rows": f"select {number} as n"}))
            cursor = connection.cursor()
            plugin.configure_cursor(cursor)
            assert cursor.execute("from landing.rows").fetchall() == [(number,)]
