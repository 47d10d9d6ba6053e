"""The fields of one record's value: parsed when the first filter looks, then for all filters."""

from __future__ import annotations

import json
from typing import Any, Final

from odin_ws.protocol.filters.decimals import Number, read_number
from odin_ws.protocol.json_text import load_json

__all__ = ["MISSING", "Fields", "Path"]

# The names on the way to a field, from the outermost on.
Path = tuple[str, ...]

MISSING: Final = object()
"""Stands for a field that is not there."""

_NO_NUMBER: Final = object()


class Fields:
    """The fields of a value that was accepted as JSON.

    A field is looked up by its dotted name, and its number read, once for all filters.
    """

    __slots__ = ("_exact", "_found", "_numbers", "_parsed", "_value")

    def __init__(self, value: bytes) -> None:
        self._value = value
        self._parsed: Any = MISSING
        self._exact: Any = MISSING
        self._found: dict[str, Any] = {}
        self._numbers: dict[str, Number | None] = {}

    def get(self, name: str, path: Path) -> Any:
        """Return a field; MISSING if it is not there. Arrays are not looked into."""
        found = self._found.get(name, _NO_NUMBER)
        if found is _NO_NUMBER:
            if self._parsed is MISSING:
                self._parsed = load_json(self._value)
            found = self._found[name] = _walk(self._parsed, path)
        return found

    def number(self, name: str, path: Path) -> Number | None:
        """Return the number in a field, be it a JSON number or a string written as one."""
        try:
            return self._numbers[name]
        except KeyError:
            number = self._numbers[name] = self._read_number(self.get(name, path), path)
            return number

    def text(self, name: str, path: Path) -> str | None:
        """Return the string in a field; None for other types."""
        value = self.get(name, path)
        return value if isinstance(value, str) and self.number(name, path) is None else None

    def _read_number(self, value: Any, path: Path) -> Number | None:
        if isinstance(value, str):
            return read_number(value)
        if isinstance(value, float):
            # A double may differ from the text: 0.1, 1e400, an integer beyond 64 bits.
            return self._exact_number(path)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def _exact_number(self, path: Path) -> Number | None:
        if self._exact is MISSING:
            try:
                self._exact = _EXACT.decode(self._value.decode())
            except RecursionError:
                # Nested more deeply than Python's reader goes; orjson goes deeper.
                self._exact = None
        found = _walk(self._exact, path)
        return found.number if isinstance(found, _Exact) else None


class _Exact:
    """A number as it was written; a class of its own, since JSON has no other value like it."""

    __slots__ = ("number",)

    def __init__(self, text: str) -> None:
        self.number = read_number(text)


_EXACT: Final = json.JSONDecoder(parse_float=_Exact, parse_int=_Exact)


def _walk(value: Any, path: Path) -> Any:
    for name in path:
        if not isinstance(value, dict):
            return MISSING
        value = value.get(name, MISSING)
    return value
