"""Parses and writes JSON as RFC 8259 allows, where orjson is stricter.

orjson rejects strings with lone surrogates and numbers beyond any double. Publishers and browsers
accept both, so texts that orjson rejects are parsed again by the standard library, at a tenth of
the speed.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any, Final, NoReturn

import orjson

__all__ = ["InvalidJson", "dump_json", "is_encodable", "load_json"]

# Below orjson's 1,024, because Python's parser recurses for each level.
_MAX_DEPTH: Final = 500

# The bytes of 64-bit numbers. Beyond them orjson converts integers to floats.
_MAX_DIGITS: Final = 20

_HALF: Final = re.compile(r"[\ud800-\udfff]")

_BRACKETS: Final = b"[]{}"
_OTHERS: Final = bytes(byte for byte in range(256) if byte not in _BRACKETS)
# Brackets as signed bytes: plus one, minus one.
_STEPS: Final = bytes.maketrans(_BRACKETS, b"\x01\xff\x01\xff")


class InvalidJson(ValueError):
    """The text is not JSON; the message says why."""


def load_json(text: bytes | str) -> Any:
    """Parse a JSON text. Raises InvalidJson.

    A number beyond 64 bits is a float, infinite if necessary. A string may have a lone surrogate:
    it cannot be encoded in UTF-8, and `dump_json` escapes it.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        # Not the error itself: its frame would keep the callers' objects, such as a connection,
        # until the next garbage collection.
        why = str(error)
    try:
        encoded = text.encode() if isinstance(text, str) else text
        decoded = encoded.decode()
        if not _is_deep(encoded):
            return _DECODER.decode(decoded)
    except (ValueError, RecursionError):
        # orjson's reason is reported.
        pass
    raise InvalidJson(why)


def dump_json(value: Any) -> bytes:
    """Return JSON in UTF-8. Keys may be integers."""
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:
        # A lone surrogate cannot be encoded in UTF-8, but can be escaped.
        return json.dumps(value, separators=(",", ":")).encode()


def is_encodable(text: str) -> bool:
    """Return whether a text can be encoded in UTF-8: it has no lone surrogate."""
    return _HALF.search(text) is None


def _is_deep(text: bytes) -> bool:
    """Return whether arrays and objects are nested too deeply. Counts brackets in strings too."""
    if text.count(b"[") + text.count(b"{") <= _MAX_DEPTH:
        return False
    steps = memoryview(text.translate(_STEPS, _OTHERS)).cast("b")
    return any(map(_MAX_DEPTH.__lt__, accumulate(steps)))


def _integer(digits: str) -> int | float:
    if len(digits) <= _MAX_DIGITS:
        return int(digits)
    # Python rejects longer ones, and is slow with them.
    return float(digits)


def _no_number(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


_DECODER: Final = json.JSONDecoder(parse_int=_integer, parse_float=float, parse_constant=_no_number)
