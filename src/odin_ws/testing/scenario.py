"""A scenario: the whole server in memory with clients, in virtual time.

async def test_a_trade_arrives(autojump_clock):
    async with open_scenario() as scenario:
        client = await scenario.connect()
        await client.subscribe(channels=["BTC.trade"])
        scenario.publish("BTC", "trade", {"price": 1})
        assert (await client.message())["channel"] == "BTC.trade"
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
import trio_websocket

from odin_ws.assembly import Upstream, build, history_records
from odin_ws.canary.credential import CanaryCredential
from odin_ws.catalogue import Catalogue, default_catalogue
from odin_ws.kafka.source_status import SourceState
from odin_ws.listener.read_scheduler import running_read_scheduler
from odin_ws.listener.transport import Transport
from odin_ws.records import Record
from odin_ws.serve import canary, dispatcher, kafka_ingest, open_record_channel, subscribers
from odin_ws.settings import Settings
from odin_ws.testing.memory_connection import ClientStream, transport_pair
from odin_ws.testing.memory_log import MemoryLog, MemorySource
from odin_ws.testing.memory_log_reader import MemoryLogReader

__all__ = ["Closed", "Scenario", "ScenarioClient", "open_scenario"]

# Timeout of a waiting client in virtual seconds, so that tests fail instead of hanging.
_PATIENCE: Final = 60

# Positions in the form of acks, or with integers as partitions.
Positions = Mapping[str, Mapping[Any, int]]

Serve = Callable[[Transport, str], Awaitable[None]]


class Closed(Exception):
    """The server closed the connection, with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class ScenarioClient:
    """A WebSocket client; `stream` is its end of the connection."""

    def __init__(self, websocket: trio_websocket.WebSocketConnection, stream: ClientStream) -> None:
        self.websocket = websocket
        self.stream = stream
        self._responses: list[dict[str, Any]] = []
        self._messages: list[dict[str, Any]] = []

    async def send(self, text: str) -> None:
        """Send a text frame unchanged. Raises Closed."""
        try:
            await self.websocket.send_message(text)
        except trio_websocket.ConnectionClosed as error:
            raise _closed(error) from None

    async def command(self, kind: str, **data: Any) -> dict[str, Any]:
        """Send a command and return its response; keeps messages that arrive before it."""
        await self.send(json.dumps({"type": kind, "data": data}))
        return await self.response()

    async def subscribe(self, **data: Any) -> dict[str, Any]:
        """Subscribe and wait for the ack."""
        return await self.command("subscribe", **data)

    async def resume(self, positions: Positions, **data: Any) -> dict[str, Any]:
        """Resume after `{topic: {partition: offset}}` and return the ack."""
        return await self.command("resume", positions=positions, **data)

    async def unsubscribe(self, **data: Any) -> dict[str, Any]:
        """Unsubscribe and wait for the ack."""
        return await self.command("unsubscribe", **data)

    async def message(self) -> dict[str, Any]:
        """Return the next message, an item with a `seq`. Raises Closed."""
        while not self._messages:
            await self._receive()
        return self._messages.pop(0)

    async def messages(self, count: int) -> list[dict[str, Any]]:
        """Return the next `count` messages."""
        return [await self.message() for _ in range(count)]

    async def response(self) -> dict[str, Any]:
        """Return the next item that is no message: an ack, an error, a pong."""
        while not self._responses:
            await self._receive()
        return self._responses.pop(0)

    async def silence(self, seconds: float) -> bool:
        """Return whether no message arrives for this time."""
        with trio.move_on_after(seconds):
            self._messages.insert(0, await self.message())
        return not self._messages

    async def closed(self) -> Closed:
        """Wait for the close and return it; drops messages."""
        try:
            while True:
                await self._receive()
        except Closed as closed:
            return closed

    async def _receive(self) -> None:
        with trio.fail_after(_PATIENCE):
            try:
                item = json.loads(await self.websocket.get_message())
            except trio_websocket.ConnectionClosed as error:
                raise _closed(error) from None
        (self._messages if "seq" in item else self._responses).append(item)


def _closed(error: trio_websocket.ConnectionClosed) -> Closed:
    """Return the library's exception as Closed; 1006 after an end without a close frame."""
    if error.reason is None:
        return Closed(1006, "")
    return Closed(int(error.reason.code), error.reason.reason or "")


