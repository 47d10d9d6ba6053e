"""One filter: whether a record's value meets its conditions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable
from typing import Any, Final

from odin_ws.protocol.filters.fields import Fields

__all__ = ["Filter", "Test"]

# Memory of one comparison besides its names and constants.
_TERM_BYTES: Final = 600

# True if the fields of a value meet a condition.
Test = Callable[[Fields], bool]


class Filter:
    """Conditions on the fields of a value. Equal to every filter of the same canonical form.

    Args:
        key: the canonical form, without the order in which conditions were written.
        matches: whether the fields meet the conditions; it never raises.
        terms: the number of comparisons at most.
        source: the tree as the client wrote it.
    """

    __slots__ = ("__weakref__", "_hash", "_key", "_memory", "matches", "source", "terms")

    def __init__(self, key: Hashable, matches: Test, terms: int, source: Any) -> None:
        self._key = key
        self._hash = hash(key)
        self.matches = matches
        self.terms = terms
        self.source = source
        # Computed on demand, only for commands that wait.
        self._memory: int | None = None

    @property
    def memory(self) -> int:
        """An estimate of its memory in bytes: one to four times of what it takes."""
        if self._memory is None:
            # The canonical form and the tests have the constants too, and their own containers.
            self._memory = _memory_of(self.source) * 15 // 4 + _TERM_BYTES * self.terms
        return self._memory

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Filter) and self._key == other._key)

    def __hash__(self) -> int:
        return self._hash


def _memory_of(tree: Any) -> int:
    remaining, size = [tree], 0
    while remaining:
        part = remaining.pop()
        size += sys.getsizeof(part)
        if isinstance(part, dict):
            remaining += part.values()
        elif isinstance(part, list):
            remaining += part
    return size
