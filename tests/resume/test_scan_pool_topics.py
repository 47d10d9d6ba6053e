"""Scans of several topics of which one cannot be read: its clients delay no others."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio
from trio.testing import MockClock

from odin_ws.history import ResumeCursor
from odin_ws.records import Assignment, HistoryEnd, TopicPartition
from odin_ws.resume.scan_cursor import ScanCursor, ScanEnd
from odin_ws.resume.scan_pool import ScanPool
from odin_ws.testing.memory_log import MemoryLog
from odin_ws.testing.memory_log_reader import MemoryLogReader
from tests.hub.hub_driver import dispatching, make_hub

TRADES, SOCIAL = TopicPartition("odin.trades", 0), TopicPartition("odin.social", 0)
RECORDS: Final = 20

# A scan reads a topic in 1.15 seconds, up to 1.25 beside a read that fails. If it fails first, it
# begins again after a quarter at least.
READ_SECONDS: Final = 1.3
RETRIED_SECONDS: Final = 2.5


@attrs.frozen
class Pool:
    """A pool of scans over two topics, both older than the history."""

    scans: ScanPool
    log_reader: MemoryLogReader

    def open(self, *keys: TopicPartition) -> ScanCursor:
        """Open a cursor that needs these topics from their beginnings."""
        resume_cursor = ResumeCursor({"*.*": dict.fromkeys(keys, -1)})
        return self.scans.open(resume_cursor, trio.current_time())

    async def seconds_to_the_end(self, cursor: ScanCursor) -> float:
        """Take everything; returns how long the history was not reached."""
        begun = trio.current_time()
        while cursor.ended is None:
            while cursor.take():
                pass
            await cursor.wait()
        assert cursor.ended is ScanEnd.REACHED
        self.scans.close(cursor)
        return trio.current_time() - begun


@asynccontextmanager
async def pooling(maximum: int = 2) -> AsyncIterator[Pool]:
    """Run a pool of at most `maximum` scans."""
    log = MemoryLog([TRADES.topic, SOCIAL.topic], 1)
    for _ in range(RECORDS):
        for key in TRADES, SOCIAL:
            log.append(key.topic, b"BTC", b"{}", partition=0)
    hub = make_hub(retention_bytes=0)
    log_reader = MemoryLogReader(log, 2, seconds=0.1)
    scans = ScanPool(hub, log_reader, maximum)
    async with dispatching(hub) as feeder, trio.open_nursery() as nursery:
        last = dict.fromkeys((TRADES, SOCIAL), RECORDS - 1)
        await feeder.publish(Assignment(last), HistoryEnd())
        nursery.start_soon(scans.run)
        yield Pool(scans, log_reader)
        nursery.cancel_scope.cancel()


async def test_client_of_a_failing_topic_does_not_wait_with_others(
    autojump_clock: MockClock,
) -> None:
    """Once the topic is known to fail, a scan for others does not include it."""
    async with pooling() as pool:
        pool.log_reader.fail(topics=[TRADES.topic])
        first = pool.open(TRADES)
        await trio.sleep(60)
        # They come at the same moment, while the first one is backing off.
        waiting = [pool.open(TRADES), pool.open(TRADES, SOCIAL)]
        other = pool.open(SOCIAL)
        assert await pool.seconds_to_the_end(other) < READ_SECONDS
        for cursor in first, *waiting:
            assert cursor.ended is None
        pool.log_reader.recover()
        for cursor in first, *waiting:
            await pool.seconds_to_the_end(cursor)


async def test_topics_that_fail_together_are_retried_separately(autojump_clock: MockClock) -> None:
    """A scan of both fails; the one that can be read is read soon."""
    async with pooling() as pool:
        pool.log_reader.fail(topics=[TRADES.topic])
        bad, good = pool.open(TRADES), pool.open(SOCIAL)
        assert await pool.seconds_to_the_end(good) < RETRIED_SECONDS
        assert bad.ended is None
        pool.scans.close(bad)


async def test_progress_of_other_scans_counts_for_clients_in_the_queue(
    autojump_clock: MockClock,
) -> None:
    """A client that waits for a scan is patient while any is read; one that backs off is not."""
    async with pooling(maximum=1) as pool:
        first = pool.open(SOCIAL)
        await trio.sleep(0.55)
        # The running scan does not read its topic.
        second = pool.open(TRADES)
        assert second.group is not None
        await trio.sleep(0.3)
        assert pool.scans.progressed_at(second) > trio.current_time() - 0.2
        pool.log_reader.fail(topics=[TRADES.topic])
        await pool.seconds_to_the_end(first)
        failing_since = trio.current_time()
        for _ in range(5):
            await pool.seconds_to_the_end(pool.open(SOCIAL))
        assert second.ended is None
        assert pool.scans.progressed_at(second) < failing_since + 1
        pool.log_reader.recover()
        await pool.seconds_to_the_end(second)
