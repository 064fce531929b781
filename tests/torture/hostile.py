"""What a hostile or broken sender could write: texts, JSON values, files with bytes changed; and what bears it."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import strategies as st

from octo_pipeline.model.errors import OctoError

# What a person waits for a sentence; a machine under load is slower than the work is long.
SECONDS = 30

TEXTS = (
    "'", '"', "''", "'; DROP TABLE cost_line_items; --", '"; SELECT 1; --', "') OR ('1'='1", "$1", "{{ 7*7 }}", "%s%n",
    "\\", "\\'", "/* ", "*/", "--", ";", "a\nb\rc\td", "../../x", "..", "/etc/passwd", "~/x", "$(touch x)", "`touch x`",
    "\u202eteg\u202c", "\u0645\u0631\u062d\u0628\u0627", "e\u0301", "\ufeffx", "\u200b", "\U0001f4b8", "NULL", "null", "nan",
    "=1+1", "@x", "re:", "re:(", "re:.*", "x" * 65_536, "re:" + "(a?)" * 900, " ", "0", "-1", "[*]", "?", "{a,b}", "<b>",
)  # fmt: skip
# What only a document's JSON can hold.
UNREADABLE = ("\0", "a\0b", "\ud800", "\udc00x")

texts = st.sampled_from(TEXTS) | st.text(max_size=20)
numbers = (
    st.sampled_from([0, -1, 1, 2**63, 10**30, -(10**4000), 1e308, -0.0, 0.1, float("inf"), float("nan")])
    | st.integers()
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts | st.sampled_from(UNREADABLE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def changed(draw: st.DrawFn, document: Any) -> Any:
    """A document that is right but for one place: a value replaced, a key removed, or nested too deep."""
    if draw(st.integers(0, 3)) == 0 or not isinstance(document, dict | list) or not document:
        return draw(values)
    keys = list(document) if isinstance(document, dict) else list(range(len(document)))
    key = draw(st.sampled_from(keys))
    copy: Any = dict(document) if isinstance(document, dict) else list(document)
    if isinstance(copy, dict) and draw(st.integers(0, 5)) == 0:
        del copy[key]
        return copy
    copy[key] = draw(changed(copy[key]))
    return copy


def damaged(data: bytes, dice: random.Random) -> bytes:
    """The bytes cut off, turned, doubled, emptied, or with something else in the middle."""
    at = dice.randrange(len(data) or 1)
    match dice.randrange(6):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :] if data else data
        case 2:
            return data[:at] + data[dice.randrange(len(data) or 1) :]
        case 3:
            return data[:at] + dice.choice(TEXTS).encode() + data[at:]
        case 4:
            return data[:at] + dice.randbytes(dice.randrange(200)) + data[at + 50 :]
        case _:
            return dice.choice([b"", b"\0" * 1000, b"{" * 100_000, b"[" * 100_000, b"\xff\xfe", data + data])


@contextmanager
def bounded() -> Iterator[None]:
    """Bounded in time, and nothing but an OctoError comes out."""
    started = time.monotonic()
    try:
        yield
    except OctoError as error:
        assert str(error).strip()
        assert len(str(error)) < 20_000
    assert time.monotonic() - started < SECONDS
