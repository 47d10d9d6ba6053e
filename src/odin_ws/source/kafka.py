"""The source that reads Kafka.

A session is one connection with one set of partitions. Whatever changes that (a lost broker, new
topics or partitions) ends the session, and the next goes on at the same offsets.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import structlog
import trio
import trio_asyncio
from aiokafka.errors import (
    IllegalArgumentError,
    IllegalStateError,
    KafkaConfigurationError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from odin_ws.catalogue import Catalogue
from odin_ws.rates import TokenBucket
from odin_ws.records import Assignment, Batch, Record, TopicPartition
from odin_ws.source.backoff import Backoff
from odin_ws.source.base import PACING_SLOT
from odin_ws.source.cluster import (
    Cluster,
    ClusterFailure,
    KafkaOptions,
    open_cluster,
)
from odin_ws.source.feed import Feed, FeedStatus
from odin_ws.source.group import GroupMember

__all__ = ["KafkaSource"]

log = structlog.get_logger("odin_ws.source")

Outbox = trio.MemorySendChannel[Batch | Assignment]

# Failures of this kind are not the broker's: retrying would hide a bug or a wrong setting.
_BUGS: Final = (IllegalStateError, IllegalArgumentError, KafkaConfigurationError)


class KafkaSource:
    """Reads every partition of the catalogue's topics from the end, or those its group gives it."""

    def __init__(self, catalogue: Catalogue, options: KafkaOptions) -> None:
        self.feed = Feed()
        self._topics = frozenset(catalogue.topics)
        self._options = options
        # The next offset to hand on, per partition. Moves when the hub's channel took the record.
        self._next: dict[TopicPartition, int] = {}
        self._seen_layout = False
        self._handing_over = False

    async def run(self, outbox: Outbox) -> None:
        """See Source. Kafka's failures are retried for ever; the feed says how it stands."""
        backoff = Backoff()
        try:
            async with trio_asyncio.open_loop():
                while True:
                    try:
                        async with open_cluster(self._options) as cluster:
                            await self._session(cluster, outbox, backoff)
                    except* _BUGS:
                        raise
                    except* ClusterFailure as failures:
                        self._failed(_first_leaf(failures))
                    await trio.sleep(backoff.next())
        finally:
            self.feed.become(FeedStatus.STOPPED)

    def _failed(self, error: BaseException) -> None:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        never_was = self.feed.status.value is FeedStatus.STARTING
        if never_was and self.feed.reason != reason:
            log.warning("cannot reach Kafka yet", brokers=self._options.brokers, error=reason)
        self.feed.become(FeedStatus.STARTING if never_was else FeedStatus.STALLED, reason)

    # ---- one session

    async def _session(self, cluster: Cluster, outbox: Outbox, backoff: Backoff) -> None:
        """Read until the connection fails or the layout changes."""
        layout = await cluster.layout(self._topics)
        member = None
        if self._options.group is None:
            cluster.fetcher.assign(layout)
            await self._adopt(cluster, layout)
            positions = {key: self._next[key] for key in layout}
            await outbox.send(_assignment(positions))
            cluster.fetcher.seek(positions)
        else:
            self._next.clear()
            member = GroupMember(cluster, fresh=not self._seen_layout)
            cluster.subscribe(_one_of(self._topics), member)
        self._seen_layout = True
        self._report(layout)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, cluster, outbox, member)
            await self._watch(cluster, layout, member, backoff)
            nursery.cancel_scope.cancel()

    async def _adopt(self, cluster: Cluster, layout: Collection[TopicPartition]) -> None:
        """Find where to begin in partitions seen for the first time.

        At the start that is the end: what was published before is no news. A partition that
        appears later is read from its beginning: everything in it was published while we were live.
        """
        new = set(layout) - self._next.keys()
        self._next |= await (cluster.beginnings(new) if self._seen_layout else cluster.ends(new))

    def _report(self, layout: Collection[TopicPartition]) -> None:
        self.feed.miss(self._topics - {key.topic for key in layout})

    async def _read(self, cluster: Cluster, outbox: Outbox, member: GroupMember | None) -> None:
        rate, fetcher = self._options.rate, cluster.fetcher
        burst = rate * max(PACING_SLOT, self._options.gather)
        bucket = TokenBucket(rate, burst, trio.current_time())
        while True:
            allowed = bucket.available(trio.current_time()) if rate else None
            if allowed == 0:
                await trio.sleep(bucket.seconds_until_full())
                continue
            try:
                records, cut_off = await fetcher.fetch(allowed)
            except OffsetOutOfRangeError as error:
                await self._find_place(cluster, {TopicPartition(*key) for key in error.args[0]})
                continue
            except NoOffsetForPartitionError:
                # The group's callback has not given this partition its place yet.
                continue
            self.feed.paced = cut_off and len(records) == allowed
            if member is not None and (positions := member.take_assignment()) is not None:
                self._next = dict(positions)
                await self._hand_over(outbox, _assignment(positions, partial=True))
            if records:
                await self._hand_over(outbox, Batch(records))
                self._next |= _behind(records)
                bucket.spend(len(records))
            if member is not None:
                member.handed_over(self._next)
            if not cut_off:
                fetcher.go_on(self._next, busy=bool(records))

    async def _hand_over(self, outbox: Outbox, item: Batch | Assignment) -> None:
        """Give the hub an item; while its channel is full nothing is fetched."""
        self._handing_over = True
        await outbox.send(item)
        self._handing_over = False

    async def _find_place(self, cluster: Cluster, partitions: set[TopicPartition]) -> None:
        """Go on at the oldest record left where ours is gone, and say how many that lost."""
        beginnings, ends = await cluster.beginnings(partitions), await cluster.ends(partitions)
        for key, beginning in beginnings.items():
            if beginning <= self._next.get(key, -1) <= ends[key]:
                # The report is of a place we have left since.
                continue
            lost = max(0, beginning - self._next.get(key, 0))
            self.feed.lost_records += lost
            log.error(
                "records were deleted before they were read" if lost else "a topic was recreated",
                topic=key.topic,
                partition=key.partition,
                lost=lost,
                position=self._next.get(key),
                continuing_at=beginning,
            )
            self._next[key] = beginning
        cluster.fetcher.seek({key: self._next[key] for key in partitions})

    # ---- the truth about it

    async def _watch(
        self,
        cluster: Cluster,
        layout: set[TopicPartition],
        member: GroupMember | None,
        backoff: Backoff,
    ) -> None:
        """Probe the broker until the layout changes; commit for a group."""
        before: dict[TopicPartition, int] = {}
        while True:
            try:
                ends = await cluster.ends(self._next.keys() & layout)
                now = await cluster.layout(self._topics)
                if member is not None:
                    await member.commit()
            except* _BUGS:
                raise
            except* ClusterFailure as failures:
                # Our own loop may be too busy for the answer; records that come are one too.
                if self._next == before or not before:
                    self._failed(_first_leaf(failures))
            else:
                backoff.reset()
                self._judge(ends, before)
                before = dict(self._next)
                # A group follows the layout by itself; a topic that vanished keeps its place.
                if now - layout and member is None:
                    log.info("the topics have new partitions", partitions=len(now - layout))
                    return
                self._report(now)
            await trio.sleep(self._options.probe)

    def _judge(
        self, ends: Mapping[TopicPartition, int], before: Mapping[TopicPartition, int]
    ) -> None:
        """Live, if what the broker has is being read, or we are the ones who do not read it."""
        lag: dict[str, int] = dict.fromkeys(self._topics, 0)
        stuck = []
        for key, end in ends.items():
            behind = max(0, end - self._next.get(key, end))
            lag[key.topic] += behind
            if behind and before.get(key) == self._next.get(key):
                stuck.append(key)
        self.feed.lag = lag
        if stuck and before and not self._handing_over and not self.feed.paced:
            first = min(stuck)
            self.feed.become(
                FeedStatus.STALLED, f"no records come from {first.topic} {first.partition}"
            )
        else:
            self.feed.become(FeedStatus.LIVE)


def _behind(records: Iterable[Record]) -> dict[TopicPartition, int]:
    """The next offset of each partition after `records`, which are in offset order."""
    return {TopicPartition(one.topic, one.partition): one.offset + 1 for one in records}


def _assignment(positions: Mapping[TopicPartition, int], *, partial: bool = False) -> Assignment:
    return Assignment({key: offset - 1 for key, offset in positions.items()}, partial)


def _one_of(topics: Collection[str]) -> str:
    """A pattern for exactly these: subscribing by pattern does not create what is missing."""
    return "^(" + "|".join(map(re.escape, sorted(topics))) + ")$"


def _first_leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
