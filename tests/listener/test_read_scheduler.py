"""Turns: the work for clients per pass of the event loop, and its order."""

import socket
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from odin_ws.address import Address
from odin_ws.listener.accept_loop import (
    accept_connections,
    bound_address,
    open_listening_socket,
)
from odin_ws.listener.read_scheduler import (
    _BESIDE_HUB,
    _MAX_TURNS,
    _MIN_SECONDS,
    ReadScheduler,
    running_read_scheduler,
)
from odin_ws.listener.transport import SocketTransport, Transport
from odin_ws.testing.ports import LOOPBACK
from odin_ws.time_slice import SLICE_SECONDS


async def test_few_reads_do_not_wait() -> None:
    """The first ones have their turn without a checkpoint."""
    read_scheduler = ReadScheduler(lambda: 0.0)
    async with running_read_scheduler(read_scheduler):
        with trio.CancelScope() as scope:
            scope.cancel()
            for _ in range(_MAX_TURNS):
                await read_scheduler.wait_for_read()
        assert not scope.cancelled_caught


async def test_turns_are_first_come_first_served() -> None:
    """Within a pass the order may differ."""
    served: list[int] = []

    async def come(number: int) -> None:
        await read_scheduler.wait_for_read()
        served.append(number)

    read_scheduler = ReadScheduler(lambda: 0.0)
    async with running_read_scheduler(read_scheduler), trio.open_nursery() as nursery:
        for _ in range(_MAX_TURNS):
            await read_scheduler.wait_for_read()
        for number in range(10 * _MAX_TURNS):
            nursery.start_soon(come, number)
            if not number % 7:
                await trio.lowlevel.checkpoint()
    assert sorted(served) == list(range(10 * _MAX_TURNS))
    assert all(abs(number - at) < _MAX_TURNS + 7 for at, number in enumerate(served))


@pytest.mark.parametrize("hub", [0.0, 0.005])
async def test_other_tasks_run_between_long_turns(mock_clock: MockClock, hub: float) -> None:
    """A pass has as many turns as fit; more if the hub uses more of it."""
    works, busy, passes, done = 0.0002, 0.0, 0, 0

    async def flood() -> None:
        nonlocal done
        while True:
            await trio.lowlevel.checkpoint()
            await read_scheduler.wait_for_read()
            mock_clock.jump(works)
            done += 1

    async def stream() -> None:
        nonlocal busy, passes
        while True:
            mock_clock.jump(hub)
            busy += hub
            passes += 1
            await trio.lowlevel.checkpoint()

    read_scheduler = ReadScheduler(lambda: busy)
    async with running_read_scheduler(read_scheduler), trio.open_nursery() as nursery:
        for _ in range(1000):
            nursery.start_soon(flood)
        nursery.start_soon(stream)
        # Until it has found its measure.
        while passes < 100:
            await trio.lowlevel.checkpoint()
        before, done = passes, 0
        while passes < 500:
            await trio.lowlevel.checkpoint()
        turns_each = done / (passes - before)
        nursery.cancel_scope.cancel()
    fitting = max(_MIN_SECONDS, _BESIDE_HUB * hub) / works
    # The hub may run twice, or not at all, between two looks: trio shuffles the tasks of a pass.
    assert 0.3 * fitting <= turns_each <= 1.5 * fitting, turns_each


async def test_cancelled_waiter_uses_no_turn() -> None:
    """The others continue."""
    read_scheduler = ReadScheduler(lambda: 0.0)
    async with running_read_scheduler(read_scheduler):
        for _ in range(_MAX_TURNS):
            await read_scheduler.wait_for_read()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_scheduler.wait_for_read)
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        with trio.fail_after(1):
            await read_scheduler.wait_for_read()


