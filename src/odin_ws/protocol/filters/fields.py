"""The fields of one record's value: parsed for the first filter, then used by all filters."""

from __future__ import annotations

import json
from typing import Any, Final

from odin_ws.protocol.filters.decimals import Number, read_number
from odin_ws.protocol.json_text import load_json

__all__ = ["MISSING", "Fields"]

MISSING: Final = object()
"""The value of a missing field."""


class Fields(dict[str, Any]):
    """The fields of a value that was accepted as JSON, by their dotted names.

    A missing field has the value MISSING. Elements of arrays have no names. Each field is looked
    up, and its number parsed, once for all filters. The class is a dict, because filters look up
    fields for every record: a cached field is found without a call of Python code.
    """

    __slots__ = ("_exact", "_parsed", "_value", "numbers")

    def __init__(self, value: bytes) -> None:
        self._value = value
        self._parsed: Any = MISSING
        self._exact: Any = MISSING
        self.numbers = _Numbers(self)
        """By name the number in a field: a JSON number, or a string that is written as one."""

    def __missing__(self, name: str) -> Any:
        """Look up a field for the first time."""
        if self._parsed is MISSING:
            self._parsed = load_json(self._value)
        found = self[name] = _walk(self._parsed, name)
        return found

    def text(self, name: str) -> str | None:
        """Return the string in a field; None for other types."""
        value = self[name]
        return value if isinstance(value, str) and self.numbers[name] is None else None

    def exact_number(self, name: str) -> Number | None:
        """Return the number in a field as it is written."""
        if self._exact is MISSING:
            try:
                self._exact = _EXACT.decode(self._value.decode())
            except RecursionError:
                # The value is nested too deeply for Python's parser; orjson accepts more levels.
                self._exact = None
        found = _walk(self._exact, name)
        return read_number(found) if isinstance(found, _Exact) else None


class _Numbers(dict[str, Number | None]):
    """The numbers in the fields of one value."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Fields) -> None:
        self._fields = fields

    def __missing__(self, name: str) -> Number | None:
        number = self[name] = self._read(name, self._fields[name])
        return number

    def _read(self, name: str, value: Any) -> Number | None:
        if isinstance(value, str):
            return read_number(value)
        if isinstance(value, float):
            # A double may differ from the text: 0.1, 1e400, an integer beyond 64 bits.
            return self._fields.exact_number(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None


class _Exact(str):
    """A number as it was written; a separate class distinguishes it from all other values.

    Read only if a filter compares it: a value of 256 KiB may have 50,000 numbers.
    """

    __slots__ = ()


_EXACT: Final = json.JSONDecoder(parse_float=_Exact, parse_int=_Exact)


def _walk(value: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(value, dict):
            return MISSING
        value = value.get(name, MISSING)
    return value
