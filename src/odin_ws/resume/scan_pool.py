"""The scan pool: groups waiting clients, starts scans (at most WS_REPLAY_CONSUMERS)."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from copy import copy
from typing import Final

import trio

from odin_ws.backoff import Backoff
from odin_ws.history import ResumeCursor
from odin_ws.hub import Hub
from odin_ws.log_reader import LogReader, LogUnavailable, RecordsExpired
from odin_ws.resume.log_bounds import SharedLogReader
from odin_ws.resume.replay_limits import ScanStats
from odin_ws.resume.scan import Scan
from odin_ws.resume.scan_cursor import ScanCursor, ScanEnd, WaitingGroup

__all__ = ["ScanPool"]

# Clients that a running scan has passed wait in a group until no client has joined the group for
# _QUIET_SECONDS, and for _GATHER_SECONDS at most. Then the scan goes back for them, or another one
# begins. Each running scan, and each time that one went back, multiplies both by their factors: a
# crowd that arrives over seconds needs few reads of the log.
_QUIET_SECONDS: Final = 0.05
_QUIET_FACTOR: Final = 4.0
_GATHER_SECONDS: Final = 1.0
_GATHER_FACTOR: Final = 2.0

# Limit on how often one scan goes back: its other clients wait meanwhile.
_REWINDS: Final = 3

# Seconds until the log is read again after a failure: the ceilings of the first and longest wait.
_BACKOFF_SECONDS: Final = (0.5, 8.0)

# Cursors that are attached or change their group between two yields: 50 us each.
_SLICE_CLIENTS: Final = 32


class ScanPool:
    """Attaches cursors to scans, of which at most `maximum` run at once.

    A client joins a running scan that has not passed it yet. Otherwise it waits in a group: a
    running scan goes back for the group if that costs less than another scan, or a new scan
    begins. After a failure clients wait in groups by the topics that they need, so that a topic
    that cannot be read delays only them.

    Args:
        hub: the hub, whose history the scans read up to.
        log_reader: reads the log.
        maximum: the number of scans at once.
        wait_for_chunk: a replay awaits it before it sends the next chunk.
        wait_for_work_slice: work for one client awaits it between two time slices.
    """

    def __init__(
        self,
        hub: Hub,
        log_reader: LogReader,
        maximum: int,
        wait_for_chunk: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
        wait_for_work_slice: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    ) -> None:
        self.stats = ScanStats()
        self.wait_for_chunk = wait_for_chunk
        self.wait_for_work_slice = wait_for_work_slice
        self.log_reader = SharedLogReader(log_reader)
        self._hub = hub
        self._maximum = maximum
        self._scans: list[Scan] = []
        self._groups: dict[frozenset[str], WaitingGroup] = {}
        # Topics that could not be read the last time.
        self._failing: set[str] = set()
        # The time of the last read of any scan that has ended.
        self._progressed_at: float = -math.inf
        self._changed = trio.Event()

    def open(self, resume_cursor: ResumeCursor, since: float) -> ScanCursor:
        """Return a cursor that is read up to the history; the client waits since `since`."""
        cursor = ScanCursor(resume_cursor, since)
        for scan in self._scans:
            if self._is_healthy(scan) and scan.admits(resume_cursor):
                scan.attach(cursor)
                return cursor
        topics = self._topics(cursor)
        self._wait(cursor, topics if topics & self._failing else frozenset())
        return cursor

    def close(self, cursor: ScanCursor) -> None:
        """Close a cursor that its client no longer needs."""
        if cursor.scan is not None:
            cursor.scan.leave(cursor)
        if cursor.group is not None:
            del cursor.group.cursors[cursor]
            self.stats.waiting -= 1
            self._groups = {
                topics: group for topics, group in self._groups.items() if group.cursors
            }

    def progressed_at(self, cursor: ScanCursor) -> float:
        """Return the time of the last progress for a client.

        For a client in a group that is the last read of any scan.
        """
        if cursor.group is not None and cursor.group.backoff is None:
            others = [scan.progressed_at for scan in self._scans]
            return max(cursor.progressed_at, self._progressed_at, *others)
        return cursor.progressed_at

    async def wait(self, cursor: ScanCursor, patience: float) -> bool:
        """Wait for news of a cursor; return False after `patience` seconds without progress."""
        while True:
            with trio.move_on_at(self.progressed_at(cursor) + patience):
                await cursor.wait()
                return True
            if self.progressed_at(cursor) + patience <= trio.current_time():
                return False

    async def run(self) -> None:
        """Run the log reader and the scans until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.log_reader.run)
            while True:
                group = await self._next_group()
                young = self._is_recent(group)
                if young is not None:
                    young.rewind_for(self._empty(group))
                    continue
                scan = Scan(self._hub, self.log_reader, self.stats, self._is_full)
                self._scans.append(scan)
                self.stats.started += 1
                self.stats.active += 1
                nursery.start_soon(self._run_scan, scan, group)

    # ---- groups

    def _topics(self, cursor: ScanCursor) -> frozenset[str]:
        """Return the topics that have to be read for a cursor."""
        floor = self._hub.history.floor
        return frozenset(
            key.topic
            for key, offset in cursor.resume_cursor.positions().items()
            if (end := floor(key)) is not None and offset < end
        )

    def _wait(self, cursor: ScanCursor, topics: frozenset[str]) -> None:
        now = trio.current_time()
        group = self._groups.get(topics)
        if group is None:
            group = self._groups[topics] = WaitingGroup(now, now)
            self._changed.set()
        group.add(cursor, now)
        self.stats.waiting += 1

    async def _next_group(self) -> WaitingGroup:
        """Wait for a group whose wait is over and for which a scan is free."""
        while True:
            self._changed = trio.Event()
            due = math.inf
            is_free = len(self._scans) < self._maximum
            able = [
                topics
                for topics, group in self._groups.items()
                if is_free or self._is_recent(group) is not None
            ]
            if able:
                topics = min(able, key=lambda waiting: self._due(self._groups[waiting]))
                due = self._due(self._groups[topics])
                if due <= trio.current_time():
                    return self._groups.pop(topics)
            with trio.move_on_at(due):
                await self._changed.wait()

    def _due(self, group: WaitingGroup) -> float:
        if not self._scans:
            return max(group.since, group.not_before)
        more = sum(1 + scan.rewinds for scan in self._scans) - 1
        quiet = group.joined_at + _QUIET_SECONDS * _QUIET_FACTOR**more
        latest = group.since + _GATHER_SECONDS * _GATHER_FACTOR**more
        return max(group.not_before, min(quiet, latest))

    def _is_recent(self, group: WaitingGroup) -> Scan | None:
        """Return a scan that can go back for a group that it has passed; None without one."""
        if group.backoff is not None:
            return None
        sound = (scan for scan in self._scans if self._is_healthy(scan))
        able = (scan for scan in sound if scan.rewinds < _REWINDS)
        return next((scan for scan in able if scan.can_rewind(group.lowest)), None)

    def _is_healthy(self, scan: Scan) -> bool:
        """Return whether a scan has read records, or has no topic that failed the last time."""
        if scan.reads or not self._failing:
            return True
        return self._failing.isdisjoint(key.topic for key in scan.positions)

    def _is_full(self) -> bool:
        """Return whether clients wait for the end of a scan."""
        return bool(self._groups) and len(self._scans) >= self._maximum

    # ---- scans

    async def _run_scan(self, scan: Scan, group: WaitingGroup) -> None:
        try:
            with scan.scope:
                await self._attach(scan, group)
                await scan.run()
        except RecordsExpired:
            await scan.end_all(ScanEnd.EXPIRED)
        except LogUnavailable:
            self.stats.failed += 1
            await self._retry(scan, group)
        finally:
            self._scans.remove(scan)
            self._progressed_at = max(self._progressed_at, scan.progressed_at)
            self.stats.active -= 1
            self._changed.set()
        if scan.reads:
            self._failing -= {key.topic for key in scan.positions}

    async def _attach(self, scan: Scan, group: WaitingGroup) -> None:
        for count, cursor in enumerate(self._empty(group), 1):
            if any(True for _ in cursor.resume_cursor.patterns):
                scan.attach(cursor)
            if not count % _SLICE_CLIENTS:
                await scan.yield_control()

    def _empty(self, group: WaitingGroup) -> Iterator[ScanCursor]:
        """Yield the cursors of a group, removing each."""
        while group.cursors:
            cursor, _ = group.cursors.popitem()
            # The client waited in a queue while other scans made progress.
            cursor.has_waited(self.progressed_at(cursor))
            cursor.group = None
            self.stats.waiting -= 1
            yield cursor

    async def _retry(self, scan: Scan, failed: WaitingGroup) -> None:
        """Put the cursors of a failed scan into groups by the topics that they need."""
        # A cursor that joined now would miss the failure.
        scan.close()
        has_read = bool(scan.reads)
        backoff = Backoff(*_BACKOFF_SECONDS)
        if failed.backoff is not None and not has_read:
            backoff = failed.backoff
        not_before = trio.current_time() + backoff.next()
        found: set[frozenset[str]] = set()
        for count, cursor in enumerate(scan.all_cursors, 1):
            if cursor.scan is not scan:
                continue
            scan.leave(cursor)
            topics = self._topics(cursor)
            found.add(topics)
            self._wait(cursor, topics)
            group = self._groups[topics]
            if group.backoff is None and not has_read:
                # The groups are retried, and fail, independently.
                group.backoff = copy(backoff)
            group.not_before = not_before
            cursor.wake()
            if not count % _SLICE_CLIENTS:
                await trio.lowlevel.checkpoint()
        if len(found) == 1:
            self._failing.update(*found)
