"""Consumer group membership (KAFKA_ASSIGNMENT=group): assigned partitions, committed offsets.

aiokafka joins the group and keeps the membership; it fetches nothing: all partitions are paused.
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
from odin_ws.kafka.client import KafkaClient
from odin_ws.kafka.errors import KafkaUnavailable, error_text
from odin_ws.kafka.log_mark import LogMark
from odin_ws.kafka.monitor import Monitor, renewed
from odin_ws.kafka.options import KafkaOptions
from odin_ws.kafka.protocol import Coordinator, FindCoordinatorRequest, OffsetFetchRequest
from odin_ws.kafka.start_offsets import StartOffsetFinder
from odin_ws.kafka.topic_layout import Layout
from odin_ws.kafka.trio_asyncio_compat import trio_as_aio
from odin_ws.records import TopicPartition

__all__ = ["GroupMember"]

log = structlog.get_logger("odin_ws.kafka")

Positions = dict[TopicPartition, int]

# Errors that the broker or the network may cause in aiokafka's calls.
_FAILURES: Final = (KafkaError, OSError, *MALFORMED_RESPONSE_ERRORS)

# How often the membership is looked after: errors of it come to light only in a call.
_LOOK_SECONDS: Final = 1.0

# Leaving is polite, not necessary: a dead broker must not hold up the end of the process.
_LEAVE_SECONDS: Final = 3

# For the last commit of a member; where it fails the next owner delivers some twice.
_LAST_COMMIT_SECONDS: Final = 2

_FIRST_RETRY_SECONDS: Final = 0.25

# A coordinator lets a join wait for a member that has died until its session has ended: 10 s by
# aiokafka's default, and as long for those that take long to join again.
_START_SECONDS: Final = 5.0
_JOIN_SECONDS: Final = 30.0

_JOINING: Final = "the group is sharing out its partitions"


@attrs.define(eq=False, slots=False)
class GroupMember(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Reads in turns: none while the group shares out its partitions anew.

    aiokafka calls the listener inside asyncio, before and after. A turn that is under way is
    cancelled: records that the hub has taken by then are committed, the rest is the new owner's.

    Each position is committed with the leader epoch of the record before it and the topic's id. So
    a member that goes on there notices a truncated or recreated log, also if no member was there
    when that happened.

    `positions`: the source's next offsets, which move as the hub takes records. `record_epoch`:
    returns the leader epoch of the last record read of a partition.
    """

    _group: str
    _options: KafkaOptions
    _client: KafkaClient
    _layout: Layout
    _monitor: Monitor
    _start_offset_finder: StartOffsetFinder
    _positions: Positions
    _record_epoch: Callable[[TopicPartition], int]
    # The leader epochs that were committed with the positions where reading goes on.
    epochs: dict[TopicPartition, int] = attrs.field(factory=dict)
    # Whether the group has given us partitions, and it is known where they go on.
    _is_placed: AsyncValue[bool] = attrs.field(factory=lambda: AsyncValue(value=False))
    # Those that the group gave us, and those of them that can be read.
    _assigned: frozenset[TopicPartition] = frozenset()
    _ours: frozenset[TopicPartition] = frozenset()
    # Counts rebalances: answers about an old assignment are of no use.
    _assignments: int = 0
    _is_assigned: bool = False
    _assignment_changed: trio.Event = attrs.field(factory=trio.Event)
    _told: bool = True
    _committed: Positions = attrs.field(factory=dict)
    # Positions handed on that could not be committed before a rebalance, and the topic's id.
    _uncommitted: dict[TopicPartition, tuple[int, str | None]] = attrs.field(factory=dict)
    _cannot_commit: bool = False
    _consumer: Any = None
    _turn: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _reading: trio.Lock = attrs.field(factory=trio.Lock)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Mapping[TopicPartition, int] | None]:
        """Read and hand on in here; gives the partitions and positions where they are new.

        Waits for a rebalance to end; one that begins ends the block.
        """
        while not self._is_placed.value:
            await self._is_placed.wait_value(bool)
        with trio.CancelScope() as self._turn:
            async with self._reading:
                news = None if self._told else {key: self._positions[key] for key in self._ours}
                # Before the turn: partitions placed during it are for the next one.
                self._told = True
                yield news

    async def run(self) -> None:
        """Be a member of the group for the topics that exist; failures are retried for ever."""
        monitor = self._monitor
        backoff = Backoff(_FIRST_RETRY_SECONDS, self._options.probe)
        monitor.own_problem = renewed(_JOINING, monitor.own_problem)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._place)
            while True:
                changed = monitor.layout_changed
                topics = {key.topic for key in self._layout.partitions}
                if not topics:
                    # A group cannot be joined for no topic.
                    await self._wait_for_topics(changed)
                    continue
                try:
                    await self._be_member(topics, backoff)
                except GroupAuthorizationFailedError:
                    reason = error_text(30)
                except _FAILURES as failure:
                    reason = await self._explain(str(failure) or type(failure).__name__)
                except trio.TooSlowError:
                    reason = await self._explain(f"no answer within {self._options.probe:g} s")
                else:
                    continue
                reason = f"consumer group {self._group}: {reason}"
                monitor.own_problem = renewed(reason, monitor.own_problem)
                await trio.sleep(backoff.next())

    async def _explain(self, reason: str) -> str:
        """Why a broker rejects connections, if one does: aiokafka does not tell."""
        rejection = await self._options.security.rejection_reason(self._options.probe)
        return reason if rejection is None else str(rejection)

    async def _wait_for_topics(self, changed: trio.Event) -> None:
        """Serve nothing, truthfully, until there is something."""
        if self._monitor.started_ms is not None:
            self._monitor.own_problem = None
            if not self._is_placed.value:
                self._ours, self._told = frozenset(), False
                self._is_placed.value = True
        await changed.wait()

    async def _be_member(self, topics: set[str], backoff: Backoff) -> None:
        """Until other topics exist. Raises one of _FAILURES or trio.TooSlowError."""
        consumer = self._consumer = await call_aiokafka(self._make_consumer)
        try:
            with trio.fail_after(max(self._options.probe, _START_SECONDS)):
                await start(consumer)
            consumer.subscribe(topics=sorted(topics), listener=self)
            while topics == {key.topic for key in self._layout.partitions}:
                # Nothing comes of it, all partitions are paused; but errors do.
                with trio.fail_after(max(self._options.probe, _JOIN_SECONDS)):
                    await call_aiokafka(consumer.getmany, timeout_ms=0)
                if self._is_placed.value:
                    backoff.reset()
                    await self.commit()
                with trio.move_on_after(min(_LOOK_SECONDS, self._options.probe)):
                    await self._monitor.layout_changed.wait()
        finally:
            # Nothing is read any more: the next owner begins where we stopped.
            with trio.move_on_after(_LAST_COMMIT_SECONDS, shield=True):
                await self._give_up()
            with trio.move_on_after(_LEAVE_SECONDS, shield=True):
                try:
                    await call_aiokafka(consumer.stop)
                except (asyncio.CancelledError, *_FAILURES):
                    # With the broker dead, stop() ends like this; there is nothing left to leave.
                    pass

    async def _make_consumer(self) -> Any:
        """Make a consumer; in asyncio, for its constructor looks for a running loop."""
        return aiokafka.AIOKafkaConsumer(
            **self._options.client(),
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            # By this the leader of a group notices new partitions.
            metadata_max_age_ms=round(self._options.probe * 1000),
            consumer_timeout_ms=1000,
        )

    # ---- commits

    async def commit(self) -> None:
        """Store the positions changed since the last time; those that cannot be stored wait."""
        positions = {key: self._positions[key] for key in self._ours}
        changed = dict(positions.items() - self._committed.items())
        if not changed:
            return
        try:
            with trio.fail_after(self._options.probe):
                await call_aiokafka(partial(self._commit, changed))
        except (*_FAILURES, trio.TooSlowError) as failure:
            # During a rebalance that is usual, and what was read until then is committed in it.
            if not self._cannot_commit:
                reason = str(failure) or type(failure).__name__
                log.warning("consumer group offset commit failed", reason=reason)
            self._cannot_commit = True
        else:
            self._committed |= changed
            self._cannot_commit = False

    async def _commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Commit these positions, but not those of partitions that a rebalance has taken away."""
        found = {aiokafka.TopicPartition(*key): offset for key, offset in positions.items()}
        offsets = {
            key: (found[key], self._log_mark(TopicPartition(*key)).text())
            for key in found.keys() & self._consumer.assignment()
        }
        if offsets:
            await self._consumer.commit(offsets)

    def _log_mark(self, key: TopicPartition) -> LogMark:
        return LogMark(self._record_epoch(key), self._layout.topic_ids.get(key.topic))

    # ---- called by aiokafka, in asyncio

    async def on_partitions_revoked(self, _revoked: Iterable[aiokafka.TopicPartition]) -> None:
        """Stop reading, and commit before others take over: they begin where we stopped."""
        await trio_as_aio(self._give_up)()

    async def on_partitions_assigned(self, assigned: Iterable[aiokafka.TopicPartition]) -> None:
        """Go on where the group stopped; that is found out beside, for the group waits for this."""
        keys = set(assigned)
        # aiokafka would fetch, and look for positions of its own.
        if keys:
            self._consumer.pause(*keys)
            for key in keys:
                self._consumer.seek(key, 0)
        await trio_as_aio(self._take)(frozenset(TopicPartition(*key) for key in keys))

    async def _give_up(self) -> None:
        # First: answers from here on are about an old assignment.
        self._is_assigned = False
        self._assignments += 1
        self._is_placed.value = False
        self._turn.cancel()
        async with self._reading:
            await self.commit()
            self._uncommitted = {
                key: (self._positions[key], self._layout.topic_ids.get(key.topic))
                for key in self._ours
                if self._committed.get(key) != self._positions[key]
            }
        self._assigned = self._ours = frozenset()
        self._committed = {}
        self._monitor.without_start_offset = {}
        # Why it cannot join says more, also while it tries again.
        if self._monitor.own_problem is None:
            self._monitor.own_problem = renewed(_JOINING, None)

    async def _take(self, partitions: frozenset[TopicPartition]) -> None:
        self._assigned = partitions
        self._is_assigned = True
        self._assignments += 1
        self._assignment_changed.set()
        self._assignment_changed = trio.Event()
        log.info("consumer group assigned partitions", partitions=len(partitions))
        await trio.lowlevel.checkpoint()

    # ---- where to go on

    async def _place(self) -> None:
        """Find out where the partitions that the group gave us go on, each by itself."""
        backoff = Backoff(_FIRST_RETRY_SECONDS, self._options.probe)
        while True:
            changed, assignment = self._assignment_changed, self._assignments
            waiting = self._assigned - self._ours
            if not self._is_assigned or (self._is_placed.value and not waiting):
                await changed.wait()
                continue
            found, failed = await self._find_positions(waiting)
            if assignment != self._assignments:
                continue
            self._monitor.without_start_offset = {
                key: renewed(reason, self._monitor.without_start_offset.get(key))
                for key, reason in failed.items()
            }
            for key, place in found.items():
                # Records that we handed on ourselves are done, also if their commit failed.
                own, topic_id = self._uncommitted.pop(key, (0, None))
                is_same_log = topic_id == self._layout.topic_ids.get(key.topic)
                self._positions[key] = max(place, own) if is_same_log else place
                if self._positions[key] != place:
                    # The epoch is of the record before the stored position.
                    self.epochs.pop(key, None)
            if found or not waiting:
                self._ours |= found.keys()
                self._told = False
                self._is_placed.value = True
                self._monitor.own_problem = None
                # At once: the next owner of a partition without a position would have to guess.
                await self.commit()
            if failed:
                with trio.move_on_after(backoff.next()):
                    await changed.wait()
            else:
                backoff.reset()

    async def _find_positions(
        self, partitions: frozenset[TopicPartition]
    ) -> tuple[Positions, dict[TopicPartition, str]]:
        """The group's positions; where it has stored none, those of an instance that starts."""
        if not partitions:
            return {}, {}
        try:
            stored, failed = await self._ask_group(partitions)
        except KafkaUnavailable as failure:
            return {}, dict.fromkeys(partitions, str(failure))
        new = partitions - stored.keys() - failed.keys()
        if new and self._monitor.started_ms is not None:
            placement = await self._start_offset_finder.find(new, self._monitor.started_ms)
            stored |= placement.ends
            failed |= placement.failed
        if stored:
            # Partitions that appear from now on have records of since the start.
            self._start_offset_finder.is_first = False
        return stored, failed

    async def _find_coordinator(self) -> Coordinator:
        """Ask any broker that answers. Raises KafkaUnavailable."""
        reason = "no broker is known"
        for node in list(self._client.brokers):
            try:
                return await self._client.ask(node, FindCoordinatorRequest(self._group))
            except KafkaUnavailable as failure:
                reason = str(failure)
        raise KafkaUnavailable(reason)

    async def _ask_group(
        self, partitions: frozenset[TopicPartition]
    ) -> tuple[Positions, dict[TopicPartition, str]]:
        """Ask the group's coordinator for stored positions. Raises KafkaUnavailable."""
        coordinator = await self._find_coordinator()
        if coordinator.error:
            raise KafkaUnavailable(f"no coordinator of the group: {error_text(coordinator.error)}")
        request = OffsetFetchRequest(self._group, partitions)
        answer = await self._client.ask(coordinator.node, request)
        if answer.error:
            # Not the same as nothing stored: that would go on at the end.
            raise KafkaUnavailable(f"no positions of the group: {error_text(answer.error)}")
        found: Positions = {}
        failed: dict[TopicPartition, str] = {}
        for key in partitions:
            one = answer.partitions.get(key)
            if one is None or one.error:
                failed[key] = error_text(one.error if one else 3)
            elif one.offset >= 0 and self._is_same_log(key, mark := LogMark.parse(one.metadata)):
                found[key] = one.offset
                self.epochs[key] = mark.epoch
        return found, failed

    def _is_same_log(self, key: TopicPartition, mark: LogMark) -> bool:
        """Whether a stored position is of the log that the topic has now."""
        topic_id = self._layout.topic_ids.get(key.topic)
        is_same = topic_id is None or mark.topic_id in {None, topic_id}
        if not is_same:
            log.warning(
                "the topic was recreated since the group's last commit",
                topic=key.topic,
                partition=key.partition,
            )
        return is_same
