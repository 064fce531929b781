"""Texts of bills and documents in Dagster's Markdown: shown as they are, never as links, pictures or markup.

Dagster renders Markdown with tables and with addresses that become links by themselves. A picture in a description would
tell its server who looks at the bill.
"""

import re

# Emphasis needs an underscore at the edge of a word; within a name it is one of its letters.
_MARKS = re.compile(r"[\\`*\[\]<>|~&!]|(?<!\w)_|_(?!\w)")
# Addresses are looked for after backslashes are taken out, so only a character in them, which nobody sees, keeps them text.
# An e-mail address may become a link: it says where it leads, and people copy those of service accounts.
_IN_ADDRESSES = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)", re.IGNORECASE)
_WORD_JOINER = "\u2060"
_LINE_ENDS = re.compile(r"[\r\n\v\f\x85\u2028\u2029]+")


def plain_markdown(text: str) -> str:
    """The text in Markdown, on one line."""
    marked = _MARKS.sub(lambda match: f"\\{match[0]}", _LINE_ENDS.sub(" ", text))
    return _IN_ADDRESSES.sub(_WORD_JOINER, marked)


def markdown_list(texts: list[str]) -> str:
    """A list with an entry for each text."""
    return "\n".join(f"- {plain_markdown(text)}" for text in texts)
