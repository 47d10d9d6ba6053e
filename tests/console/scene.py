"""A lively quarter of an hour for the pictures: a crowd that comes and goes, and what goes wrong.

Everything is real: a broker, a server, clients. Only the choice of what happens is made up.
"""

from __future__ import annotations

import json
import math
import random
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import trio
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.trio.client import ClientConnection, connect

from odin_ws.catalogue import default_catalogue
from odin_ws.cli.failures import CommandFailed
from odin_ws.cli.kafka_clients import Producer, open_producer
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.testing.brokers import apache_kafka
from odin_ws.testing.events import EventGenerator, token_names
from odin_ws.testing.ports import LOOPBACK
from tests.integration import kafka
from tests.integration.running_source import Publisher, Sent
from tests.integration.servers import Server, serving

__all__ = ["open_scene"]

CLIENTS: Final = 60
TOKENS: Final = 12
SLICE: Final = 0.1

# The subscriptions of clients: a ticker, a portfolio, everything.
SUBSCRIPTIONS: Final[Sequence[dict[str, Any]]] = (
    *({"channels": [f"{token}.trade", f"{token}.analytics"]} for token in token_names(TOKENS)),
    {"bundles": ["TRADING"]},
    {"channels": ["*.trade"]},
    {"channels": ["*.*"]},
    {"channels": ["*.social", "*.community"], "delivery": "latest"},
)

SETTINGS: Final = {
    "KAFKA_FETCH_MAX_WAIT_SECONDS": "0.02",
    "KAFKA_PROBE_SECONDS": "2",
    "WS_SEND_QUEUE_BYTES": "200000",
    "WS_WRITE_TIMEOUT_SECONDS": "5",
}


