"""How an amount is written for people."""

from decimal import Decimal


def amount(value: Decimal, currency: str | None = None) -> str:
    """An amount for people: two decimals and thousands, more decimals only where two would show nothing."""
    digits = 2 if abs(value) >= Decimal("0.005") or value == 0 else 10
    text = f"{value:,.{digits}f}"
    return f"{text} {currency}" if currency else text
