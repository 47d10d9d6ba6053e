"""When the hub writes: at once after a pause, once per slot, and not for long at a time."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.protocol.envelope import Message
from odin_ws.records import Assignment, Item
from tests.building import record
from tests.decoding import messages
from tests.hub.driving import Client, dispatching, make_hub
from tests.hub.joining import join

SLOT = 0.05


async def test_failing_7_the_first_record_after_a_pause_leaves_at_once(
    autojump_clock: MockClock,
) -> None:
    """A single record does not wait for others, nor for a slot."""
    hub = make_hub(SLOT)
    client = join(hub, "*.*")
    async with dispatching(hub) as feeder:
        for number in range(1, 4):
            await feeder.publish(record(offset=number))
            assert len(client.writes) == number
            await trio.sleep(SLOT)


async def test_records_of_one_slot_leave_together_in_one_write(autojump_clock: MockClock) -> None:
    """WS_MAX_BROADCAST_RATE is the most often one subscriber is written to, and loses nothing."""
    hub = make_hub(SLOT)
    client = join(hub, "*.*")
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0))
        for offset in range(1, 6):
            await trio.sleep(SLOT / 10)
            await feeder.publish(record(offset=offset))
        assert client.positions == ["0-0"]
        await trio.sleep(SLOT)
    assert len(client.writes) == 2
    assert client.positions == [f"0-{offset}" for offset in range(6)]


async def test_a_slow_trickle_is_written_at_most_once_a_slot(autojump_clock: MockClock) -> None:
    """However records are spread in time, the rate holds in the long run."""
    hub = make_hub(SLOT)
    client = join(hub, "*.*")
    async with dispatching(hub) as feeder:
        for offset in range(200):
            await feeder.publish(record(offset=offset))
            await trio.sleep(SLOT / 20)
        await trio.sleep(SLOT)
    assert len(client.messages) == 200
    assert len(client.writes) <= 200 / 20 + 1


async def test_without_an_interval_every_batch_is_written_at_once(
    autojump_clock: MockClock,
) -> None:
    """With WS_MAX_BROADCAST_RATE=0 nothing waits."""
    hub = make_hub(0)
    client = join(hub, "*.*")
    async with dispatching(hub) as feeder:
        for offset in range(5):
            await feeder.publish(record(offset=offset))
    assert len(client.writes) == 5
    assert trio.current_time() == 0


async def test_all_that_waits_in_the_channel_leaves_in_one_cycle(
    autojump_clock: MockClock,
) -> None:
    """A cycle takes every batch that has come, so a burst costs one write per subscriber."""
    hub = make_hub(SLOT)
    client = join(hub, "*.*")
    async with dispatching(hub) as feeder:
        for offset in range(10):
            feeder.put(record(offset=offset))
        await wait_all_tasks_blocked()
    assert len(client.writes) == 1
    assert len(client.messages) == 10


async def test_a_cycle_is_bounded_in_bytes_and_the_rest_is_the_next_ones(
    autojump_clock: MockClock,
) -> None:
    """A backlog does not become one huge write, in one batch or in many; nothing of it is lost."""
    value = b'{"data":"%b"}' % (b"x" * 1000)
    hub = make_hub(SLOT, cycle_bytes=4 * len(value))
    client = join(hub, "*.*")
    async with dispatching(hub) as feeder:
        feeder.put(*(record(value=value, offset=offset) for offset in range(10)))
        for offset in range(10, 20):
            feeder.put(record(value=value, offset=offset))
        await trio.sleep(10 * SLOT)
    assert [len(messages(write)) for write in client.writes] == [4, 4, 4, 4, 4]
    assert client.positions == [f"0-{offset}" for offset in range(20)]


async def test_a_long_cycle_lets_the_other_tasks_run(autojump_clock: MockClock) -> None:
    """Readers, accepts and pongs get their turn between the writes of one cycle."""

    class Slow(Client):
        def received(self) -> None:
            autojump_clock.jump(0.001)

    hub = make_hub()
    clients = [join(hub, "*.*", client=Slow()) for _ in range(200)]
    written_meanwhile: list[int] = []

    async def look() -> None:
        await trio.sleep(0.01)
        written_meanwhile.append(sum(len(client.writes) for client in clients))

    async with dispatching(hub) as feeder, trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await feeder.publish(record())
    assert 0 < written_meanwhile[0] < 200
    assert all(len(client.writes) == 1 for client in clients)


async def test_who_subscribes_while_a_cycle_reads_gets_what_is_read_after_it(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long backlog is read in steps; what was read before is not due, as positions say."""
    hub = make_hub()
    remember = hub.intake.last.remember

    def remember_slowly(message: Message) -> None:
        autojump_clock.jump(0.01)
        remember(message)

    monkeypatch.setattr(hub.intake.last, "remember", remember_slowly)
    early = join(hub, "*.*")
    late: list[tuple[int, Client]] = []

    async def come_late() -> None:
        await hub.intake.wait_moved()
        position = hub.positions(["odin.trades"])["odin.trades"][0]
        late.append((position, join(hub, "*.*")))

    async with dispatching(hub) as feeder, trio.open_nursery() as nursery:
        nursery.start_soon(come_late)
        await wait_all_tasks_blocked()
        for offset in range(6):
            feeder.put(record(offset=offset))
        await wait_all_tasks_blocked()
    ((position, client),) = late
    assert 0 <= position < 5
    assert client.positions == [f"0-{offset}" for offset in range(position + 1, 6)]
    assert early.positions == [f"0-{offset}" for offset in range(6)]
    assert len(early.writes) == 1


async def test_under_load_cycles_stretch(autojump_clock: MockClock) -> None:
    """After a cycle that took long, the dispatcher leaves the loop to the others for a share."""

    class Slow(Client):
        def received(self) -> None:
            autojump_clock.jump(6.5)

    hub = make_hub(SLOT)
    client = join(hub, "*.*", client=Slow())
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0))
        await feeder.publish(record(offset=1))
        await trio.sleep_until(9.9)
        assert len(client.writes) == 1
        await trio.sleep_until(10.1)
        assert len(client.writes) == 2


async def test_the_dispatcher_ends_with_its_channel(autojump_clock: MockClock) -> None:
    """A closed channel is the end of the run, after what was in it."""
    hub = make_hub()
    client = join(hub, "*.*")
    send, receive = trio.open_memory_channel[Item](4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.run, receive)
        async with send:
            await send.send(Assignment({}))
    assert client.writes == []
