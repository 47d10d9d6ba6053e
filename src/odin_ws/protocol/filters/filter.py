"""One filter: whether a record's value meets its conditions."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from odin_ws.protocol.filters.fields import Fields

__all__ = ["Filter", "Test"]

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

    __slots__ = ("__weakref__", "_hash", "_key", "matches", "source", "terms")

    def __init__(self, key: Hashable, matches: Test, terms: int, source: Any) -> None:
        self._key = key
        self._hash = hash(key)
        self.matches = matches
        self.terms = terms
        self.source = source

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Filter) and self._key == other._key)

    def __hash__(self) -> int:
        return self._hash
