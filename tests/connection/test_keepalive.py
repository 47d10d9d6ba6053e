"""The keepalive pings each connection once an interval, and closes silent ones."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.connection.keepalive import Keepalive

INTERVAL = 30.0
TIMEOUT = 75.0


class FakeConnection:
    """Notes when it is pinged and closed; answers a ping where it is told to."""

    def __init__(self, *, responses: bool = True) -> None:
        self.last_received_at = trio.current_time()
        self.pinged_at: list[float] = []
        self.closed: list[tuple[float, DisconnectReason]] = []
        self.responses = responses
        self.when_pinged: Callable[[], None] = lambda: None

    def ping(self) -> None:
        """Answer at once."""
        self.pinged_at.append(trio.current_time())
        if self.responses:
            self.last_received_at = trio.current_time()
        self.when_pinged()

    def close(self, reason: DisconnectReason) -> None:
        """Begin to close."""
        self.closed.append((trio.current_time(), reason))


async def let_pass(keepalive: Keepalive, seconds: float) -> None:
    """Let the keepalive run for so long, and a moment more: ticks are sums of fractions."""
    with trio.move_on_after(seconds + 0.001):
        await keepalive.run()


@pytest.mark.parametrize("count", [1, 119, 120, 121, 1000])
async def test_each_connection_is_pinged_once_an_interval(
    autojump_clock: MockClock, count: int
) -> None:
    """For any number of connections."""
    keepalive = Keepalive(INTERVAL, TIMEOUT)
    connections = [FakeConnection() for _ in range(count)]
    with ExitStack() as watched:
        for connection in connections:
            watched.enter_context(keepalive.watch(connection))
        await let_pass(keepalive, 3 * INTERVAL)
    for connection in connections:
        assert len(connection.pinged_at) == 3
        first, second, third = connection.pinged_at
        assert second - first == pytest.approx(INTERVAL)
        assert third - second == pytest.approx(INTERVAL)


async def test_pings_are_spread_over_the_interval(autojump_clock: MockClock) -> None:
    """Simultaneous pings would be a burst of writes and answers."""
    keepalive = Keepalive(INTERVAL, TIMEOUT)
    connections = [FakeConnection() for _ in range(1000)]
    with ExitStack() as watched:
        for connection in connections:
            watched.enter_context(keepalive.watch(connection))
        await let_pass(keepalive, INTERVAL)
    at_once = Counter(at for connection in connections for at in connection.pinged_at)
    assert max(at_once.values()) == math.ceil(1000 / len(at_once))
    assert len(at_once) >= 100


async def test_failing_14_client_that_answers_pings_stays_connected(
    autojump_clock: MockClock,
) -> None:
    """A subscriber that only reads is not closed."""
    keepalive = Keepalive(INTERVAL, TIMEOUT)
    connection = FakeConnection()
    with keepalive.watch(connection):
        await let_pass(keepalive, 20 * INTERVAL)
    assert connection.closed == []


async def test_failing_14_any_received_byte_extends_the_timeout(autojump_clock: MockClock) -> None:
    """A client that sends anything in time stays, without pongs."""
    keepalive = Keepalive(INTERVAL, TIMEOUT)
    connection = FakeConnection(responses=False)

    async def talk() -> None:
        while True:
            await trio.sleep(TIMEOUT - INTERVAL / 2)
            connection.last_received_at = trio.current_time()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk)
        with keepalive.watch(connection):
            await let_pass(keepalive, 4 * TIMEOUT)
        nursery.cancel_scope.cancel()
    assert connection.closed == []
    assert len(connection.pinged_at) == 4 * TIMEOUT / INTERVAL


async def test_silent_client_is_closed_after_the_timeout(autojump_clock: MockClock) -> None:
    """Not earlier, and within one round after it."""
    keepalive = Keepalive(INTERVAL, TIMEOUT)
    silent, lively = FakeConnection(responses=False), FakeConnection()
    with keepalive.watch(silent), keepalive.watch(lively):
        await let_pass(keepalive, TIMEOUT - 0.002)
        assert silent.closed == []
        with trio.move_on_after(INTERVAL):
            await keepalive.run()
    ((at, reason),) = silent.closed
    assert TIMEOUT < at <= TIMEOUT + INTERVAL
    assert reason is DisconnectReason.NO_PONG
    assert lively.closed == []


async def test_ended_connection_is_not_pinged(autojump_clock: MockClock) -> None:
    """Its block ends the watch, also by an exception."""
    keepalive = Keepalive(INTERVAL, TIMEOUT)
    connection = FakeConnection()
    with pytest.raises(ZeroDivisionError), keepalive.watch(connection):
        raise ZeroDivisionError
    await let_pass(keepalive, INTERVAL)
    assert connection.pinged_at == []


async def test_connections_may_end_and_begin_during_a_round(
    autojump_clock: MockClock,
) -> None:
    """A ping that ends or adds connections does not stop the round."""
    keepalive = Keepalive(INTERVAL, TIMEOUT)
    connections = [FakeConnection() for _ in range(1000)]
    late = FakeConnection()
    with ExitStack() as watched, ExitStack() as leaving:
        for connection in connections[:500]:
            leaving.enter_context(keepalive.watch(connection))
        for connection in connections[500:]:
            watched.enter_context(keepalive.watch(connection))

        def change() -> None:
            leaving.close()
            if not late.pinged_at and late.last_received_at < math.inf:
                late.last_received_at = math.inf
                watched.enter_context(keepalive.watch(late))

        for connection in connections:
            connection.when_pinged = change
        await let_pass(keepalive, 2 * INTERVAL)
    assert all(len(connection.pinged_at) == 2 for connection in connections[500:])
    assert all(len(connection.pinged_at) <= 1 for connection in connections[:500])
    assert late.pinged_at


async def test_delayed_keepalive_gives_every_connection_the_whole_timeout(
    mock_clock: MockClock,
) -> None:
    """The answers of the delay are unread; they are read before any close."""
    keepalive = Keepalive(INTERVAL, TIMEOUT)
    lively, silent = FakeConnection(), FakeConnection(responses=False)
    async with trio.open_nursery() as nursery:
        with keepalive.watch(lively), keepalive.watch(silent):
            nursery.start_soon(keepalive.run)
            await wait_all_tasks_blocked()
            mock_clock.jump(2 * TIMEOUT)
            await wait_all_tasks_blocked()
            mock_clock.autojump_threshold = 0
            await trio.sleep(TIMEOUT - 1)
            assert lively.closed == silent.closed == []
            # Once each, and not for every round that was missed.
            assert len(lively.pinged_at) <= 3
            await trio.sleep(INTERVAL + 2)
        nursery.cancel_scope.cancel()
    assert lively.closed == []
    assert [reason for _at, reason in silent.closed] == [DisconnectReason.NO_PONG]


async def test_keepalive_without_connections_does_not_wake_up(autojump_clock: MockClock) -> None:
    """An instance without clients takes no CPU for them; the first one is pinged in an interval."""
    keepalive = Keepalive(INTERVAL, TIMEOUT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keepalive.run)
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf
        await trio.sleep(1000)
        connection = FakeConnection()
        with keepalive.watch(connection):
            await trio.sleep(INTERVAL)
        assert len(connection.pinged_at) == 1
        await trio.sleep(INTERVAL)
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf
        nursery.cancel_scope.cancel()
