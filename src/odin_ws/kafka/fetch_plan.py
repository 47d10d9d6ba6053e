"""Plans the next fetch from one broker: partitions, min_bytes, max wait. No I/O.

Free buffer space decides: a partition with many buffered records is left out, others are fetched.
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


@attrs.frozen
class FetchPlan:
    """`wanted`: the offset to fetch each partition from. `retry_at`: when the next back-off ends.

    `is_held_back`: a partition is left out for lack of buffer space; it is fetched again soon.
    `has_lookup`: a back-off has ended at a position that has to be looked up.
    `is_in_question`: for some wanted partition it is unknown whether it can be read.
    """

    wanted: Mapping[TopicPartition, FetchFrom]
    retry_at: float = math.inf
    is_held_back: bool = False
    has_lookup: bool = False
    is_in_question: bool = False

    def request(
        self, session: FetchSession, wait: FetchWait, topic_ids: Mapping[str, str | None]
    ) -> FetchRequest:
        """Return the next fetch of a session and record it there."""
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
    """Plan a fetch of the partitions that a broker leads; resumes those whose back-off is over."""
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
