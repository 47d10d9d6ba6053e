"""The state of one fetched partition: position, buffered records, problem, back-off."""

from __future__ import annotations

import math
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

# A back-off is at most this part of the time that the problem has lasted.
_TRIES: Final = 3

_NOWHERE: Final = FetchFrom(-1, NO_EPOCH, 0)


class PartitionState(Enum):
    """The state of a partition in the fetcher."""

    READING = "reading"
    """In the fetches to its leader, as long as there is buffer space."""

    BACKING_OFF = "backing off"
    """A fetch failed; retried at `retry_at`."""

    LOOKING_UP = "looking up"
    """The log is queried for the offset to continue from; not fetched until that is known."""


@attrs.frozen
class Problem:
    """Why a partition cannot be read, and since when (Trio's clock)."""

    reason: str
    since: float


@attrs.frozen
class OffsetReset:
    """Reading continues at `offset`, which does not follow the last record read.

    `epoch`: of the record before it, -1 if unknown.
    """

    offset: int
    reason: GapReason
    epoch: int = NO_EPOCH


@attrs.define(eq=False)
class Partition:
    """One fetched partition. Leader epochs are -1 if unknown; times are Trio's clock, seconds."""

    key: TopicPartition
    position: int
    """The offset of the next fetch; buffered records are before it."""
    leader: int | None = None
    """The node id of the leader; None without one."""
    leader_epoch: int = NO_EPOCH
    record_epoch: int = NO_EPOCH
    """The leader epoch of the last record read."""
    validated_epoch: int = NO_EPOCH
    """The epoch of the last leader whose log is known to have everything before `position`."""
    state: PartitionState = PartitionState.READING
    retry_at: float = 0.0
    """The end of the back-off."""
    problem: Problem | None = None
    has_fetched: bool = False
    """True if a fetch has ever succeeded."""
    seen_at: float = -math.inf
    """When a fetch or metadata last showed that the topic was not recreated."""
    suspected_at: float | None = None
    """Since when the topic may have been recreated; None once that was ruled out."""
    truncated: OffsetReset | None = None
    """The last look-up's result, if it was a truncation that is not confirmed yet."""
    high_watermark: int = -1
    """The log's end as the leader last reported it; -1 before."""
    last_stable_offset: int = -1
    """The last stable offset as the leader last reported it; -1 before."""
    out_of_range_at: int | None = None
    """The position at which one fetch was out of range; a second one confirms it."""
    corrupt_at: int | None = None
    """The position at which one fetch had a corrupt batch; a second one confirms it."""
    fetch_bytes: int | None = None
    """The size of the next fetch, if a batch is larger than a usual fetch."""
    lookup: GapReason | None = None
    """The reason for an offset lookup; None to determine it from the log."""
    is_out_of_range: bool = False
    """True if a fetch has shown that the position is out of range."""
    buffered_bytes: int = 0
    ready: bool = False
    """True if the partition is in the fetcher's queue of partitions to take from."""
    _fetch_from: FetchFrom = _NOWHERE
    _buffer: deque[tuple[list[Record], int] | OffsetReset] = attrs.field(factory=deque)
    _backoff: Backoff = attrs.field(
        factory=lambda: Backoff(_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS)
    )

    # ---- fetching

    def fetch_from(self, usual_bytes: int) -> FetchFrom:
        """Return the position of the next fetch, the same object until it changes."""
        size = self.fetch_bytes or usual_bytes
        known = self._fetch_from
        if known != (self.position, self.leader_epoch, size):
            known = self._fetch_from = FetchFrom(self.position, self.leader_epoch, size)
        return known

    def mark_fetched(self) -> bool:
        """Note a successful fetch; returns whether readability was in question."""
        was_in_question = not self.has_fetched or self.problem is not None
        self.has_fetched = True
        if was_in_question:
            self.problem = None
            self._backoff.reset()
        return was_in_question

    def record_problem(self, reason: str, since: float) -> Problem:
        """Record a problem, possibly of the partition's broker."""
        self.problem = Problem(reason, self.problem.since if self.problem else since)
        return self.problem

    def fail(self, reason: str, now: float, retry_seconds: float | None = None) -> None:
        """Record a failed fetch or look-up and back off, by default by the problem's duration.

        The back-off is short beside the duration of the problem: the end of a short problem is
        noticed soon.
        """
        since = self.record_problem(reason, now).since
        self.state = PartitionState.BACKING_OFF
        self.suspected_at = now
        longest = max(_FIRST_RETRY_SECONDS, (now - since) / _TRIES)
        self.retry_at = now + (retry_seconds or min(longest, self._backoff.next()))

    def may_be_recreated(self, now: float, longest_unseen: float) -> bool:
        """Return whether the topic may have been recreated: after an error, or if it was not seen.

        `longest_unseen`: infinite for a broker that distinguishes the topics itself.
        """
        if self.suspected_at is None and now - self.seen_at > longest_unseen:
            self.suspected_at = now
        return self.suspected_at is not None and longest_unseen < math.inf

    def mark_seen(self, requested_at: float, now: float) -> None:
        """Note a fetch or metadata that was requested at `requested_at` and has the topic."""
        if self.suspected_at is None or requested_at >= self.suspected_at:
            self.seen_at, self.suspected_at = now, None

    def look_up(self, reason: GapReason | None = None) -> None:
        """Stop fetching until the offset to continue from is looked up."""
        self.state = PartitionState.LOOKING_UP
        self.lookup = reason
        self.is_out_of_range = reason is None

    def resume(self) -> PartitionState:
        """Fetch again after a back-off or look-up, unless an offset must be looked up first."""
        waits = self.lookup is not None or self._has_new_leader
        self.state = PartitionState.LOOKING_UP if waits else PartitionState.READING
        return self.state

    def keep_position(self) -> None:
        """Fetch again: the log has everything before `position`."""
        self.lookup = self.truncated = None
        self.is_out_of_range = False
        self.validated_epoch = self.leader_epoch
        self.resume()

    def set_leader(self, node: int | None, epoch: int) -> None:
        """Apply the leader of the metadata.

        A leader of a new epoch may have fewer records than the last one: the position is compared
        with its log first (KIP-320).
        """
        if (node, epoch) != (self.leader, self.leader_epoch):
            # Another leader may respond at once.
            self.retry_at = 0.0
        self.leader, self.leader_epoch = node, epoch
        if NO_EPOCH in (self.record_epoch, self.validated_epoch):
            self.validated_epoch = epoch
        if self.state is PartitionState.READING:
            self.resume()

    def confirm(self, reset: OffsetReset) -> bool:
        """Return whether a look-up's result is certain: a truncation is looked up twice.

        A new leader may report an end before records that were read, until it knows which of its
        records are committed (known of Redpanda).
        """
        before, self.truncated = self.truncated, reset
        if reset.reason is not GapReason.TRUNCATED:
            return True
        # Without an epoch the new position is the log's end, which moves.
        return before is not None and (reset.epoch == NO_EPOCH or reset == before)

    @property
    def _has_new_leader(self) -> bool:
        return self.leader_epoch > self.validated_epoch and self.record_epoch != NO_EPOCH

    # ---- buffer

    @property
    def is_held(self) -> bool:
        """True if an open transaction holds back the rest of the log."""
        return (
            0 <= self.last_stable_offset <= self.position
            and self.last_stable_offset < self.high_watermark
        )

    @property
    def is_recreated(self) -> bool:
        """True if the topic was recreated after the next record to take."""
        return self.lookup is GapReason.RECREATED or any(
            isinstance(item, OffsetReset) and item.reason is GapReason.RECREATED
            for item in self._buffer
        )

    @property
    def has_buffered(self) -> bool:
        """True if something is buffered."""
        return bool(self._buffer)

    @property
    def first_buffered(self) -> int:
        """Return the offset of the next record to take, or to read."""
        if not self._buffer:
            return self.position
        first = self._buffer[0]
        return first.offset if isinstance(first, OffsetReset) else first[0][0].offset

    def buffer(self, records: list[Record], size: int) -> None:
        """Buffer records, of `size` bytes as fetched, until they are taken."""
        self._buffer.append((records, size))
        self.buffered_bytes += size

    def reset(self, to: OffsetReset) -> None:
        """Continue elsewhere; the hub gets the reset after the buffered records."""
        self.position = to.offset
        self.record_epoch = to.epoch
        self.high_watermark = self.last_stable_offset = -1
        self._buffer.append(to)
        self.keep_position()

    def take(self, maximum: int) -> list[Record]:
        """Take at most `maximum` records; none if a reset comes first."""
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
        """Return the reset that comes next, if one does."""
        first = self._buffer[0] if self._buffer else None
        if not isinstance(first, OffsetReset):
            return None
        self._buffer.popleft()
        return first

    def clear(self) -> None:
        """Drop the buffer."""
        self._buffer.clear()
        self.buffered_bytes = 0
