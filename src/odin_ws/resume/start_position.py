"""Resolves the start position of a replay against the log: ids, truncation, expiry."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Final, TypeVar

import attrs
import trio

from odin_ws.history import ResumeCursor
from odin_ws.hub import PLAIN, Hub, SubscriptionOptions
from odin_ws.log_reader import Bounds, LogReader, LogUnavailable, Span, TimePositions
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import GapReason, TopicPartition, topic_partition
from odin_ws.resume.gaps import (
    LossReason,
    LostSpans,
    report_expired,
    report_truncated,
    report_unknown_positions,
)
from odin_ws.resume.history_gatherer import HistoryGatherer
from odin_ws.resume.replay_limits import ReplayLimits, ReplayStats
from odin_ws.resume.replay_window import ReplayWindow
from odin_ws.resume.scan_chunks import Chunk, chunks_of
from odin_ws.resume.scan_pool import ScanPool
from odin_ws.steps import Steps

__all__ = ["ReplayContext", "ResumeTopics", "StartPosition", "StartPositionFinder", "pause"]

T = TypeVar("T")

# Wait before the log is queried: another instance may only be ahead of this one.
_AHEAD_SECONDS: Final = 1.0

# Another instance may have noticed a recreated topic before this one: sources compare topic ids
# every 5 seconds or so.
_NOTICE_SECONDS: Final = 6.0

# Random, so that many replays that wait for the log do not query it again together.
_RETRY_SECONDS: Final = (0.5, 1.5)


@attrs.frozen
class ReplayContext:
    """The objects that all replays share."""

    hub: Hub
    log_reader: LogReader
    limits: ReplayLimits
    scans: ScanPool
    stats: ReplayStats = attrs.field(factory=ReplayStats)
    window: ReplayWindow = attrs.field(factory=ReplayWindow)
    gatherer: HistoryGatherer = attrs.field(init=False)

    @gatherer.default
    def _new_gatherer(self) -> HistoryGatherer:
        return HistoryGatherer(self.hub)


@attrs.frozen
class StartPosition:
    """The patterns that become live, and their start."""

    resume_cursor: ResumeCursor
    """The positions after which partitions start."""
    since: int | None = None
    """For partitions without a position: start with the messages of this time, epoch ms."""
    live: bool = False
    """For partitions without a position: start with new messages."""
    snapshot: bool = False
    """Send also the last message of each channel that is not replayed."""
    resume_topics: ResumeTopics | None = None
    """The other fields of a `resume`; None for other commands."""
    options: SubscriptionOptions = PLAIN
    """The options of the subscriptions."""

    @property
    def is_live(self) -> bool:
        """True if the subscription begins with new messages: no replay, no snapshot."""
        return self.live and not self.snapshot


@attrs.frozen
class ResumeTopics:
    """The fields of a `resume` besides its positions."""

    topics: frozenset[str]
    """The topics in its positions, with or without partitions."""
    ids: Mapping[str, str] = attrs.field(factory=dict)
    """The client's topic ids."""


