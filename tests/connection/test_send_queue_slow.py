"""The send queue says when a subscriber is too slow, and when it has taken everything."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.send_queues import CLOSE, GRACE, LIMIT, Sender, frame, numbers
from tests.wire_decoder import frames


async def test_failing_12_a_write_over_the_limit_makes_slow_once(
    autojump_clock: MockClock,
) -> None:
    """A subscriber with too much waiting is told by a close, not by missing messages."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=0)
        sender.send_queue.write(frame(0, LIMIT))
        assert sender.send_queue.backlog > LIMIT
        for number in range(1, 4):
            sender.send_queue.write(frame(number))
        assert len(sender.slow_at) == 1
        sender.transport.make_room(1000)
    assert [payload for _, payload in frames(bytes(sender.transport.sent))][1:] == [(1008, "slow")]


async def test_at_the_limit_a_subscriber_is_not_slow_yet(autojump_clock: MockClock) -> None:
    """Only what passes the limit does."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=0)
        sender.send_queue.write(b"x" * LIMIT)
        sender.send_queue.write(b"y")
        assert not sender.slow_at
        sender.send_queue.write(b"z")
        assert sender.slow_at
        sender.transport.make_room(1000)


async def test_one_large_write_alone_makes_nobody_slow(autojump_clock: MockClock) -> None:
    """A burst larger than the limit is the server's doing; a subscriber that reads it may stay."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=0)
        sender.send_queue.write(frame(0, 50 * LIMIT))
        await trio.sleep(GRACE / 2)
        sender.transport.make_room(100 * LIMIT)
        await wait_all_tasks_blocked()
        sender.send_queue.write(frame(1))
        assert not sender.slow_at
    assert numbers(sender.transport.sent) == [0, 1]


async def test_who_takes_nothing_for_the_grace_is_slow(autojump_clock: MockClock) -> None:
    """A subscriber far below the limit is slow when its oldest byte has waited for too long."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=0)
        await trio.sleep(1)
        sender.send_queue.write(frame(0))
        await trio.sleep(GRACE - 1)
        sender.send_queue.write(frame(1))
        await trio.sleep(5)
        assert sender.slow_at == [1 + GRACE]
        sender.transport.make_room(1000)


async def test_who_keeps_up_with_what_is_old_is_not_slow(autojump_clock: MockClock) -> None:
    """It is the age of the oldest waiting write that counts, not how long something waits."""
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


async def test_who_takes_all_but_the_newest_byte_is_not_slow(autojump_clock: MockClock) -> None:
    """The rest of writes that were offered together is as old as the write it belongs to."""
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
async def test_the_grace_can_change_while_something_waits(
    autojump_clock: MockClock, changes: list[tuple[float, float]], slow_at: float | None
) -> None:
    """It holds from then on, also for what waits already; at each time it is another one."""
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


async def test_by_progress_the_grace_begins_anew_with_each_byte(
    autojump_clock: MockClock,
) -> None:
    """Who takes something is not slow, however old what waits is; who takes nothing at all is."""
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


async def test_who_takes_its_time_after_the_end_is_not_slow(autojump_clock: MockClock) -> None:
    """Also where the send queue was waiting for it already: the close has a deadline of its own."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=0)
        sender.send_queue.write(frame(0))
        await wait_all_tasks_blocked()
        sender.send_queue.finish(CLOSE, flush=True)
        await trio.sleep(2 * GRACE)
        assert not sender.slow_at
        sender.transport.make_room(1000)


# ---- idle: whoever waits until the peer has taken all is told


async def test_it_is_idle_once_nothing_waits_any_more(autojump_clock: MockClock) -> None:
    """Once for each time that something did; what the kernel takes at once is no event."""
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


async def test_a_broken_one_is_idle_too(autojump_clock: MockClock) -> None:
    """Nobody waits for a peer that has gone."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=5)
        sender.send_queue.write(frame(0))
        sender.transport.break_off()
        await wait_all_tasks_blocked()
        assert (sender.send_queue.empty, sender.idle) == (True, 1)
