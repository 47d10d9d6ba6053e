"""Sends the messages of a replay; those up to its end are replayed, later ones are live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

import trio

from odin_ws.history import Pin
from odin_ws.hub import Hub, LiveFrom, Stream
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import TopicPartition, topic_partition
from odin_ws.resume.replay_limits import ReplayStats
from odin_ws.resume.replay_state import ReplayClient
from odin_ws.resume.replay_window import ReplayWindow
from odin_ws.resume.scan_chunks import Chunk

__all__ = ["ReplayEnd", "ReplaySender"]

# Seconds for which the history stays pinned while a client receives what it was sent last.
_PINNED_SECONDS: Final = 2.0


class ReplayEnd:
    """The position of the hub when a replay began.

    `order`: this position as a place in the hub's order.
    """

    __slots__ = ("_positions", "order")

    def __init__(self) -> None:
        self.order = 0
        self._positions: LiveFrom | None = None

    def move(self, stream: Stream) -> None:
        """Move the end to the present position of the hub."""
        self.order = stream.order
        self._positions = stream.now()

    def cut(self, moved: Mapping[TopicPartition, int]) -> None:
        """Move the end back to these offsets, after which partitions were truncated."""
        ends = self._positions
        if ends is not None:
            known = ((key, ends.offset(key)) for key in moved)
            cut = {key: min(end, moved[key]) for key, end in known if end is not None}
            self._positions = ends.replaced(cut)

    def covers(self, chunk: Chunk) -> bool:
        """Return whether all messages of a chunk are replayed."""
        return all(last <= self._end(key, last) for key, last in chunk.lasts.items())

    def includes(self, message: ChannelMessage) -> bool:
        """Return whether a message is replayed."""
        if message.order:
            return message.order <= self.order
        # A message that a scan has read has no place in the hub's order.
        record = message.record
        key = topic_partition(record.topic, record.partition)
        return record.offset <= self._end(key, record.offset)

    def _end(self, key: TopicPartition, offset: int) -> int:
        """Return the end in a partition; `offset` if it was not read when the replay began."""
        end = None if self._positions is None else self._positions.offset(key)
        return offset if end is None else end


class ReplaySender:
    """Marks messages up to the end of the replay as replayed; later messages are live."""

    def __init__(
        self, hub: Hub, client: ReplayClient, stats: ReplayStats, window: ReplayWindow
    ) -> None:
        self.end = ReplayEnd()
        self.count = 0
        """The number of replayed messages so far."""
        self._hub = hub
        self._client = client
        self._subscriber = client.subscriber
        self._stats = stats
        self._window = window
        self._pin: Pin | None = None

    def pin(self, pin: Pin | None) -> None:
        """Hold a pin of the history, or none; releases the previous one."""
        before, self._pin = self._pin, pin
        if before is not None:
            self._hub.history.unpin(before, trio.current_time())

    async def drained(self) -> None:
        """Wait until the client has received what it was sent; the pin is held for a while."""
        if self._pin is not None:
            with trio.move_on_after(_PINNED_SECONDS):
                await self._drained()
                return
            self.pin(None)
        await self._drained()

    async def _drained(self) -> None:
        await self._client.drained()
        await self._window.wait_for_share(self._client)

    async def wait_for_room(self) -> None:
        """Wait until other clients have received enough of their replays."""
        await self._window.wait_for_room(self._client)

    def end_of_replay(self) -> None:
        """Release what the replay holds of the history and of the replay window."""
        self.pin(None)
        self._window.release(self._client)

    def send_chunk(self, chunk: Chunk) -> None:
        """Send a chunk; its time counts as time of replays."""
        begun = trio.current_time()
        if self.end.covers(chunk):
            # All clients with the same patterns share the chunk, and its encoded frames.
            self._hub.flush(self._subscriber)
            self._replay(chunk.messages)
        else:
            self._send(chunk.messages)
        self._window.sent(self._client)
        self._stats.send_seconds += trio.current_time() - begun

    def send(self, messages: Sequence[ChannelMessage]) -> None:
        """Send messages of which some may come after the end."""
        self._send(messages)
        self._window.sent(self._client)

    def _send(self, messages: Sequence[ChannelMessage]) -> None:
        # Pending live messages come first: newer messages do not overtake them.
        self._hub.flush(self._subscriber)
        for is_replayed, run in groupby(messages, self.end.includes):
            if is_replayed:
                self._replay(list(run))
            else:
                self._hub.send(self._subscriber, list(run))

    def _replay(self, messages: Sequence[ChannelMessage]) -> None:
        self.count += len(messages)
        self._hub.replay(self._subscriber, messages)
