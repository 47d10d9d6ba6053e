"""Numbers as exact decimals: from JSON numbers, and from strings that are written as such."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Final

__all__ = ["MAX_NUMBER_LENGTH", "Number", "read_number", "simplified"]

# An integer is compared with a decimal exactly, so it is not converted.
Number = Decimal | int

MAX_NUMBER_LENGTH: Final = 128
"""Limit of a number's characters. Longer ones count as text: no amount needs them."""

# An exponent below this is that of a number with 64 bits.
_SHORT: Final = 19

# The number syntax of RFC 8259. ASCII digits only: Decimal accepts others too.
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def read_number(text: str) -> Decimal | None:
    """Return the number that a text represents; None for other and for too long texts."""
    if len(text) > MAX_NUMBER_LENGTH or _NUMBER.fullmatch(text) is None:
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        # The exponent has more than 18 digits.
        return None


def simplified(number: Decimal) -> Number:
    """Return a short integer as int: most fields are integers, and two of them compare fastest."""
    if number.adjusted() < _SHORT and number == number.to_integral_value():
        return int(number)
    return number
