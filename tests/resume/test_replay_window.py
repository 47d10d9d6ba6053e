"""The replay window: who waits for whose acknowledgements, and for how long."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from odin_ws.resume.replay_window import ReplayWindow
from odin_ws.resume.scan_chunks import CHUNK_BYTES

TIMEOUT = 10.0
MIN_SHARE = 4 * CHUNK_BYTES


class Client:
    """A client whose kernel acknowledges what the test says."""

    def __init__(self) -> None:
        self.written = 0
        self.confirmed = 0
        self.closed_at: float | None = None

    def acknowledged(self) -> int:
        """As `acknowledge` said."""
        return self.confirmed

    def acknowledge(self) -> None:
        """All that was written."""
        self.confirmed = self.written

    def close_as_slow(self) -> None:
        """Keep when."""
        assert self.closed_at is None
        self.closed_at = trio.current_time()


class Replay:
    """Sends one chunk after the other, each when it may."""

    def __init__(self, window: ReplayWindow, client: Client | None = None) -> None:
        self.window = window
        self.client = client or Client()
        self.sent_at: list[float] = []

    async def send(self, chunks: int = 1, size: int = CHUNK_BYTES) -> None:
        """Send some chunks."""
        for _ in range(chunks):
            await self.window.wait_for_share(self.client)
            await self.window.wait_for_room(self.client)
            self.client.written += size
            self.window.sent(self.client)
            self.sent_at.append(trio.current_time())


@asynccontextmanager
async def running(window: ReplayWindow) -> AsyncIterator[trio.Nursery]:
    """Run a window for the block."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(window.run)
        yield nursery
        nursery.cancel_scope.cancel()


def unread(replays: Sequence[Replay]) -> int:
    """The bytes that nobody has acknowledged."""
    return sum(replay.client.written - replay.client.confirmed for replay in replays)


async def test_unacknowledged_bytes_of_all_replays_stay_within_the_window(
    autojump_clock: MockClock,
) -> None:
    """Of 100 replays ten may write; each acknowledged chunk lets the next one, in order."""
    window = ReplayWindow(10 * CHUNK_BYTES, TIMEOUT)
    replays = [Replay(window) for _ in range(100)]
    async with running(window) as nursery:
        for one in replays:
            nursery.start_soon(one.send)
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(1)
        assert unread(replays) == window.used == 10 * CHUNK_BYTES
        assert window.waiting == 90
        for turn in range(10):
            begun = [replay for replay in replays if replay.sent_at]
            assert begun == replays[: 10 * (turn + 1)]
            for one in begun:
                one.client.acknowledge()
            await trio.sleep(0.1)
        assert window.waiting == 0
        await trio.sleep(2)
        assert window.used == 0
        assert not any(replay.client.closed_at for replay in replays)


async def test_replay_below_the_limits_waits_for_nothing(autojump_clock: MockClock) -> None:
    """Without a checkpoint, however slowly its chunks are acknowledged."""
    window = ReplayWindow(1000 * CHUNK_BYTES, TIMEOUT)
    one = Replay(window)
    sending = one.send(4)
    try:
        sending.send(None)
    except StopIteration:
        pass
    else:
        raise AssertionError("it waits")
    assert window.used == 4 * CHUNK_BYTES


