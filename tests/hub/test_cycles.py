"""The hub writes at once within the rate, and in bounded slices."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from random import Random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.hub import Dispatcher, OffsetGaps
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import Assignment, Item, Record, TopicPartition
from tests.factories import record
from tests.hub.hub_driver import Client, Feeder, dispatching, make_hub
from tests.hub.joins import join
from tests.wire_decoder import messages

SLOT = 0.05
ROUNDING = 1e-6

TRADES = TopicPartition("odin.trades", 0)


class Slow(Client):
    """Takes a millisecond for each write, of everybody's time; `journal` has all in order."""

    def __init__(self, clock: MockClock, journal: list[Client]) -> None:
        super().__init__()
        self._clock = clock
        self._journal = journal

    def received(self) -> None:
        """Take the time, and write it down."""
        self._clock.jump(0.001)
        self._journal.append(self)


async def test_failing_7_first_record_after_a_pause_is_sent_at_once(
    autojump_clock: MockClock,
) -> None:
    """A single record waits neither for others nor for the rate."""
    hub = make_hub(SLOT)
    client = join(hub, "*.*")
    async with dispatching(hub) as feeder:
        for number in range(1, 4):
            await feeder.publish(record(offset=number))
            assert len(client.writes) == number
            await trio.sleep(SLOT)


async def test_records_of_a_burst_share_a_write(autojump_clock: MockClock) -> None:
    """Three records are sent at once, later ones together in the next cycle."""
    hub = make_hub(SLOT)
    client = join(hub, "*.*")
    async with dispatching(hub) as feeder:
        for offset in range(8):
            await feeder.publish(record(offset=offset))
            await trio.sleep(SLOT / 10)
        assert client.positions == ["0-0", "0-1", "0-2"]
        await trio.sleep_until(1.01 * SLOT)
    assert len(client.writes) == 4
    assert client.positions == [f"0-{offset}" for offset in range(8)]


async def test_records_at_the_cycle_rate_are_sent_at_once(
    autojump_clock: MockClock,
) -> None:
    """A record that is late by less than a slot delays none after it."""
    hub = make_hub(SLOT)
    client = join(hub, "*.*")
    async with dispatching(hub) as feeder:
        for offset in range(100):
            late = (0.9 * SLOT if offset % 7 == 3 else 0.0) + (0.2 * SLOT if offset % 3 else 0.0)
            await trio.sleep_until(SLOT * offset + late)
            await feeder.publish(record(offset=offset))
            assert len(client.writes) == offset + 1


async def test_cycles_of_any_second_are_bounded(
    autojump_clock: MockClock,
) -> None:
    """At most WS_MAX_BROADCAST_RATE + 3, for any times of records, and none is lost."""
    hub = make_hub(SLOT)
    starts: list[float] = []

    class Timed(Client):
        def received(self) -> None:
            starts.append(trio.current_time())

    client = join(hub, "*.*", client=Timed())
    draw = Random(1)  # noqa: S311 -- no secret
    async with dispatching(hub) as feeder:
        for offset in range(3000):
            if not offset % 300:
                await trio.sleep(10 * SLOT)
            await feeder.publish(record(offset=offset))
            await trio.sleep(draw.choice([0, SLOT / 20, SLOT / 7, SLOT / 3]))
        await trio.sleep(SLOT)
    assert len(client.messages) == 3000
    maximum = max(
        bisect_left(starts, at + 1 - ROUNDING) - number for number, at in enumerate(starts)
    )
    # Each slot makes up for 1% of a delay.
    assert 1 / SLOT + 2 <= maximum <= 1 / SLOT + 3


async def test_rate_0_writes_every_batch_at_once(
    autojump_clock: MockClock,
) -> None:
    """WS_MAX_BROADCAST_RATE=0: nothing waits."""
    hub = make_hub(0)
    client = join(hub, "*.*")
    async with dispatching(hub) as feeder:
        for offset in range(5):
            await feeder.publish(record(offset=offset))
    assert len(client.writes) == 5
    assert trio.current_time() == 0


