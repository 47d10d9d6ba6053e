"""Cursors on scans: whoever joins when and where, each gets its records once, in few reads."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from odin_ws.history import ResumeCursor
from odin_ws.records import Assignment, HistoryEnd, TopicPartition
from odin_ws.resume.scan_chunks import Chunk
from odin_ws.resume.scan_cursor import ScanCursor, ScanEnd
from odin_ws.resume.scan_pool import ScanPool
from odin_ws.testing.memory_log import MemoryLog
from odin_ws.testing.memory_log_reader import MemoryLogReader
from tests.hub.hub_driver import dispatching, make_hub
from tests.virtual_time import in_virtual_time

TOKENS = ("BTC", "ETH")
TOPIC = "odin.trades"
KEYS = [TopicPartition(TOPIC, number) for number in range(2)]
FOR_LONG = 1000.0
PATTERNS = ["BTC.trade", "ETH.trade", "*.trade", "*.*"]


@attrs.frozen
class Client:
    """Comes after some seconds, wants a pattern from some offsets on, and takes a chunk so often.

    `stays`: seconds after which it goes.
    """

    after: float
    pattern: str
    starts: tuple[int, int]
    pause: float
    stays: float


clients = st.builds(
    Client,
    st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.3, 1.0, 2.5]),
    st.sampled_from(PATTERNS),
    st.tuples(*[st.integers(-1, 39)] * 2),
    st.sampled_from([0.0, 0.0, 0.4]),
    st.sampled_from([FOR_LONG, FOR_LONG, FOR_LONG, 0.5]),
)


@pytest.fixture(autouse=True, scope="module")
def small_bounds() -> Iterator[None]:
    """Others run between any two clients that a scan boards, serves or lets go.

    A chunk holds some three records, and few of them fill what a client may have waiting.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in "scan", "scan_pool":
            patch.setattr(f"odin_ws.resume.{module}._SLICE_CLIENTS", 1)
        patch.setattr("odin_ws.resume.scan_chunks.MESSAGE_BYTES", 0)
        patch.setattr("odin_ws.resume.scan.CHUNK_BYTES", 20)
        patch.setattr("odin_ws.resume.scan.CLIENT_BYTES", 100)
        patch.setattr("odin_ws.resume.scan._LEAST_BYTES", 40)
        patch.setattr("odin_ws.resume.scan._SCAN_BYTES", 200)
        yield


