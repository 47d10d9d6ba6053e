"""Merges and subtracts lists of pending messages, each pair of lists once per step."""

from __future__ import annotations

from odin_ws.hub.subscriber import Due, MarkedDue

__all__ = ["Merger"]


class Merger:
    """Merged and subtracted lists of pending messages, shared by all who need the result."""

    def __init__(self) -> None:
        # The lists are kept with the result: an id is unique only while its object lives.
        self._merged: dict[tuple[int, int], tuple[Due, Due, Due]] = {}
        self._without: dict[tuple[int, int], tuple[Due, Due, Due]] = {}

    def merge(self, first: Due, second: Due) -> Due:
        """Return the messages of both lists, each once, in the hub's order."""
        key = id(first), id(second)
        known = self._merged.get(key)
        if known is None:
            both = {message.order: message for message in (*first, *second)}
            skipped = first.skipped + second.skipped
            ordered = (both[order] for order in sorted(both))
            merged = MarkedDue(ordered, skipped=skipped) if skipped else Due(ordered)
            merged.receivers = 0
            known = self._merged[key] = merged, first, second
        known[0].receivers += 1
        return known[0]

    def without(self, messages: Due, others: Due) -> Due:
        """Return the messages that are not among the others; the same list if none of them is."""
        key = id(messages), id(others)
        known = self._without.get(key)
        if known is None:
            orders = {message.order for message in others}
            left = Due(message for message in messages if message.order not in orders)
            if len(left) == len(messages):
                left = messages
            known = self._without[key] = left, messages, others
        return known[0]
