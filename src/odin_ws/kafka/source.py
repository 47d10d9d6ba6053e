"""The source that reads Kafka.

A session is one connection with one set of partitions. Whatever changes that (a lost broker, new
topics or partitions) ends the session, and the next goes on at the same offsets.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import nullcontext
from functools import partial
from typing import Final

import structlog
import trio
from aiokafka.errors import OffsetOutOfRangeError

from odin_ws.archive import Bounds
from odin_ws.catalogue import Catalogue
from odin_ws.kafka.aio import open_asyncio
from odin_ws.kafka.backoff import Backoff
from odin_ws.kafka.base import PACING_SLOT
from odin_ws.kafka.cluster import (
    BUGS,
    Cluster,
    ClusterFailure,
    GroupCluster,
    KafkaOptions,
    first_leaf,
    open_cluster,
)
from odin_ws.kafka.errors import Refused
from odin_ws.kafka.feed import Feed, FeedStatus
from odin_ws.kafka.group import GroupMember
from odin_ws.kafka.places import Places, history_starts
from odin_ws.kafka.progress import Progress
from odin_ws.rates import TokenBucket
from odin_ws.records import Batch, HistoryEnd, Item, TopicPartition

__all__ = ["KafkaSource"]

log = structlog.get_logger("odin_ws.kafka")

Outbox = trio.MemorySendChannel[Item]

# For the last commit of a group's member; where it fails the next owner delivers some twice.
_LAST_COMMIT_SECONDS: Final = 2


class KafkaSource:
    """Reads every partition of the catalogue's topics, or those its group gives it.

    It begins at the ends there are at the start, or with a history before them.
    """

    def __init__(self, catalogue: Catalogue, options: KafkaOptions) -> None:
        self.feed = Feed()
        self._topics = frozenset(catalogue.topics)
        self._options = options
        self._in_group = options.group is not None
        # They move when the hub's channel took the record.
        self._places = Places()
        self._history_ended = trio.Event()
        # The partitions that are read now.
        self._ours: frozenset[TopicPartition] = frozenset()
        # Those that there were when we first looked.
        self._first_layout: frozenset[TopicPartition] | None = None
        self._handing_over = False

    async def run(self, outbox: Outbox) -> None:
        """See Source. Kafka's failures are retried for ever; the feed says how it stands."""
        backoff = Backoff()
        try:
            async with open_asyncio():
                while True:
                    failure = None
                    try:
                        async with open_cluster(self._options) as cluster:
                            await self._session(cluster, outbox, backoff)
                    except* BUGS:
                        raise
                    except* ClusterFailure as failures:
                        failure = first_leaf(failures)
                    if failure is not None:
                        self._failed(await self._explained(failure))
                    await trio.sleep(backoff.next())
        finally:
            self.feed.become(FeedStatus.STOPPED)

    async def _explained(self, failure: BaseException) -> BaseException:
        """The failure, or what is behind it: aiokafka does not say that we are not let in."""
        if isinstance(failure, Refused | trio.TooSlowError):
            return failure
        return await self._options.access.refusal(self._options.probe) or failure

    def _failed(self, error: BaseException) -> None:
        reason = str(error) or type(error).__name__
        refused_now = isinstance(error, Refused) and self.feed.reason != reason
        if refused_now and self.feed.status.value is FeedStatus.STALLED:
            # A broker that was away, and is back with other users or certificates.
            log.warning("the feed cannot go on yet", reason=reason)
        self._not_live(reason)

    def _not_live(self, reason: str) -> None:
        never_was = self.feed.status.value is FeedStatus.STARTING
        if never_was and self.feed.reason != reason:
            log.warning(
                "the feed cannot start yet", brokers=self._options.access.brokers, reason=reason
            )
        self.feed.become(FeedStatus.STARTING if never_was else FeedStatus.STALLED, reason)

    # ---- one session

    async def _session(self, cluster: Cluster, outbox: Outbox, backoff: Backoff) -> None:
        """Read until the connection fails or the layout changes."""
        layout = frozenset(await cluster.layout(self._topics))
        if self._first_layout is None:
            self._first_layout = layout
        self._report(layout)
        # A group cannot be joined for no topic.
        if not isinstance(cluster, GroupCluster) or not layout:
            await self._take_all(cluster, outbox, layout)
            await self._run(cluster, outbox, layout, None, backoff)
            return
        member = GroupMember(cluster, self._places.next, partial(self._first_place, cluster))
        cluster.subscribe({key.topic for key in layout}, member)
        try:
            await self._run(cluster, outbox, layout, member, backoff)
        finally:
            # Nothing is read any more: whoever takes over begins where we stopped.
            with trio.move_on_after(_LAST_COMMIT_SECONDS, shield=True):
                await member.commit()

    async def _take_all(
        self, cluster: Cluster, outbox: Outbox, layout: frozenset[TopicPartition]
    ) -> None:
        cluster.know(layout)
        places = self._places
        for key in places.history.keys() - layout:
            # Should the topic come back, what it has then is new.
            places.skip_history(key)
        is_first = not places.next and not self._history_ended.is_set()
        new = await self._first_place(cluster, layout - places.next.keys())
        if is_first:
            starts = await self._history_starts(cluster, new)
            assignment = places.begin(starts, new, partial=self._in_group)
        else:
            places.next |= new
            assignment = places.assignment(layout, partial=self._in_group)
        await self._hand_over(outbox, assignment)
        self._ours = layout
        cluster.fetcher.seek({key: places.next[key] for key in layout})

    async def _history_starts(
        self, cluster: Cluster, ends: Mapping[TopicPartition, int]
    ) -> Mapping[TopicPartition, int]:
        seconds, most = self._options.history_seconds, self._options.history_records
        if not seconds or not most:
            return ends
        beginnings = await cluster.beginnings(ends.keys())
        since = await cluster.first_since(ends.keys(), int((time.time() - seconds) * 1000))
        bounds = {key: Bounds(beginnings[key], end) for key, end in ends.items()}
        return history_starts(bounds, since, most)

    async def _first_place(
        self, cluster: Cluster, partitions: AbstractSet[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """Where to begin in partitions of which we have no position.

        Those there were at the start: at the end, since what was published before is no news. One
        that appeared later: at its beginning, since all of it was published while we were live.
        """
        old = partitions & (self._first_layout or frozenset())
        return await cluster.ends(old) | await cluster.beginnings(partitions - old)

    async def _run(
        self,
        cluster: Cluster,
        outbox: Outbox,
        layout: frozenset[TopicPartition],
        member: GroupMember | None,
        backoff: Backoff,
    ) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, cluster, outbox, member)
            await self._watch(cluster, layout, member, backoff)
            nursery.cancel_scope.cancel()

    def _report(self, layout: AbstractSet[TopicPartition]) -> None:
        self.feed.miss(self._topics - {key.topic for key in layout})

    async def _read(self, cluster: Cluster, outbox: Outbox, member: GroupMember | None) -> None:
        rate = self._options.rate
        burst = rate * max(PACING_SLOT, self._options.gather)
        bucket = TokenBucket(rate, burst, trio.current_time())
        turn = nullcontext if member is None else member.turn
        while True:
            # History is not broadcast: it need not wait.
            paced = rate and not self._places.history
            allowed = bucket.available(trio.current_time()) if paced else None
            if allowed == 0:
                await trio.sleep(bucket.seconds_until_full())
                continue
            async with turn() as assigned:
                if assigned is not None:
                    self._ours = frozenset(assigned)
                    assignment = self._places.assignment(assigned, partial=True)
                    await self._hand_over(outbox, assignment)
                await self._end_history(outbox)
                count = await self._read_some(cluster, outbox, allowed)
                bucket.spend(count if paced else 0)

    async def _read_some(self, cluster: Cluster, outbox: Outbox, allowed: int | None) -> int:
        """Hand on what one fetch brings, at most `allowed` records; returns how many it were."""
        try:
            records, cut_off = await cluster.fetcher.fetch(allowed)
        except OffsetOutOfRangeError as error:
            gone = {TopicPartition(*key) for key in error.args[0]}
            await self._find_place(cluster, outbox, gone)
            return 0
        self.feed.paced = cut_off and len(records) == allowed
        if records:
            await self._hand_over(outbox, Batch(records))
            self._places.pass_records(records)
        if self._places.history:
            late = self._ours & self._places.history.keys()
            self._places.pass_history(await cluster.fetcher.passed(late))
        return len(records)

    async def _hand_over(self, outbox: Outbox, item: Item) -> None:
        """Give the hub an item; while its channel is full nothing is fetched."""
        self._handing_over = True
        try:
            await outbox.send(item)
        finally:
            self._handing_over = False

    async def _end_history(self, outbox: Outbox) -> None:
        """Tell that all of the history has come, once."""
        if not self._places.history and not self._history_ended.is_set():
            await self._hand_over(outbox, HistoryEnd())
            self._history_ended.set()

    async def _find_place(
        self, cluster: Cluster, outbox: Outbox, partitions: AbstractSet[TopicPartition]
    ) -> None:
        """Go on at the oldest record left where ours is gone, and say how many that lost."""
        places = self._places
        beginnings, ends = await cluster.beginnings(partitions), await cluster.ends(partitions)
        # The report may be of a place we have left since.
        jumps = places.gone({key: Bounds(beginnings[key], end) for key, end in ends.items()})
        if jumps:
            after = places.assignment_after(jumps, self._ours, partial=self._in_group)
            await self._hand_over(outbox, after)
            for key, to in jumps.items():
                self._report_jump(key, to)
            places.jump(jumps)
        cluster.fetcher.seek({key: places.next[key] for key in partitions})

    def _report_jump(self, key: TopicPartition, to: int) -> None:
        lost = self._places.lost(key, to)
        self.feed.lost_records += lost
        place = self._places.next[key]
        log.error(
            "a topic was recreated" if to < place else "records were deleted before they were read",
            topic=key.topic,
            partition=key.partition,
            lost=lost,
            position=place,
            continuing_at=to,
        )

    # ---- the truth about it

    async def _watch(
        self,
        cluster: Cluster,
        layout: frozenset[TopicPartition],
        member: GroupMember | None,
        backoff: Backoff,
    ) -> None:
        """Probe the broker until the layout changes; commit for a group."""
        progress = Progress()
        without = 0
        while True:
            placed = member is None or member.placed.value
            without = 0 if placed else without + 1
            now = await self._probe(cluster, progress, without)
            if now is not None:
                backoff.reset()
                self._report(now)
                if self._must_begin_anew(layout, now):
                    log.info("the topics have changed", partitions=len(now))
                    return
            with trio.move_on_after(self._options.probe):
                if member is not None and not placed:
                    # To be live as soon as the group has given us our partitions.
                    await member.placed.wait_value(bool)
                    continue
                if member is not None:
                    await member.commit()
                if not self._history_ended.is_set():
                    # To be live as soon as it has come.
                    await self._history_ended.wait()
                    progress = Progress()
                    continue
                await trio.sleep_forever()

    async def _probe(
        self, cluster: Cluster, progress: Progress, without: int
    ) -> frozenset[TopicPartition] | None:
        """Ask for the topics' partitions and ends, and judge; None where that was not answered.

        `progress`: since the last probe. `without`: how many probes in a row have found the group
        sharing out its partitions; once is nothing to tell.
        """
        now = failure = None
        behind: Mapping[TopicPartition, int] = {}
        try:
            layout = frozenset(await cluster.layout(self._topics))
            behind = await self._behind_ends(cluster, self._ours & layout)
            now = layout
        except* BUGS:
            raise
        except* ClusterFailure as failures:
            # Our own loop may be too busy for the answer; records that came are one too.
            if not progress.moved(self._places.next):
                failure = first_leaf(failures)
        else:
            if not without:
                self._judge(behind, progress)
            elif without > 1:
                self._not_live("the consumer group is sharing out its partitions")
        progress.note(self._places.next, behind)
        if failure is not None:
            await self._report_failure(failure)
        return now

    async def _report_failure(self, failure: BaseException) -> None:
        """Say why the broker does not answer; who is refused begins anew, and tries less often."""
        failure = await self._explained(failure)
        if isinstance(failure, Refused):
            raise failure
        self._failed(failure)

    def _must_begin_anew(
        self, layout: frozenset[TopicPartition], now: frozenset[TopicPartition]
    ) -> bool:
        if not self._in_group:
            return layout != now
        # New partitions of its topics are shared out by the group itself.
        return {key.topic for key in layout} != {key.topic for key in now}

    async def _behind_ends(
        self, cluster: Cluster, partitions: AbstractSet[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """How many records there are that were not handed on, of partitions where there are any."""
        ends = await cluster.ends(partitions)
        late = [key for key, end in ends.items() if end > self._places.next[key]]
        # What is being handed over counts as not read, though the consumer is past it.
        passed = {} if self._handing_over else await cluster.fetcher.passed(late)
        behind = {key: ends[key] - max(self._places.next[key], passed.get(key, 0)) for key in late}
        return {key: count for key, count in behind.items() if count > 0}

    def _judge(self, behind: Mapping[TopicPartition, int], progress: Progress) -> None:
        """Live, if what the broker has is being read, or we are the ones who do not read it."""
        lag: dict[str, int] = dict.fromkeys(self._topics, 0)
        for key, count in behind.items():
            lag[key.topic] += count
        self.feed.lag = lag
        if not self._history_ended.is_set():
            self.feed.become(FeedStatus.STARTING, "reading what was published before the start")
            return
        stalled = self.feed.status.value is FeedStatus.STALLED
        stuck = progress.stuck(self._places.next, behind, stalled=stalled)
        if stuck and not self._handing_over and not self.feed.paced:
            first = min(stuck)
            self.feed.become(
                FeedStatus.STALLED, f"no records come from {first.topic} {first.partition}"
            )
        else:
            self.feed.become(FeedStatus.LIVE)
