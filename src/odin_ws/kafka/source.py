"""The source that reads Kafka: hands the hub what the fetcher reads, in order.

Nothing here ends because of what brokers or the network do: each partition is retried by itself,
and the feed tells what is wrong with which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext

import attrs
import structlog
import trio

from odin_ws.catalogue import Catalogue
from odin_ws.kafka.client import KafkaClient
from odin_ws.kafka.fetcher import Fetcher
from odin_ws.kafka.group import GroupMember
from odin_ws.kafka.monitor import Monitor
from odin_ws.kafka.offset_tracker import Places
from odin_ws.kafka.options import KafkaOptions
from odin_ws.kafka.partition import Jump
from odin_ws.kafka.source_protocol import PACING_SLOT
from odin_ws.kafka.source_status import Feed, FeedStatus
from odin_ws.kafka.start_offsets import Placement, Placer
from odin_ws.kafka.topic_layout import Layout
from odin_ws.records import Assignment, Batch, HistoryEnd, Item, JumpReason, TopicPartition
from odin_ws.token_bucket import TokenBucket

__all__ = ["KafkaSource"]

log = structlog.get_logger("odin_ws.kafka")

Outbox = trio.MemorySendChannel[Item]

_JUMP_EVENTS = {
    JumpReason.EXPIRED: "records were deleted before they were read",
    JumpReason.RECREATED: "a topic was recreated",
    JumpReason.TRUNCATED: "the log was truncated",
}

# Placements are few: one at the start, then one for each change of the layout.
_PLACEMENTS = 10


class KafkaSource:
    """Reads every partition of the catalogue's topics, or those its group gives it.

    It begins at the ends there are at the start, or with a history before them.
    """

    def __init__(self, catalogue: Catalogue, options: KafkaOptions) -> None:
        self.feed = Feed()
        self._options = options
        # They move when the hub's channel took the record.
        self._places = Places()
        self._client = KafkaClient(options.access, options.probe)
        self._fetcher = Fetcher(self._client, options.max_wait, options.slot)
        self._layout = Layout(catalogue.topics)
        self._monitor = Monitor(
            self.feed,
            self._client,
            self._fetcher,
            self._layout,
            options.probe,
            self._places.next,
        )
        self._placer = Placer(self._client, self._layout, self._monitor, options)
        self._placed, self._placements = trio.open_memory_channel[Placement](_PLACEMENTS)
        self._member = None
        if options.group is not None:
            self._member = GroupMember(
                options.group,
                options,
                self._client,
                self._layout,
                self._monitor,
                self._placer,
                self._places.next,
            )

    async def run(self, outbox: Outbox) -> None:
        """See Source. Kafka's failures are retried for ever; the feed says how it stands."""
        try:
            async with self._client.running(), trio.open_nursery() as nursery:
                nursery.start_soon(self._fetcher.run)
                nursery.start_soon(self._monitor.run)
                if self._member is None:
                    nursery.start_soon(self._placer.run, self._placed, self._fetcher.wake)
                else:
                    nursery.start_soon(self._member.run)
                await self._read(outbox)
        finally:
            self.feed.become(FeedStatus.STOPPED)

    # ---- records

    async def _read(self, outbox: Outbox) -> None:
        rate = self._options.rate
        burst = rate * max(PACING_SLOT, self._options.slot)
        bucket = TokenBucket(rate, burst, trio.current_time())
        turn = nullcontext if self._member is None else self._member.turn
        while True:
            # History is not broadcast: it need not wait.
            paced = rate and not self._places.history
            allowed = bucket.available(trio.current_time()) if paced else None
            if allowed == 0:
                await trio.sleep(bucket.seconds_until_full())
                continue
            async with turn() as assigned:
                if assigned is not None:
                    await self._serve(outbox, assigned)
                await self._begin_placed(outbox)
                await self._leave_gone(outbox)
                await self._skip_stuck_history(outbox)
                await self._end_history(outbox)
                count = await self._read_some(outbox, allowed)
                bucket.spend(count if paced else 0)

    async def _read_some(self, outbox: Outbox, allowed: int | None) -> int:
        """Hand on what was read, at most `allowed` records; returns how many it were."""
        places = self._places
        taken = await self._fetcher.take(allowed)
        self.feed.paced = taken.cut_off and len(taken.records) == allowed
        last = {(one.topic, one.partition): one.offset for one in taken.records}
        passed = {
            key: offset
            for key, offset in taken.passed.items()
            if offset > last.get(key, places.next[key] - 1)
        }
        if taken.records or passed:
            await outbox.send(Batch(taken.records, passed))
            places.pass_records(taken.records)
            places.pass_offsets(passed)
        if taken.jumps:
            await self._jump(outbox, taken.jumps)
        if places.history:
            places.pass_history(self._fetcher.next_offsets())
        return len(taken.records)

    # ---- partitions

    async def _begin_placed(self, outbox: Outbox) -> None:
        """Tell the hub of partitions that are placed now, and begin to read them."""
        places = self._places
        while True:
            try:
                placement = self._placements.receive_nowait()
            except trio.WouldBlock:
                return
            if placement.is_first:
                assignment = places.begin(placement.starts, placement.ends)
            else:
                places.next |= placement.starts
                assignment = places.assignment(places.next)
            await self._assign(outbox, assignment)
            starts = {key: places.next[key] for key in placement.starts}
            self._fetcher.assign(starts, placement.epochs)

    async def _serve(self, outbox: Outbox, positions: Mapping[TopicPartition, int]) -> None:
        """Read what the group gave us, and nothing else."""
        self._fetcher.revoke(self._fetcher.partitions.keys() - positions.keys())
        await self._assign(outbox, self._places.assignment(positions, partial=True))
        new = {
            key: at
            for key, at in positions.items()
            if key not in self._fetcher.partitions or self._fetcher.first_offset(key) != at
        }
        self._fetcher.assign(new)

    async def _leave_gone(self, outbox: Outbox) -> None:
        """Leave partitions that a topic does not have any more since it was recreated."""
        gone = self._fetcher.partitions.keys() - self._layout.partitions
        if gone and self._member is None:
            self._fetcher.revoke(gone)
            self._places.forget(gone)
            await self._assign(outbox, self._places.assignment(self._places.next))

    async def _assign(self, outbox: Outbox, assignment: Assignment) -> None:
        # A topic's new id is told with its first jump, and not before.
        told = {key.topic for key in assignment.jumps}
        partitions = self._fetcher.partitions.items()
        early = {key.topic for key, one in partitions if one.is_recreated} - told
        ids = {name: its for name, its in self._layout.topic_ids.items() if name not in early}
        await outbox.send(attrs.evolve(assignment, topic_ids=ids))

    async def _jump(self, outbox: Outbox, jumps: Mapping[TopicPartition, Jump]) -> None:
        """Go on elsewhere, after the hub was told; the records left out by that are counted."""
        places = self._places
        to = {key: jump.offset for key, jump in jumps.items()}
        for key, jump in jumps.items():
            if jump.reason is not JumpReason.EXPIRED:
                # The history was of a log that is gone.
                places.history.pop(key, None)
            lost = places.lost(key, jump.offset)
            self.feed.lost_records += lost
            log.error(
                _JUMP_EVENTS[jump.reason],
                topic=key.topic,
                partition=key.partition,
                lost=lost,
                position=places.next[key],
                continuing_at=jump.offset,
            )
        ours = self._fetcher.partitions.keys()
        after = places.assignment_after(to, ours, partial=self._member is not None)
        reasons = {key: jump.reason for key, jump in jumps.items()}
        await self._assign(outbox, attrs.evolve(after, jumps=reasons))
        places.jump(to)

    # ---- history

    async def _end_history(self, outbox: Outbox) -> None:
        """Tell that all of the history has come, once."""
        ended = self._monitor.history_ended
        if not self._places.history and not ended.is_set() and self._has_begun:
            await outbox.send(HistoryEnd())
            ended.set()
            self._fetcher.troubled.set()

    @property
    def _has_begun(self) -> bool:
        """Whether the hub was told of a first assignment."""
        return self._member is not None or not self._placer.is_first

    async def _skip_stuck_history(self, outbox: Outbox) -> None:
        """Begin with the news where the past of a partition cannot be read."""
        late = self._places.history.keys() & set(self._stuck())
        if late:
            to = {key: self._places.history[key] for key in late}
            after = self._places.assignment_after(to, self._fetcher.partitions)
            await self._assign(outbox, after)
            self._places.jump(to)
            self._fetcher.assign(to)

    def _stuck(self) -> Iterable[TopicPartition]:
        long_ago = trio.current_time() - self._options.probe
        for key, one in self._fetcher.partitions.items():
            if one.problem is not None and one.problem.since <= long_ago:
                yield key
