"""The form of a currency code, and how many decimals a currency's amounts have."""

import re

CURRENCY = "[A-Z]{3}"
_CODE = re.compile(CURRENCY, re.ASCII)

# Decimals of the minor unit where they are not two (ISO 4217, list one; the fund codes and metals have none and are left out).
OTHER_MINOR_DIGITS = {
    **dict.fromkeys(
        ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"),
        0,
    ),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}  # fmt: skip


def is_currency(text: str) -> bool:
    """Whether the text has the form of a currency code, such as USD."""
    return _CODE.fullmatch(text) is not None


def minor_digits(currency: str) -> int:
    """How many decimals the amounts of a currency have in books: 2 for USD, 0 for JPY, 3 for KWD."""
    return OTHER_MINOR_DIGITS.get(currency, 2)
