"""Caches the results of filters for replays: each filter is evaluated once per record."""

from __future__ import annotations

from typing import Final

from odin_ws.protocol.filters.fields import Fields
from odin_ws.protocol.filters.filter import Filter

__all__ = ["FilterCache"]

# Bounds of the cache: some chunks of a scan (scan_chunks.py), which its clients filter one after
# the other. Parsed values take up to ten times their bytes: 5 MB.
_MAX_VALUES: Final = 4096
_MAX_BYTES: Final = 512 << 10


class FilterCache:
    """The latest values, each with its parsed fields and the results of filters so far.

    Clients share messages, so a value is found by the id of its object and not by its content.
    """

    def __init__(self, max_values: int = _MAX_VALUES, max_bytes: int = _MAX_BYTES) -> None:
        self.evaluations = 0
        """The number of evaluations of filters."""
        self._max_values = max_values
        self._max_bytes = max_bytes
        # In the order of arrival. The value is kept, because an id is unique only while its object
        # exists.
        self._known: dict[int, tuple[bytes, Fields, dict[Filter, bool]]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        """Return how many values are kept."""
        return len(self._known)

    def matches(self, where: Filter, value: bytes) -> bool:
        """Return whether a value meets a filter."""
        known = self._known.get(id(value))
        if known is None:
            known = self._known[id(value)] = value, Fields(value), {}
            self._bytes += len(value)
            self._evict()
        _, fields, results = known
        result = results.get(where)
        if result is None:
            self.evaluations += 1
            result = results[where] = where.matches(fields)
        return result

    def _evict(self) -> None:
        known = self._known
        while len(known) > self._max_values or self._bytes > self._max_bytes:
            value, _, _ = known.pop(next(iter(known)))
            self._bytes -= len(value)
