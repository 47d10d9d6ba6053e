"""Consumer group membership (KAFKA_ASSIGNMENT=group): assigned partitions, committed offsets.

aiokafka joins the group and keeps the membership; it fetches nothing, because all its partitions
are paused. odin_ws.kafka.fetcher fetches them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import aiokafka
import attrs
import structlog
import trio
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError
from trio_util import AsyncValue

from odin_ws.backoff import Backoff
from odin_ws.kafka.aiokafka_internals import MALFORMED_RESPONSE_ERRORS
from odin_ws.kafka.asyncio_bridge import call_aiokafka, start
from odin_ws.kafka.committed_offsets import CommittedOffsetReader
from odin_ws.kafka.errors import KafkaUnavailable, error_text
from odin_ws.kafka.log_mark import LogMark
from odin_ws.kafka.monitor import Monitor, renewed
from odin_ws.kafka.options import KafkaOptions
from odin_ws.kafka.protocol import NO_EPOCH
from odin_ws.kafka.start_offsets import StartOffsetFinder
from odin_ws.kafka.topic_layout import Layout
from odin_ws.kafka.trio_asyncio_compat import trio_as_aio
from odin_ws.records import TopicPartition

__all__ = ["GroupMember"]

log = structlog.get_logger("odin_ws.kafka")

Positions = dict[TopicPartition, int]

# Errors that the broker or the network may cause in aiokafka's calls.
_FAILURES: Final = (KafkaError, OSError, *MALFORMED_RESPONSE_ERRORS)

# Interval of calls to aiokafka, which raise the errors of the membership.
_ASSIGNMENT_CHECK_SECONDS: Final = 1.0

# A clean leave is optional: a dead broker must not delay the exit of the process.
_LEAVE_SECONDS: Final = 3

# Time for the last commit of a member; if it fails, the next owner delivers some records twice.
_LAST_COMMIT_SECONDS: Final = 2

_FIRST_RETRY_SECONDS: Final = 0.25

# A coordinator delays a join until the session of a dead member has ended: 10 s by aiokafka's
# default. It also waits that long for members that rejoin slowly.
_START_SECONDS: Final = 5.0
_JOIN_SECONDS: Final = 30.0

_JOINING: Final = "consumer group rebalance in progress"


@attrs.define(eq=False, slots=False)
class GroupMember(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Reads the partitions that the group assigns, and none during a rebalance.

    aiokafka calls the listener methods in asyncio, before and after a rebalance. A rebalance
    cancels the read that is under way: records that the hub has taken are committed, the new owner
    reads the rest.

    Each position is committed with the leader epoch of the record before it and the topic's id. So
    a member that continues from the position notices a truncated or recreated log, even if no
    member was running at that time.

    Args:
        positions: the source's next offsets, which advance as the hub takes records.
        record_epoch: returns the leader epoch of the last record read of a partition.
    """

    _group: str
    _options: KafkaOptions
    _committed_offsets: CommittedOffsetReader
    _layout: Layout
    _monitor: Monitor
    _start_offset_finder: StartOffsetFinder
    _positions: Positions
    _record_epoch: Callable[[TopicPartition], int]
    # By partition the leader epoch that was committed with its offset.
    epochs: dict[TopicPartition, int] = attrs.field(factory=dict)
    # By partition the id of the topic that its position belongs to. After a recreation the layout
    # has the new id before the source has left the old position.
    topic_ids: dict[TopicPartition, str | None] = attrs.field(factory=dict)
    # True if the group has assigned partitions and their start offsets are known.
    _is_placed: AsyncValue[bool] = attrs.field(factory=lambda: AsyncValue(value=False))
    # The assigned partitions, and the readable ones among them.
    _assigned: frozenset[TopicPartition] = frozenset()
    _ours: frozenset[TopicPartition] = frozenset()
    # Counts rebalances: responses about an old assignment are discarded.
    _assignments: int = 0
    _is_assigned: bool = False
    _assignment_changed: trio.Event = attrs.field(factory=trio.Event)
    _is_reported: bool = True
    _committed: dict[TopicPartition, tuple[int, str | None]] = attrs.field(factory=dict)
    # Positions that could not be committed before a rebalance, and the topic's id.
    _uncommitted: dict[TopicPartition, tuple[int, str | None]] = attrs.field(factory=dict)
    _cannot_commit: bool = False
    _consumer: Any = None
    _turn_scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _reading: trio.Lock = attrs.field(factory=trio.Lock)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Mapping[TopicPartition, int] | None]:
        """Read during this block; yields partitions and positions if they are new.

        Waits for a rebalance to end; the next rebalance cancels the block.
        """
        while not self._is_placed.value:
            await self._is_placed.wait_value(bool)
        with trio.CancelScope() as self._turn_scope:
            async with self._reading:
                news = (
                    None if self._is_reported else {key: self._positions[key] for key in self._ours}
                )
                # Checked before the block: partitions placed during it are for the next block.
                self._is_reported = True
                yield news

    async def run(self) -> None:
        """Be a member of the group for the topics that exist; retries failures forever."""
        monitor = self._monitor
        backoff = Backoff(_FIRST_RETRY_SECONDS, self._options.probe)
        monitor.own_problem = renewed(_JOINING, monitor.own_problem)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._place)
            while True:
                changed = monitor.layout_changed
                topics = {key.topic for key in self._layout.partitions}
                if not topics:
                    # A group cannot be joined without topics.
                    await self._wait_for_topics(changed)
                    continue
                try:
                    await self._be_member(topics, backoff)
                except GroupAuthorizationFailedError:
                    reason = error_text(30)
                except _FAILURES as failure:
                    reason = await self._explain(str(failure) or type(failure).__name__)
                except trio.TooSlowError:
                    reason = await self._explain(f"no response within {self._options.probe:g} s")
                else:
                    continue
                reason = f"consumer group {self._group}: {reason}"
                monitor.own_problem = renewed(reason, monitor.own_problem)
                await trio.sleep(backoff.next())

    async def _explain(self, reason: str) -> str:
        """Return why a broker rejects connections, if one does: aiokafka does not raise that."""
        rejection = await self._options.security.rejection_reason(self._options.probe)
        return reason if rejection is None else str(rejection)

    async def _wait_for_topics(self, changed: trio.Event) -> None:
        """Report that no topic exists until one does."""
        if self._monitor.started_ms is not None:
            self._monitor.own_problem = None
            if not self._is_placed.value:
                self._ours, self._is_reported = frozenset(), False
                self._is_placed.value = True
        await changed.wait()

    async def _be_member(self, topics: set[str], backoff: Backoff) -> None:
        """Be a member until other topics exist. Raises one of _FAILURES or trio.TooSlowError."""
        consumer = self._consumer = await call_aiokafka(self._make_consumer)
        try:
            with trio.fail_after(max(self._options.probe, _START_SECONDS)):
                await start(consumer)
            consumer.subscribe(topics=sorted(topics), listener=self)
            while topics == {key.topic for key in self._layout.partitions}:
                # Returns no records, because all partitions are paused, but raises errors.
                with trio.fail_after(max(self._options.probe, _JOIN_SECONDS)):
                    await call_aiokafka(consumer.getmany, timeout_ms=0)
                if self._is_placed.value:
                    backoff.reset()
                    await self.commit()
                with trio.move_on_after(min(_ASSIGNMENT_CHECK_SECONDS, self._options.probe)):
                    await self._monitor.layout_changed.wait()
        finally:
            # After the last read: the next owner starts at the committed offsets.
            with trio.move_on_after(_LAST_COMMIT_SECONDS, shield=True):
                await self._give_up()
            with trio.move_on_after(_LEAVE_SECONDS, shield=True):
                try:
                    await call_aiokafka(consumer.stop)
                except (asyncio.CancelledError, *_FAILURES):
                    # With the broker down, stop() raises these; there is nothing left to leave.
                    pass

    async def _make_consumer(self) -> Any:
        """Create a consumer; runs in asyncio, because its constructor needs a running loop."""
        return aiokafka.AIOKafkaConsumer(
            **self._options.client(),
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            # The interval at which the group's leader notices new partitions.
            metadata_max_age_ms=round(self._options.probe * 1000),
            consumer_timeout_ms=1000,
        )

    # ---- commits

    async def commit(self) -> None:
        """Commit the positions that have changed; keeps those that cannot be committed."""
        positions = {key: self._committable(key) for key in self._ours}
        changed = dict(positions.items() - self._committed.items())
        if not changed:
            return
        try:
            with trio.fail_after(self._options.probe):
                await call_aiokafka(partial(self._commit, changed))
        except (*_FAILURES, trio.TooSlowError) as failure:
            # Usual during a rebalance; the positions are committed in it.
            if not self._cannot_commit:
                reason = str(failure) or type(failure).__name__
                log.warning("consumer group offset commit failed", reason=reason)
            self._cannot_commit = True
        else:
            self._committed |= changed
            self._cannot_commit = False

    async def _commit(self, positions: Mapping[TopicPartition, tuple[int, str | None]]) -> None:
        """Commit positions, except of partitions that a rebalance has revoked."""
        found = {aiokafka.TopicPartition(*key): position for key, position in positions.items()}
        offsets = {
            key: (offset, LogMark(self._epoch_of(TopicPartition(*key)), topic_id).text())
            for key, (offset, topic_id) in found.items()
            if key in self._consumer.assignment()
        }
        if offsets:
            await self._consumer.commit(offsets)

    def _epoch_of(self, key: TopicPartition) -> int:
        """Return the epoch of the last record read, or that of a position without one yet."""
        epoch = self._record_epoch(key)
        return self.epochs.get(key, NO_EPOCH) if epoch == NO_EPOCH else epoch

    def _committable(self, key: TopicPartition) -> tuple[int, str | None]:
        """Return the position of a partition, and the id of the topic that it belongs to."""
        return self._positions[key], self.topic_ids.get(key)

    # ---- called by aiokafka, in asyncio

    async def on_partitions_revoked(self, _revoked: Iterable[aiokafka.TopicPartition]) -> None:
        """Stop reading and commit: the next owners start at the committed offsets."""
        await trio_as_aio(self._give_up)()

    async def on_partitions_assigned(self, assigned: Iterable[aiokafka.TopicPartition]) -> None:
        """Start the lookup of committed offsets in a task, because the group waits for this."""
        keys = set(assigned)
        # aiokafka would fetch, and look up offsets itself.
        if keys:
            self._consumer.pause(*keys)
            for key in keys:
                self._consumer.seek(key, 0)
        await trio_as_aio(self._take)(frozenset(TopicPartition(*key) for key in keys))

    async def _give_up(self) -> None:
        # First, so that responses about the old assignment are discarded.
        self._is_assigned = False
        self._assignments += 1
        self._is_placed.value = False
        self._turn_scope.cancel()
        async with self._reading:
            await self.commit()
            positions = {key: self._committable(key) for key in self._ours}
            # Also of earlier rebalances that ended before the start offsets were known.
            self._uncommitted |= dict(positions.items() - self._committed.items())
        self._assigned = self._ours = frozenset()
        self._committed = {}
        self._monitor.without_start_offset = {}
        # The reason of a failed join is more specific, also while it is retried.
        if self._monitor.own_problem is None:
            self._monitor.own_problem = renewed(_JOINING, None)

    async def _take(self, partitions: frozenset[TopicPartition]) -> None:
        self._assigned = partitions
        # Another member may continue elsewhere in the others, for example after a truncation.
        self._uncommitted = {
            key: position for key, position in self._uncommitted.items() if key in partitions
        }
        self._is_assigned = True
        self._assignments += 1
        self._assignment_changed.set()
        self._assignment_changed = trio.Event()
        log.info("consumer group assigned partitions", partitions=len(partitions))
        await trio.lowlevel.checkpoint()

    # ---- start offsets

    async def _place(self) -> None:
        """Find the start offset of each assigned partition, each separately."""
        backoff = Backoff(_FIRST_RETRY_SECONDS, self._options.probe)
        while True:
            changed, assignment = self._assignment_changed, self._assignments
            waiting = self._assigned - self._ours
            if not self._is_assigned or (self._is_placed.value and not waiting):
                await changed.wait()
                continue
            ids = self._layout.topic_ids
            found, failed = await self._find_positions(waiting)
            if assignment != self._assignments or ids != self._layout.topic_ids:
                continue
            self._monitor.without_start_offset = {
                key: renewed(reason, self._monitor.without_start_offset.get(key))
                for key, reason in failed.items()
            }
            for key, position in found.items():
                # Offsets of records that were delivered here count, even if their commit failed.
                own, topic_id = self._uncommitted.pop(key, (0, None))
                self.topic_ids[key] = ids.get(key.topic)
                is_same_log = topic_id == self.topic_ids[key]
                self._positions[key] = max(position, own) if is_same_log else position
                if self._positions[key] != position:
                    # The epoch is of the record before the stored position.
                    self.epochs.pop(key, None)
            if found or not waiting:
                self._ours |= found.keys()
                self._is_reported = False
                self._is_placed.value = True
                self._monitor.own_problem = None
                # Committed at once: without an offset the next owner would have to guess.
                await self.commit()
            if failed:
                with trio.move_on_after(backoff.next()):
                    await changed.wait()
            else:
                backoff.reset()

    async def _find_positions(
        self, partitions: frozenset[TopicPartition]
    ) -> tuple[Positions, dict[TopicPartition, str]]:
        """Return committed offsets; without one, the start offset that an instance uses."""
        if not partitions:
            return {}, {}
        try:
            committed = await self._committed_offsets.fetch(partitions)
        except KafkaUnavailable as failure:
            return {}, dict.fromkeys(partitions, str(failure))
        stored, failed = committed.found, committed.failed
        self.epochs |= committed.epochs
        new = partitions - stored.keys() - failed.keys()
        if new and self._monitor.started_ms is not None:
            placement = await self._start_offset_finder.find(new, self._monitor.started_ms)
            stored |= placement.ends
            for key in placement.ends:
                # The known epoch is of an earlier position, perhaps in another log.
                self.epochs.pop(key, None)
            self.epochs |= placement.epochs
            failed |= placement.failed
        if stored:
            # Partitions that appear later start at their first record since the start.
            self._start_offset_finder.is_first = False
        return stored, failed
