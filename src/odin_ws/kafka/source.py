"""The Kafka source: delivers fetched records to the hub in order, with assignments and gaps.

No failure of brokers or of the network ends the source: each partition is retried separately, and
the status lists the problems.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext

import attrs
import structlog
import trio

from odin_ws.catalogue import Catalogue
from odin_ws.kafka.client import KafkaClient
from odin_ws.kafka.committed_offsets import CommittedOffsetReader
from odin_ws.kafka.fetcher import Fetcher
from odin_ws.kafka.group import GroupMember
from odin_ws.kafka.monitor import Monitor
from odin_ws.kafka.offset_tracker import OffsetTracker
from odin_ws.kafka.options import KafkaOptions
from odin_ws.kafka.partition import OffsetReset
from odin_ws.kafka.source_protocol import PACING_SLOT
from odin_ws.kafka.source_status import SourceState, SourceStatus
from odin_ws.kafka.start_offsets import StartOffsetFinder, StartOffsets
from odin_ws.kafka.topic_layout import Layout
from odin_ws.records import Assignment, Batch, GapReason, HistoryEnd, Item, TopicPartition
from odin_ws.token_bucket import TokenBucket

__all__ = ["KafkaSource"]

log = structlog.get_logger("odin_ws.kafka")

BatchChannel = trio.MemorySendChannel[Item]

_GAP_EVENTS = {
    GapReason.EXPIRED: "records deleted before they were read",
    GapReason.RECREATED: "topic recreated",
    GapReason.TRUNCATED: "log truncated",
}

# Start offsets come rarely: once at the start, then with each change of the layout.
_PLACEMENTS = 10


class KafkaSource:
    """Reads all partitions of the catalogue's topics, or those assigned by the consumer group.

    Starts at the end offsets at the start, or with a history before them.
    """

    def __init__(self, catalogue: Catalogue, options: KafkaOptions) -> None:
        self.status = SourceStatus()
        self._options = options
        # Its offsets advance when the hub's channel has taken a record.
        self._offset_tracker = OffsetTracker()
        self._client = KafkaClient(options.security, options.probe)
        self._fetcher = Fetcher(self._client, options.max_wait, options.slot, options.header_names)
        self._layout = Layout(catalogue.topics)
        self._monitor = Monitor(
            self.status,
            self._client,
            self._fetcher,
            self._layout,
            options.probe,
            self._offset_tracker.next,
        )
        self._start_offset_finder = StartOffsetFinder(
            self._client, self._layout, self._monitor, options
        )
        self._placed, self._placements = trio.open_memory_channel[StartOffsets](_PLACEMENTS)
        self._member = None
        if options.group is not None:
            self._member = GroupMember(
                options.group,
                options,
                CommittedOffsetReader(options.group, self._client, self._layout),
                self._layout,
                self._monitor,
                self._start_offset_finder,
                self._offset_tracker.next,
                self._fetcher.record_epoch,
            )

    async def run(self, channel: BatchChannel) -> None:
        """Read until cancelled. Retries failures of Kafka forever; the status shows them."""
        try:
            async with self._client.running(), trio.open_nursery() as nursery:
                nursery.start_soon(self._fetcher.run)
                nursery.start_soon(self._monitor.run)
                if self._member is None:
                    nursery.start_soon(
                        self._start_offset_finder.run, self._placed, self._fetcher.wake
                    )
                else:
                    nursery.start_soon(self._member.run)
                await self._read(channel)
        finally:
            self.status.transition(SourceState.STOPPED)

    # ---- records

    async def _read(self, channel: BatchChannel) -> None:
        rate = self._options.rate
        burst = rate * max(PACING_SLOT, self._options.slot)
        bucket = TokenBucket(rate, burst, trio.current_time())
        turn = nullcontext if self._member is None else self._member.turn
        while True:
            # History is not broadcast, so it needs no rate limit.
            paced = rate and not self._offset_tracker.history
            allowed = bucket.available(trio.current_time()) if paced else None
            if allowed == 0:
                await trio.sleep(bucket.seconds_until_full())
                continue
            async with turn() as assigned:
                if assigned is not None and self._member is not None:
                    await self._serve(channel, self._member, assigned)
                await self._begin_placed(channel)
                await self._leave_gone(channel)
                await self._skip_stuck_history(channel)
                await self._end_history(channel)
                count = await self._read_some(channel, allowed)
                bucket.spend(count if paced else 0)

    async def _read_some(self, channel: BatchChannel, allowed: int | None) -> int:
        """Deliver at most `allowed` fetched records; returns their number."""
        offset_tracker = self._offset_tracker
        taken = await self._fetcher.take(allowed)
        self.status.paced = taken.cut_off and len(taken.records) == allowed
        last = {(record.topic, record.partition): record.offset for record in taken.records}
        passed = {
            key: offset
            for key, offset in taken.passed.items()
            if offset > last.get(key, offset_tracker.next[key] - 1)
        }
        if taken.records or passed:
            await channel.send(Batch(taken.records, passed))
            offset_tracker.pass_records(taken.records)
            offset_tracker.pass_offsets(passed)
        if taken.resets:
            await self._reset(channel, taken.resets)
        if offset_tracker.history:
            offset_tracker.pass_history(self._fetcher.next_offsets())
        return len(taken.records)

    # ---- partitions

    async def _begin_placed(self, channel: BatchChannel) -> None:
        """Send the hub the new partitions with start offsets, and begin to read them."""
        offset_tracker = self._offset_tracker
        while True:
            try:
                placement = self._placements.receive_nowait()
            except trio.WouldBlock:
                return
            if placement.is_first:
                assignment = offset_tracker.begin(placement.starts, placement.ends)
            else:
                offset_tracker.next |= placement.starts
                assignment = offset_tracker.assignment(offset_tracker.next)
            await self._assign(channel, assignment)
            starts = {key: offset_tracker.next[key] for key in placement.starts}
            self._fetcher.assign(starts, placement.epochs)
            self._restart_recreated({key: placement.topic_ids.get(key.topic) for key in starts})

    async def _serve(
        self,
        channel: BatchChannel,
        member: GroupMember,
        positions: Mapping[TopicPartition, int],
    ) -> None:
        """Read only the partitions that the group assigned."""
        self._fetcher.revoke(self._fetcher.partitions.keys() - positions.keys())
        await self._assign(channel, self._offset_tracker.assignment(positions, partial=True))
        new = {
            key: at
            for key, at in positions.items()
            if key not in self._fetcher.partitions
            or self._fetcher.partitions[key].first_buffered != at
        }
        self._fetcher.assign(new, member.epochs)
        self._restart_recreated({key: member.topic_ids.get(key) for key in new})

    def _restart_recreated(self, topic_ids: Mapping[TopicPartition, str | None]) -> None:
        """Read topics from their beginning that were recreated since their offsets were looked up.

        `topic_ids`: by partition the id at that time; None if brokers have no ids.
        """
        present = self._layout.topic_ids
        self._fetcher.restart(
            {
                key
                for key, topic_id in topic_ids.items()
                if topic_id not in {None, present.get(key.topic)}
            }
        )

    async def _leave_gone(self, channel: BatchChannel) -> None:
        """Stop reading partitions that a recreated topic does not have any more."""
        gone = self._fetcher.partitions.keys() - self._layout.partitions
        if gone and self._member is None:
            self._fetcher.revoke(gone)
            self._offset_tracker.forget(gone)
            await self._assign(channel, self._offset_tracker.assignment(self._offset_tracker.next))

    async def _assign(self, channel: BatchChannel, assignment: Assignment) -> None:
        # A topic's new id is sent with its first reset, not before.
        announced = {key.topic for key in assignment.gaps}
        partitions = self._fetcher.partitions.items()
        early = {key.topic for key, partition in partitions if partition.is_recreated} - announced
        ids = {name: its for name, its in self._layout.topic_ids.items() if name not in early}
        await channel.send(attrs.evolve(assignment, topic_ids=ids))

    async def _reset(
        self, channel: BatchChannel, resets: Mapping[TopicPartition, OffsetReset]
    ) -> None:
        """Continue at other offsets after the hub has the resets; counts the skipped records."""
        offset_tracker = self._offset_tracker
        to = {key: reset.offset for key, reset in resets.items()}
        for key, reset in resets.items():
            if reset.reason is not GapReason.EXPIRED:
                # The history belongs to a deleted log.
                offset_tracker.history.pop(key, None)
            lost = offset_tracker.lost(key, reset.offset)
            self.status.lost_records += lost
            log.error(
                _GAP_EVENTS[reset.reason],
                topic=key.topic,
                partition=key.partition,
                lost=lost,
                position=offset_tracker.next[key],
                continuing_at=reset.offset,
            )
        ours = self._fetcher.partitions.keys()
        after = offset_tracker.assignment_after(to, ours, partial=self._member is not None)
        reasons = {key: reset.reason for key, reset in resets.items()}
        await self._assign(channel, attrs.evolve(after, gaps=reasons))
        offset_tracker.reset(to)
        if self._member is not None:
            for key in self._fetcher.partitions.keys() & to.keys():
                # After another recreation the former id stays until the next reset.
                if not self._fetcher.partitions[key].is_recreated:
                    self._member.topic_ids[key] = self._layout.topic_ids.get(key.topic)

    # ---- history

    async def _end_history(self, channel: BatchChannel) -> None:
        """Send HistoryEnd once, after all history."""
        ended = self._monitor.history_ended
        if not self._offset_tracker.history and not ended.is_set() and self._has_begun:
            await channel.send(HistoryEnd())
            ended.set()
            self._fetcher.troubled.set()

    @property
    def _has_begun(self) -> bool:
        """True if the hub has a first assignment."""
        return self._member is not None or not self._start_offset_finder.is_first

    async def _skip_stuck_history(self, channel: BatchChannel) -> None:
        """Start with new records in partitions whose history cannot be read."""
        if not self._offset_tracker.history:
            return
        late = self._offset_tracker.history.keys() & set(self._stuck())
        if late:
            to = {key: self._offset_tracker.history[key] for key in late}
            after = self._offset_tracker.assignment_after(to, self._fetcher.partitions)
            await self._assign(channel, after)
            self._offset_tracker.reset(to)
            self._fetcher.assign(to)

    def _stuck(self) -> Iterable[TopicPartition]:
        long_ago = trio.current_time() - self._options.probe
        for key, partition in self._fetcher.partitions.items():
            if partition.problem is not None and partition.problem.since <= long_ago:
                yield key