class World:
    """A log of two partitions with 40 records each, and history behind them."""

    def __init__(self, batch: int, maximum: int) -> None:
        self.log = MemoryLog([TOPIC], 2)
        for number in range(80):
            token = TOKENS[number // 2 % 2].encode()
            value = b'{"n":%d}' % number
            self.log.append(TOPIC, token, value, partition=number % 2)
        self.log_reader = MemoryLogReader(self.log, batch, seconds=0.1)
        self.hub = make_hub(retention_bytes=0)
        self.maximum = maximum
        self.scans = ScanPool(self.hub, self.log_reader, maximum)
        self.ended: dict[Client, ScanEnd | None] = {}
        self.found: dict[Client, list[tuple[int, int]]] = {}

    async def follow(self, client: Client) -> None:
        """What a replay does with its cursors: it goes on with a later scan when it was slow."""
        await trio.sleep(client.after)
        resume_cursor = ResumeCursor({client.pattern: dict(zip(KEYS, client.starts, strict=True))})
        found = self.found[client] = []
        with trio.move_on_after(client.stays):
            while await self._ride(client, resume_cursor, found) is ScanEnd.DETACHED:
                pass

    async def _ride(
        self, client: Client, resume_cursor: ResumeCursor, found: list[tuple[int, int]]
    ) -> ScanEnd | None:
        """Be on a scan; returns how that ended."""
        cursor = self.scans.open(resume_cursor, trio.current_time())
        try:
            while not (await self._take(client, cursor, found)):
                await cursor.wait()
        finally:
            self.scans.close(cursor)
            # History cannot have moved on before the client is there.
            holds = cursor.pin is not None and self.hub.history.holds(cursor.pin)
            assert holds is (cursor.ended is ScanEnd.REACHED)
            if cursor.pin is not None:
                self.hub.history.unpin(cursor.pin, 0.0)
            self.ended[client] = cursor.ended
        return cursor.ended

    async def be_away(self, after: float) -> None:
        """Let the log answer nobody for a second."""
        await trio.sleep(after)
        self.log_reader.fail()
        await trio.sleep(1)
        self.log_reader.recover()

    async def _take(self, client: Client, cursor: ScanCursor, found: list[tuple[int, int]]) -> bool:
        is_over = cursor.ended is not None
        assert self.scans.stats.active <= self.maximum
        while chunk := cursor.take():
            found += [(one.record.partition, one.record.offset) for one in chunk.messages]
            cursor.busy = True
            await trio.sleep(client.pause)
            cursor.busy = False
        return is_over

    def expected(self, client: Client) -> list[tuple[int, int]]:
        """What a client is to get, by partition and offset."""
        token = client.pattern.partition(".")[0]
        return [
            (key.partition, offset)
            for key, start in zip(KEYS, client.starts, strict=True)
            for offset in range(start + 1, 40)
            if token in ("*", TOKENS[offset % 2])
        ]


async def carry_out(world: World, crowd: list[Client], outages: Sequence[float] = ()) -> None:
    """Let all clients come and be served; in each outage the log does not answer for a second."""
    async with dispatching(world.hub) as feeder, trio.open_nursery() as nursery:
        # All of the log is below history.
        await feeder.publish(Assignment(dict.fromkeys(KEYS, 39)), HistoryEnd())
        nursery.start_soon(world.scans.run)
        for at in outages:
            nursery.start_soon(world.be_away, at)
        async with trio.open_nursery() as following:
            for client in crowd:
                following.start_soon(world.follow, client)
        # Nobody keeps it from moving on any more.
        await feeder.publish(world.log.append(TOPIC, b"BTC", b"{}", partition=0))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


@given(
    st.lists(clients, max_size=12, unique=True),
    st.integers(1, 20),
    st.integers(1, 3),
    st.lists(st.sampled_from([0.0, 0.05, 0.75, 2.05]), max_size=2),
)
@settings(max_examples=150, deadline=None)
def test_each_cursor_gets_its_records_once_and_in_order(
    crowd: list[Client], batch: int, maximum: int, outages: list[float]
) -> None:
    """Those that stay reach history; of those that go before, all comes up to some place."""
    world = World(batch, maximum)

    async def main(_clock: MockClock) -> None:
        with trio.fail_after(1000):
            await carry_out(world, crowd, outages)

    in_virtual_time(main)
    for client in crowd:
        found, expected = world.found[client], world.expected(client)
        for number in range(2):
            mine = [offset for partition, offset in found if partition == number]
            ought = [offset for partition, offset in expected if partition == number]
            assert mine == ought[: len(mine)]
            if client.stays == FOR_LONG:
                assert (mine, world.ended[client]) == (ought, ScanEnd.REACHED)
    stats = world.scans.stats
    assert (stats.active, stats.clients, stats.waiting) == (0, 0, 0)
    assert not world.hub.history.size


@given(st.lists(st.floats(0, 2), min_size=1, max_size=30), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_reads_do_not_grow_with_the_crowd(arrivals: list[float], maximum: int) -> None:
    """However many come within 2 s, in which half of the log is read: it is read some 4 times."""
    crowd = [
        Client(after, PATTERNS[number % 4], (-1, number - 1), 0, FOR_LONG)
        for number, after in enumerate(arrivals)
    ]
    world = World(2, maximum)

    async def main(_clock: MockClock) -> None:
        await carry_out(world, crowd)

    in_virtual_time(main)
    assert world.log_reader.records_read <= 4 * 80


@pytest.mark.parametrize(
    ("second", "read"),
    [
        # At or behind the scan: it joins at once.
        (Client(1.05, "*.*", (30, -1), 0, FOR_LONG), 80),
        # Passed by ten records, of which the scan has seventy before it: it goes back.
        (Client(0.45, "*.*", (-1, -1), 0, FOR_LONG), 90),
        # Passed by more than the scan has before it: there is another scan.
        (Client(3.0, "*.*", (-1, -1), 0, FOR_LONG), 160),
    ],
)
def test_client_joins_where_that_costs_the_fewest_reads(second: Client, read: int) -> None:
    """One scan reads 80 records in batches of two, 0.1 s each."""
    world = World(2, 4)

    async def main(_clock: MockClock) -> None:
        await carry_out(world, [Client(0, "*.trade", (-1, -1), 0, FOR_LONG), second])

    in_virtual_time(main)
    assert world.log_reader.records_read == pytest.approx(read, abs=6)


async def test_client_that_begins_again_while_a_failed_scan_lets_go_is_served(
    autojump_clock: MockClock,
) -> None:
    """A scan that is over takes nobody any more: it would never read for them."""
    world = World(2, 1)
    ended: list[ScanEnd | None] = []

    async def begin_twice() -> None:
        cursor = world.scans.open(
            ResumeCursor({"*.*": dict.fromkeys(KEYS, -1)}), trio.current_time()
        )
        await trio.sleep(0.35)
        assert cursor.scan is not None
        while cursor.group is None:
            await cursor.wait()
        world.scans.close(cursor)
        # The scan was not there yet.
        cursor = world.scans.open(
            ResumeCursor({"*.*": dict.fromkeys(KEYS, 37)}), trio.current_time()
        )
        while cursor.ended is None:
            await cursor.wait()
        world.scans.close(cursor)
        ended.append(cursor.ended)

    async with dispatching(world.hub) as feeder, trio.open_nursery() as nursery:
        await feeder.publish(Assignment(dict.fromkeys(KEYS, 39)), HistoryEnd())
        nursery.start_soon(world.scans.run)
        nursery.start_soon(world.be_away, 0.35)
        with trio.fail_after(60):
            async with trio.open_nursery() as following:
                for _ in range(8):
                    following.start_soon(begin_twice)
        nursery.cancel_scope.cancel()
    assert ended == [ScanEnd.REACHED] * 8


async def test_what_all_have_taken_is_let_go(autojump_clock: MockClock) -> None:
    """A scan of a long log keeps no more than its clients have waiting."""
    world = World(2, 1)
    maximum = 0

    def chunks() -> int:
        # Without the garbage of this test and of those before it.
        gc.collect()
        return sum(isinstance(one, Chunk) for one in gc.get_objects())

    before = chunks()

    async def count() -> None:
        nonlocal maximum
        while True:
            await trio.sleep(0.5)
            maximum = max(maximum, chunks() - before)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await carry_out(world, [Client(0, "*.*", (-1, -1), 0, FOR_LONG)])
        nursery.cancel_scope.cancel()
    assert 0 < maximum <= 6
