"""Parses and writes JSON as RFC 8259 allows, where orjson is stricter.

orjson rejects a string with half of a surrogate pair and a number beyond any double. Publishers
and browsers write and read both, so what it rejects is read again by the standard library, at a
tenth of the speed.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any, Final, NoReturn

import orjson

__all__ = ["InvalidJson", "dump_json", "is_encodable", "load_json"]

# Below orjson's 1,024, for Python's reader calls itself for each level.
_MAX_DEPTH: Final = 500

# The bytes of 64-bit numbers. Beyond, orjson makes floats of integers.
_MAX_DIGITS: Final = 20

_HALF: Final = re.compile(r"[\ud800-\udfff]")

_BRACKETS: Final = b"[]{}"
_OTHERS: Final = bytes(byte for byte in range(256) if byte not in _BRACKETS)
# As signed bytes: one more, one less.
_STEPS: Final = bytes.maketrans(_BRACKETS, b"\x01\xff\x01\xff")


class InvalidJson(ValueError):
    """The text is not JSON; the message says why."""


def load_json(text: bytes | str) -> Any:
    """The value of a JSON text. Raises InvalidJson.

    A number that is beyond 64 bits is a float, infinite if it has to be. A string may have half of
    a surrogate pair: it cannot be encoded, and `dump_json` writes it as an escape.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        # Not the error itself: kept in its own frame, it would keep what calls this until the
        # garbage collector comes, a connection for one.
        why = str(error)
    try:
        encoded = text.encode() if isinstance(text, str) else text
        decoded = encoded.decode()
        if not _is_deep(encoded):
            return _DECODER.decode(decoded)
    except (ValueError, RecursionError):
        # orjson's reason is the one that is told.
        pass
    raise InvalidJson(why)


def dump_json(value: Any) -> bytes:
    """A JSON text, in UTF-8. Keys may be integers."""
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:
        # Half of a surrogate pair is no UTF-8: as an escape it comes through.
        return json.dumps(value, separators=(",", ":")).encode()


def is_encodable(text: str) -> bool:
    """Whether UTF-8 can be made of a text: it has no half of a surrogate pair."""
    return _HALF.search(text) is None


def _is_deep(text: bytes) -> bool:
    """Whether arrays and objects are nested too deeply. Brackets within strings count too."""
    if text.count(b"[") + text.count(b"{") <= _MAX_DEPTH:
        return False
    steps = memoryview(text.translate(_STEPS, _OTHERS)).cast("b")
    return any(map(_MAX_DEPTH.__lt__, accumulate(steps)))


def _integer(digits: str) -> int | float:
    if len(digits) <= _MAX_DIGITS:
        return int(digits)
    # Python takes no longer ones, and needs time for them.
    return float(digits)


def _no_number(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


_DECODER: Final = json.JSONDecoder(parse_int=_integer, parse_float=float, parse_constant=_no_number)
