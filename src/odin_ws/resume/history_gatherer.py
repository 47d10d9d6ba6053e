"""Gathers messages of the history, once for all clients that continue from the same positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import attrs

from odin_ws.history import ResumeCursor
from odin_ws.hub import Hub
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import TopicPartition
from odin_ws.resume.scan_chunks import Chunk, chunks_of
from odin_ws.time_slice import TimeSlice

__all__ = ["GatheredChunks", "HistoryGatherer"]

# Bytes of the history that are held at most: a slow client keeps as much memory in use.
_GATHERED_BYTES: Final = 256 << 10

# Results that are kept: of the clients that an instance has lost, most continue from the same
# positions, but with their own channels. 64 x 256 KiB are messages that the history has too.
_MAX_KNOWN: Final = 64

# The patterns and the positions of a cursor.
_Key = tuple[frozenset[str], frozenset[tuple[TopicPartition, int]]]


@attrs.frozen
class GatheredChunks:
    """The next messages of the history that a client wants."""

    chunks: Sequence[Chunk]
    lasts: Mapping[TopicPartition, int]
    """By partition the offset of its last gathered message."""
    is_whole: bool
    """True if the history has no further wanted messages."""


class HistoryGatherer:
    """Gathers from the hub's history for all replays.

    When an instance is lost, thousands of clients return with the same positions. Without
    subscriptions or filters of their own, those with the same patterns get the same chunks, and so
    the same encoded frames. Results are kept until the next record or change of the log.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._known: dict[_Key, GatheredChunks] = {}
        # The place in the hub's order, the version of the log's changes and the partitions for
        # which the results hold.
        self._state: tuple[int, int, AbstractSet[TopicPartition]] = (-1, -1, frozenset())

    async def gather(
        self,
        resume_cursor: ResumeCursor,
        until: int,
        leave_out: Callable[[ChannelMessage], bool] | None,
        time_slice: TimeSlice,
        has_moved_on: Callable[[], bool],
    ) -> GatheredChunks | None:
        """Return the next wanted messages up to a place in the hub's order.

        `leave_out`: returns whether the client does not get a message; None if it gets all.
        `has_moved_on`: returns whether the history has dropped wanted messages or the log has
        changed; if so, the result is None.
        """
        key = self._key(resume_cursor, until) if leave_out is None else None
        if key is not None and (known := self._known.get(key)) is not None:
            return None if has_moved_on() else known
        revision = resume_cursor.revision
        found = await time_slice.run(
            self._hub.history.gather(resume_cursor, until, _GATHERED_BYTES)
        )
        chunks = await time_slice.run(chunks_of(found.messages, leave_out))
        if has_moved_on():
            return None
        gathered = GatheredChunks(chunks, found.lasts, found.is_whole)
        # The client may have unsubscribed meanwhile.
        if key is not None and resume_cursor.revision == revision and self._holds(until):
            if len(self._known) >= _MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[key] = gathered
        return gathered

    def forget(self) -> None:
        """Drop all results, because no replay runs."""
        self._known.clear()

    def _key(self, resume_cursor: ResumeCursor, until: int) -> _Key | None:
        """Return the key of a cursor's result; None if its patterns have separate positions."""
        if not resume_cursor.is_uniform:
            return None
        if not self._holds(until):
            self._known.clear()
            stream = self._hub.stream
            self._state = until, stream.changes.version, stream.partitions
        return frozenset(resume_cursor.patterns), frozenset(resume_cursor.positions().items())

    def _holds(self, until: int) -> bool:
        """Return whether the results hold for messages up to this place."""
        stream = self._hub.stream
        order, version, partitions = self._state
        return (order, version) == (until, stream.changes.version) and (
            partitions is stream.partitions
        )
