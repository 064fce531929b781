"""The plugin of dbt-duckdb: gives each cursor the month, the staged file and the landed files as relations.

`octo_pipeline.tables.dbt.DbtProject` sets the session before it invokes dbt in this process; SQL has no other way to
know the month. Only dbt imports this module: importing it takes a second.
"""

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin

from octo_pipeline.model.sql import identifier, literal
from octo_pipeline.tables.dbt import Session, current_session


class Plugin(BasePlugin):
    """Configures the cursors of dbt-duckdb."""

    _set_up: Session | None = None

    def configure_cursor(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Set the session's variables and relations on a new cursor."""
        session = current_session()
        session.cursors.append(cursor)
        for name, value in session.settings.items():
            # Once DuckDB has spilled, it refuses to set a temporary folder, even the same one.
            current = cursor.execute(f"SELECT current_setting({literal(name)})").fetchall()[0][0]
            if current != value:
                cursor.execute(f"SET {identifier(name)} = {literal(value)}")
        for name, value in session.variables.items():
            cursor.execute(f"SET VARIABLE {identifier(name)} = {literal(value)}")
        # The set-up and the views are the whole engine's, not a cursor's, so only the session's first cursor makes them:
        # dbt opens a cursor for each model, and a view takes milliseconds, since it opens its files.
        if self._set_up is not session:
            for statement in session.setup:
                cursor.execute(statement)
            for name, query in session.relations.items():
                schema, table = name.split(".")
                cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(schema)}")
                cursor.execute(f"CREATE OR REPLACE VIEW {identifier(schema)}.{identifier(table)} AS {query}")
            self._set_up = session
