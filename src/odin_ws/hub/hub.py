"""The hub: subscribes clients, and numbers, counts and writes the messages of each subscriber.

State changes only in synchronous functions, called by sessions and replays between two cycles of
the dispatcher or between two of its writes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import attrgetter

import trio

from odin_ws.hub.ingest import Ingest
from odin_ws.hub.log_changes import LiveFrom
from odin_ws.hub.pacing import Pacer
from odin_ws.hub.packing import Compressors, CycleEncoder, ReplayEncoder
from odin_ws.hub.sent_messages import sent_messages
from odin_ws.hub.subscriber import Due, MarkedDue, Subscriber
from odin_ws.hub.subscription_index import SubscriptionIndex
from odin_ws.hub.subscription_options import PLAIN, SubscriptionOptions
from odin_ws.protocol.encoder import write
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.protocol.filters import FilterCache, FilterRegistry
from odin_ws.protocol.wire_format import Frames
from odin_ws.steps import STEP_ITEMS, Steps

__all__ = ["Hub"]


class Hub:
    """Subscriptions, positions, and the messages of each subscriber.

    Args:
        ingest: takes the records; has the stream, the history and the snapshots.
        interval: seconds between the starts of two cycles, on average; 0 for none.
        cycle_bytes: limit of one cycle's records with subscribers, exceeded by at most one record.
            A subscriber to everything gets them in one write; further records wait in the hub, in
            the channel and in Kafka.
        max_filters: limit of distinct filters of all subscriptions.
    """

    def __init__(
        self, ingest: Ingest, *, interval: float, cycle_bytes: int, max_filters: int = 100
    ) -> None:
        self.ingest = ingest
        self.stream = ingest.stream
        self.history = ingest.history
        self.snapshots = ingest.snapshots
        self.stats = ingest.stats
        self.interval = interval
        self.cycle_bytes = cycle_bytes
        self.filters = FilterRegistry(max_filters)
        self.filter_cache = FilterCache()
        """Results of filters in replays, which read the same records."""
        self.index = SubscriptionIndex()
        self.pacer = Pacer(2 * cycle_bytes, self.stats)
        """Holds the messages of subscriptions with a rate until they are due."""
        compressors = Compressors(self.stats.compressed)
        self.encoder = CycleEncoder(compressors)
        """Encodes the messages of a cycle once for all subscribers with the same wire format."""
        self._replays = ReplayEncoder(compressors)

    # ---- subscriptions

    def subscribe(
        self,
        subscriber: Subscriber,
        patterns: Iterable[str],
        replayed_from: Mapping[str, LiveFrom] | None = None,
        options: SubscriptionOptions = PLAIN,
    ) -> None:
        """Add patterns, live from the hub's present positions.

        `replayed_from`: the start of patterns that were replayed. `options`: the options of all
        these patterns; they replace those of existing subscriptions.
        """
        if subscriber.paces is not None:
            self.pacer.take(subscriber, trio.current_time())
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
            self.pacer.follow(subscriber)

    def unsubscribe(self, subscriber: Subscriber, patterns: Collection[str]) -> bool:
        """Remove patterns, whose messages are not written from now on; False if there were none."""
        self.settle(subscriber)
        gone = [self.index.discard(subscriber, pattern) for pattern in patterns]
        for pattern in patterns:
            subscriber.live_from.pop(pattern, None)
        subscriber.resend_from = self.stream.order
        if subscriber.paces is not None:
            self.pacer.follow(subscriber)
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
        self.pacer.leave(subscriber)

    def topics_of(self, subscriber: Subscriber) -> list[str]:
        """Return the topics of a subscriber's patterns."""
        return self.stream.catalogue.topics_in(subscriber.categories)

    def sent_positions(
        self, subscriber: Subscriber, topics: Iterable[str]
    ) -> dict[str, dict[int, int]]:
        """As `positions`, but before the messages that a rate delays for a subscriber."""
        positions = self.stream.positions_of(topics)
        for key, offset in self.pacer.first_held(subscriber).items():
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
            self.write(subscriber, pending)
        self.release(subscriber)

    def settle(self, subscriber: Subscriber) -> None:
        """Write all pending messages of a subscriber, also those that a rate delays.

        Afterwards the hub's positions are the subscriber's.
        """
        if subscriber.paces is not None:
            self.pacer.take(subscriber, trio.current_time())
        self.flush(subscriber)

    def release(self, subscriber: Subscriber) -> None:
        """Write the messages held by conflation: the subscriber caught up, or sent a command."""
        conflation = subscriber.conflation
        if conflation is None or not conflation.waiting:
            return
        pending = subscriber.pending
        if pending is not None:
            # The hub's positions include the running cycle: without its messages the held ones
            # would move the subscriber past messages that it has not got.
            subscriber.pending = None
            self.write(subscriber, pending)
        messages, skipped = conflation.take()
        if skipped:
            subscriber.resend_from = self.stream.order
        ahead = False
        if subscriber.paces is not None:
            # Messages delayed by a rate came after newer ones.
            messages = sorted(messages, key=attrgetter("order"))
            ahead = self.pacer.is_passed(subscriber, messages)
        self.send_due(subscriber, MarkedDue(messages, skipped=skipped, ahead=ahead))

    def write_as(self, subscriber: Subscriber, frames: Frames) -> None:
        """Change the frames of a subscriber, from the next message on."""
        self.flush(subscriber)
        subscriber.form = subscriber.form.with_frames(frames)

    def send(self, subscriber: Subscriber, messages: Sequence[ChannelMessage]) -> None:
        """Number messages and write them."""
        seq = subscriber.seq + 1
        self._deliver(subscriber, write(messages, seq, subscriber.form), seq, len(messages))

    def send_due(self, subscriber: Subscriber, due: Due) -> None:
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
            # Not shared: event ids depend on the client's own start.
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

    def write(self, subscriber: Subscriber, pending: Due) -> None:
        """Write pending messages, or hold them if conflation does so."""
        conflation = subscriber.conflation
        if conflation is not None and conflation.holding:
            self.stats.messages_skipped += conflation.add(pending)
            conflation.skipped += pending.skipped
        elif pending.receivers > 1 and (encoded := self.encoder.find(pending, subscriber.form)):
            # Compressed in this cycle; compressing now would take too long.
            seq = subscriber.seq + pending.skipped + 1
            self._deliver(subscriber, encoded.frames(seq), seq, len(pending))
        else:
            self.send_due(subscriber, pending)

    def _deliver(self, subscriber: Subscriber, data: bytes, first: int, count: int) -> None:
        """Number, count and write messages; resent ones have lower numbers."""
        subscriber.seq = max(subscriber.seq, first + count - 1)
        self.stats.messages_sent += count
        subscriber.deliver(data)