class StartPositionFinder:
    """Finds the start of a replay and the records lost before it; moves `resume_cursor` there."""

    def __init__(self, context: ReplayContext, resume_cursor: ResumeCursor) -> None:
        self.lost_spans = LostSpans()
        self._hub = context.hub
        self._stream = context.hub.stream
        self._changes = self._stream.changes
        self._log_reader = context.log_reader
        self._wait_for_turn = context.scans.wait_for_work_slice
        self._maximum = context.limits.records
        self._resume_cursor = resume_cursor
        # The topics of the initial patterns; kept because a search of a thousand patterns is slow.
        self._topics = self._stream.catalogue.topics_of(resume_cursor.patterns)
        # The log changes that this start position has followed: see `_follow`.
        self._version = 0
        self._generations: Mapping[TopicPartition, int] = {}
        self._known: AbstractSet[TopicPartition] = frozenset()
        self._recreated: set[str] = set()
        # The revision of the cursor and the partitions for which this instance has reached the
        # client: positions only advance, unless the log changes.
        self._reached: tuple[int, AbstractSet[TopicPartition]] = (-1, frozenset())
        # The hub's order at the time of a live start; None for other starts.
        self._order: int | None = None

    async def find(self, start_position: StartPosition) -> None:
        """Move the resume cursor to the start position. The caller bounds the time."""
        stream = self._stream
        await stream.history_loaded.wait()
        self._note_changes()
        topics = self._topics
        if not topics:
            # All names of the command were rejected: there is nothing to look up.
            return
        if start_position.since is not None:
            # Before the lookup: a record that arrives during it may be missing from its result.
            live = self._live(topics)
            lookup = partial(self._log_reader.positions_at, topics, start_position.since)
            # A lookup of 96 partitions takes 1.5 ms of the event loop, as long as a time slice.
            await self._wait_for_turn()
            found = await self._retry(partial(lookup, topic_ids=self._changes.ids))
            self._begin_at(found, live)
        elif start_position.live:
            self._resume_cursor.begin(self._live(topics))
            self._order = stream.order
        if start_position.resume_topics is not None:
            await self._resume(start_position.resume_topics, topics)
        else:
            self.catch_up(announced=False)
            await self.wait_until_reached()
        while not await self.apply_log_bounds():
            self.catch_up(announced=False)
            await self.wait_until_reached()

    def _begin_at(self, at: TimePositions, live: Mapping[TopicPartition, int]) -> None:
        """Start at the positions of a time; report records of unknown partitions as lost."""
        # The source may have no start offset yet for partitions that the log has.
        begins = live if self._stream.is_partial else {**at.found, **live}
        self._resume_cursor.begin({key: at.found.get(key, end) for key, end in begins.items()})
        unknown = at.failed.keys() | {key for key in live if key.topic in at.failed_topics}
        if self._stream.is_partial:
            unknown &= live.keys()
        for key in unknown:
            # Nothing is lost of a partition that had no record before its first live one.
            if live.get(key) != -1:
                self.lost_spans.add(LossReason.UNAVAILABLE, key, Span(0, live.get(key, -1)))

    def snapshot(
        self, start_position: StartPosition, beside: Callable[[ChannelMessage], bool] | None
    ) -> Steps[list[Chunk]]:
        """Return the last message of each channel that is not replayed.

        `beside`: returns whether the client gets a message anyway, or does not want it; None if
        there are none.
        """
        stream = self._stream
        until = stream.order
        last = yield from self._hub.snapshots.matching(list(self._resume_cursor.patterns), until)
        includes = self._resume_cursor.includes
        if start_position.live and until == self._order:
            # No message has arrived since, so the snapshot precedes all new messages.
            leave_out = beside
        elif beside is None:
            leave_out = includes
        else:
            leave_out = partial(_either, beside, includes)
        return (yield from chunks_of(last, leave_out))

    # ---- a client that resumes

    async def _resume(self, resume_topics: ResumeTopics, topics: Collection[str]) -> None:
        """Move the cursor to where a client that stayed connected would have continued."""
        await self._compare_ids(resume_topics.ids)
        self._note_changes()
        named = self._resume_cursor.positions()
        self._begin_unnamed(resume_topics.topics, topics)
        await self.wait_until_reached()
        self.catch_up(announced=False)
        # A topic may have been missing, and be there now with another id.
        self._begin_recreated(resume_topics.ids)
        for key, cut in self._changes.cuts(named).items():
            if key not in self.lost_spans.spans:
                self.lost_spans.add(LossReason.TRUNCATED, key, cut)

    async def _compare_ids(self, ids: Mapping[str, str]) -> None:
        """Restart recreated topics; waits up to 6 s if the client's id may be the newer one."""
        unknown = [
            topic for topic in self._others(ids) if not self._changes.had_before(topic, ids[topic])
        ]
        if unknown:
            with trio.move_on_after(_NOTICE_SECONDS):
                while not self._others(ids).isdisjoint(unknown):
                    await self._stream.wait_moved()
        self._begin_recreated(ids)

    def _others(self, ids: Mapping[str, str]) -> set[str]:
        """Return the topics whose known id differs from the client's."""
        known = self._changes.ids
        return {topic for topic, its in ids.items() if known.get(topic, its) != its}

    def _begin_recreated(self, ids: Mapping[str, str]) -> None:
        """Start recreated topics at their beginning; report the rest of the old log as lost."""
        topics = self._others(ids) - self._recreated
        if not topics:
            return
        self._recreated |= topics
        named = [key for key in self._resume_cursor.positions() if key.topic in topics]
        for key in named:
            self.lost_spans.add(LossReason.RECREATED, key, Span(0, -1))
        self._resume_cursor.forget(named)
        self._resume_cursor.begin(dict.fromkeys(self._live(topics), -1))

    def _begin_unnamed(self, named: Collection[str], topics: Collection[str]) -> None:
        """Start partitions without a position; the client named all that existed at its last ack.

        So a partition of a named topic was added later, and is read from its beginning. In a topic
        that the client did not name, new records follow and earlier ones are reported as lost. A
        group member does the same for every topic: it does not know what other members sent.
        """
        unnamed = self._stream.partitions - self._resume_cursor.positions().keys()
        begins: dict[TopicPartition, int] = {}
        for key in unnamed:
            if key.topic not in topics:
                continue
            if key.topic in named and not self._stream.is_partial:
                begins[key] = -1
                continue
            live = begins[key] = self._stream.positions[key.topic][key.partition]
            if live >= 0:
                self.lost_spans.add(LossReason.NO_POSITION, key, Span(0, live))
        self._resume_cursor.begin(begins)

    def _live(self, topics: Iterable[str]) -> dict[TopicPartition, int]:
        return {
            topic_partition(topic, partition): offset
            for topic in topics
            for partition, offset in self._stream.positions.get(topic, {}).items()
        }

    async def apply_log_bounds(self) -> bool:
        """Drop records that the log no longer has, and those over the limit.

        Returns False if the log has changed meanwhile: its bounds do not apply to the positions.
        """
        if needed := self.missing_from_history():
            bounds = await self._bounds(needed)
            if self.is_outdated:
                return False
            report_expired(self._resume_cursor, self.lost_spans, needed, bounds, self._maximum)
        return True

    async def _bounds(self, keys: Collection[TopicPartition]) -> Mapping[TopicPartition, Bounds]:
        """Return the bounds of partitions; waits until the hub has noticed recreated topics."""
        return await self._retry(
            partial(self._log_reader.bounds, keys, topic_ids=self._changes.ids)
        )

    def missing_from_history(self) -> dict[TopicPartition, Span]:
        """Return the wanted spans that the history no longer has."""
        return self._hub.history.lacks(self._resume_cursor.positions())

    @property
    def is_outdated(self) -> bool:
        """True if the log has changed; if so, call `wait_until_reached` before any read."""
        return self._version != self._changes.version

    def _note_changes(self) -> None:
        """Store the present version of the log's changes; `_follow` applies later changes."""
        self._version, self._generations = self._changes.version, self._changes.generations()
        self._known = self._stream.partitions

    def _follow(self, *, announced: bool) -> dict[TopicPartition, int]:
        """Apply the changes of the log since `_note_changes`; returns as `catch_up`."""
        changes, resume_cursor = self._changes, self._resume_cursor
        positions, moved = resume_cursor.positions(), {}
        for key, offset in positions.items():
            gap = changes.gap_since(key, self._generations.get(key, 0))
            if gap is None:
                continue
            recreated = gap.reason is GapReason.RECREATED
            if recreated:
                resume_cursor.place(key, gap.position)
            else:
                resume_cursor.cut(key, gap.position)
            moved[key] = -1 if recreated else gap.position
            if not announced and (recreated or offset > gap.position):
                self.lost_spans.add(LossReason(gap.reason), key, gap.gone)
        new = self._stream.partitions - self._known - positions.keys()
        resume_cursor.begin({key: changes.begun(key) for key in new if key.topic in self._topics})
        self._note_changes()
        return moved

    def catch_up(self, *, announced: bool) -> Mapping[TopicPartition, int]:
        """Continue in the log as it is now.

        New partitions are read from their beginning. Returns for each recreated or truncated
        partition the last offset whose record is unchanged. `announced`: the client has its ack,
        so a notice has reported the change.
        """
        return self._follow(announced=announced) if self.is_outdated else {}

    async def wait_until_reached(self) -> None:
        """Wait until this instance has reached the client, unless the log changes."""
        stream = self._stream
        revision, partitions = self._reached
        if revision == self._resume_cursor.revision and partitions is stream.partitions:
            return
        await self._wait_for_partitions()
        while not self.is_outdated and (ahead := self._ahead()):
            with trio.move_on_after(_AHEAD_SECONDS) as scope:
                # Only partitions that were ahead are compared again: positions move often.
                while ahead := self._not_reached(ahead):
                    await stream.wait_moved()
            if scope.cancelled_caught:
                keys = list(self._ahead())
                bounds = await self._bounds(keys)
                if self.is_outdated:
                    return
                cut = self._changes.cut
                report_truncated(self._resume_cursor, self.lost_spans, self._ahead(), bounds, cut)
                report_unknown_positions(
                    self._resume_cursor, self.lost_spans, self._ahead(), stream.position, bounds
                )
        if not self.is_outdated:
            self._reached = self._resume_cursor.revision, stream.partitions

    async def _wait_for_partitions(self) -> None:
        """Wait for partitions of the log that are not noticed yet; drop the others."""
        stream = self._stream
        unassigned = self._resume_cursor.positions().keys() - stream.partitions
        unknown = {key for key in unassigned if stream.position(key) is None}
        # A group member ignores partitions of other members.
        if unknown and not stream.is_partial:
            bounds = await self._bounds(unknown)
            highest = self._resume_cursor.highest()
            for key in unknown:
                # A client without records of the partition has lost nothing.
                # The client may have unsubscribed meanwhile.
                if key not in bounds and highest.get(key, -1) >= 0:
                    self.lost_spans.unknown(key, Span(0, -1))
            while any(stream.position(key) is None for key in bounds):
                await stream.wait_moved()
        gone = {key for key in unknown if stream.position(key) is None}
        self._resume_cursor.forget(gone)
        # Returning partitions are new.
        self._known = self._known - gone

    def _ahead(self) -> dict[TopicPartition, int]:
        """Return the client's positions that this instance has not reached."""
        return self._not_reached(self._resume_cursor.highest())

    def _not_reached(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        live = self._stream.positions
        return {
            key: offset
            for key, offset in positions.items()
            if offset > live.get(key.topic, {}).get(key.partition, offset)
        }

    async def _retry(self, request: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await request()
            except LogUnavailable:
                await pause()


def _either(
    first: Callable[[ChannelMessage], bool],
    second: Callable[[ChannelMessage], bool],
    message: ChannelMessage,
) -> bool:
    return first(message) or second(message)


async def pause() -> None:
    """Wait before the next request to the log."""
    await trio.sleep(random.uniform(*_RETRY_SECONDS))  # noqa: S311 -- jitter, not a secret