async def test_waiting_counts_waiting_connections() -> None:
    """None while turns are left; neither cancelled ones nor those that had a turn."""
    read_scheduler = ReadScheduler(lambda: 0.0)
    for _ in range(_MAX_TURNS):
        await read_scheduler.wait_for_read()
    assert read_scheduler.waiting == 0
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(read_scheduler.wait_for_read)
        async with trio.open_nursery() as leaving:
            leaving.start_soon(read_scheduler.wait_for_read)
            await trio.testing.wait_all_tasks_blocked()
            assert read_scheduler.waiting == 4
            leaving.cancel_scope.cancel()
        assert read_scheduler.waiting == 3
        nursery.start_soon(read_scheduler.run)
        with trio.fail_after(1):
            while read_scheduler.waiting:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_reads_and_accepts_share_the_turns() -> None:
    """Without turns left nothing is read or accepted."""
    served: list[str] = []

    async def serve(transport: Transport, _peer: str) -> None:
        served.append("accepted")
        transport.close()

    async def read() -> None:
        served.append((await SocketTransport(ours, read_scheduler).receive_some(100)).decode())

    read_scheduler = ReadScheduler(lambda: 0.0)
    for _ in range(_MAX_TURNS):
        await read_scheduler.wait_for_read()
    with open_listening_socket(Address(LOOPBACK, 0)) as listening:
        address = bound_address(listening)
        with socket.create_connection(address) as theirs, socket.create_connection(address):
            ours, _ = listening.accept()
            theirs.send(b"heard")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                nursery.start_soon(accept_connections, listening, read_scheduler, serve, nursery)
                with ours:
                    await trio.testing.wait_all_tasks_blocked(0.01)
                    assert not served
                    nursery.start_soon(read_scheduler.run)
                    with trio.fail_after(5):
                        while len(served) < 2:
                            await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
    assert sorted(served) == ["accepted", "heard"]


@pytest.mark.parametrize("readers", [0, 500])
async def test_time_slices_have_their_share_of_each_pass(  # noqa: C901 -- three kinds of tasks
    mock_clock: MockClock, readers: int
) -> None:
    """Half of the clients' time, a quarter beside reads."""
    hub, reading, busy, passes = 0.008, 0.00005, 0.0, 0
    done = {"slices": 0, "reads": 0}

    async def work() -> None:
        while True:
            await read_scheduler.wait_for_work_slice()
            mock_clock.jump(SLICE_SECONDS)
            done["slices"] += 1

    async def read() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            await read_scheduler.wait_for_read()
            mock_clock.jump(reading)
            done["reads"] += 1

    async def stream() -> None:
        nonlocal busy, passes
        while True:
            mock_clock.jump(hub)
            busy += hub
            passes += 1
            await trio.lowlevel.checkpoint()

    read_scheduler = ReadScheduler(lambda: busy)
    async with running_read_scheduler(read_scheduler), trio.open_nursery() as nursery:
        for _ in range(300):
            nursery.start_soon(work)
        for _ in range(readers):
            nursery.start_soon(read)
        nursery.start_soon(stream)
        while passes < 100:
            await trio.lowlevel.checkpoint()
        before = passes
        done = dict.fromkeys(done, 0)
        while passes < 500:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    allowed = _BESIDE_HUB * hub * (0.25 if readers else 0.5) / SLICE_SECONDS
    slices = done["slices"] / (passes - before)
    assert 0.5 * allowed <= slices <= 1.2 * allowed
    # Readers are not kept waiting by work.
    assert done["reads"] / (passes - before) >= 50 * bool(readers)


@pytest.mark.parametrize("readers", [0, 500])
async def test_replays_have_their_share_of_each_pass(mock_clock: MockClock, readers: int) -> None:
    """All of the clients' time, a quarter beside reads."""
    reading, sending, begun = 0.00005, 0.0004, trio.current_time()
    used = {"replays": 0.0, "reads": 0.0}

    async def replay() -> None:
        while True:
            await read_scheduler.wait_for_chunk()
            mock_clock.jump(sending)
            used["replays"] += sending

    async def read() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            await read_scheduler.wait_for_read()
            mock_clock.jump(reading)
            used["reads"] += reading

    read_scheduler = ReadScheduler(lambda: 0.0, lambda: used["replays"])
    async with running_read_scheduler(read_scheduler), trio.open_nursery() as nursery:
        for _ in range(300):
            nursery.start_soon(replay)
        for _ in range(readers):
            nursery.start_soon(read)
        while trio.current_time() - begun < 5:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    share = used["replays"] / sum(used.values())
    assert (0.2 < share < 0.6) if readers else share == 1


