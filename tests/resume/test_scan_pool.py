"""Cursors on scans get each record once, whenever and wherever they join, in few reads."""

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
from tests.hypothesis_examples import examples
from tests.virtual_time import in_virtual_time

TOKENS = ("BTC", "ETH")
TOPIC = "odin.trades"
KEYS = [TopicPartition(TOPIC, number) for number in range(2)]
FOREVER = 1000.0
PATTERNS = ["BTC.trade", "ETH.trade", "*.trade", "*.*"]


@attrs.frozen
class Client:
    """A client that connects after some seconds and resumes one pattern.

    `starts`: its position in each partition; `pause`: seconds between two chunks that it takes;
    `stays`: seconds until it disconnects.
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
    st.sampled_from([FOREVER, FOREVER, FOREVER, 0.5]),
)


@pytest.fixture(autouse=True, scope="module")
def small_limits() -> Iterator[None]:
    """Let other tasks run between any two clients that a scan adds, serves or removes.

    A chunk holds about three records, and a few chunks fill what a client may have pending.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in "scan", "scan_pool":
            patch.setattr(f"odin_ws.resume.{module}._SLICE_CLIENTS", 1)
        patch.setattr("odin_ws.resume.scan_chunks.MESSAGE_BYTES", 0)
        patch.setattr("odin_ws.resume.scan.CHUNK_BYTES", 20)
        patch.setattr("odin_ws.resume.scan.CLIENT_BYTES", 100)
        patch.setattr("odin_ws.resume.scan._MIN_BYTES", 40)
        patch.setattr("odin_ws.resume.scan._SCAN_BYTES", 200)
        yield


class Scenario:
    """A log of two partitions with 40 records each, older than the history."""

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

    async def replay(self, client: Client) -> None:
        """Do what a replay does with its cursors: if too slow, continue with a later scan."""
        await trio.sleep(client.after)
        resume_cursor = ResumeCursor({client.pattern: dict(zip(KEYS, client.starts, strict=True))})
        found = self.found[client] = []
        with trio.move_on_after(client.stays):
            while await self._replay_one_scan(client, resume_cursor, found) is ScanEnd.DETACHED:
                pass

    async def _replay_one_scan(
        self, client: Client, resume_cursor: ResumeCursor, found: list[tuple[int, int]]
    ) -> ScanEnd | None:
        """Use one scan; return how it ended."""
        cursor = self.scans.open(resume_cursor, trio.current_time())
        try:
            while not (await self._take(client, cursor, found)):
                await cursor.wait()
        finally:
            self.scans.close(cursor)
            # The pin holds the history until the client has reached it.
            holds = cursor.pin is not None and self.hub.history.holds(cursor.pin)
            assert holds is (cursor.ended is ScanEnd.REACHED)
            if cursor.pin is not None:
                self.hub.history.unpin(cursor.pin, 0.0)
            self.ended[client] = cursor.ended
        return cursor.ended

    async def fail_for_a_second(self, after: float) -> None:
        """Let the log reader fail for 1 s."""
        await trio.sleep(after)
        self.log_reader.fail()
        await trio.sleep(1)
        self.log_reader.recover()

    async def _take(self, client: Client, cursor: ScanCursor, found: list[tuple[int, int]]) -> bool:
        is_over = cursor.ended is not None
        assert self.scans.stats.active <= self.maximum
        while chunk := cursor.take():
            found += [
                (message.record.partition, message.record.offset) for message in chunk.messages
            ]
            cursor.busy = True
            await trio.sleep(client.pause)
            cursor.busy = False
        return is_over

    def expected(self, client: Client) -> list[tuple[int, int]]:
        """Return the partitions and offsets that the client has to receive."""
        token = client.pattern.partition(".")[0]
        return [
            (key.partition, offset)
            for key, start in zip(KEYS, client.starts, strict=True)
            for offset in range(start + 1, 40)
            if token in ("*", TOKENS[offset % 2])
        ]


async def run_scenario(
    scenario: Scenario, connecting: list[Client], outages: Sequence[float] = ()
) -> None:
    """Serve all clients until they end; in each outage the log reader fails for 1 s."""
    async with dispatching(scenario.hub) as feeder, trio.open_nursery() as nursery:
        # The history begins after the end of the log.
        await feeder.publish(Assignment(dict.fromkeys(KEYS, 39)), HistoryEnd())
        nursery.start_soon(scenario.scans.run)
        for at in outages:
            nursery.start_soon(scenario.fail_for_a_second, at)
        async with trio.open_nursery() as replays:
            for client in connecting:
                replays.start_soon(scenario.replay, client)
        # No pin holds the history any more.
        await feeder.publish(scenario.log.append(TOPIC, b"BTC", b"{}", partition=0))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


