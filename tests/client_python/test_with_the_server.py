"""The client with a real server: every record exactly once, whatever fails between them."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, NamedTuple, TypeVar

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from odin_ws.catalogue import default_catalogue
from odin_ws.settings import Settings
from odin_ws.testing.memory_connection import ClientStream
from odin_ws.testing.memory_log import MemoryLog
from odin_ws.testing.scenario import Scenario, open_scenario
from odin_ws_client import Disconnected, Message, Resumed, Subscribed, Subscription
from odin_ws_client.core.client import BaseClient
from tests.client_python.fake import PATIENCE, TRADES, Highest, take, take_offsets
from tests.client_python.shells import SHELLS, Open
from tests.hypothesis_examples import examples
from tests.virtual_time import in_virtual_time

PARTITIONS: Final = 3

Offsets = dict[int, list[int]]

T = TypeVar("T")


class Cut(NamedTuple):
    """Where a wire ends: after so many bytes from the server, told or in silence."""

    budget: int
    silent: bool = False


class CutStream(trio.abc.Stream):
    """A wire that is cut."""

    def __init__(self, wire: ClientStream, cut: Cut) -> None:
        self._wire = wire
        self._budget = cut.budget
        self._silent = cut.silent

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, if the wire still holds."""
        await self._wire.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for room."""
        await self._wire.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what is left until the wire breaks."""
        if not self._budget:
            if self._silent:
                await trio.sleep_forever()
            self._wire.break_off()
            raise trio.BrokenResourceError
        data = await self._wire.receive_some(min(max_bytes or self._budget, self._budget))
        self._budget -= len(data)
        return data

    async def aclose(self) -> None:
        """Close."""
        await self._wire.aclose()


class Instances:
    """Servers that read one log; a client gets any that takes it, over a wire that may break."""

    def __init__(
        self, open_client: Open, scenarios: Sequence[Scenario], cuts: Iterator[Cut]
    ) -> None:
        self._open_client = open_client
        self._scenarios = scenarios
        self._cuts = cuts
        self._turn = 0

    async def connect(self) -> trio.abc.Stream:
        """Dial the next one; over it is who rejects."""
        self._turn += 1
        wire = await self._scenarios[self._turn % len(self._scenarios)].dial()
        cut = next(self._cuts, None)
        return wire if cut is None else CutStream(wire, cut)

    def follow(
        self, subscription: Subscription = TRADES, **options: Any
    ) -> AbstractAsyncContextManager[BaseClient]:
        """A client of them."""
        usual: dict[str, Any] = {"rng": Highest(), "connect": self.connect}
        return self._open_client("ws://odin.test/ws", subscription, **usual | options)


@asynccontextmanager
async def instances(
    open_client: Open, count: int, cuts: Sequence[Cut] = (), **options: Any
) -> AsyncIterator[tuple[Instances, list[Scenario]]]:
    """Run so many."""
    log = MemoryLog(default_catalogue().topics, PARTITIONS)
    async with trio.open_nursery() as nursery:
        stop = trio.Event()
        scenarios = [
            await nursery.start(_run_scenario, log, stop, Settings(**options)) for _ in range(count)
        ]
        yield Instances(open_client, scenarios, iter(cuts)), scenarios
        stop.set()


async def _run_scenario(
    log: MemoryLog,
    stop: trio.Event,
    options: Settings,
    *,
    task_status: trio.TaskStatus[Scenario],
) -> None:
    async with open_scenario(options, log=log) as scenario:
        task_status.started(scenario)
        await stop.wait()


def published(log: MemoryLog) -> Offsets:
    """The offsets of every trade."""
    return {
        key.partition: list(range(end))
        for key, end in log.ends().items()
        if key.topic == "odin.trades" and end
    }