async def test_all_waiting_batches_are_sent_in_one_cycle(
    autojump_clock: MockClock,
) -> None:
    """A burst costs one write per subscriber."""
    hub = make_hub(SLOT)
    client = join(hub, "*.*")
    async with dispatching(hub) as feeder:
        for offset in range(10):
            feeder.put(record(offset=offset))
        await wait_all_tasks_blocked()
    assert len(client.writes) == 1
    assert len(client.messages) == 10


async def test_cycle_is_bounded_in_bytes(
    autojump_clock: MockClock,
) -> None:
    """The rest of a backlog is sent in the next cycles, from one batch or many; nothing is lost."""
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


async def test_long_cycle_yields_to_other_tasks(autojump_clock: MockClock) -> None:
    """Readers, accepts and pongs run between the writes of one cycle."""
    hub = make_hub()
    clients = [join(hub, "*.*", client=Slow(autojump_clock, [])) for _ in range(200)]
    written_meanwhile: list[int] = []

    async def look() -> None:
        await trio.sleep(0.01)
        written_meanwhile.append(sum(len(client.writes) for client in clients))

    async with dispatching(hub) as feeder, trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await feeder.publish(record())
    assert 0 < written_meanwhile[0] < 200
    assert all(len(client.writes) == 1 for client in clients)