class Scenario:
    """A running server.

    Attributes:
        log: the log that stands for Kafka.
        source: the live reader of the log, which can be made to fail.
        log_reader: the reader for replays, which can be made to fail.
        service: the service object, with the values of health and metrics.
    """

    def __init__(  # noqa: PLR0913 -- what a test may choose
        self,
        settings: Settings,
        log: MemoryLog,
        catalogue: Catalogue,
        nursery: trio.Nursery,
        *,
        credential: CanaryCredential | None = None,
        upstream: Upstream | None = None,
    ) -> None:
        self.log = log
        self.source = MemorySource(
            log,
            rate=settings.ws_max_kafka_rate,
            history_seconds=settings.ws_history_seconds,
            history_records=history_records(settings),
        )
        self.log_reader = MemoryLogReader(log)
        self._upstream = upstream or Upstream(self.source, self.log_reader)
        self.service = build(settings, catalogue, self._upstream, canary=credential)
        self._credential = credential
        # Credentials expire by the wall clock, which virtual time does not advance.
        started = trio.current_time()
        self.service.server.authenticator.expiry.now = lambda: (
            time.time() + trio.current_time() - started
        )
        self._catalogue = catalogue
        self._transports: list[Transport] = []
        self._nursery = nursery
        self._serve: Serve | None = None
        self._server_nursery: trio.Nursery | None = None
        self._accepting = trio.Event()
        self._stop = trio.Event()
        self._scope = trio.CancelScope()
        self._stopped = trio.Event()

    def stop(self) -> None:
        """Begin to drain, as after the first SIGTERM."""
        self._stop.set()

    async def drain(self) -> None:
        """Drain, and wait until the last connection has ended."""
        self.stop()
        await self._stopped.wait()

    def cancel(self) -> None:
        """Stop at once, as after the second signal."""
        self._scope.cancel()

    def crash(self) -> None:
        """Cut all connections without a close frame, as after SIGKILL."""
        for transport in self._transports:
            transport.close()
        self.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the server until its drain has ended."""
        service = self.service
        records, dispatched = open_record_channel()
        with self._scope:
            async with (
                dispatcher(service, dispatched),
                kafka_ingest(self._upstream, records),
                running_read_scheduler(service.read_scheduler),
                subscribers(service, self.accept),
                canary(service, self._credential, self.dial, trio.current_time),
            ):
                await service.source_status.state.wait_value(SourceState.LIVE)
                # The feed is live before the hub has read the end of the history.
                await service.hub.stream.history_loaded.wait()
                task_status.started()
                await self._stop.wait()
        self._stopped.set()

    def publish(self, token: str, category: str, data: Any = None, *, kind: str = "") -> Record:
        """Append an event of a token to the topic of a category; returns the record."""
        topic = self._catalogue.categories[category]
        event = {"type": kind or topic.events[0], "timestamp": 0, "data": data}
        return self.log.append(topic.name, token.encode(), json.dumps(event).encode())

    async def dial(self, capacity: int = 1 << 20, peer: str = "memory") -> ClientStream:
        """Open a connection without a handshake; `peer`: its address."""
        transport, stream = transport_pair(capacity)
        await self.attach(transport, peer)
        return stream

    async def attach(self, transport: Transport, peer: str = "memory") -> None:
        """Pass a connection to the server.

        Raises:
            ConnectionRefusedError: the server accepts no more connections.
        """
        await self._accepting.wait()
        if self._serve is None or self._server_nursery is None:
            raise ConnectionRefusedError
        self._transports.append(transport)
        self._server_nursery.start_soon(self._serve, transport, peer)

    async def connect(
        self, path: str = "/ws", *, capacity: int = 1 << 20, token: str | None = None
    ) -> ScenarioClient:
        """Connect a WebSocket client. `capacity`: bytes that the network buffers for it.

        `token`: its bearer token.

        Raises:
            trio_websocket.ConnectionRejected: the server rejected the handshake.
        """
        stream = await self.dial(capacity)
        websocket = await trio_websocket.wrap_client_stream(
            self._nursery,
            stream,  # type: ignore[arg-type]  # any trio.abc.Stream is accepted, as its docstring says
            "test",
            path,
            extra_headers=[] if token is None else [(b"Authorization", f"Bearer {token}".encode())],
        )
        return ScenarioClient(websocket, stream)

    async def accept(self, serve: Serve, nursery: trio.Nursery) -> None:
        """Pass the connections of `dial` to the server until cancelled, like a listener."""
        self._serve, self._server_nursery = serve, nursery
        self._accepting.set()
        try:
            await trio.sleep_forever()
        finally:
            self._serve = None


@asynccontextmanager
async def open_scenario(  # noqa: PLR0913 -- what a test may choose
    settings: Settings | None = None,
    *,
    catalogue: Catalogue | None = None,
    partitions: int = 12,
    log: MemoryLog | None = None,
    credential: CanaryCredential | None = None,
    upstream: Upstream | None = None,
) -> AsyncIterator[Scenario]:
    """Run a server in memory for the length of the block; the server drains at its end.

    Several scenarios may share a `log`, as instances share Kafka. With a `credential` the server
    has a canary. With an `upstream` it reads from there, and not from `log`.
    """
    settings = settings or Settings()
    catalogue = catalogue or default_catalogue()
    log = log or MemoryLog(catalogue.topics, partitions)
    async with trio.open_nursery() as nursery:
        scenario = Scenario(
            settings, log, catalogue, nursery, credential=credential, upstream=upstream
        )
        nursery.start_soon(scenario.service.watch_source)
        await nursery.start(scenario.run)
        yield scenario
        await scenario.drain()
        nursery.cancel_scope.cancel()
