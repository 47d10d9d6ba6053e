"""Conflation (`delivery: "latest"`): a slow subscriber gets only the newest message per channel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from odin_ws.protocol.envelope import ChannelMessage

__all__ = ["Conflation"]


class Conflation:
    """The newest pending message of each channel, for a subscriber that is behind.

    `skipped`: the number of messages that newer ones have replaced.

    Args:
        behind: returns whether the subscriber has more unsent bytes than allowed.
        max_bytes: limit of the held messages.
        overflow: called above that limit; must not wait.
    """

    __slots__ = ("_behind", "_bytes", "_max_bytes", "_overflow", "_waiting", "skipped")

    def __init__(
        self, behind: Callable[[], bool], max_bytes: int, overflow: Callable[[], None]
    ) -> None:
        self.skipped = 0
        self._behind = behind
        self._max_bytes = max_bytes
        self._overflow = overflow
        self._bytes = 0
        self._waiting: dict[str, ChannelMessage] = {}

    @property
    def waiting(self) -> int:
        """The number of held messages, each of another channel."""
        return len(self._waiting)

    @property
    def holding(self) -> bool:
        """True if more messages must be held: some are already, or the subscriber is behind."""
        return bool(self._waiting) or self._behind()

    def add(self, messages: Iterable[ChannelMessage]) -> int:
        """Hold messages; returns how many they replaced."""
        replaced = 0
        for message in messages:
            # Removed first, so that the held messages stay in their order of arrival.
            old = self._waiting.pop(message.channel, None)
            if old is not None:
                replaced += 1
                self._bytes -= len(old.value)
            self._waiting[message.channel] = message
            self._bytes += len(message.value)
        self.skipped += replaced
        # New channels replace nothing, and would be held without limit.
        if self._bytes > self._max_bytes:
            self._overflow()
        return replaced

    def take(self) -> tuple[Sequence[ChannelMessage], int]:
        """Return all held messages in order, and how many were skipped before."""
        messages, skipped = list(self._waiting.values()), self.skipped
        self._waiting, self._bytes, self.skipped = {}, 0, 0
        return messages, skipped