class Scene:
    """Clients and faults of a server; `rng` has a fixed seed."""

    def __init__(self, server: Server, bootstrap: str) -> None:
        self.rng = random.Random(7)  # noqa: S311 -- no secret
        self.server = server
        self._bootstrap = bootstrap
        self._uri = f"ws://{LOOPBACK}:{server.port}/ws"
        self._broken = trio.Event()

    async def run(self) -> None:
        """Run until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._publish)
            nursery.start_soon(self._publish_invalid)
            nursery.start_soon(self._break_all)
            nursery.start_soon(self._be_rejected)
            nursery.start_soon(self._be_slow)
            for _ in range(CLIENTS):
                nursery.start_soon(self._come_and_go)

    async def _publish(self) -> None:
        """Publish at a varying rate with occasional peaks."""
        catalogue = default_catalogue()
        events = EventGenerator(token_names(TOKENS), 7, catalogue)
        security = KafkaSecurity((self._bootstrap,))
        while True:
            # On a busy machine the broker may respond later than the producer's timeout.
            try:
                async with open_producer(security, catalogue.topics.keys()) as producer:
                    await self._send(producer, events)
            except* CommandFailed:
                pass

    async def _send(self, producer: Producer, events: EventGenerator) -> None:
        began, owed = trio.current_time(), 0.0
        while True:
            await trio.sleep(SLICE)
            minutes = (trio.current_time() - began) / 60
            peak = 90 if 4 < minutes % 7 < 4.6 else 0
            rate = 80 + 35 * math.sin(minutes * 1.7) + 12 * math.sin(minutes * 9) + peak
            owed += rate * SLICE * self.rng.uniform(0.7, 1.3)
            await producer.send([events.next(1000 * now_ms()) for _ in range(int(owed))])
            owed -= int(owed)

    async def _publish_invalid(self) -> None:
        """Publish invalid records."""
        publisher = Publisher(self._bootstrap)
        wrong = [
            Sent("odin.trades", b"BTC", b"not json"),
            Sent("odin.social", None, b"{}"),
            Sent("odin.trades", b"BTC", None),
            Sent("odin.metadata", b"BTC", b"[1]"),
        ]
        while True:
            await trio.sleep(self.rng.expovariate(1 / 20))
            await publisher.publish([self.rng.choice(wrong)])

    async def _come_and_go(self) -> None:
        await trio.sleep(self.rng.uniform(0, 20))
        positions: dict[str, dict[str, int]] = {}
        subscription = self.rng.choice(SUBSCRIPTIONS)
        while True:
            with suppress(OSError, ConnectionClosed, InvalidHandshake):
                async with connect(self._uri, proxy=None) as websocket:
                    await self._follow(websocket, subscription, positions)
            await trio.sleep(self.rng.uniform(0.2, 8))

    async def _follow(
        self,
        websocket: ClientConnection,
        subscription: dict[str, Any],
        positions: dict[str, dict[str, int]],
    ) -> None:
        kind = "resume" if positions else "subscribe"
        data = subscription | {"positions": positions or True}
        await websocket.send(json.dumps({"type": kind, "data": data}))
        categories: dict[str, str] = {}
        with trio.move_on_after(self.rng.expovariate(1 / 240)):
            async for text in websocket:
                item = json.loads(text)
                if item["type"] == "message":
                    partition, _, offset = item["pos"].partition("-")
                    topic = categories[item["channel"].rpartition(".")[2]]
                    positions.setdefault(topic, {})[partition] = int(offset)
                elif "categories" in item:
                    categories |= item["categories"]
                    for topic, offsets in item.get("positions", {}).items():
                        positions.setdefault(topic, {}).update(offsets)
                if self._broken.is_set():
                    await trio.aclose_forcefully(websocket.stream)
                    return

    async def _break_all(self) -> None:
        """Close all connections at once, so that all clients resume."""
        while True:
            await trio.sleep(200)
            self._broken.set()
            await trio.sleep(2)
            self._broken = trio.Event()

    async def _be_rejected(self) -> None:
        """Send wrong paths, requests without upgrade, and wrong names, now and then."""
        while True:
            await trio.sleep(self.rng.expovariate(1 / 9))
            with suppress(OSError, ConnectionClosed, InvalidHandshake):
                match self.rng.randrange(4):
                    case 0:
                        async with connect(self._uri + "/old", proxy=None):
                            pass
                    case 1:
                        stream = await trio.open_tcp_stream(LOOPBACK, self.server.port)
                        await stream.send_all(b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n")
                        await stream.receive_some(1000)
                        await stream.aclose()
                    case _:
                        async with connect(self._uri, proxy=None) as websocket:
                            names = {"channels": ["BTC.prices"], "topics": ["odin.orders"]}
                            text = json.dumps({"type": "subscribe", "data": names})
                            await websocket.send(text)
                            await websocket.recv()

    async def _be_slow(self) -> None:
        """Subscribe to everything and read nothing until the server closes the connection."""
        while True:
            await trio.sleep(self.rng.uniform(5, 60))
            narrow = trio.socket.socket()
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await narrow.connect((LOOPBACK, self.server.port))
            with suppress(OSError, ConnectionClosed):
                stream = trio.SocketStream(narrow)
                key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                await stream.send_all(
                    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" + key + b"\r\n"
                )
                await stream.receive_some(1000)
                data = {"channels": ["*.*"], "since_ms": now_ms() - 20_000}
                text = json.dumps({"type": "subscribe", "data": data}).encode()
                mask = bytes(4)
                await stream.send_all(b"\x81" + bytes([0x80 | len(text)]) + mask + text)
                await trio.sleep(60)
            narrow.close()


def now_ms() -> int:
    """Return the wall clock's time."""
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def open_scene(**settings: str) -> AsyncIterator[Server]:
    """Run Apache Kafka, a server and the scene for the length of the block.

    The embedded broker gets slow with the records of ten minutes.
    """
    with tempfile.TemporaryDirectory() as folder:
        async with apache_kafka(kafka.libs(), Path(folder)) as broker:
            await kafka.create_topics(broker.bootstrap)
            async with (
                serving(broker.bootstrap, SETTINGS | settings) as server,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(Scene(server, broker.bootstrap).run)
                yield server
                nursery.cancel_scope.cancel()
