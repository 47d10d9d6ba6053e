"""The filters in use: one object for each, however many subscriptions share it."""

from __future__ import annotations

from weakref import WeakKeyDictionary, ref

from odin_ws.protocol.filters.filter import Filter

__all__ = ["FilterRegistry"]


class FilterRegistry:
    """The distinct filters of all clients, `maximum` at most.

    A filter is forgotten when the last subscription, replay and command with it has ended.
    """

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self._filters: WeakKeyDictionary[Filter, ref[Filter]] = WeakKeyDictionary()

    def __len__(self) -> int:
        """Return the number of distinct filters."""
        return len(self._filters)

    def share(self, filter_: Filter) -> Filter | None:
        """Return the one object for all filters like this; None if there are too many."""
        found = self._filters.get(filter_)
        known = None if found is None else found()
        if known is not None:
            return known
        if len(self._filters) >= self.maximum:
            return None
        self._filters[filter_] = ref(filter_)
        return filter_
