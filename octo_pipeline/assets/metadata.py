"""Figures of a partition as Dagster metadata: numbers that are plotted over months, tables, charts as images."""

import base64
from decimal import Decimal
from typing import Any

import dagster as dg

from octo_pipeline.assets.markdown import plain_markdown
from octo_pipeline.model.html import html_template
from octo_pipeline.model.rows import Rows
from octo_pipeline.services.figures import Bars, Figures

_MOST_ROWS = 30


def figures_metadata(figures: Figures) -> dict[str, Any]:
    """The metadata of a materialisation.

    Numbers are floats, because Dagster can only plot floats; the tables have the exact amounts.
    """
    metadata: dict[str, Any] = {
        name: dg.MetadataValue.int(value) if isinstance(value, int) else dg.MetadataValue.float(float(value))
        for name, value in figures.numbers.items()
    }
    metadata |= {name: dg.MetadataValue.md(markdown_table(rows)) for name, rows in figures.tables.items()}
    return metadata | {name: dg.MetadataValue.md(_image(bars)) for name, bars in figures.charts.items()}


def markdown_table(result: Rows) -> str:
    """The rows as a Markdown table; only the first ones if there are many."""
    if not result.rows:
        return "none"
    lines = [f"| {' | '.join(plain_markdown(name.replace('_', ' ')) for name in result.columns)} |"]
    lines.append("|" + " --- |" * len(result.columns))
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in result.rows[:_MOST_ROWS]]
    more = len(result.rows) - _MOST_ROWS
    return "\n".join([*lines, *([f"\n… and {more:,} more rows"] if more > 0 else [])])


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return f"{value:,.10f}".rstrip("0").rstrip(".")
    return plain_markdown(str(value))


def _image(chart: Bars) -> str:
    largest = max((abs(value) for _, value in chart.bars), default=Decimal(0)) or Decimal(1)
    drawn = html_template("assets/bars.svg.j2").render(
        chart=chart, width=lambda value: round(float(abs(value) / largest) * 420, 1)
    )
    return f"![{chart.title}](data:image/svg+xml;base64,{base64.b64encode(drawn.encode()).decode()})"
