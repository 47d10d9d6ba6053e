"""Conflation (`delivery: "latest"`): a slow subscriber gets only the newest message per channel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from odin_ws.protocol.envelope import ChannelMessage

__all__ = ["Conflation"]


class Conflation:
    """The newest waiting message of each channel, for a subscriber that has not taken the rest.

    `behind`: whether more waits to be taken than is allowed. `max_bytes`: what is held back is no
    more than that, else `overflow` is called, which may not wait. `skipped`: how many messages
    newer ones have replaced.
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
        """How many messages wait, each of another channel."""
        return len(self._waiting)

    @property
    def holding(self) -> bool:
        """Whether more messages have to wait: some do already, or the subscriber is behind."""
        return bool(self._waiting) or self._behind()

    def add(self, messages: Iterable[ChannelMessage]) -> int:
        """Let messages wait; returns how many they replaced."""
        replaced = 0
        for message in messages:
            # Taken out first, so that those that wait stand in the order they came.
            old = self._waiting.pop(message.channel, None)
            if old is not None:
                replaced += 1
                self._bytes -= len(old.value)
            self._waiting[message.channel] = message
            self._bytes += len(message.value)
        self.skipped += replaced
        # A new channel each time replaces nothing, and would be held for ever.
        if self._bytes > self._max_bytes:
            self._overflow()
        return replaced

    def take(self) -> tuple[Sequence[ChannelMessage], int]:
        """All that waits, in order, and how many messages were skipped before."""
        messages, skipped = list(self._waiting.values()), self.skipped
        self._waiting, self._bytes, self.skipped = {}, 0, 0
        return messages, skipped
