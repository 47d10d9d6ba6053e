"""Events of the stack: alerts fire and are resolved, and each panel has data."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import attrs
import trio

from odin_ws.testing.ports import LOOPBACK
from tests.chaos.instances import Instance
from tests.deploy.queries import dashboard_queries
from tests.integration.running_source import until
from tests.stack.stack import Stack

__all__ = ["FASTER", "RATE", "SETTINGS", "Seen", "alerts_fire_and_resolve", "panels_without_data"]

# Factor of speed: `for: 2m` becomes 4 s, a range of 5 minutes 10 s.
FASTER: Final = 30

# Events per second: they fill the kernel's buffers of a client that does not read in two seconds.
RATE: Final = 2000

# So that a client that does not read is closed within seconds, a broker is missed in one, and a
# start reads few records.
SETTINGS: Final = {
    "WS_SEND_QUEUE_BYTES": "65536",
    "WS_WRITE_TIMEOUT_SECONDS": "1",
    "KAFKA_PROBE_SECONDS": "1",
    "WS_HISTORY_SECONDS": "5",
}

FIRES_SECONDS: Final = 60
RESOLVES_SECONDS: Final = 60

# More than the 40 closes that OdinWsSlowClients tolerates.
SLOW_CLIENTS: Final = 60

# A small kernel buffer for a client that does not read.
RECEIVE_BUFFER: Final = 4096

SUBSCRIBE: Final = {"type": "subscribe", "data": {"channels": ["*.*"]}}


@attrs.frozen
class Seen:
    """An alert that fired for an instance and was resolved; seconds since its cause began."""

    alert: str
    instance: str
    fired: float
    resolved: float
    summary: str


async def alerts_fire_and_resolve(stack: Stack, announce: Callable[[str], None]) -> list[Seen]:
    """Kill an instance, connect clients that do not read, stop the broker: one after the other.

    Raises:
        trio.TooSlowError: an alert did not fire, or was not resolved.
    """
    one, two, _ = stack.instances
    return [
        await _watch(stack, "OdinWsInstanceDown", one, _killed(stack, one), announce),
        await _watch(stack, "OdinWsSlowClients", two, _slow_crowd(two), announce),
        await _watch(stack, "OdinWsFeedStalled", two, _without_broker(stack), announce),
    ]


async def _watch(
    stack: Stack,
    alert: str,
    instance: Instance,
    cause: AbstractAsyncContextManager[None],
    announce: Callable[[str], None],
) -> Seen:
    """Wait until the alert has fired during the cause, and was resolved after it."""
    target = f"{LOOPBACK}:{instance.ops_port}"

    async def fires() -> bool:
        return target in await stack.prometheus.firing(alert)

    async def is_silent() -> bool:
        return not await stack.prometheus.firing(alert)

    assert await is_silent()
    began = trio.current_time()
    async with cause:
        await until(fires, FIRES_SECONDS)
        fired = trio.current_time() - began
        (summary,) = {
            one["annotations"]["summary"]
            for one in await stack.prometheus.alerts()
            if one["labels"]["alertname"] == alert and one["labels"].get("instance") == target
        }
        announce(f"{alert} fires after {fired:.1f} s: {summary}")
        ended = trio.current_time()
    await until(is_silent, RESOLVES_SECONDS)
    resolved = trio.current_time() - ended
    announce(f"{alert} is resolved after {resolved:.1f} s")
    return Seen(alert, target, fired, resolved, summary)


@asynccontextmanager
async def _killed(stack: Stack, instance: Instance) -> AsyncIterator[None]:
    await instance.kill()
    yield
    await stack.back(instance)


@asynccontextmanager
async def _without_broker(stack: Stack) -> AsyncIterator[None]:
    await stack.broker.stop()
    yield
    await stack.broker.start()


@asynccontextmanager
async def _slow_crowd(instance: Instance) -> AsyncIterator[None]:
    """Connect clients to one instance that subscribe to everything and read nothing."""
    async with trio.open_nursery() as nursery:
        # All at once: they must be closed within one range of the rule.
        subscribe = trio.Event()
        for _ in range(SLOW_CLIENTS):
            await nursery.start(_slow_client, instance.port, subscribe)
        subscribe.set()
        yield
        nursery.cancel_scope.cancel()


async def _slow_client(
    port: int, subscribe: trio.Event, task_status: trio.TaskStatus[None]
) -> None:
    async with _connected(port) as stream:
        task_status.started()
        await subscribe.wait()
        await stream.send_all(_masked(json.dumps(SUBSCRIBE).encode()))
        await trio.sleep_forever()


@asynccontextmanager
async def _connected(port: int) -> AsyncIterator[trio.SocketStream]:
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    await sock.connect((LOOPBACK, port))
    async with trio.SocketStream(sock) as stream:
        await stream.send_all(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some(1)
        assert head.startswith(b"HTTP/1.1 101 "), head
        yield stream


def _masked(payload: bytes) -> bytes:
    """A text frame of a client, masked with zeros, which do not change the text."""
    assert len(payload) < 126
    return bytes((0x81, 0x80 | len(payload))) + bytes(4) + payload


async def panels_without_data(stack: Stack) -> list[str]:
    """The dashboard's panels for which Prometheus has no data."""
    return [
        query.where for query in dashboard_queries() if not await stack.prometheus.query(query.expr)
    ]
