"""Scans of a log that fails for long, cursors without patterns, and clients that hold up others."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from odin_ws.history import ResumeCursor
from odin_ws.records import Assignment, HistoryEnd
from odin_ws.resume.scan_cursor import ScanCursor, ScanEnd
from tests.hub.hub_driver import dispatching
from tests.resume.test_scan_pool import KEYS, Scenario


@asynccontextmanager
async def scanning(scenario: Scenario) -> AsyncIterator[None]:
    """Run the scans of a log that is older than the history."""
    async with dispatching(scenario.hub) as feeder, trio.open_nursery() as nursery:
        await feeder.publish(Assignment(dict.fromkeys(KEYS, 39)), HistoryEnd())
        nursery.start_soon(scenario.scans.run)
        yield
        nursery.cancel_scope.cancel()


def opened(scenario: Scenario, pattern: str, start: int = -1) -> ScanCursor:
    """Open a cursor of one pattern."""
    resume_cursor = ResumeCursor({pattern: dict.fromkeys(KEYS, start)})
    return scenario.scans.open(resume_cursor, trio.current_time())


async def finish(scenario: Scenario, cursor: ScanCursor, pause: float = 0.0) -> ScanEnd | None:
    """Take everything, each chunk after a pause; returns how the scan ended."""
    while True:
        is_over = cursor.ended is not None
        while cursor.take():
            cursor.busy = True
            await trio.sleep(pause)
            cursor.busy = False
        if is_over:
            break
        await cursor.wait()
    scenario.scans.close(cursor)
    if cursor.pin is not None:
        scenario.hub.history.unpin(cursor.pin, 0.0)
    return cursor.ended


async def test_longest_wait_for_a_failing_log_is_eight_seconds(autojump_clock: MockClock) -> None:
    """It is read again soon after it is back, however long it was away."""
    scenario = Scenario(2, 1)
    async with scanning(scenario):
        cursor = opened(scenario, "*.*")
        scenario.log_reader.fail()
        await trio.sleep(600)
        before = scenario.scans.stats.failed
        await trio.sleep(600)
        assert 75 <= scenario.scans.stats.failed - before <= 250
        scenario.log_reader.recover()
        with trio.fail_after(8 + 20):
            assert await finish(scenario, cursor) is ScanEnd.REACHED


async def test_back_off_is_reset_after_records_were_read(autojump_clock: MockClock) -> None:
    """A log that fails now and then is not waited for as if it were away."""
    scenario = Scenario(2, 1)
    async with scanning(scenario):
        cursor = opened(scenario, "*.*")
        scenario.log_reader.fail()
        await trio.sleep(120)
        scenario.log_reader.recover()
        while not cursor.has_read:  # noqa: ASYNC110 -- a scan wakes a client with chunks only
            await trio.sleep(0.05)
        failed = scenario.scans.stats.failed
        scenario.log_reader.fail()
        await trio.sleep(1.5)
        assert scenario.scans.stats.failed - failed >= 2
        scenario.scans.close(cursor)


async def test_cursor_that_lost_its_patterns_while_it_waited_is_not_scanned(
    autojump_clock: MockClock,
) -> None:
    """It gets no pin, which nobody would release."""
    scenario = Scenario(2, 1)
    async with scanning(scenario):
        first = opened(scenario, "*.*", 5)
        await trio.sleep(3.5)
        second = opened(scenario, "BTC.trade")
        assert second.group is not None
        assert second.drop(["BTC.trade"])
        assert second.ended is ScanEnd.DETACHED
        assert await finish(scenario, first) is ScanEnd.REACHED
        await trio.sleep(20)
        assert (second.ended, second.pin) == (ScanEnd.DETACHED, None)
        scenario.scans.close(second)
    stats = scenario.scans.stats
    assert (stats.active, stats.clients, stats.waiting) == (0, 0, 0)


@pytest.mark.parametrize(
    ("pauses", "detached"),
    [
        # One client that stops: others wait for two seconds.
        ([60.0], True),
        ([1.9], False),
        # Each stops for less, one after the other: only their sum is too long.
        ([1.9] * 5, False),
        ([1.9] * 8, True),
    ],
)
async def test_clients_that_hold_up_a_scan_are_detached(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    *,
    pauses: list[float],
    detached: bool,
) -> None:
    """After two seconds of one client, or after ten of all; the others get everything."""
    monkeypatch.setattr("odin_ws.resume.scan_chunks.MESSAGE_BYTES", 0)
    for name, value in ("CHUNK_BYTES", 20), ("CLIENT_BYTES", 40), ("_MIN_BYTES", 40):
        monkeypatch.setattr(f"odin_ws.resume.scan.{name}", value)
    scenario = Scenario(1, 1)
    scenario.log_reader.seconds = 0.0
    others: list[float] = []

    async def follow(cursor: ScanCursor, pause: float, at: int) -> None:
        """Stop once for `pause` seconds, at chunk number `at`."""
        chunks = 0
        while True:
            is_over = cursor.ended is not None
            while cursor.take():
                chunks += 1
                cursor.busy = True
                await trio.sleep(pause if chunks == at else 0)
                cursor.busy = False
            if is_over:
                break
            await cursor.wait()
        if not pause:
            others.append(trio.current_time())
        scenario.scans.close(cursor)
        if cursor.pin is not None:
            scenario.hub.history.unpin(cursor.pin, 0.0)

    async with scanning(scenario):
        begun = trio.current_time()
        async with trio.open_nursery() as clients:
            clients.start_soon(follow, opened(scenario, "*.*"), 0.0, 0)
            for number, pause in enumerate(pauses):
                clients.start_soon(follow, opened(scenario, "*.*"), pause, 2 + 3 * number)
        assert (scenario.scans.stats.detached > 0) is detached
        assert others[0] - begun < 12.5
        assert len(pauses) > 1 or others[0] - begun < 3
