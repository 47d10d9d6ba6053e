"""The replay of one client: from its position through the log and the history to live.

The work is done in time slices. Between the last message of the history and the entry in the
subscription index there is no await, so no message can be missed or doubled.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import trio

from odin_ws.hub import LiveFrom
from odin_ws.protocol.responses import Lost, Replayed
from odin_ws.records import TopicPartition
from odin_ws.resume.delivered import Delivered
from odin_ws.resume.gaps import LostSpans
from odin_ws.resume.held_messages import HeldMessages
from odin_ws.resume.replay_limits import RECOVERED
from odin_ws.resume.replay_sender import ReplaySender
from odin_ws.resume.replay_state import (
    ReplayClient,
    ReplayState,
    ReplayUnavailable,
)
from odin_ws.resume.responses import ReplayResponses
from odin_ws.resume.scan_chunks import Chunk, chunks_of
from odin_ws.resume.scan_cursor import ScanCursor, ScanEnd
from odin_ws.resume.start_position import ReplayContext, StartPosition, StartPositionFinder, pause
from odin_ws.time_slice import TimeSlice

__all__ = ["Replay"]

# Seconds for which a client waits for its answer while the log makes no progress.
_PATIENCE_SECONDS: Final = 30.0

# Bytes of the log's messages that are held before the first is sent, to count them.
_HELD_BYTES: Final = 1 << 20

# A client goes live if the history has at most this many messages, of all channels, after those
# that it was sent. Each time there are more, the limit is doubled.
_NEWER: Final = 256


class Replay:
    """Sends a client the messages that its resume cursor wants, then makes its patterns live."""

    def __init__(
        self,
        context: ReplayContext,
        client: ReplayClient,
        start_position: StartPosition,
        responses: ReplayResponses,
    ) -> None:
        self._context = context
        self._hub = context.hub
        self._client = client
        self._where = start_position.options.where
        self._delivered = Delivered(context.hub, client.subscriber, self._where)
        self._begins: Mapping[str, LiveFrom] = {}
        self._resume_cursor = start_position.resume_cursor
        self._start_position = start_position
        self._responses = responses
        self._finder = StartPositionFinder(context, start_position.resume_cursor)
        self._slice = TimeSlice(context.scans.wait_for_work_slice)
        # The place in the hub's order up to which all wanted messages of the history are held.
        self._gathered: int | None = None
        self._most_newer = _NEWER
        # True if the client may not have received what it was sent last.
        self._has_unread = True
        # True if the client has unsubscribed from patterns of held messages.
        self._dropped = False
        self._patience = trio.CancelScope()
        self._progressed_at = trio.current_time()
        self._held = HeldMessages()
        self._cursor: ScanCursor | None = None
        self._has_read = False
        self._first: Mapping[TopicPartition, int] = {}
        self._state = ReplayState.STARTING
        # Bytes of the log's messages before the filter.
        self._read_bytes = 0
        self._sender = ReplaySender(context.hub, client, context.stats, context.window)

    @property
    def patterns(self) -> Iterable[str]:
        """The patterns that become live at the end."""
        return self._resume_cursor.patterns

    def drop(self, patterns: Iterable[str]) -> bool:
        """Remove patterns; return whether any of them was part of the replay."""
        names = list(patterns)
        self._delivered.end(names)
        dropped = (
            self._resume_cursor.drop(names) if self._cursor is None else self._cursor.drop(names)
        )
        # Held messages are filtered before they are counted or sent.
        self._dropped |= dropped
        return dropped

    async def run(self) -> None:
        """Replay until the client is live.

        Raises ReplayUnavailable if Kafka does not respond before the replay has begun.
        """
        stats = self._context.stats
        stats.active += 1
        try:
            await self._run()
        except ReplayUnavailable:
            stats.unavailable += 1
            raise
        finally:
            stats.active -= 1
            self._sender.end_of_replay()
            if not stats.active:
                self._hub.forget_replayed()
                self._context.gatherer.forget()
        assert self._state is ReplayState.LIVE, self._state
        self._responses.ended(self._sender.count)

    async def _run(self) -> None:
        # The deadline holds until the replay has begun; then only a slow client delays it.
        self._progressed_at = trio.current_time()
        with trio.move_on_at(self._progressed_at + _PATIENCE_SECONDS) as self._patience:
            await self._finder.find(self._start_position)
            if self._start_position.snapshot:
                self._held.extend(
                    await self._slice.run(
                        self._finder.snapshot(self._start_position, self._delivered.leave_out)
                    )
                )
            self._first = self._resume_cursor.positions()
            self._catch_up()
            self._begins = await self._slice.run(self._delivered.begin(self._resume_cursor))
            await self._deliver()
        if self._patience.cancelled_caught:
            if not self._is_answered:
                self._give_up_counting()
            await self._deliver()

    def _enter(self, state: ReplayState) -> None:
        """Advance to the next state."""
        assert state == self._state + 1, f"{state.name} after {self._state.name}"
        self._state = state

    @property
    def _is_answered(self) -> bool:
        return self._state is not ReplayState.STARTING

    def _give_up_counting(self) -> None:
        """Begin without a count. Raises ReplayUnavailable if nothing was read yet."""
        if not self._has_read:
            raise ReplayUnavailable
        self._begin(None)

    async def _deliver(self) -> None:
        while True:
            # In each round: a topic may be recreated during the replay.
            self._catch_up()
            await self._finder.wait_until_reached()
            if self._is_answered:
                await self._send_losses()
            if self._finder.is_outdated:
                continue
            if self._finder.missing_from_history():
                self._gathered = None
                await self._read_log()
            elif not self._is_answered:
                await self._count_and_begin()
            elif self._held:
                await self._send_held()
            elif self._gathered is None and self._has_unread:
                # In a crowd this wait takes seconds. The history is gathered after it, so that few
                # messages come between the gathering and going live.
                await self._drained()
            elif self._gathered is None:
                await self._gather()
            elif self._go_live(self._gathered):
                return

    def _catch_up(self) -> None:
        """Apply changes of the log: recreated, truncated, new partitions. No cursor is open."""
        if moved := self._finder.catch_up(announced=self._is_answered):
            self._forget(moved)
            self._gathered = None
        positions = self._resume_cursor.positions()
        if not self._is_answered and not positions.keys() <= self._first.keys():
            # Partitions were added.
            self._first = {**positions, **self._first}

    def _forget(self, moved: Mapping[TopicPartition, int]) -> None:
        """Remove held messages after these offsets, which the log has lost."""
        self._held.remove_beyond(moved)
        if not self._is_answered:
            positions = self._resume_cursor.positions()
            self._first = {**self._first, **{key: positions[key] for key in moved}}
        self._sender.end.cut(moved)

    async def _send_losses(self) -> None:
        """Report losses before any later message: a client that disconnects must know of them."""
        if self._finder.lost_spans.spans:
            await self._send_held()
            lost = None if self._held else self._lost()
            if lost is not None:
                self._responses.lost(self._sender.count, lost)

    def _begin(self, count: int | None) -> None:
        if self._cursor is None:
            self._catch_up()
        self._enter(ReplayState.SENDING)
        self._patience.deadline = math.inf
        if count is None:
            self._look_ahead()
        reason = self._finder.lost_spans.reason
        self._context.stats.results[RECOVERED if reason is None else reason] += 1
        self._responses.begun(Replayed(count, self._lost()), self._first)

    def _look_ahead(self) -> None:
        """Set the end of the replay to the present position; later messages are live."""
        self._gathered = None
        self._sender.end.move(self._hub.stream)

    def _lost(self) -> Lost | None:
        """Return the records lost since the last report."""
        lost_spans, self._finder.lost_spans = self._finder.lost_spans, LostSpans()
        reason = lost_spans.reason
        return None if reason is None else Lost(lost_spans.by_topic(), reason)

    async def _read_log(self) -> None:
        """Let a scan read the records that the history lacks; a failed scan loses none of them."""
        scans = self._context.scans
        needed = self._finder.missing_from_history()
        cursor = self._cursor = scans.open(self._resume_cursor, self._progressed_at)
        # From here on the deadline moves with the progress of the scan.
        self._patience.deadline = math.inf
        try:
            # If the log has changed, `wait_until_reached` runs before the next read.
            while cursor.ended is None and not self._finder.is_outdated:
                await self._follow(cursor)
        finally:
            self._cursor = None
            scans.close(cursor)
            self._sender.pin(cursor.pin)
        self._has_read |= cursor.has_read
        # Many replays may reach the history together. Each begins a time slice at its turn: the old
        # slices have expired during the scan.
        waited_since = trio.current_time()
        await scans.wait_for_chunk()
        self._slice.begin()
        # The wait for a turn is queueing, not a lack of progress.
        self._progressed_at = cursor.progressed_at + trio.current_time() - waited_since
        while (chunk := cursor.take()) is not None:
            await self._hold_of_log(chunk)
            if self._slice.expired:
                await self._slice.yield_control()
        if not self._is_answered:
            self._patience.deadline = self._progressed_at + _PATIENCE_SECONDS
            if self._held.size > _HELD_BYTES:
                self._begin(None)
        if cursor.ended is ScanEnd.EXPIRED:
            await self._finder.apply_log_bounds()
            if self._finder.missing_from_history() == needed:
                # The log reader sees another log than the source, which will notice.
                await pause()

    async def _follow(self, cursor: ScanCursor) -> None:
        """Take what a scan has read and send it, or wait for the scan to read more."""
        if self._is_answered:
            await self._send_held()
        chunk = cursor.take()
        if chunk is not None:
            await self._hold_of_log(chunk)
            # A filter may hold few of the messages that were read.
            if not self._is_answered and max(self._held.size, self._read_bytes) > cursor.limit:
                self._begin(None)
        elif self._is_answered:
            await cursor.wait()
        elif not await self._context.scans.wait(cursor, _PATIENCE_SECONDS):
            self._has_read |= cursor.has_read
            if not self._finder.is_outdated:
                self._give_up_counting()
                cursor.flush()

    async def _hold_of_log(self, chunk: Chunk) -> None:
        """Hold a chunk without the messages that live subscriptions deliver, or a filter omits."""
        chunks: Sequence[Chunk] = [chunk]
        if self._where is not None:
            self._read_bytes += chunk.size
            # In steps: a filter takes longer than all other work on a message.
            chunks = await self._slice.run(chunks_of(chunk.messages, self._delivered.leave_out))
        elif self._delivered:
            chunks = [chunk.filtered(lambda message: not self._delivered.has(message))]
        self._context.stats.from_log += self._held.extend(chunks)

    # ---- history

    async def _count_and_begin(self) -> None:
        """Begin with the number of messages, unless the history moves on during the count."""
        self._look_ahead()
        until = self._sender.end.order
        if self._held.size < _HELD_BYTES and not await self._gather(until):
            return
        count = 0
        if self._gathered is None:
            # With live subscriptions or a filter the count would have to check each message.
            if self._delivered.leave_out is not None:
                self._begin(None)
                return
            count = await self._slice.run(self._hub.history.count(self._resume_cursor, until))
        await self._drop_held()
        if not self._has_moved_on():
            self._begin(count + self._held.count)

    def _has_moved_on(self) -> bool:
        """Return whether the log has changed or the history has moved on since the last look."""
        return self._finder.is_outdated or bool(self._finder.missing_from_history())

    async def _gather(self, until: int | None = None) -> bool:
        """Hold the next messages of the history, up to a place in its order or all.

        Returns False if the history moves on meanwhile.
        """
        until = self._hub.stream.order if until is None else until
        found = await self._context.gatherer.gather(
            self._resume_cursor, until, self._delivered.leave_out, self._slice, self._has_moved_on
        )
        if found is None:
            return False
        for key, last in found.lasts.items():
            self._resume_cursor.advance(key, last)
        self._context.stats.from_history += self._held.extend(found.chunks)
        self._gathered = until if found.is_whole else None
        return True

    async def _drop_held(self) -> None:
        """Remove held messages of patterns that the client has unsubscribed from."""
        while self._dropped:
            self._dropped = False
            await self._slice.run(self._held.keep_patterns(set(self._resume_cursor.patterns)))

    async def _send_held(self) -> None:
        while self._held:
            if self._has_unread:
                await self._drained()
            if self._finder.is_outdated:
                return
            if self._dropped:
                await self._drop_held()
            elif self._held:
                self._sender.send_chunk(self._held.take())
                self._has_unread = True

    async def _drained(self) -> None:
        """Wait until the client has received what it was sent, then for a turn and room to send."""
        cursor = self._cursor
        if cursor is not None:
            cursor.busy = True
        try:
            await self._sender.drained()
        finally:
            if cursor is not None:
                cursor.busy = False
        # Not a turn for work: a shared chunk takes a part of a time slice, and a crowd that waits
        # for a whole slice per chunk falls behind the history and needs another scan.
        await self._context.scans.wait_for_chunk()
        # After the turn: room that is reserved during the wait would block other replays.
        await self._sender.wait_for_room()
        self._slice.begin()
        self._has_unread = False

    def _go_live(self, gathered: int) -> bool:
        """Send the messages since `gathered`, and go live; return False if they are too many."""
        newer = self._hub.history.newer(gathered, self._most_newer)
        if newer is None:
            self._gathered = None
            self._most_newer *= 2
            return False
        chunk = [message for message in newer if self._resume_cursor.includes(message)]
        leave_out = self._delivered.leave_out
        if leave_out is not None:
            chunk = [message for message in chunk if not leave_out(message)]
        self._context.stats.from_history += len(chunk)
        # Messages that other subscriptions hold back are older than this chunk.
        self._hub.settle(self._client.subscriber)
        self._sender.send(chunk)
        self._hub.subscribe(
            self._client.subscriber,
            list(self._resume_cursor.patterns),
            self._begins,
            self._start_position.options,
        )
        self._enter(ReplayState.LIVE)
        return True