@given(
    st.lists(clients, max_size=12, unique=True),
    st.integers(1, 20),
    st.integers(1, 3),
    st.lists(st.sampled_from([0.0, 0.05, 0.75, 2.05]), max_size=2),
)
@settings(max_examples=examples(150))
def test_each_cursor_gets_its_records_once_and_in_order(
    connecting: list[Client], batch: int, maximum: int, outages: list[float]
) -> None:
    """A client that stays reaches the history; one that leaves has all up to some offset."""
    scenario = Scenario(batch, maximum)

    async def main(_clock: MockClock) -> None:
        with trio.fail_after(1000):
            await run_scenario(scenario, connecting, outages)

    in_virtual_time(main)
    for client in connecting:
        found, expected = scenario.found[client], scenario.expected(client)
        for number in range(2):
            received = [offset for partition, offset in found if partition == number]
            due = [offset for partition, offset in expected if partition == number]
            assert received == due[: len(received)]
            if client.stays == FOREVER:
                assert (received, scenario.ended[client]) == (due, ScanEnd.REACHED)
    stats = scenario.scans.stats
    assert (stats.active, stats.clients, stats.waiting) == (0, 0, 0)
    assert not scenario.hub.history.size


@given(st.lists(st.floats(0, 2), min_size=1, max_size=30), st.integers(1, 4))
@settings(max_examples=examples(60))
def test_reads_do_not_grow_with_number_of_clients(arrivals: list[float], maximum: int) -> None:
    """Clients connect within 2 s, in which a scan reads half of the log: 4 reads of it at most."""
    connecting = [
        Client(after, PATTERNS[number % 4], (-1, number - 1), 0, FOREVER)
        for number, after in enumerate(arrivals)
    ]
    scenario = Scenario(2, maximum)

    async def main(_clock: MockClock) -> None:
        await run_scenario(scenario, connecting)

    in_virtual_time(main)
    assert scenario.log_reader.records_read <= 4 * 80


@pytest.mark.parametrize(
    ("second", "read"),
    [
        # Its positions are at or after the scan's: it joins at once.
        (Client(1.05, "*.*", (30, -1), 0, FOREVER), 80),
        # The scan is 10 records past its positions and has 70 to read: the scan goes back.
        (Client(0.45, "*.*", (-1, -1), 0, FOREVER), 90),
        # The scan is further past them than it has to read: a second scan begins.
        (Client(3.0, "*.*", (-1, -1), 0, FOREVER), 160),
    ],
)
def test_client_joins_where_that_costs_the_fewest_reads(second: Client, read: int) -> None:
    """One scan reads 80 records in batches of two, 0.1 s each."""
    scenario = Scenario(2, 4)

    async def main(_clock: MockClock) -> None:
        await run_scenario(scenario, [Client(0, "*.trade", (-1, -1), 0, FOREVER), second])

    in_virtual_time(main)
    assert scenario.log_reader.records_read == pytest.approx(read, abs=6)


async def test_client_that_reopens_while_scan_fails_is_served(
    autojump_clock: MockClock,
) -> None:
    """A scan that is over accepts no cursor: it would never read for it."""
    scenario = Scenario(2, 1)
    ended: list[ScanEnd | None] = []

    async def open_twice() -> None:
        cursor = scenario.scans.open(
            ResumeCursor({"*.*": dict.fromkeys(KEYS, -1)}), trio.current_time()
        )
        await trio.sleep(0.35)
        assert cursor.scan is not None
        while cursor.group is None:
            await cursor.wait()
        scenario.scans.close(cursor)
        # The new cursor is ahead of the failed scan.
        cursor = scenario.scans.open(
            ResumeCursor({"*.*": dict.fromkeys(KEYS, 37)}), trio.current_time()
        )
        while cursor.ended is None:
            await cursor.wait()
        scenario.scans.close(cursor)
        ended.append(cursor.ended)

    async with dispatching(scenario.hub) as feeder, trio.open_nursery() as nursery:
        await feeder.publish(Assignment(dict.fromkeys(KEYS, 39)), HistoryEnd())
        nursery.start_soon(scenario.scans.run)
        nursery.start_soon(scenario.fail_for_a_second, 0.35)
        with trio.fail_after(60):
            async with trio.open_nursery() as replays:
                for _ in range(8):
                    replays.start_soon(open_twice)
        nursery.cancel_scope.cancel()
    assert ended == [ScanEnd.REACHED] * 8


async def test_chunks_taken_by_all_clients_are_freed(autojump_clock: MockClock) -> None:
    """A scan of a long log keeps only the chunks that its clients have pending."""
    scenario = Scenario(2, 1)
    maximum = 0

    def chunks() -> int:
        # Without the garbage of this test and the tests before it.
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
        await run_scenario(scenario, [Client(0, "*.*", (-1, -1), 0, FOREVER)])
        nursery.cancel_scope.cancel()
    assert 0 < maximum <= 6