async def test_client_that_acknowledges_nothing_gets_its_share_and_no_more(
    autojump_clock: MockClock,
) -> None:
    """A sixteenth of the window; another client is not held up by it, and none is closed."""
    window = ReplayWindow(160 * CHUNK_BYTES, TIMEOUT)
    stalled, other = Replay(window), Replay(window)
    async with running(window) as nursery:
        nursery.start_soon(stalled.send, 100)
        await trio.sleep(20)
        assert len(stalled.sent_at) == 10
        await other.send(MIN_SHARE // CHUNK_BYTES)
        assert other.sent_at[-1] == trio.current_time()
        assert window.waiting == 0
        assert stalled.client.closed_at is None
        stalled.client.acknowledge()
        await trio.sleep(0.05)
        # Two have a share now.
        assert len(stalled.sent_at) == 15


async def test_stalled_clients_hold_up_others_for_the_timeout_at_most(
    autojump_clock: MockClock,
) -> None:
    """They are closed as slow, in favour of those that wait; who acknowledges is not closed."""
    window = ReplayWindow(10 * CHUNK_BYTES, TIMEOUT)
    stalled = [Replay(window) for _ in range(10)]
    async with running(window) as nursery:
        for one in stalled:
            await one.send()
        good = Replay(window)
        nursery.start_soon(good.send)
        await trio.sleep(TIMEOUT - 0.1)
        assert not good.sent_at
        await trio.sleep(0.2)
        assert good.sent_at
        closed = [one.client.closed_at for one in stalled]
        assert all(TIMEOUT < at < TIMEOUT + 0.1 for at in closed if at is not None)
        assert None not in closed
        assert good.client.closed_at is None
        assert window.used == CHUNK_BYTES


async def test_stalled_client_is_not_closed_while_no_replay_waits(
    autojump_clock: MockClock,
) -> None:
    """What the kernel holds of it harms nobody: other limits end it."""
    window = ReplayWindow(10 * CHUNK_BYTES, TIMEOUT)
    one = Replay(window)
    async with running(window):
        await one.send()
        await trio.sleep(10 * TIMEOUT)
        assert one.client.closed_at is None
        assert window.used == CHUNK_BYTES


async def test_time_before_a_chunk_was_written_does_not_count(autojump_clock: MockClock) -> None:
    """A client has the whole timeout for each chunk, also if its replay waited for a turn."""
    window = ReplayWindow(2 * CHUNK_BYTES, TIMEOUT)
    late, stalled, good = (Replay(window) for _ in range(3))
    async with running(window) as nursery:
        await window.wait_for_room(late.client)
        await stalled.send()
        nursery.start_soon(good.send)
        await trio.sleep(TIMEOUT - 1)
        late.client.written += CHUNK_BYTES
        window.sent(late.client)
        await trio.sleep(2)
        assert stalled.client.closed_at is not None
        assert good.sent_at
        assert late.client.closed_at is None


async def test_replay_that_ends_gives_back_what_it_has_reserved(autojump_clock: MockClock) -> None:
    """Cancelled before it wrote, or while it waited: the next one may write."""
    window = ReplayWindow(CHUNK_BYTES, TIMEOUT)
    first, second, third = (Replay(window) for _ in range(3))
    async with running(window) as nursery:
        await window.wait_for_room(first.client)
        with trio.move_on_after(1) as scope:
            await second.send()
        assert scope.cancelled_caught
        nursery.start_soon(third.send)
        await trio.sleep(0.1)
        assert window.waiting == 1
        window.release(first.client)
        await trio.sleep(0.1)
        assert third.sent_at
        assert not second.sent_at
        assert window.used == CHUNK_BYTES


async def test_bytes_that_an_ended_connection_has_dropped_do_not_count(
    autojump_clock: MockClock,
) -> None:
    """Its queue is dropped: what was written to it is less than before."""
    window = ReplayWindow(CHUNK_BYTES, TIMEOUT)
    gone, other = Replay(window), Replay(window)
    async with running(window):
        await gone.send()
        gone.client.written = gone.client.confirmed = 1000
        await other.send()
        assert other.sent_at == [trio.current_time()]
        assert window.used == CHUNK_BYTES


async def test_newcomer_does_not_overtake_a_replay_that_waits(autojump_clock: MockClock) -> None:
    """Also in the moment between an acknowledgement and the next look at it."""
    window = ReplayWindow(CHUNK_BYTES, TIMEOUT)
    first, second, third = (Replay(window) for _ in range(3))
    async with running(window) as nursery:
        await window.wait_for_room(first.client)
        nursery.start_soon(second.send)
        # Between two looks.
        await trio.sleep(0.09)
        window.release(first.client)
        nursery.start_soon(third.send)
        await trio.sleep(1)
        assert second.sent_at
        assert not third.sent_at


async def test_client_that_waits_for_others_has_acknowledged_its_chunk(
    autojump_clock: MockClock,
) -> None:
    """While replays wait for the window, one with an unread chunk gets no second one."""
    window = ReplayWindow(4 * CHUNK_BYTES, 100 * TIMEOUT)
    stalled, reserving, *waiting = (Replay(window) for _ in range(5))
    async with running(window) as nursery:
        await stalled.send()
        for _ in range(3):
            await window.wait_for_room(reserving.client)
        for one in waiting:
            nursery.start_soon(one.send)
        await trio.sleep(1)
        nursery.start_soon(stalled.send)
        await trio.sleep(1)
        assert window.waiting == 3
        window.release(reserving.client)
        await trio.sleep(1)
        assert all(one.sent_at for one in waiting)
        assert len(stalled.sent_at) == 1


async def test_acknowledgements_are_seen_while_no_replay_waits(autojump_clock: MockClock) -> None:
    """So that the figure is right; a second later."""
    window = ReplayWindow(1000 * CHUNK_BYTES, TIMEOUT)
    one = Replay(window)
    async with running(window):
        await trio.sleep(1)
        await one.send()
        one.client.acknowledge()
        assert window.used == CHUNK_BYTES
        await trio.sleep(1.1)
        assert window.used == 0


async def test_client_that_is_closed_gets_no_further_chunk(autojump_clock: MockClock) -> None:
    """The room is for those that wait behind it."""
    window = ReplayWindow(CHUNK_BYTES, TIMEOUT)
    stalled, good = Replay(window), Replay(window)
    async with running(window) as nursery:
        # At first nobody waits, so both of its chunks have a place in the queue.
        await window.wait_for_room(good.client)
        nursery.start_soon(stalled.send)
        await trio.sleep(0.1)
        stalled.client.written += 1
        window.sent(stalled.client)
        nursery.start_soon(good.send)
        await trio.sleep(TIMEOUT + 1)
        assert stalled.client.closed_at is not None
        window.release(good.client)
        await trio.sleep(1)
        assert not stalled.sent_at
        assert good.sent_at


async def test_thousands_of_shares_are_looked_at_over_several_rounds(
    autojump_clock: MockClock,
) -> None:
    """The one that is acknowledged is found."""
    window = ReplayWindow(2000 * CHUNK_BYTES, TIMEOUT)
    many = [Replay(window) for _ in range(2000)]
    async with running(window) as nursery:
        for one in many:
            await one.send()
        last = Replay(window)
        nursery.start_soon(last.send)
        await trio.sleep(1)
        assert not last.sent_at
        many[1234].client.acknowledge()
        await trio.sleep(0.2)
        assert last.sent_at
