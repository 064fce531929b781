"""What a currency's code looks like."""

import re

CURRENCY = "[A-Z]{3}"
_CODE = re.compile(CURRENCY, re.ASCII)


def is_currency(text: str) -> bool:
    """Whether the text is a currency's code, such as USD."""
    return _CODE.fullmatch(text) is not None
