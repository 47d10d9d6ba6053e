"""Plans the next fetch from one broker: partitions, min_bytes, max wait. No I/O.

Free buffer space decides: a partition with many buffered records is left out, others are fetched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Final

import attrs

from odin_ws.kafka.fetch_session import FetchSession
from odin_ws.kafka.partition import Partition, PartitionState
from odin_ws.kafka.protocol import FetchFrom, FetchRequest
from odin_ws.records import TopicPartition

__all__ = [
    "FETCH_BYTES",
    "LARGEST_PARTITION_BYTES",
    "PARTITION_BYTES",
    "FetchPlan",
    "FetchPlanner",
    "FetchWait",
    "plan_fetch",
]

# Size of one fetch, and of one partition in it: enough for 100,000 records per second of 400 bytes
# in slots of 50 ms. Decoding a partition's part blocks the loop for about 5 ms.
FETCH_BYTES: Final = 4 << 20
PARTITION_BYTES: Final = 1 << 20

# Bytes buffered for the hub. A partition with more than the first limit is not fetched. From a
# broker with more than the second, only partitions with an empty buffer are fetched, in small
# parts: a record of a quiet partition does not wait behind the backlog of another.
_PARTITION_ROOM: Final = 2 * PARTITION_BYTES
_BROKER_ROOM: Final = 2 * FETCH_BYTES
_SMALL_PARTITION_BYTES: Final = 64 << 10
_SMALL_FETCH_BYTES: Final = 1 << 20

# The largest fetch of a partition whose next batch is larger than PARTITION_BYTES.
LARGEST_PARTITION_BYTES: Final = 64 << 20


@attrs.frozen
class FetchWait:
    """A broker responds when it has `min_bytes`, or after `seconds`."""

    min_bytes: int
    seconds: float


_NO_WAIT: Final = FetchWait(0, 0)


@attrs.frozen
class FetchPlan:
    """The plan of the next fetch from one broker."""

    wanted: MutableMapping[TopicPartition, FetchFrom]
    """The offset to fetch each partition from."""
    retry_at: float = math.inf
    """When the next back-off ends: Trio's clock, seconds."""
    moved: Sequence[TopicPartition] | None = None
    """The partitions whose offset may differ from the last plan's; None: any of them."""
    max_bytes: int = FETCH_BYTES
    """Limit of the whole response."""
    is_held_back: bool = False
    """True if a partition is left out for lack of buffer space; it is fetched again soon."""
    has_lookup: bool = False
    """True if a back-off has ended at a position that must be looked up."""
    unconfirmed: Sequence[TopicPartition] = ()
    """The wanted partitions that may be unreadable, until a fetch succeeds."""
    may_be_recreated: bool = False
    """True if a partition is left out until metadata shows that its topic was not recreated."""

    def wait(self, now: float, slot: float, max_wait: float, *, has_backlog: bool) -> FetchWait:
        """Return how long the broker may wait before it responds."""
        if has_backlog or self.unconfirmed:
            # The broker has more, or it must become clear at once whether partitions are readable.
            return _NO_WAIT
        # The fetch must not delay a partition that is left out for a moment.
        maximum = slot if self.is_held_back or self.may_be_recreated else max_wait
        return FetchWait(1, min(maximum, max(0.0, self.retry_at - now)))

    def request(
        self, session: FetchSession, wait: FetchWait, topic_ids: Mapping[str, str | None]
    ) -> FetchRequest:
        """Return the next fetch of a session and record it there."""
        session_request = session.request(self.wanted, topic_ids, self.moved)
        return FetchRequest(
            wait.seconds,
            wait.min_bytes,
            self.max_bytes,
            session_request.session,
            session_request.epoch,
            session_request.changed,
            session_request.gone,
            topic_ids,
        )


