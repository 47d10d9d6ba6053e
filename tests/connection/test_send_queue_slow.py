"""The send queue reports when a subscriber is too slow, and when it is empty."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.send_queues import CLOSE, GRACE, LIMIT, Sender, frame, numbers
from tests.wire_decoder import frames


async def test_failing_12_a_write_over_the_limit_reports_slow_once(
    autojump_clock: MockClock,
) -> None:
    """A slow subscriber is closed; no message is dropped silently."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=0)
        sender.send_queue.write(frame(0, LIMIT))
        assert sender.send_queue.backlog > LIMIT
        for number in range(1, 4):
            sender.send_queue.write(frame(number))
        assert len(sender.slow_at) == 1
        sender.transport.make_room(1000)
    assert [payload for _, payload in frames(bytes(sender.transport.sent))][1:] == [(1008, "slow")]


async def test_backlog_of_exactly_the_limit_is_not_slow(autojump_clock: MockClock) -> None:
    """The limit is inclusive."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=0)
        sender.send_queue.write(b"x" * LIMIT)
        sender.send_queue.write(b"y")
        assert not sender.slow_at
        sender.send_queue.write(b"z")
        assert sender.slow_at
        sender.transport.make_room(1000)


async def test_single_large_write_is_not_slow(autojump_clock: MockClock) -> None:
    """A subscriber that reads a burst over the limit stays."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=0)
        sender.send_queue.write(frame(0, 50 * LIMIT))
        await trio.sleep(GRACE / 2)
        sender.transport.make_room(100 * LIMIT)
        await wait_all_tasks_blocked()
        sender.send_queue.write(frame(1))
        assert not sender.slow_at
    assert numbers(sender.transport.sent) == [0, 1]


async def test_oldest_byte_older_than_the_grace_is_slow(autojump_clock: MockClock) -> None:
    """Also with a backlog far below the limit."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=0)
        await trio.sleep(1)
        sender.send_queue.write(frame(0))
        await trio.sleep(GRACE - 1)
        sender.send_queue.write(frame(1))
        await trio.sleep(5)
        assert sender.slow_at == [1 + GRACE]
        sender.transport.make_room(1000)


async def test_old_backlog_with_young_bytes_is_not_slow(autojump_clock: MockClock) -> None:
    """The age of the oldest waiting write counts."""
    size = len(frame(0))
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=0)
        for number in range(20):
            sender.send_queue.write(frame(number))
            await trio.sleep(GRACE / 4)
            if number:
                sender.transport.make_room(size)
        await wait_all_tasks_blocked()
        assert sender.send_queue.backlog == size
        assert not sender.slow_at
        sender.transport.make_room(size)
    assert numbers(sender.transport.sent) == list(range(20))


async def test_rest_of_joined_writes_has_the_age_of_its_own_write(
    autojump_clock: MockClock,
) -> None:
    """Not the age of the first of them."""
    size = len(frame(0))
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=0)
        sender.send_queue.write(frame(0))
        await trio.sleep(GRACE * 0.9)
        sender.send_queue.write(frame(1))
        sender.transport.make_room(2 * size - 1)
        await trio.sleep(GRACE * 0.5)
        assert not sender.slow_at
        await trio.sleep(GRACE)
        assert sender.slow_at == [GRACE * 1.9]
        sender.transport.make_room(1000)


@pytest.mark.parametrize(
    ("changes", "slow_at"),
    [
        ([(5, GRACE * 3)], GRACE * 3),
        ([(5, math.inf)], None),
        ([(5, math.inf), (15, GRACE)], 15),
        ([(5, math.inf), (15, GRACE * 2)], GRACE * 2),
        ([(0, 7)], 7),
        ([(8, 7)], 8),
    ],
    ids=str,
)
async def test_changed_grace_applies_to_waiting_writes(
    autojump_clock: MockClock, changes: list[tuple[float, float]], slow_at: float | None
) -> None:
    """The check reads the grace each time."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=0)
        sender.send_queue.write(frame(0))
        await wait_all_tasks_blocked()
        for at, grace in changes:
            await trio.sleep_until(at)
            sender.send_queue.check_slow(grace)
        await trio.sleep(10 * GRACE)
        assert sender.slow_at == ([] if slow_at is None else [slow_at])
        sender.transport.make_room(1000)


async def test_progress_restarts_the_grace(
    autojump_clock: MockClock,
) -> None:
    """With the grace by progress, only a client that reads nothing is slow."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=0)
        sender.send_queue.check_slow(GRACE, by_progress=True)
        sender.send_queue.write(frame(0, 90))
        for _ in range(10):
            await trio.sleep(GRACE - 1)
            sender.transport.make_room(1)
        assert not sender.slow_at
        last = trio.current_time()
        await trio.sleep(2 * GRACE)
        assert sender.slow_at == [last + GRACE]
        sender.transport.make_room(1000)


async def test_backlog_after_the_end_is_not_slow(autojump_clock: MockClock) -> None:
    """The close has its own timeout."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=0)
        sender.send_queue.write(frame(0))
        await wait_all_tasks_blocked()
        sender.send_queue.finish(CLOSE, flush=True)
        await trio.sleep(2 * GRACE)
        assert not sender.slow_at
        sender.transport.make_room(1000)


# ---- idle: whoever waits until the peer has taken all is told


async def test_idle_event_follows_each_emptied_backlog(autojump_clock: MockClock) -> None:
    """A write that the kernel accepts at once causes no event."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=5)
        assert sender.send_queue.empty
        for number in range(3):
            sender.send_queue.write(frame(number))
        sender.transport.make_room(len(frame(0)))
        await wait_all_tasks_blocked()
        assert (sender.send_queue.empty, sender.idle) == (False, 0)
        sender.transport.make_room(1000)
        await wait_all_tasks_blocked()
        assert (sender.send_queue.empty, sender.idle) == (True, 1)
        sender.send_queue.write(frame(3))
        assert (sender.send_queue.empty, sender.idle) == (True, 1)


async def test_broken_queue_is_idle(autojump_clock: MockClock) -> None:
    """No task waits for an ended peer."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=5)
        sender.send_queue.write(frame(0))
        sender.transport.break_off()
        await wait_all_tasks_blocked()
        assert (sender.send_queue.empty, sender.idle) == (True, 1)
