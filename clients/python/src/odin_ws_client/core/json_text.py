"""Parses JSON as RFC 8259 allows, where orjson is stricter."""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

import orjson

__all__ = ["load_json"]

# The digits of a 64-bit integer; a longer integer becomes a float. Python rejects integers of more
# than 4300 digits, and needs quadratic time for the others.
_MAX_DIGITS: Final = 20


def load_json(text: bytes | bytearray) -> Any:
    """Parse a JSON text and return its value.

    orjson rejects half of a surrogate pair in a string, and a number outside the range of a double,
    which publishers write. The standard library parses such texts at a tenth of orjson's speed.

    Raises:
        ValueError: if `text` is not JSON; as UnicodeDecodeError if `text` is not UTF-8.
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
