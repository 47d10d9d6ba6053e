"""Parses JSON as RFC 8259 allows, where orjson is stricter."""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

import orjson

__all__ = ["load_json"]

# The digits of 64-bit numbers. Python takes no integers of thousands of digits, and needs time.
_MAX_DIGITS: Final = 20


def load_json(text: bytes | bytearray) -> Any:
    """The value of a JSON text. Raises ValueError, UnicodeDecodeError if it is not UTF-8.

    orjson rejects a string with half of a surrogate pair, and a number beyond any double, which
    publishers write: what it rejects is read by the standard library, at a tenth of the speed.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        decoded = text.decode()
        try:
            return _DECODER.decode(decoded)
        except (ValueError, RecursionError):
            raise ValueError(str(error)) from error


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(parse_int=_integer, parse_constant=_no_number)
