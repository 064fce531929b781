"""What a bill says is text in Dagster: no link, no picture, no markup, no other cell."""

import pytest

from octo_pipeline.assets.markdown import markdown_list, plain_markdown
from octo_pipeline.assets.metadata import markdown_table
from octo_pipeline.model.rows import Rows

HOSTILE = [
    "[click](javascript:alert(1))",
    "![](http://evil.example/seen.png)",
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "http://evil.example/x",
    "https://evil.example",
    "www.evil.example",
    "WWW.evil.example",
    "someone@evil.example",
    "<http://evil.example>",
    "**bold** _emphasis_ ~~gone~~ `code`",
    "&lt;script&gt;",
    "a | b",
    "a\\| b",
    "one\ntwo\r\nthree\u2028four",
    "[x]: http://evil.example",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_it_is_shown_as_it_is(text: str) -> None:
    """Rendered by CommonMark with GitHub's tables and links, as Dagster does it."""
    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).enable("table")
    (inline,) = [
        token for token in parser.parse(f"| a |\n| --- |\n| {plain_markdown(text)} |") if token.type == "inline"
    ][1:]
    assert {child.type for child in inline.children} <= {"text", "text_special"}
    shown = "".join(child.content for child in inline.children).replace("\u2060", "")
    assert shown == " ".join(text.replace("\u2028", "\n").split("\n")).replace("\r", "")


def test_addresses_do_not_become_links_by_themselves() -> None:
    """GitHub's rules look for these beginnings, after backslashes are taken out."""
    for text in ("http://evil.example", "see https://evil.example", "ftp://x", "www.evil.example"):
        found = plain_markdown(text)
        assert not any(beginning in found.lower() for beginning in ("http://", "https://", "ftp://", "www.evil"))


def test_names_of_tables_stay_readable() -> None:
    assert plain_markdown("cost_line_items 2024-01: 3 rows, 1.50 USD (50 %)") == (
        "cost_line_items 2024-01: 3 rows, 1.50 USD (50 %)"
    )


def test_no_cell_has_a_neighbour_of_its_own_making() -> None:
    rows = Rows(("service|name", "cost"), [("a | b\n| c", None), ("x\\", 1)])
    assert markdown_table(rows).splitlines() == [
        "| service\\|name | cost |", "| --- | --- |", "| a \\| b \\| c |  |", "| x\\\\ | 1 |",
    ]  # fmt: skip
    assert markdown_list(["a\n- b", "<i>"]) == "- a - b\n- \\<i\\>"
