"""Plans the next fetch from one broker: partitions, min_bytes, max wait. No I/O.

Room decides: a partition of which much waits for the hub is left out, and the others are not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
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
    "FetchWait",
    "plan_fetch",
]

# Bytes of one fetch, and of one partition in it: enough for 100,000 records of 400 bytes a second
# in slots of 50 ms. A partition's records are read at once, which takes the loop for some 5 ms.
FETCH_BYTES: Final = 4 << 20
PARTITION_BYTES: Final = 1 << 20

# Bytes that wait for the hub. A partition with more than the first bound is not fetched. From
# a broker with more than the second, only partitions with nothing waiting are fetched, in small
# pieces: a record of a quiet partition does not wait for the backlog of another.
_PARTITION_ROOM: Final = 2 * PARTITION_BYTES
_BROKER_ROOM: Final = 2 * FETCH_BYTES
_SMALL_PARTITION_BYTES: Final = 64 << 10
_SMALL_FETCH_BYTES: Final = 1 << 20

# The largest fetch of a partition whose next batch is larger than PARTITION_BYTES.
LARGEST_PARTITION_BYTES: Final = 64 << 20


@attrs.frozen
class FetchWait:
    """A broker answers as soon as it has `min_bytes`, or after `seconds`."""

    min_bytes: int
    seconds: float


@attrs.frozen
class FetchPlan:
    """`wanted`: where to read each partition. `retry_at`: when the next back-off ends.

    `is_held_back`: some partition is left out for want of room, and is wanted again soon.
    `has_lookup`: a back-off has ended in a position that has to be looked up.
    `is_in_question`: it is not known of some wanted partition whether it can be read.
    """

    wanted: Mapping[TopicPartition, FetchFrom]
    retry_at: float = math.inf
    is_held_back: bool = False
    has_lookup: bool = False
    is_in_question: bool = False

    def request(
        self, session: FetchSession, wait: FetchWait, topic_ids: Mapping[str, str | None]
    ) -> FetchRequest:
        """The next fetch of a session; the session takes note of it."""
        sizes = [where.max_bytes for where in self.wanted.values()]
        is_small = min(sizes) <= _SMALL_PARTITION_BYTES
        one = session.request(self.wanted, topic_ids)
        return FetchRequest(
            wait.seconds,
            wait.min_bytes,
            max(_SMALL_FETCH_BYTES if is_small else FETCH_BYTES, *sizes),
            one.session,
            one.epoch,
            one.changed,
            one.gone,
            topic_ids,
        )


def plan_fetch(led: Iterable[Partition], now: float) -> FetchPlan:
    """Plan a fetch of the partitions that a broker leads; those whose back-off is over resume."""
    several = list(led)
    is_full = sum([one.buffered_bytes for one in several]) >= _BROKER_ROOM
    usual_bytes = _SMALL_PARTITION_BYTES if is_full else PARTITION_BYTES
    wanted: dict[TopicPartition, FetchFrom] = {}
    retry_at = math.inf
    is_held_back = has_lookup = is_in_question = False
    reading, backing_off = PartitionState.READING, PartitionState.BACKING_OFF
    for one in several:
        if one.state is backing_off:
            if now < one.retry_at:
                retry_at = min(retry_at, one.retry_at)
                continue
            has_lookup |= one.resume() is PartitionState.LOOKING_UP
        if one.state is not reading:
            continue
        buffered = one.buffered_bytes
        if buffered >= _PARTITION_ROOM or (is_full and one.has_buffered):
            is_held_back = True
            continue
        wanted[one.key] = one.fetch_from(usual_bytes)
        if one.problem is not None or one.answered_at is None:
            is_in_question = True
    return FetchPlan(wanted, retry_at, is_held_back, has_lookup, is_in_question)
