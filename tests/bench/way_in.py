"""Connects and resumes without sockets: the work from a new connection to its live messages."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import trio
import trio.testing

from odin_ws.assembly import Upstream, build
from odin_ws.catalogue import default_catalogue
from odin_ws.listener.read_scheduler import running_read_scheduler
from odin_ws.serve import dispatcher, kafka_ingest, open_record_channel
from odin_ws.service import Service
from odin_ws.settings import Settings
from odin_ws.testing.memory_log import MemoryLog, MemorySource
from odin_ws.testing.memory_log_reader import MemoryLogReader
from odin_ws.testing.ports import LOOPBACK
from tests.bench.counting import Counting
from tests.handshake.requests import max_header_bytes
from tests.scenarios.wire import Op, frame

__all__ = ["bare_connects", "connects", "resumes"]

_HEAD: Final = max_header_bytes()
_SUBSCRIBE: Final = frame(Op.TEXT, b'{"type":"subscribe","data":{"channels":["BTC.trade"]}}')
_VALUE: Final = b'{"type":"TRADE_EXECUTED","timestamp":1767609600000,"data":{"size":7}}'

# Records of each topic before the clients were away, and meanwhile; of 12 partitions each.
_RECORDS_BEFORE: Final = 24
_RECORDS_MISSED: Final = 3


class _Peer:
    """A client that has sent its request and a command. See Transport."""

    def __init__(self, command: bytes) -> None:
        self.sent = bytearray()
        self._to_send = [command, _HEAD]

    def send_nowait(self, data: bytes | memoryview) -> int:
        self.sent += data
        return len(data)

    async def wait_writable(self) -> None:
        await trio.sleep_forever()

    async def receive_now(self, _max_bytes: int) -> bytes | None:
        return self._to_send.pop() if self._to_send else None

    async def receive_some(self, _max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._to_send:
            await trio.sleep_forever()
        return self._to_send.pop()

    def unacknowledged(self) -> int:
        """Return 0: all data is acknowledged at once."""
        return 0

    def send_eof(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


_Serve = Callable[[_Peer, str], Awaitable[None]]

# Opens a server; yields its function for connections, the command that each peer sends, and how
# often the command's messages or its response are there at the end.
_Open = Callable[[], AbstractAsyncContextManager[tuple[_Serve, bytes, tuple[bytes, int]]]]


def _serving(open_server: _Open, counting: Counting, count: int) -> int:
    """Count serving peers, from the start of their tasks until all have what they expect."""

    async def main() -> int:
        async with open_server() as (serve, command, (expected, times)):
            peers = [_Peer(command) for _ in range(count)]
            async with trio.open_nursery() as nursery:
                with counting() as counted:
                    for peer in peers:
                        nursery.start_soon(serve, peer, LOOPBACK)
                    await trio.testing.wait_all_tasks_blocked()
                assert all(peer.sent.count(expected) == times for peer in peers)
                nursery.cancel_scope.cancel()
        return counted.value

    return trio.run(main, clock=trio.testing.MockClock())


def connects(counting: Counting, count: int) -> int:
    """Count connects of the server, each with a subscription."""

    @asynccontextmanager
    async def open_server() -> AsyncIterator[tuple[_Serve, bytes, tuple[bytes, int]]]:
        service, _, _ = _service()
        yield service.server.serve, _SUBSCRIBE, (b"ack", 1)

    return _serving(open_server, counting, count)


def resumes(counting: Counting, count: int) -> int:
    """Count connects that resume from positions of 96 partitions and receive what they missed."""

    @asynccontextmanager
    async def open_server() -> AsyncIterator[tuple[_Serve, bytes, tuple[bytes, int]]]:
        service, upstream, log = _service()
        stream = service.hub.stream
        records, dispatched = open_record_channel()
        async with (
            dispatcher(service, dispatched),
            kafka_ingest(upstream, records),
            running_read_scheduler(service.read_scheduler),
        ):
            await _publish(log, _RECORDS_BEFORE)
            positions = stream.positions_of(stream.topics)
            await _publish(log, _RECORDS_MISSED)
            data = {
                "channels": ["*.*"],
                "positions": positions,
                "ids": stream.ids_of(stream.topics),
            }
            text = json.dumps({"type": "resume", "data": data})
            missed = _RECORDS_MISSED * len(stream.topics)
            yield service.server.serve, frame(Op.TEXT, text.encode()), (b'"replay":true', missed)

    return _serving(open_server, counting, count)


async def _publish(log: MemoryLog, count: int) -> None:
    for topic in default_catalogue().topics:
        for number in range(count):
            log.append(topic, b"BTC", _VALUE, partition=number % 12)
    await trio.testing.wait_all_tasks_blocked()


def _service() -> tuple[Service, Upstream, MemoryLog]:
    catalogue = default_catalogue()
    log = MemoryLog(catalogue.topics)
    upstream = Upstream(MemorySource(log), MemoryLogReader(log))
    # Without a broadcast rate no slot has to be waited for.
    settings = Settings(ws_max_broadcast_rate=0)
    return build(settings, catalogue, upstream), upstream, log


def bare_connects(counting: Counting, count: int) -> int:
    """Count a task that only reads twice and responds twice."""

    async def serve(peer: _Peer, _address: str) -> None:
        await peer.receive_now(4096)
        peer.send_nowait(b"HTTP/1.1 101")
        while await peer.receive_some(4096):
            peer.send_nowait(b"ack")

    @asynccontextmanager
    async def open_server() -> AsyncIterator[tuple[_Serve, bytes, tuple[bytes, int]]]:
        yield serve, _SUBSCRIBE, (b"ack", 1)

    return _serving(open_server, counting, count)