async def test_subscription_while_a_cycle_reads_begins_after_the_records_read(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its positions say; a long backlog is read in steps."""
    hub = make_hub()
    remember = hub.snapshots.remember

    def remember_slowly(message: ChannelMessage) -> None:
        autojump_clock.jump(0.01)
        remember(message)

    monkeypatch.setattr(hub.snapshots, "remember", remember_slowly)
    early = join(hub, "*.*")
    late: list[tuple[int, Client]] = []

    async def come_late() -> None:
        await hub.stream.wait_moved()
        position = hub.stream.positions_of(["odin.trades"])["odin.trades"][0]
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


async def publish_at(feeder: Feeder, records: Mapping[float, Record]) -> None:
    """Put each record into the channel when its time has come."""
    for seconds, one in records.items():
        await trio.sleep_until(seconds)
        feeder.put(one)


async def spend_burst(feeder: Feeder) -> None:
    """Begin three cycles at once that write nothing; at the return the next one may begin.

    For a hub with one cycle a second, at time 0.
    """
    for _ in range(3):
        await feeder.publish(Assignment({TRADES: -1}))
    await trio.sleep_until(1)


async def test_records_during_a_long_cycle_join_it_for_unwritten_subscribers(
    autojump_clock: MockClock,
) -> None:
    """The subscribers already written get them in the next cycle."""
    hub = make_hub(1.0)
    journal: list[Client] = []
    clients = [join(hub, "*.*", client=Slow(autojump_clock, journal)) for _ in range(200)]
    later = {1.05: record(offset=1), 1.12: record(offset=2)}
    async with dispatching(hub) as feeder, trio.open_nursery() as nursery:
        await spend_burst(feeder)
        nursery.start_soon(publish_at, feeder, later)
        await feeder.publish(record(offset=0))
        await trio.sleep_until(1.9)
        first, journal[:] = list(journal), []
        await trio.sleep_until(3.5)
    # WS_MAX_BROADCAST_RATE holds all the same.
    assert len(first) == 200
    assert set(first) == set(clients)
    # Looked at every 32 writes here, and it may just have been.
    assert 120 <= len(journal) <= 120 + 2 * 32
    assert journal == first[: len(journal)]
    for client in clients:
        assert client.positions == ["0-0", "0-1", "0-2"]
        assert [message["seq"] for message in client.messages] == [1, 2, 3]


async def test_age_is_measured_after_the_last_write(autojump_clock: MockClock) -> None:
    """At the end of the cycle, or of the next one if a subscriber was written too early for it."""
    hub = make_hub(1.0)
    for _ in range(200):
        join(hub, "BTC.trade", client=Slow(autojump_clock, []))
    join(hub, "*.trade")
    later = {1.05: record(b"ETH", offset=1), 1.12: record(b"BTC", offset=2)}
    async with dispatching(hub) as feeder, trio.open_nursery() as nursery:
        await spend_burst(feeder)
        nursery.start_soon(publish_at, feeder, later)
        await feeder.publish(record(b"BTC", offset=0))
        await trio.sleep_until(1.9)
        assert hub.stats.age.samples == 2
        await trio.sleep_until(3.5)
        assert hub.stats.age.samples == 3


async def test_records_during_a_cycle_count_for_its_size(
    autojump_clock: MockClock,
) -> None:
    """Neither this cycle nor the next exceeds the bound for any subscriber."""
    value = b'{"data":"%b"}' % (b"x" * 1000)
    hub = make_hub(cycle_bytes=4 * len(value))
    clients = [join(hub, "*.*", client=Slow(autojump_clock, [])) for _ in range(200)]
    async with dispatching(hub) as feeder, trio.open_nursery() as nursery:

        async def publish_meanwhile() -> None:
            await trio.sleep(0.05)
            feeder.put(*(record(value=value, offset=offset) for offset in range(1, 20)))

        nursery.start_soon(publish_meanwhile)
        await feeder.publish(record(value=value, offset=0))
        await trio.sleep(10)
    for client in clients:
        assert client.positions == [f"0-{offset}" for offset in range(20)]
        assert max(len(messages(write)) for write in client.writes) == 4


@pytest.mark.parametrize("clients", [1, 200], ids=["before a cycle", "within a cycle"])
async def test_jump_is_reported_after_the_records_before_it(
    autojump_clock: MockClock, clients: int
) -> None:
    """The subscriber has every earlier record when it reads of the loss."""
    reported: list[list[str]] = []

    def tell(_gaps: OffsetGaps) -> None:
        for client in joined:
            hub.flush(client.subscriber)
            reported.append(client.positions)

    hub = make_hub(on_offset_gaps=tell)
    joined = [join(hub, "*.*", client=Slow(autojump_clock, [])) for _ in range(clients)]
    async with dispatching(hub) as feeder, trio.open_nursery() as nursery:

        async def publish_meanwhile() -> None:
            await trio.sleep(0.001 * clients / 2)
            feeder.put(record(offset=1))
            feeder.put(Assignment({TRADES: 7}))
            feeder.put(record(offset=8))

        nursery.start_soon(publish_meanwhile)
        await feeder.publish(Assignment({TRADES: -1}), record(offset=0))
        await trio.sleep(1)
    assert reported == [["0-0", "0-1"]] * clients
    assert [client.positions for client in joined] == [["0-0", "0-1", "0-8"]] * clients


async def test_long_cycle_is_followed_by_a_pause(autojump_clock: MockClock) -> None:
    """The dispatcher leaves a share of the time to other tasks."""

    class VerySlow(Client):
        def received(self) -> None:
            autojump_clock.jump(6.5)

    hub = make_hub(SLOT)
    client = join(hub, "*.*", client=VerySlow())
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0))
        await feeder.publish(record(offset=1))
        await trio.sleep_until(9.9)
        assert len(client.writes) == 1
        await trio.sleep_until(10.1)
        assert len(client.writes) == 2


async def test_closed_channel_ends_the_dispatcher(autojump_clock: MockClock) -> None:
    """After the batches in it."""
    hub = make_hub()
    client = join(hub, "*.*")
    send, receive = trio.open_memory_channel[Item](4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Dispatcher(hub).run, receive)
        async with send:
            await send.send(Assignment({}))
    assert client.writes == []