class FetchPlanner:
    """Plans the fetches from one broker.

    Usually all partitions are read, few have records and their buffers have room: then only the
    partitions of the last response are planned again. To plan all 96 took a third of the
    instructions of a fetch.
    """

    def __init__(self) -> None:
        self._plan: FetchPlan | None = None
        self._version: object = None
        # Partitions with records in the responses since the last plan; partitions with a buffer.
        self._touched: list[Partition] = []
        self._buffered: list[Partition] = []

    def touch(self, partition: Partition) -> None:
        """Note that a response may have changed a partition."""
        self._touched.append(partition)

    def forget(self) -> None:
        """Plan all partitions the next time: a fetch has failed."""
        self._plan = None

    def plan(
        self,
        led: Callable[[], Iterable[Partition]],
        now: float,
        version: object,
        longest_unseen: float = math.inf,
    ) -> FetchPlan:
        """Return the next plan.

        `led`: returns the partitions that the broker leads. `version`: another object whenever a
        partition may have changed other than by a response. `longest_unseen`: see `plan_fetch`.
        """
        touched, self._touched = self._touched, []
        # A broker for which topics can be in doubt is rare: all its partitions are planned again.
        plan = self._plan if longest_unseen == math.inf else None
        if plan is not None and version is self._version and self._still_holds(touched):
            for partition in touched:
                plan.wanted[partition.key] = partition.fetch_from(PARTITION_BYTES)
            return attrs.evolve(plan, moved=[partition.key for partition in touched])
        partitions = list(led())
        plan = plan_fetch(partitions, now, longest_unseen)
        is_usual = len(plan.wanted) == len(partitions) and not plan.unconfirmed
        is_usual &= all(fetch.max_bytes == PARTITION_BYTES for fetch in plan.wanted.values())
        self._plan, self._version = plan if is_usual else None, version
        self._buffered = [partition for partition in partitions if partition.has_buffered]
        return plan

    def _still_holds(self, touched: Sequence[Partition]) -> bool:
        """Return whether only offsets differ from the last plan."""
        self._buffered = [
            partition for partition in {*self._buffered, *touched} if partition.has_buffered
        ]
        if sum([partition.buffered_bytes for partition in self._buffered]) >= _PARTITION_ROOM:
            return False
        return all(
            partition.state is PartitionState.READING and partition.fetch_bytes is None
            for partition in touched
        )


def plan_fetch(led: Iterable[Partition], now: float, longest_unseen: float = math.inf) -> FetchPlan:
    """Plan a fetch of the partitions that a broker leads; resumes those whose back-off is over.

    `longest_unseen`: a partition is left out if its topic was last seen longer ago, see
    `Partition.may_be_recreated`.
    """
    partitions = list(led)
    is_full = sum([partition.buffered_bytes for partition in partitions]) >= _BROKER_ROOM
    usual_bytes = _SMALL_PARTITION_BYTES if is_full else PARTITION_BYTES
    wanted: dict[TopicPartition, FetchFrom] = {}
    retry_at = math.inf
    is_held_back = has_lookup = may_be_recreated = False
    unconfirmed: list[TopicPartition] = []
    reading, backing_off = PartitionState.READING, PartitionState.BACKING_OFF
    for partition in partitions:
        if partition.state is backing_off:
            if now < partition.retry_at:
                retry_at = min(retry_at, partition.retry_at)
                continue
            has_lookup |= partition.resume() is PartitionState.LOOKING_UP
        if partition.state is not reading:
            continue
        buffered = partition.buffered_bytes
        if buffered >= _PARTITION_ROOM or (is_full and partition.has_buffered):
            is_held_back = True
            continue
        if partition.may_be_recreated(now, longest_unseen):
            may_be_recreated = True
            continue
        wanted[partition.key] = partition.fetch_from(usual_bytes)
        if partition.problem is not None or not partition.has_fetched:
            unconfirmed.append(partition.key)
    sizes = [fetch.max_bytes for fetch in wanted.values()]
    is_small = min(sizes, default=usual_bytes) <= _SMALL_PARTITION_BYTES
    return FetchPlan(
        wanted,
        retry_at,
        None,
        max(_SMALL_FETCH_BYTES if is_small else FETCH_BYTES, *sizes, 0),
        is_held_back,
        has_lookup,
        unconfirmed,
        may_be_recreated,
    )