async def collect(client: BaseClient, count: int) -> Offsets:
    """The offsets of the next so many messages by partition, in the order they came."""
    found: Offsets = {}
    with trio.fail_after(PATIENCE):
        async for message in client.messages():
            found.setdefault(message.partition, []).append(message.offset)
            count -= 1
            if not count:
                return found
    raise AssertionError("the client has ended")


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=examples(40))
@given(
    cuts=st.lists(st.builds(Cut, st.integers(100, 4000), st.booleans()), max_size=12),
    pauses=st.lists(st.sampled_from([0, 0, 0, 0.01, 0.1, 3]), min_size=1, max_size=60),
    pace=st.sampled_from([0, 0.01, 0.3]),
)
def test_cut_connections_lose_and_repeat_nothing(
    shell: str, cuts: list[Cut], pauses: list[float], pace: float
) -> None:
    """Every record comes once and in order within its partition, wherever connections are cut."""

    async def check(_clock: object) -> None:
        async with (
            instances(SHELLS[shell], 2, cuts) as (servers, scenarios),
            servers.follow() as client,
        ):
            log = scenarios[0].log
            await wait_for(client, Subscribed)

            async def publish() -> None:
                for number, pause in enumerate(pauses):
                    await trio.sleep(pause)
                    scenarios[0].publish(f"T{number % 7}", "trade", "x" * (number * 37 % 400))

            found: Offsets = {}
            async with trio.open_nursery() as nursery:
                nursery.start_soon(publish)
                with trio.fail_after(PATIENCE):
                    for _ in pauses:
                        message = await anext(client.messages())
                        found.setdefault(message.partition, []).append(message.offset)
                        await trio.sleep(pace)
            assert found == published(log)
            assert client.positions["odin.trades"] == {
                key.partition: end - 1
                for key, end in log.ends().items()
                if key.topic == "odin.trades"
            }
            assert (client.gaps, client.duplicates, client.lost) == (0, 0, 0)

    in_virtual_time(check)


async def wait_for(client: BaseClient, kind: type[T]) -> T:
    """The next item of a kind, passing over others."""
    with trio.fail_after(PATIENCE):
        async for item in client:
            if isinstance(item, kind):
                return item
    raise AssertionError("the client has ended")


async def test_client_of_a_draining_server_moves_to_another(open_client: Open) -> None:
    """It reconnects after `after_ms`, and misses nothing that was published meanwhile."""
    async with instances(open_client, 2) as (servers, scenarios), servers.follow() as client:
        await take(client, Subscribed)
        scenarios[0].publish("BTC", "trade", 1)
        assert await take_offsets(client, 1) == [0]
        scenarios[1].stop()
        left = await take(client, Disconnected)
        assert left.code == 1012
        scenarios[0].publish("BTC", "trade", 2)
        resumed = await take(client, Resumed)
        assert resumed.recovered
        assert resumed.replayed == 1
        assert resumed.seconds_away == pytest.approx(left.retry_in)
        assert await take_offsets(client, 1) == [1]


async def test_another_process_resumes_from_stored_positions(open_client: Open) -> None:
    """From positions that were stored as JSON when the first one ended."""
    async with instances(open_client, 1) as (servers, (scenario,)):
        async with servers.follow() as client:
            await take(client, Subscribed)
            for number in range(30):
                scenario.publish(f"T{number}", "trade", number)
            first = await collect(client, 17)
            kept = json.dumps(client.positions)
        for number in range(30):
            scenario.publish(f"T{number}", "trade", number)
        async with servers.follow(positions=json.loads(kept)) as client:
            second = await collect(client, 43)
        both = {
            number: first.get(number, []) + second.get(number, []) for number in range(PARTITIONS)
        }
        assert both == published(scenario.log)


async def test_records_deleted_by_retention_are_reported_as_lost(open_client: Open) -> None:
    """Each record is delivered, or in the range of a loss."""
    async with instances(open_client, 1) as (servers, (scenario,)):
        log = scenario.log
        async with servers.follow() as client:
            await take(client, Subscribed)
            kept = client.positions
        for _ in range(5):
            log.append("odin.trades", b"BTC", b"{}", partition=1)
        log.delete_before("odin.trades", 1, 3)
        # One that has not seen them itself.
        async with (
            open_scenario(log=log) as fresh,
            servers.follow(positions=kept, connect=fresh.dial) as client,
        ):
            resumed = await take(client, Resumed)
            assert (resumed.recovered, resumed.reason) == (False, "expired")
            assert resumed.lost == {"odin.trades": {1: (0, 2)}}
            assert await take_offsets(client, 2) == [3, 4]
            assert client.lost == 3


