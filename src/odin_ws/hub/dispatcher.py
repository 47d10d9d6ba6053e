"""The dispatcher: reads batches, fans out, and writes every subscriber once per cycle.

One task dispatches, so nothing is reordered. It awaits only new records, the next slot, and the
yields between steps and writes; the state of the hub (hub.py) changes in synchronous functions.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Self

import trio

from odin_ws.hub.fan_out import FanOut
from odin_ws.hub.hub import Hub
from odin_ws.hub.stats import HubStats
from odin_ws.hub.subscriber import Due, Subscriber
from odin_ws.protocol.encoder import NOTHING, Encoded
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.protocol.wire_format import WireFormat
from odin_ws.records import Batch, Item
from odin_ws.slots import Slots

__all__ = ["Dispatcher"]

# The dispatcher's share of the event loop: above it cycles get longer, so each write has more
# messages, and reads, accepts and pongs get the rest (shared measurements: 60-70%).
_DUTY = 0.65

# After a pause three cycles may begin at once. Fetches allow two (kafka/fetch_pace.py), and a cycle
# begins some ms after its fetch response, when the previous cycle is still writing: the third cycle
# avoids that wait.
_BURST = 3

# Limit on the time for which reading or writing blocks other tasks, seconds.
_SLICE_SECONDS = 0.005

# The end of a slice is checked after this many writes, and this many bytes (of records without
# subscribers: 1,000, about 6 ms).
_SLICE_WRITES = 32
_SLICE_BYTES = 64 << 10

# While a cycle writes, new records are read at this interval in seconds: fanning them out to 12,000
# subscribers takes a millisecond or two, writing to them a hundred.
_READ_INTERVAL_SECONDS = 0.02


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


class Dispatcher:
    """Runs the cycles of a hub, in one task."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._ingest = hub.ingest
        self._index = hub.index
        self._pacer = hub.pacer
        self._encoder = hub.encoder
        self._stats = hub.stats

    async def run(self, inbox: trio.MemoryReceiveChannel[Item]) -> None:
        """Dispatch until the channel ends.

        New records are dispatched at once if the rate allows a cycle, otherwise together with later
        ones when the next cycle starts.
        """
        queue, cycle = Queue(inbox), Cycle(self._hub.cycle_bytes)
        slots, not_before = Slots(self._hub.interval, _BURST), -math.inf
        while True:
            if not (has_backlog := bool(cycle.subscribers or queue.unread)):
                try:
                    await self._wait(queue)
                except trio.EndOfChannel:
                    return
            slot = max(slots.next_start, not_before, trio.current_time())
            # Without a wait for a slot there is no second checkpoint: `_wait` was one already, and
            # with many clients each checkpoint takes a long pass of the event loop.
            if has_backlog or slot > trio.current_time():
                await trio.sleep_until(slot)
            slots.start(slot)
            started = trio.current_time()
            await self._collect(queue, cycle)
            if self._pacer.next_at < math.inf:
                cycle.subscribers += self._pacer.release(slot)
                self._pacer.mark()
            collected = trio.current_time()
            following = Cycle(self._hub.cycle_bytes)
            await self._write_all(queue, cycle, following)
            now = trio.current_time()
            self._stats.observe_cycle(cycle.messages, now - started)
            not_before = slot + (now - collected) / _DUTY
            cycle = following

    async def _wait(self, queue: Queue) -> None:
        """Wait for an item, or until messages that a rate delays are due."""
        if self._pacer.next_at == math.inf:
            await queue.wait()
            return
        with trio.move_on_at(self._pacer.next_at):
            await queue.wait()

    async def _collect(self, queue: Queue, cycle: Cycle) -> None:
        """Read new items up to the size of a cycle, and advance the positions."""
        with DispatchSlice(self._stats) as time_slice:
            while cycle.room > 0 and queue.fill():
                fan_out, size = self._read(queue, cycle.room, time_slice)
                cycle.room -= size
                cycle.subscribers += fan_out.distribute()
                cycle.messages += fan_out.messages
                if time_slice.expired:
                    await time_slice.yield_control()

    def _read(self, queue: Queue, room: int, time_slice: DispatchSlice) -> tuple[FanOut, int]:
        """Take new records; returns their fan-out and their size.

        The caller distributes the fan-out before the next await, so a subscription gets only
        records that are read after it. Other items are handled at once, and never between records
        and their distribution.
        """
        fan_out = FanOut(self._index, self._pacer, self._stats)
        size = self._ingest.take(queue.unread, fan_out.add, min(room, _SLICE_BYTES))
        while size < min(room, _SLICE_BYTES) and queue.has_records and not time_slice.expired:
            size += self._ingest.take(queue.unread, fan_out.add, min(room, _SLICE_BYTES) - size)
        return fan_out, size

    def _read_on(
        self, queue: Queue, cycle: Cycle, following: Cycle, time_slice: DispatchSlice
    ) -> None:
        """Read new records while a cycle writes.

        Subscribers not yet written get these records in this cycle, the others in the following
        cycle.
        """
        # If this cycle is full, the following one has room from its beginning.
        if cycle.room <= 0 or not queue.has_records:
            return
        fan_out, size = self._read(queue, cycle.room, time_slice)
        cycle.room -= size
        following.room -= size
        following.subscribers += fan_out.distribute()
        # The age of the records is measured in the cycle that writes their last subscriber.
        (following if following.subscribers else cycle).messages += fan_out.messages

    async def _write_all(self, queue: Queue, cycle: Cycle, following: Cycle) -> None:
        """Write each subscriber its pending messages, if it still has any.

        Adjacent subscribers often get the same messages with the same numbers, as the same bytes.
        """
        shared: Due | None = None
        shared_form: WireFormat | None = None
        encoded = NOTHING
        shared_seq, data, messages, first, numbers = 0, b"", 0, 1, 0
        stats = self._stats
        with DispatchSlice(stats) as time_slice:
            next_read = time_slice.begun + _READ_INTERVAL_SECONDS
            for count, subscriber in enumerate(cycle.subscribers):
                if not count % _SLICE_WRITES and time_slice.expired:
                    next_read = await self._yield_and_read(
                        queue, cycle, following, time_slice, next_read
                    )
                pending = subscriber.pending
                if pending is None:
                    continue
                if subscriber.conflation is not None:
                    subscriber.pending = None
                    self._hub.write(subscriber, pending)
                    continue
                # `Hub._deliver`, inlined: this runs once per subscriber and cycle, the hot path.
                form, seq = subscriber.form, subscriber.seq
                if pending is not shared or form is not shared_form:
                    if pending.receivers == 1 and self._encoder.is_written_alone(pending, form):
                        subscriber.pending = None
                        self._hub.send_due(subscriber, pending)
                        continue
                    encoded = self._encoder.find(pending, form) or await self._encode(
                        pending, form, time_slice
                    )
                    shared, shared_form, shared_seq = pending, form, -1
                    messages, first = len(pending), pending.skipped + 1
                    numbers = pending.skipped + messages
                    # The subscriber may have been flushed meanwhile.
                    if subscriber.pending is not pending:
                        continue
                    seq = subscriber.seq
                subscriber.pending = None
                if seq != shared_seq:
                    shared_seq, data = seq, encoded.frames(seq + first)
                subscriber.seq = seq + numbers
                stats.messages_sent += messages
                subscriber.deliver(data)
        self._encoder.end()

    async def _yield_and_read(
        self,
        queue: Queue,
        cycle: Cycle,
        following: Cycle,
        time_slice: DispatchSlice,
        next_read: float,
    ) -> float:
        """Let other tasks run, then read new records; returns the time of the next read."""
        await time_slice.yield_control()
        if time_slice.begun < next_read:
            return next_read
        self._read_on(queue, cycle, following, time_slice)
        return time_slice.begun + _READ_INTERVAL_SECONDS

    async def _encode(self, pending: Due, form: WireFormat, time_slice: DispatchSlice) -> Encoded:
        """Encode pending messages; compressing a whole cycle takes several time slices."""
        steps = self._encoder.steps(pending, form)
        while True:
            try:
                next(steps)
            except StopIteration as ended:
                result: Encoded = ended.value
                return result
            if time_slice.expired:
                await time_slice.yield_control()
