"""The dispatcher: reads batches, fans out, and writes every subscriber once per cycle.

One task dispatches, so nothing is reordered. State changes only in synchronous functions; the only
awaits are the wait for records, the wait for the next slot, and the yields between steps and
writes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import attrgetter

import trio

from odin_ws.hub.cycle import Cycle, DispatchSlice, Queue
from odin_ws.hub.fan_out import FanOut
from odin_ws.hub.ingest import Ingest
from odin_ws.hub.log_changes import LiveFrom
from odin_ws.hub.pacing import Pacer
from odin_ws.hub.packing import Compressors, CycleEncoder, ReplayEncoder
from odin_ws.hub.sent_messages import sent_messages
from odin_ws.hub.subscriber import Due, MarkedDue, Merger, Subscriber
from odin_ws.hub.subscription_index import SubscriptionIndex
from odin_ws.hub.subscription_options import PLAIN, SubscriptionOptions
from odin_ws.protocol.encoder import NOTHING, Encoded, write
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.protocol.filters import FilterCache, FilterRegistry
from odin_ws.protocol.wire_format import Frames, WireFormat
from odin_ws.records import Item
from odin_ws.slots import Slots
from odin_ws.steps import STEP_ITEMS, Steps

__all__ = ["Hub"]

# The dispatcher's share of the event loop: above it cycles get longer, so each write has more
# messages, and reads, accepts and pongs get the rest (shared measurements: 60-70%).
_DUTY = 0.65

# After a pause three cycles may begin at once. Fetches allow two (kafka/fetch_pace.py), and a cycle
# begins some ms after its fetch response, when the previous one is still writing: the third one
# avoids that wait.
_BURST = 3

# The end of a slice is checked after this many writes, and this many bytes (of records without
# subscribers: 1,000, about 6 ms).
_SLICE_WRITES = 32
_SLICE_BYTES = 64 << 10

# While a cycle writes, new records are read at this interval in seconds: fanning them out to 12,000
# subscribers takes a millisecond or two, writing to them a hundred.
_LOOK_SECONDS = 0.02


class Hub:
    """Subscriptions, positions and the dispatcher.

    `interval`: seconds between the starts of two cycles in the long run; 0 for none.
    `cycle_bytes`: limit of one cycle's records with subscribers, exceeded by at most one record. A
    subscriber to everything gets them as one write; the rest waits in the hub, in the channel and
    in Kafka. `max_filters`: limit of distinct filters of all subscriptions.
    """

    def __init__(
        self, ingest: Ingest, *, interval: float, cycle_bytes: int, max_filters: int = 100
    ) -> None:
        self.ingest = ingest
        self.stream = ingest.stream
        self.history = ingest.history
        self.snapshots = ingest.snapshots
        self.stats = ingest.stats
        self._interval = interval
        self._cycle_bytes = cycle_bytes
        self.filters = FilterRegistry(max_filters)
        self.filter_cache = FilterCache()
        """Results of filters in replays, which read the same records."""
        self.index = SubscriptionIndex()
        self._pacer = Pacer(2 * cycle_bytes, self.stats)
        compressors = Compressors(self.stats.compressed)
        self._encoder = CycleEncoder(compressors)
        self._replays = ReplayEncoder(compressors)

    # ---- subscriptions: called by sessions, between two cycles or between two writes

    def subscribe(
        self,
        subscriber: Subscriber,
        patterns: Iterable[str],
        replayed_from: Mapping[str, LiveFrom] | None = None,
        options: SubscriptionOptions = PLAIN,
    ) -> None:
        """Add patterns, live from the hub's present positions.

        `replayed_from`: the start of patterns that were replayed. `options`: of all of them, also
        of existing ones that had others.
        """
        if subscriber.paces is not None:
            self._pacer.take(subscriber, trio.current_time())
        self.flush(subscriber)
        now = self.stream.now()
        begins = replayed_from or {}
        for pattern in patterns:
            shared = self.index.add(subscriber, pattern, options)
            if shared is not None or pattern in begins:
                # An existing pattern keeps its key, which is the shared text.
                subscriber.live_from[shared or pattern] = begins.get(pattern, now)
        subscriber.resend_from = self.stream.order
        if subscriber.options is not None or subscriber.paces is not None:
            self._pacer.follow(subscriber)

    def unsubscribe(self, subscriber: Subscriber, patterns: Collection[str]) -> bool:
        """Remove patterns; nothing of them is written afterwards. False: there were none."""
        self.settle(subscriber)
        gone = [self.index.discard(subscriber, pattern) for pattern in patterns]
        for pattern in patterns:
            subscriber.live_from.pop(pattern, None)
        subscriber.resend_from = self.stream.order
        if subscriber.paces is not None:
            self._pacer.follow(subscriber)
        return any(gone)

    def leave(self, subscriber: Subscriber) -> Steps[None]:
        """Remove a subscriber whose connection has ended."""
        subscriber.pending = None
        # Otherwise connection and subscriber would hold each other.
        subscriber.conflation = None
        subscriber.live_from.clear()
        for count, pattern in enumerate(list(subscriber.patterns), 1):
            self.index.discard(subscriber, pattern)
            if not count % STEP_ITEMS:
                yield
        # A cycle may have run between the steps.
        subscriber.pending = None
        self._pacer.leave(subscriber)

    def topics_of(self, subscriber: Subscriber) -> list[str]:
        """Return the topics of a subscriber's patterns."""
        return self.stream.catalogue.topics_in(subscriber.categories)

    def sent_positions(
        self, subscriber: Subscriber, topics: Iterable[str]
    ) -> dict[str, dict[int, int]]:
        """As `positions`, but before the messages that a rate delays for a subscriber."""
        positions = self.stream.positions_of(topics)
        for key, offset in self._pacer.first_held(subscriber).items():
            partitions = positions.get(key.topic, {})
            if key.partition in partitions:
                partitions[key.partition] = min(offset - 1, partitions[key.partition])
        return positions

    # ---- messages of one subscriber

    def flush(self, subscriber: Subscriber) -> None:
        """Write a subscriber's pending messages of the running cycle, before a response."""
        pending = subscriber.pending
        if pending is not None:
            subscriber.pending = None
            self._write(subscriber, pending)
        self.release(subscriber)

    def settle(self, subscriber: Subscriber) -> None:
        """Write all pending messages of a subscriber, also those that a rate delays.

        Afterwards the hub's positions are the subscriber's.
        """
        if subscriber.paces is not None:
            self._pacer.take(subscriber, trio.current_time())
        self.flush(subscriber)

    def release(self, subscriber: Subscriber) -> None:
        """Write the messages held by conflation: the subscriber caught up, or sent a command."""
        conflation = subscriber.conflation
        if conflation is not None and conflation.waiting:
            messages, skipped = conflation.take()
            if skipped:
                subscriber.resend_from = self.stream.order
            ahead = False
            if subscriber.paces is not None:
                # Messages delayed by a rate came after newer ones.
                messages = sorted(messages, key=attrgetter("order"))
                ahead = self._pacer.is_passed(subscriber, messages)
            self._send_due(subscriber, MarkedDue(messages, skipped=skipped, ahead=ahead))

    def write_as(self, subscriber: Subscriber, frames: Frames) -> None:
        """Change the frames of a subscriber, from the next message on."""
        self.flush(subscriber)
        subscriber.form = subscriber.form.with_frames(frames)

    def send(self, subscriber: Subscriber, messages: Sequence[ChannelMessage]) -> None:
        """Number messages and write them."""
        seq = subscriber.seq + 1
        self._deliver(subscriber, write(messages, seq, subscriber.form), seq, len(messages))

    def _send_due(self, subscriber: Subscriber, due: Due) -> None:
        """Number pending messages and write them to one subscriber."""
        seq = subscriber.seq + due.skipped + 1
        data = write(due, seq, subscriber.form, skipped=due.skipped, ahead=due.ahead)
        self._deliver(subscriber, data, seq, len(due))

    def replay(self, subscriber: Subscriber, messages: Sequence[ChannelMessage]) -> None:
        """Number replayed messages and write them."""
        subscriber.resend_from = self.stream.order
        seq, form = subscriber.seq + 1, subscriber.form
        if form.event_ids is None:
            data = self._replays.encode(messages, form).frames(seq)
        else:
            # The ids are this client's alone, because its start differs from others'.
            data = write(messages, seq, form, replay=True)
        self._deliver(subscriber, data, seq, len(messages))

    def sent(self, subscriber: Subscriber) -> Steps[tuple[int, list[ChannelMessage]]]:
        """Return the messages sent to a subscriber that history still has, and the first number."""
        self.flush(subscriber)
        return (yield from sent_messages(subscriber, self.stream, self.history, self.filter_cache))

    def resend(
        self, subscriber: Subscriber, messages: Sequence[ChannelMessage], first: int
    ) -> None:
        """Write messages again, under their original numbers from `first` on."""
        self.flush(subscriber)
        data = write(messages, first, subscriber.form, replay=True)
        self._deliver(subscriber, data, first, len(messages))

    def forget_replayed(self) -> None:
        """Drop the encoded replay chunks, because no replay runs."""
        self._replays.forget()

    # ---- the dispatcher

    async def run(self, inbox: trio.MemoryReceiveChannel[Item]) -> None:
        """Dispatch until the channel ends.

        New records are dispatched at once if the rate allows a cycle, otherwise together with later
        ones when the next cycle starts.
        """
        queue, cycle = Queue(inbox), Cycle(self._cycle_bytes)
        slots, not_before = Slots(self._interval, _BURST), -math.inf
        while True:
            if not (has_backlog := bool(cycle.subscribers or queue.left)):
                try:
                    await self._wait(queue)
                except trio.EndOfChannel:
                    return
            slot = max(slots.next_start, not_before, trio.current_time())
            # Receiving was a checkpoint, and a pass is long with many clients.
            if has_backlog or slot > trio.current_time():
                await trio.sleep_until(slot)
            slots.start(slot)
            started = trio.current_time()
            await self._collect(queue, cycle)
            if self._pacer.next_at < math.inf:
                cycle.subscribers += self._pacer.release(slot, Merger())
                self._pacer.mark()
            collected = trio.current_time()
            following = Cycle(self._cycle_bytes)
            await self._write_all(queue, cycle, following)
            now = trio.current_time()
            self.stats.observe_cycle(cycle.messages, now - started)
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
        with DispatchSlice(self.stats) as time_slice:
            while cycle.room > 0 and queue.fill():
                fan_out, size = self._read(queue, cycle.room, time_slice)
                cycle.room -= size
                cycle.subscribers += fan_out.distribute()
                cycle.messages += fan_out.messages
                if time_slice.expired:
                    await time_slice.yield_control()

    def _read(self, queue: Queue, room: int, time_slice: DispatchSlice) -> tuple[FanOut, int]:
        """Take new records; returns them, to be distributed in the same step, and their size.

        A subscription between two steps gets only records that are read after it. Items that are no
        records are handled at once, so never after records that are not distributed yet.
        """
        fan_out = FanOut(self.index, self._pacer, self.stats)
        size = self.ingest.take(queue.left, fan_out.add, min(room, _SLICE_BYTES))
        while size < min(room, _SLICE_BYTES) and queue.has_records and not time_slice.expired:
            size += self.ingest.take(queue.left, fan_out.add, min(room, _SLICE_BYTES) - size)
        return fan_out, size

    def _read_on(
        self, queue: Queue, cycle: Cycle, following: Cycle, time_slice: DispatchSlice
    ) -> None:
        """Read new records while a cycle writes: subscribers not written yet get them in it.

        Subscribers already written get them first in the following cycle.
        """
        # The room in the following cycle is larger from its beginning.
        if cycle.room <= 0 or not queue.has_records:
            return
        fan_out, size = self._read(queue, cycle.room, time_slice)
        cycle.room -= size
        following.room -= size
        following.subscribers += fan_out.distribute()
        # Measured when the last of their subscribers was written.
        (following if following.subscribers else cycle).messages += fan_out.messages

    async def _write_all(self, queue: Queue, cycle: Cycle, following: Cycle) -> None:
        """Write each subscriber its pending messages, unless it was flushed or left meanwhile.

        Neighbours often get the same messages under the same numbers: they share the bytes.
        """
        shared: Due | None = None
        shared_form: WireFormat | None = None
        encoded = NOTHING
        shared_seq, data, messages, first, numbers = 0, b"", 0, 1, 0
        stats = self.stats
        with DispatchSlice(stats) as time_slice:
            next_look = time_slice.begun + _LOOK_SECONDS
            for count, subscriber in enumerate(cycle.subscribers):
                if not count % _SLICE_WRITES and time_slice.expired:
                    next_look = await self._look(queue, cycle, following, time_slice, next_look)
                pending = subscriber.pending
                if pending is None:
                    continue
                if subscriber.conflation is not None:
                    subscriber.pending = None
                    self._write(subscriber, pending)
                    continue
                # `_deliver`, inlined because it runs once per subscriber and cycle: the hot path.
                form, seq = subscriber.form, subscriber.seq
                if pending is not shared or form is not shared_form:
                    if pending.receivers == 1 and self._encoder.is_written_alone(pending, form):
                        subscriber.pending = None
                        self._send_due(subscriber, pending)
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

    async def _look(
        self,
        queue: Queue,
        cycle: Cycle,
        following: Cycle,
        time_slice: DispatchSlice,
        next_look: float,
    ) -> float:
        """Let other tasks run, then read new records; returns when to do so the next time."""
        await time_slice.yield_control()
        if time_slice.begun < next_look:
            return next_look
        self._read_on(queue, cycle, following, time_slice)
        return time_slice.begun + _LOOK_SECONDS

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

    def _write(self, subscriber: Subscriber, pending: Due) -> None:
        conflation = subscriber.conflation
        if conflation is not None and conflation.holding:
            self.stats.messages_skipped += conflation.add(pending)
            conflation.skipped += pending.skipped
        elif pending.receivers > 1 and (encoded := self._encoder.find(pending, subscriber.form)):
            # Compressed in this cycle; compressing now would take too long.
            seq = subscriber.seq + pending.skipped + 1
            self._deliver(subscriber, encoded.frames(seq), seq, len(pending))
        else:
            self._send_due(subscriber, pending)

    def _deliver(self, subscriber: Subscriber, data: bytes, first: int, count: int) -> None:
        """Number, count and write messages; resent ones have lower numbers."""
        subscriber.seq = max(subscriber.seq, first + count - 1)
        self.stats.messages_sent += count
        subscriber.deliver(data)