async def test_since_ms_begins_at_that_time(open_client: Open) -> None:
    """Also if the connection is lost meanwhile."""
    async with instances(open_client, 1, [Cut(1300)]) as (servers, (scenario,)):
        for number in range(40):
            scenario.log.append("odin.trades", b"BTC", b"{}", partition=0, timestamp=1000 + number)
        wanted = Subscription(channels=["*.trade"], since_ms=1010)
        async with servers.follow(wanted) as client:
            assert (await collect(client, 30))[0] == list(range(10, 40))
            assert client.connections == 2


async def test_snapshot_comes_before_live_messages(open_client: Open) -> None:
    """The last message of each channel, then new ones; positions are those of the new ones."""
    async with instances(open_client, 1) as (servers, (scenario,)):
        for token in ("BTC", "ETH", "BTC"):
            scenario.publish(token, "trade", token)
        await trio.sleep(1)
        async with servers.follow(Subscription(channels=["*.trade"], snapshot=True)) as client:
            await take(client, Subscribed)
            start = client.positions
            state = [await take(client, Message) for _ in range(2)]
            assert {message.channel for message in state} == {"BTC.trade", "ETH.trade"}
            assert all(message.replay for message in state)
            assert client.positions == start
            scenario.publish("BTC", "trade", "new")
            assert (await take(client, Message)).data["data"] == "new"
            assert client.duplicates == 0


async def test_rate_and_filter_are_kept_across_connections(open_client: Open) -> None:
    """Both are sent again with a resume; a message held at the lost connection comes then."""
    where = {"field": "data", "gte": 10}
    wanted = Subscription(channels=["BTC.trade"], max_rate=0.1, where=where)
    async with instances(open_client, 1) as (servers, (scenario,)):
        async with servers.follow(wanted) as client:
            await take(client, Subscribed)
            for number in (10, 1, 11, 12, 2):
                scenario.publish("BTC", "trade", number)
                await trio.sleep(0.2)
            assert (await take(client, Message)).data["data"] == 10
            kept = client.positions
        async with servers.follow(wanted, positions=kept) as client:
            assert (await take(client, Resumed)).replayed == 2
            found = [(await take(client, Message)).data["data"] for _ in range(2)]
            assert found == [11, 12]
            for number in (3, 13, 14):
                scenario.publish("BTC", "trade", number)
                await trio.sleep(0.2)
            message = [await take(client, Message) for _ in range(2)][-1]
            assert (message.data["data"], message.skipped) == (14, 0)


async def test_slow_consumer_receives_every_record(open_client: Open) -> None:
    """The server closes it as slow, and it resumes until every record has come."""
    async with instances(open_client, 1, ws_send_queue_bytes=65536) as (servers, (scenario,)):

        async def narrow() -> trio.abc.Stream:
            return await scenario.dial(capacity=4096)

        async with servers.follow(connect=narrow) as client:
            await take(client, Subscribed)
            # Compressed, too, it is more than a client holds.
            noise = random.Random(1)  # noqa: S311 -- the same each time
            for number in range(2000):
                scenario.publish("BTC", "trade", noise.randbytes(1000).hex())
                if number % 100 == 0:
                    await trio.sleep(0.1)
            await trio.sleep(60)
            (offsets,) = (await collect(client, 2000)).values()
            assert offsets == list(range(2000))
            assert client.connections > 1


async def test_client_leaves_a_stopped_server(open_client: Open) -> None:
    """The server neither answers nor ends: the client resumes at another one."""
    async with (
        instances(open_client, 2, [Cut(900, silent=True)]) as (servers, scenarios),
        servers.follow() as client,
    ):
        await take(client, Subscribed)
        for number in range(20):
            scenarios[0].publish("BTC", "trade", number)
        lost = await wait_for(client, Disconnected)
        assert lost.reason == "the server has sent nothing for 20 s"
        assert (await take(client, Resumed)).recovered
        await wait_for(client, Message)
