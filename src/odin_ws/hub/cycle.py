"""One dispatch cycle: its queue of batches, its subscribers, its time slices."""

from __future__ import annotations

from collections import deque
from typing import Self

import trio

from odin_ws.hub.stats import HubStats
from odin_ws.hub.subscriber import Subscriber
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import Batch, Item

__all__ = ["Cycle", "DispatchSlice", "Queue"]

# Limit on the time for which reading or writing blocks other tasks, seconds.
_SLICE_SECONDS = 0.005


class Cycle:
    """The subscribers to write and their messages. `room`: bytes that may still be added."""

    __slots__ = ("messages", "room", "subscribers")

    def __init__(self, room: int) -> None:
        self.room = room
        self.subscribers: list[Subscriber] = []
        self.messages: list[ChannelMessage] = []


class Queue:
    """The items of the source that the hub has not taken: in `unread`, then in the channel."""

    __slots__ = ("_inbox", "unread")

    def __init__(self, inbox: trio.MemoryReceiveChannel[Item]) -> None:
        self.unread: deque[Item] = deque()
        self._inbox = inbox

    async def wait(self) -> None:
        """Wait for an item. Raises trio.EndOfChannel if there will be none."""
        if not self.unread:
            self.unread.append(await self._inbox.receive())

    def fill(self) -> bool:
        """Move the next item to `unread`, if there is one."""
        if not self.unread:
            try:
                self.unread.append(self._inbox.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                return False
        return True

    @property
    def has_records(self) -> bool:
        """True if the next item is a batch, not an item that is handled at once."""
        return self.fill() and isinstance(self.unread[0], Batch)


class DispatchSlice:
    """The dispatcher's time between two yields."""

    __slots__ = ("_stats", "begun")

    def __init__(self, stats: HubStats) -> None:
        self._stats = stats
        self.begun = trio.current_time()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stats.busy_seconds += trio.current_time() - self.begun

    @property
    def expired(self) -> bool:
        """True if other tasks should run."""
        return trio.current_time() > self.begun + _SLICE_SECONDS

    async def yield_control(self) -> None:
        """Let other tasks run."""
        now = trio.current_time()
        self._stats.busy_seconds += now - self.begun
        self.begun = now
        await trio.lowlevel.checkpoint()
        self.begun = trio.current_time()
