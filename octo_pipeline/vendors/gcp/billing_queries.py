"""BigQuery's queries over a Google Cloud billing export.

They are written in Python because the templates are in DuckDB's dialect. DuckDB's expressions are in `billing_columns`.
"""

from dataclasses import dataclass

from octo_pipeline.vendors.gcp.billing_columns import MONEY_COLUMNS, Schema, known

_NET = "CAST(cost AS NUMERIC) + IFNULL((SELECT SUM(CAST(c.amount AS NUMERIC)) FROM UNNEST(credits) AS c), 0)"


@dataclass(frozen=True)
class PartitionQuery:
    """The queries over the export table of one project and dataset."""

    table: str
    schema: Schema

    def partitions(self, *, with_net: bool) -> str:
        """Rows of @month by ingestion day since @since; the net costs read two more columns, which BigQuery bills."""
        net = f", SUM({_NET}) AS net" if with_net else ""
        return (
            "SELECT DATE(_PARTITIONTIME) AS day, MAX(export_time) AS exported_at, COUNT(*) AS row_count, "
            "MIN(usage_start_time) AS used_from, "
            # BigQuery refuses to return an array with a null; a row without usage_start_time is refused later.
            f"ARRAY_AGG(DISTINCT TIMESTAMP_TRUNC(IFNULL(usage_start_time, export_time), HOUR)) AS hours{net} "
            f"FROM `{self.table}` "
            "WHERE invoice.month = @month AND _PARTITIONTIME >= TIMESTAMP(@since) GROUP BY day ORDER BY day"
        )

    def rows(self) -> str:
        """The rows of @month that were ingested on @day and exported up to @exported_at."""
        tops = {path.split(".")[0] for path in known(self.schema)}
        selected = ", ".join(self._column(name) for name in sorted(tops))
        return (
            f"SELECT {selected} FROM `{self.table}` WHERE invoice.month = @month "
            "AND _PARTITIONTIME = TIMESTAMP(@day) AND export_time <= @exported_at"
        )

    def last_export(self) -> str:
        """The latest export time since @since."""
        return f"SELECT MAX(export_time) AS exported_at FROM `{self.table}` WHERE _PARTITIONTIME >= TIMESTAMP(@since)"

    def _column(self, name: str) -> str:
        if name in MONEY_COLUMNS:
            return f"CAST({name} AS NUMERIC) AS {name}"
        if name == "credits":
            texts = ", ".join(
                f"c.{part}" for part in ("name", "full_name", "id", "type") if f"credits.{part}" in self.schema
            )
            return (
                f"ARRAY(SELECT AS STRUCT {texts}, CAST(c.amount AS NUMERIC) AS amount FROM UNNEST(credits) AS c) "
                "AS credits"
            )
        return name
