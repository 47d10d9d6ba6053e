"""The state of one fetched partition: position, buffered records, problem, back-off."""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final

import attrs

from odin_ws.backoff import Backoff
from odin_ws.kafka.protocol import NO_EPOCH, FetchFrom
from odin_ws.records import GapReason, Record, TopicPartition

__all__ = ["OffsetReset", "Partition", "PartitionState", "Problem"]

_FIRST_RETRY_SECONDS: Final = 0.1
_LAST_RETRY_SECONDS: Final = 5.0

# A wait is at most this part of the time that the trouble has lasted.
_TRIES: Final = 3

_NOWHERE: Final = FetchFrom(-1, NO_EPOCH, 0)


class PartitionState(Enum):
    """The current state of a partition in the fetcher."""

    READING = "reading"
    """It is in the fetches to its leader, as long as there is room for its records."""

    BACKING_OFF = "backing off"
    """A fetch of it failed: it is tried again at `retry_at`."""

    LOOKING_UP = "looking up"
    """The log is asked where reading goes on: nothing of it is fetched until that is known."""


@attrs.frozen
class Problem:
    """The reason why a partition cannot be read, and since when (Trio's clock)."""

    reason: str
    since: float


@attrs.frozen
class OffsetReset:
    """Reading goes on at `offset`, which is not behind the last record that was read.

    `epoch`: in which the record before it was written, -1 if not known.
    """

    offset: int
    reason: GapReason
    epoch: int = NO_EPOCH


