"""After a drain in bad conditions all clients resume at another instance, and nothing is lost."""

from __future__ import annotations

import json
import signal
from collections.abc import Collection, Sequence
from typing import Any

import pytest
import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import connect

from odin_ws.records import Record
from odin_ws.testing.brokers import Broker, embedded_broker
from odin_ws.testing.follower import Follower
from odin_ws.testing.ports import LOOPBACK
from tests.integration import kafka
from tests.integration.events import event
from tests.integration.running_source import Publisher, Sent, wait_until
from tests.integration.servers import Server, serving

PARTITIONS = 3

# Records before the servers start: replays of them are under way when the signal comes.
BEFORE = 2000

# Time for the other instance to send everything, on a busy machine.
END_SECONDS = 90

# Clients of each kind.
COUNT = 6

SETTINGS = {
    # Replays read Kafka's log, which a stalled broker interrupts.
    "WS_HISTORY_BYTES": "0",
    "WS_DRAIN_TIMEOUT_SECONDS": "7",
    "KAFKA_FETCH_MAX_WAIT_SECONDS": "0.05",
}


class Client(Follower):
    """A follower over a real connection. `frames`: whether it asks for batches."""

    def __init__(self, frames: str, pause: float = 0.0) -> None:
        super().__init__("*.trade", pause=pause)
        self.codes: list[int] = []
        self._frames = frames

    async def follow(self, server: Server, **data: Any) -> None:
        """Connect, subscribe or resume, and read until the connection ends."""
        self.items, self.live, self.catching_up = [], False, False
        uri = f"ws://{LOOPBACK}:{server.port}/ws"
        kind = "resume" if self.interests else "subscribe"
        fields = self._resume() if self.interests else {"positions": True, **data}
        command = {**fields, "channels": self.channels, "frames": self._frames}
        async with connect(uri, proxy=None, max_size=None, open_timeout=30) as websocket:
            await websocket.send(json.dumps({"type": kind, "data": command}))
            try:
                while True:
                    for item in single(json.loads(await websocket.recv())):
                        self.take(item)
                        if self.pause:
                            await trio.sleep(self.pause)
            except ConnectionClosed:
                pass  # the code says why
            self.codes.append(websocket.close_code or 0)


def single(item: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the messages of a batch, or another item alone."""
    if item["type"] != "batch":
        return [item]
    replay = {"replay": True} if item.get("replay") else {}
    return [
        {"type": "message", "seq": item["seq"] + number, **replay, **message}
        for number, message in enumerate(item["messages"])
    ]


def clients() -> tuple[list[Client], list[Client]]:
    """Live clients, and slow ones that replay; half of each get batches."""
    kinds = ["single", "batch"] * (COUNT // 2)
    return [Client(frames) for frames in kinds], [Client(frames, 0.002) for frames in kinds]


def trades(first: int, count: int) -> list[Sent]:
    """Records of several channels and partitions."""
    return [
        event(f"T{number % 40}", "trade", number=number) for number in range(first, first + count)
    ]


async def publish_until(stop: trio.Event, broker: Broker, published: list[int]) -> None:
    """Publish 200 records a second, also while the broker is stalled."""
    publisher = Publisher(broker.bootstrap)
    while not stop.is_set():
        publisher.queue(trades(published[0], 10), [])
        published[0] += 10
        # Delivers the reports; a stalled broker is not waited for.
        await trio.to_thread.run_sync(publisher._producer.poll, 0)  # noqa: SLF001
        await trio.sleep(0.05)
    await publisher.flush()


async def follow_from(drained: Server, other: Server, client: Client, **data: Any) -> None:
    """Follow the first server to its end, then the other one."""
    await client.follow(drained, **data)
    client.pause = 0
    await client.follow(other)


async def drain(case: str, server: Server, broker: Broker) -> None:
    """Send SIGTERM in the conditions of the case, until the server has ended."""
    if case == "stalled broker":
        broker.pause()
        await trio.sleep(1)
    for _ in range(3 if case == "three signals" else 1):
        server.signal(signal.SIGTERM)
        await trio.sleep(0.3)
    status = await server.ended()
    assert status == (1 if case == "three signals" else 0), server.output
    assert "Traceback" not in server.output
    if case == "stalled broker":
        await trio.sleep(1)
        broker.unpause()


def at_the_end(every: Collection[Client], ends: dict[int, int]) -> bool:
    """Whether all clients have received the last record of each partition."""
    return all(
        {key.partition: offset + 1 for key, offset in client.positions.items()} == ends
        for client in every
    )


async def log_of(broker: Broker, count: int) -> list[Record]:
    """Read the whole log with a consumer of another library."""
    found = await kafka.read_records(broker.bootstrap, ["odin.trades"], PARTITIONS, count)
    return [
        Record(
            message.topic() or "",
            message.partition() or 0,
            message.offset() or 0,
            -1,
            bytes(message.key() or b""),
            b"",
        )
        for message in found
    ]


def ends_of(records: Sequence[Record]) -> dict[int, int]:
    """The number of records of each partition."""
    ends: dict[int, int] = {}
    for record in records:
        ends[record.partition] = max(record.offset + 1, ends.get(record.partition, 0))
    return ends


@pytest.mark.parametrize(
    ("case", "workers"),
    [
        ("running replays", "2"),
        ("stalled broker", "1"),
        ("three signals", "2"),
        pytest.param("running replays", "1", marks=pytest.mark.long),
        pytest.param("stalled broker", "2", marks=pytest.mark.long),
        pytest.param("three signals", "1", marks=pytest.mark.long),
    ],
)
async def test_drained_clients_resume_elsewhere_and_lose_nothing(case: str, workers: str) -> None:
    """Each client has every record since its start once, and no instance reports a loss."""
    async with embedded_broker() as broker:
        await kafka.create_topics(broker.bootstrap, ["odin.trades"], PARTITIONS)
        await Publisher(broker.bootstrap).publish(trades(0, BEFORE))
        async with (
            serving(broker.bootstrap, SETTINGS | {"WS_WORKERS": workers}) as server,
            serving(broker.bootstrap, SETTINGS) as other,
        ):
            published = [BEFORE]
            live, replaying = clients()
            every = live + replaying
            async with trio.open_nursery() as nursery:
                for client in live:
                    nursery.start_soon(follow_from, server, other, client)
                await wait_until(lambda: all(client.live for client in live))
                async with trio.open_nursery() as publishing:
                    stop = trio.Event()
                    publishing.start_soon(publish_until, stop, broker, published)
                    for client in replaying:
                        subscribe = lambda one=client: follow_from(server, other, one, since_ms=0)  # noqa: E731
                        nursery.start_soon(subscribe)
                    await wait_until(lambda: all(len(one.messages) > 100 for one in replaying))
                    assert all(len(client.messages) < BEFORE for client in replaying)
                    await drain(case, server, broker)
                    await trio.sleep(2)
                    stop.set()
                records = await log_of(broker, published[0])
                await wait_until(lambda: at_the_end(every, ends_of(records)), END_SECONDS)
                nursery.cancel_scope.cancel()
        for client in every:
            assert client.codes == [1012]
            client.check(records)
            assert not client.lost
