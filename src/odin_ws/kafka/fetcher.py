"""Fetches partitions from their leaders; retries each partition and each lost broker separately."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Final

import trio

from odin_ws.kafka.broker_fetches import BrokerFetches, send_fetch
from odin_ws.kafka.broker_states import BrokerStates
from odin_ws.kafka.client import Brokers
from odin_ws.kafka.fetch_pace import FetchPace
from odin_ws.kafka.fetch_plan import PARTITION_BYTES, FetchPlan, FetchPlanner
from odin_ws.kafka.fetch_result import Effect, apply_fetched, apply_layout
from odin_ws.kafka.fetch_session import FetchSession
from odin_ws.kafka.partition import Partition, PartitionState
from odin_ws.kafka.position_validation import PositionValidation
from odin_ws.kafka.protocol import (
    NO_EPOCH,
    FetchResponse,
    TopicLayout,
)
from odin_ws.kafka.ready_queue import FetchedRecords, ReadyQueue
from odin_ws.kafka.record_headers import NO_NAMES
from odin_ws.kafka.tail_gaps import TailGaps
from odin_ws.records import GapReason, TopicPartition

__all__ = ["BATCH_RECORDS", "FetchedRecords", "Fetcher"]

# Decoding and delivering a record costs about 5 us: a batch blocks the loop for at most 10 ms.
BATCH_RECORDS: Final = 2000

# A response of this size is part of a backlog.
_BACKLOG_BYTES: Final = PARTITION_BYTES // 2

# Time for which `take` waits for a record.
POLL_SECONDS: Final = 1.0

# Other tasks run after each part of a response of this size: decoding it takes 0.3 ms.
_LONG_BYTES: Final = 64 << 10


class Fetcher:
    """Fetches the assigned partitions and buffers their records until they are taken.

    `metadata_requested` is set when the cluster's layout may have changed, `troubled` when a
    problem began or ended; the task that waits for such an event replaces it. `changed` is set and
    replaced whenever a fetch task may have to change its plan.

    Args:
        max_wait: seconds a broker may wait for records before it responds.
        slot: seconds between two fetches from a broker while records come (see FetchPace).
    """

    def __init__(
        self,
        brokers: Brokers,
        max_wait: float,
        slot: float,
        header_names: AbstractSet[str] = NO_NAMES,
    ) -> None:
        self.partitions: dict[TopicPartition, Partition] = {}
        self.metadata_requested = trio.Event()
        self.troubled = trio.Event()
        self.changed = trio.Event()
        self._brokers = brokers
        self._max_wait = max_wait
        self._header_names = header_names
        # A newly assigned partition waits while the broker holds a fetch: this bounds that wait at
        # low rates.
        self._slot = min(slot, max_wait)
        self._pace = FetchPace(self._slot)
        self.broker_states = BrokerStates(self._slot)
        # True if records are delivered without a new slot: the rest of one, or a backlog.
        self._is_in_slot = False
        # True if a broker is not fetched from until records are taken.
        self._lacks_room = False
        self._topics: Mapping[str, TopicLayout] = {}
        self._suspended: Collection[str] = frozenset()
        self._topic_ids: dict[str, str | None] = {}
        self._nodes: set[int] = set()
        self._ready = ReadyQueue()
        self._tail_gaps = TailGaps(brokers, self._topic_id, self._pass_gap)
        self._validation = PositionValidation(
            brokers,
            self.partitions,
            wait_changed=self._wait_changed,
            longest_unseen=self.broker_states.longest_unseen,
            apply_effect=self._apply_effect,
            notify=self._notify,
        )

    # ---- used by the source

    async def run(self) -> None:
        """Fetch until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tail_gaps.run)
            while True:
                for node in self._leaders() - self._nodes:
                    self._nodes.add(node)
                    nursery.start_soon(self._read_from, node)
                    nursery.start_soon(self._validation.run, node)
                await self.changed.wait()

    def assign(
        self,
        positions: Mapping[TopicPartition, int],
        epochs: Mapping[TopicPartition, int] | None = None,
    ) -> None:
        """Start or move partitions to these offsets.

        `epochs`: by partition the leader epoch of the record before its offset, or a later epoch
        that had no record since; unknown by default.
        """
        known_epochs = epochs or {}
        for key, position in positions.items():
            before = self.partitions.get(key)
            self._drop(key)
            # A partition's own problem, such as a missing topic, exists at any offset.
            problem = before.problem if before is not None else None
            epoch = known_epochs.get(key, NO_EPOCH)
            partition = self.partitions[key] = Partition(
                key, position, record_epoch=epoch, validated_epoch=epoch, problem=problem
            )
            self._set_leader(partition, trio.current_time())
        self._update_topic_ids()
        self._notify()

    def revoke(self, keys: Collection[TopicPartition]) -> None:
        """Stop fetching these partitions and drop their buffered records."""
        for key in keys:
            self._drop(key)
        self._update_topic_ids()
        self._notify()

    def apply(
        self,
        topics: Mapping[str, TopicLayout],
        suspended: Collection[str] = frozenset(),
        requested_at: float | None = None,
    ) -> None:
        """Apply leaders and topic ids of the metadata.

        `suspended`: topics that are not fetched until the metadata is clear about them.
        `requested_at`: when the metadata was requested; now by default.
        """
        self._topics = topics
        self._suspended = suspended
        self._update_topic_ids()
        now = trio.current_time()
        for partition in self.partitions.values():
            if partition.key.topic in topics and not topics[partition.key.topic].error:
                partition.mark_seen(now if requested_at is None else requested_at, now)
            self._set_leader(partition, now)
        self._notify()

    def miss_metadata(self, reason: str) -> None:
        """Note why the metadata is unknown: nobody can tell whether a partition has a leader now.

        Without this, "no leader" from a broker that stopped would hide why no broker responds.
        """
        for partition in self.partitions.values():
            if partition.leader is None and partition.problem is not None:
                partition.record_problem(reason, partition.problem.since)

    def restart(self, keys: Collection[TopicPartition]) -> None:
        """Read another log of the same name from its beginning, after the buffered records."""
        for key in keys & self.partitions.keys():
            self.partitions[key].look_up(GapReason.RECREATED)
        self._notify()

    async def take(self, maximum: int | None) -> FetchedRecords:
        """Take at most `maximum` records, an even share of each partition's.

        Waits about a second for the first record and its slot.
        """
        await trio.lowlevel.checkpoint()
        limit = BATCH_RECORDS if maximum is None else min(maximum, BATCH_RECORDS)
        if not self._ready:
            with trio.move_on_after(POLL_SECONDS):
                await self._ready.wait()
        if self._ready and not self._is_in_slot and not await self._pace.begin_slot(POLL_SECONDS):
            return FetchedRecords((), cut_off=False, resets={}, passed={})
        taken = self._ready.take(limit)
        self._is_in_slot = bool(self._ready)
        # Not for each record: every fetch task would wake up and check every partition.
        if taken.resets or (taken.passed and self._lacks_room):
            self._lacks_room = False
            self._notify()
        return taken

    def wake(self) -> None:
        """Make a waiting `take` return without records."""
        self._ready.wake()

    def record_epoch(self, key: TopicPartition) -> int:
        """Return the leader epoch of the last record read of a partition; NO_EPOCH if unknown."""
        partition = self.partitions.get(key)
        return NO_EPOCH if partition is None else partition.record_epoch

    def next_offsets(self) -> dict[TopicPartition, int]:
        """Return by partition the offset after everything taken and after gaps without records."""
        return {key: partition.first_buffered for key, partition in self.partitions.items()}

    # ---- fetching

    async def _read_from(self, node: int) -> None:
        """Fetch from one broker the partitions that it leads, until cancelled."""
        broker = BrokerFetches()
        while True:
            if broker.not_before > trio.current_time():
                await trio.sleep_until(broker.not_before)
            plan = self._plan(node, broker.planner)
            if not plan.wanted:
                self._lacks_room |= plan.is_held_back
                changed = self.changed
                with trio.move_on_at(plan.retry_at):
                    await changed.wait()
                continue
            began = trio.current_time()
            wait = plan.wait(began, self._slot, self._max_wait, has_backlog=broker.has_backlog)
            broker.has_backlog = False
            self._pace.sent(node, began)
            request = plan.request(broker.session, wait, self._topic_ids)
            response, failure = await send_fetch(self._brokers, node, request, wait)
            size = sum(len(fetched.data) for fetched in response.partitions) if response else 0
            broker.not_before = self._pace.answered(node, trio.current_time(), has_records=size > 0)
            if response is not None and broker.has_lost_session(response):
                continue
            if response is None or failure is not None:
                broker.forget()
                since = min(trio.current_time(), began + wait.seconds)
                self._mark_failed(node, plan.wanted, failure or "", since)
                await trio.sleep(broker.backoff.next())
                continue
            broker.note_success()
            if size >= _BACKLOG_BYTES:
                # A large response: the broker has more, which is fetched and delivered without
                # slots.
                broker.not_before = -math.inf
                broker.has_backlog = self._is_in_slot = True
            broker.not_before = max(
                broker.not_before, self.broker_states.note(node, request, response)
            )
            await self._take_response(node, broker.session, broker.planner, plan, response)

    def _plan(self, node: int, planner: FetchPlanner) -> FetchPlan:
        """Plan the next fetch from a broker, and request what partitions wait for."""
        longest_unseen = self.broker_states.longest_unseen(node)
        led = partial(self._partitions_of, node)
        plan = planner.plan(led, trio.current_time(), self.changed, longest_unseen)
        if plan.has_lookup:
            self._notify()
        if plan.may_be_recreated:
            self.metadata_requested.set()
        return plan

    def _mark_failed(
        self, node: int, keys: Collection[TopicPartition], reason: str, since: float
    ) -> None:
        """Handle the loss of a broker: its partitions may have other leaders."""
        for key in keys & self.partitions.keys():
            partition = self.partitions[key]
            if partition.leader == node:
                partition.record_problem(reason, since)
                partition.suspected_at = trio.current_time()
        self.metadata_requested.set()
        self.troubled.set()

    def _partitions_of(self, node: int) -> list[Partition]:
        return [partition for partition in self.partitions.values() if partition.leader == node]

    async def _take_response(
        self,
        node: int,
        session: FetchSession,
        planner: FetchPlanner,
        plan: FetchPlan,
        response: FetchResponse,
    ) -> None:
        """Buffer the records of a response."""
        now = trio.current_time()
        # A response leaves out partitions without news: those in question can be read.
        quiet, size = set(plan.unconfirmed), 0
        if self.broker_states.fetches_by_name(node):
            for key in plan.wanted.keys() & self.partitions.keys():
                self.partitions[key].mark_seen(now, now)
        for fetched in response.partitions:
            quiet.discard(fetched.key)
            partition = self._current(node, fetched.key, session)
            if partition is not None:
                planner.touch(partition)
                self._apply_effect(
                    partition, apply_fetched(partition, fetched, now, self._header_names)
                )
                size += len(fetched.data)
                if size >= _LONG_BYTES:
                    await trio.lowlevel.checkpoint()
                    size = 0
        for key in quiet:
            partition = self._current(node, key, session)
            if partition is not None and partition.mark_fetched():
                self.troubled.set()

    def _current(self, node: int, key: TopicPartition, session: FetchSession) -> Partition | None:
        """Return the partition of a response; None if it has changed since the request.

        It may have been reassigned, have another leader, or be waiting for an offset lookup.
        """
        partition, requested = self.partitions.get(key), session.requested.get(key)
        if (
            partition is None
            or requested is None
            or partition.leader != node
            or partition.state is not PartitionState.READING
            or partition.position != requested.offset
        ):
            return None
        return partition

    def _apply_effect(self, partition: Partition, effect: Effect) -> None:
        """Do what the effect of a partition's part of a response requires."""
        if Effect.REFRESH_METADATA in effect:
            self.metadata_requested.set()
        if Effect.EVALUATE in effect:
            self.troubled.set()
        if Effect.TAKE in effect:
            self._ready.add(partition)
        if Effect.REPLAN in effect:
            self._notify()
        if Effect.SUSPECT_GAP in effect:
            self._tail_gaps.suspect(partition)

    def _pass_gap(self, partition: Partition) -> None:
        """Report the offsets of a gap as passed, and fetch from its end."""
        self._ready.add(partition)
        self._notify()

    # ---- bookkeeping

    def _set_leader(self, partition: Partition, now: float) -> None:
        key = partition.key
        topic = None if key.topic in self._suspended else self._topics.get(key.topic)
        layout = topic.partitions.get(key.partition) if topic is not None else None
        if key.topic in self._suspended:
            partition.leader = None
            self.metadata_requested.set()
        elif layout is not None:
            self._apply_effect(partition, apply_layout(partition, layout, now))

    def _drop(self, key: TopicPartition) -> None:
        partition = self.partitions.pop(key, None)
        if partition is not None:
            self._ready.remove(partition)
            self._tail_gaps.forget(partition)

    def _leaders(self) -> set[int]:
        return {
            partition.leader
            for partition in self.partitions.values()
            if partition.leader is not None
        }

    def _update_topic_ids(self) -> None:
        """Update topic ids; keeps the last id of a topic whose id the metadata lacks now."""
        known = self._topic_ids
        self._topic_ids = {
            name: (None if topic is None else topic.topic_id) or known.get(name)
            for name in {key.topic for key in self.partitions}
            for topic in (self._topics.get(name),)
        }

    def _topic_id(self, topic: str) -> str | None:
        return self._topic_ids.get(topic)

    async def _wait_changed(self) -> None:
        """Wait until a fetch task may have to change its plan."""
        await self.changed.wait()

    def _notify(self) -> None:
        self.changed.set()
        self.changed = trio.Event()