@attrs.define(eq=False)
class Partition:
    """One partition.

    Positions are offsets of the next record; epochs are the leader's, -1 where not known.

    `position`: of the next fetch; records read and not taken are before it.
    `record_epoch`: in which the last record read was written.
    `validated_epoch`: of the leader whose log is known to hold everything before `position`.
    `answered_at`: when a fetch of it last succeeded, None before the first.
    `high_watermark`, `last_stable`: as the leader told last; -1 before.
    `out_of_range_at`, `corrupt_at`: the position for which one fetch has failed so, and which is
    believed to be so when another one does.
    `fetch_bytes`: the size of the next fetch, if a batch is larger than a usual fetch.
    """

    key: TopicPartition
    position: int
    leader: int | None = None
    leader_epoch: int = NO_EPOCH
    record_epoch: int = NO_EPOCH
    validated_epoch: int = NO_EPOCH
    state: PartitionState = PartitionState.READING
    retry_at: float = 0.0
    problem: Problem | None = None
    answered_at: float | None = None
    high_watermark: int = -1
    last_stable: int = -1
    out_of_range_at: int | None = None
    corrupt_at: int | None = None
    fetch_bytes: int | None = None
    # Why the position has to be looked up; None to find out what the log has.
    lookup: GapReason | None = None
    # Whether a fetch has shown that the log does not have the position.
    is_out_of_range: bool = False
    buffered_bytes: int = 0
    # Whether it is among those that the fetcher takes from next.
    ready: bool = False
    _fetch_from: FetchFrom = _NOWHERE
    _buffer: deque[tuple[list[Record], int] | OffsetReset] = attrs.field(factory=deque)
    _backoff: Backoff = attrs.field(
        factory=lambda: Backoff(_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS)
    )

    # ---- what came

    def fetch_from(self, usual_bytes: int) -> FetchFrom:
        """The place of the next fetch, the same object until that changes."""
        size = self.fetch_bytes or usual_bytes
        known = self._fetch_from
        if known != (self.position, self.leader_epoch, size):
            known = self._fetch_from = FetchFrom(self.position, self.leader_epoch, size)
        return known

    def succeed(self, now: float) -> bool:
        """Note that a fetch was answered; returns whether that was in question."""
        was_in_question = self.answered_at is None or self.problem is not None
        self.answered_at = now
        if was_in_question:
            self.problem = None
            self._backoff.reset()
        return was_in_question

    def record_problem(self, reason: str, since: float) -> Problem:
        """Something is wrong, maybe not the partition's own: its broker is away."""
        self.problem = Problem(reason, self.problem.since if self.problem else since)
        return self.problem

    def fail(self, reason: str, now: float) -> None:
        """A fetch failed: try again after a while.

        That is never long beside the trouble itself: short trouble is noticed soon.
        """
        since = self.record_problem(reason, now).since
        self.state = PartitionState.BACKING_OFF
        longest = max(_FIRST_RETRY_SECONDS, (now - since) / _TRIES)
        self.retry_at = now + min(longest, self._backoff.next())

    def look_up(self, reason: GapReason | None = None) -> None:
        """Stop fetching until the log has said where to go on."""
        self.state = PartitionState.LOOKING_UP
        self.lookup = reason
        self.is_out_of_range = reason is None

    def resume(self) -> PartitionState:
        """Go on after a back-off or a look-up: fetch again, if nothing is to be looked up first."""
        waits = self.lookup is not None or self._has_new_leader
        self.state = PartitionState.LOOKING_UP if waits else PartitionState.READING
        return self.state

    def stay(self) -> None:
        """The log has everything before `position`: fetch again."""
        self.lookup = None
        self.is_out_of_range = False
        self.validated_epoch = self.leader_epoch
        self.resume()

    def lead(self, node: int | None, epoch: int) -> None:
        """Take what the metadata says of its leader.

        A leader of a new epoch may have fewer records than the last one had: what was read is to
        be compared with its log first (KIP-320).
        """
        if (node, epoch) != (self.leader, self.leader_epoch):
            # Another leader may answer at once.
            self.retry_at = 0.0
        self.leader, self.leader_epoch = node, epoch
        if NO_EPOCH in (self.record_epoch, self.validated_epoch):
            self.validated_epoch = epoch
        if self.state is PartitionState.READING:
            self.resume()

    @property
    def _has_new_leader(self) -> bool:
        return self.leader_epoch > self.validated_epoch and self.record_epoch != NO_EPOCH

    # ---- what waits

    @property
    def is_held(self) -> bool:
        """Whether everything is read that no open transaction holds back, and that is not all."""
        return 0 <= self.last_stable <= self.position and self.last_stable < self.high_watermark

    @property
    def is_recreated(self) -> bool:
        """Whether the log is another one than that of the record that is taken next."""
        return self.lookup is GapReason.RECREATED or any(
            isinstance(one, OffsetReset) and one.reason is GapReason.RECREATED
            for one in self._buffer
        )

    @property
    def has_buffered(self) -> bool:
        """Whether something was read that was not taken."""
        return bool(self._buffer)

    @property
    def first_buffered(self) -> int:
        """The offset of what is taken next, or of what is read next."""
        if not self._buffer:
            return self.position
        first = self._buffer[0]
        return first.offset if isinstance(first, OffsetReset) else first[0][0].offset

    def buffer(self, records: list[Record], size: int) -> None:
        """Keep records, of `size` bytes as they were fetched, until they are taken."""
        self._buffer.append((records, size))
        self.buffered_bytes += size

    def reset(self, to: OffsetReset) -> None:
        """Go on elsewhere; the hub is told after the records that were read before."""
        self.position = to.offset
        self.record_epoch = to.epoch
        self.high_watermark = self.last_stable = -1
        self._buffer.append(to)
        self.stay()

    def take(self, maximum: int) -> list[Record]:
        """Take records, at most so many; none where a jump comes first."""
        taken: list[Record] = []
        while self._buffer and len(taken) < maximum:
            first = self._buffer[0]
            if isinstance(first, OffsetReset):
                break
            records, size = first
            room = maximum - len(taken)
            if len(records) <= room:
                taken += records
                self._buffer.popleft()
                self.buffered_bytes -= size
            else:
                taken += records[:room]
                self._buffer[0] = records[room:], size
        return taken

    def take_reset(self) -> OffsetReset | None:
        """Take the jump that comes next, if one does."""
        first = self._buffer[0] if self._buffer else None
        if not isinstance(first, OffsetReset):
            return None
        self._buffer.popleft()
        return first

    def clear(self) -> None:
        """Forget what was read and not taken."""
        self._buffer.clear()
        self.buffered_bytes = 0