async def test_turns_longer_than_their_share_make_passes_no_longer(mock_clock: MockClock) -> None:
    """A queue whose turn was too long has none in the next passes; the shares hold in the long run.

    A record needs some ten passes from Kafka to its subscribers.
    """
    seconds = {"reads": 0.0004, "replays": 0.0009, "slices": SLICE_SECONDS}
    used, passes, begun = dict.fromkeys(seconds, 0.0), 0, trio.current_time()

    async def turns(name: str, wait: Callable[[], Awaitable[None]]) -> None:
        while True:
            await wait()
            mock_clock.jump(seconds[name])
            used[name] += seconds[name]
            await trio.lowlevel.checkpoint()

    read_scheduler = ReadScheduler(lambda: 0.0, lambda: used["replays"])
    async with running_read_scheduler(read_scheduler), trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(turns, "reads", read_scheduler.wait_for_read)
            nursery.start_soon(turns, "replays", read_scheduler.wait_for_chunk)
            nursery.start_soon(turns, "slices", read_scheduler.wait_for_work_slice)
        while trio.current_time() - begun < 5:
            await trio.lowlevel.checkpoint()
            passes += 1
        nursery.cancel_scope.cancel()
    assert 5 / passes < 1.5 * _MIN_SECONDS
    shares = {name: one / sum(used.values()) for name, one in used.items()}
    assert shares == pytest.approx({"reads": 0.6, "replays": 0.2, "slices": 0.2}, abs=0.1)


async def test_one_long_pass_costs_clients_a_few_turns(mock_clock: MockClock) -> None:
    """A pause of a second, such as a garbage collection, is charged as 5 ms."""
    passes = 0

    async def replay() -> None:
        while True:
            await read_scheduler.wait_for_chunk()

    async def pause() -> None:
        await read_scheduler.wait_for_read()
        mock_clock.jump(1.0)

    read_scheduler = ReadScheduler(lambda: 0.0)
    async with running_read_scheduler(read_scheduler), trio.open_nursery() as nursery:
        # Some of them always wait.
        for _ in range(2 * _MAX_TURNS):
            nursery.start_soon(replay)
        for _ in range(_MAX_TURNS):
            await read_scheduler.wait_for_read()
        nursery.start_soon(pause)
        while trio.current_time() < 1.0:
            await trio.lowlevel.checkpoint()
        async with trio.open_nursery() as reading:
            reading.start_soon(read_scheduler.wait_for_read)
            await trio.lowlevel.checkpoint()
            while read_scheduler.waiting:
                await trio.lowlevel.checkpoint()
                passes += 1
        nursery.cancel_scope.cancel()
    assert passes < 20


async def test_time_slices_are_round_robin(mock_clock: MockClock) -> None:
    """No work has a second slice before all waiting work had its first."""
    slices: list[int] = []

    async def work(number: int) -> None:
        for _ in range(3):
            await read_scheduler.wait_for_work_slice()
            mock_clock.jump(SLICE_SECONDS)
            slices.append(number)

    read_scheduler = ReadScheduler(lambda: 0.0)
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(work, number)
        await trio.testing.wait_all_tasks_blocked()
        assert (read_scheduler.working, read_scheduler.waiting) == (20, 0)
        async with running_read_scheduler(read_scheduler):
            while len(slices) < 60:
                await trio.lowlevel.checkpoint()
    assert all(sorted(slices[begin : begin + 20]) == list(range(20)) for begin in (0, 20, 40))
