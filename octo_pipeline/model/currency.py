"""The form of a currency code."""

import re

CURRENCY = "[A-Z]{3}"
_CODE = re.compile(CURRENCY, re.ASCII)


def is_currency(text: str) -> bool:
    """Whether the text has the form of a currency code, such as USD."""
    return _CODE.fullmatch(text) is not None
