"""Free loopback ports, and whether a Kafka broker responds on one."""

from __future__ import annotations

import socket
import struct
from contextlib import ExitStack
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LOOPBACK", "free_ports", "is_free", "is_kafka_broker", "known_brokers"]

LOOPBACK = "127.0.0.1"

# Timeout of one attempt: a running broker responds in milliseconds, also under load.
ATTEMPT_SECONDS = 2

# Metadata, version 1, of all topics: the first request of every Kafka client. Its response lists
# the brokers that are ready. Fields: size, api key, api version, correlation id, client id (null),
# topics (null: all). https://kafka.apache.org/protocol has the tables.
METADATA_REQUEST = struct.pack(">ihhihi", 14, 3, 1, 1, -1, -1)
_SIZE = struct.Struct(">i")
# Response: correlation id, number of brokers. Per broker: node id, length of the host.
METADATA_RESPONSE = struct.Struct(">ii")
_BROKER = struct.Struct(">ih")
_PORT_BYTES = 4
_LENGTH = struct.Struct(">h")


def free_ports(count: int) -> tuple[int, ...]:
    """Return that many different ports that are free now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind((LOOPBACK, 0))
        return tuple(sock.getsockname()[1] for sock in sockets)


def is_free(port: int) -> bool:
    """Return whether a server can listen on this port."""
    with socket.socket() as sock:
        # Servers set the option too: connections of an earlier server may be in TIME_WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


async def is_kafka_broker(port: int) -> bool:
    """Return whether a Kafka broker on this port responds and is ready."""
    return bool(await known_brokers(port))


async def known_brokers(port: int) -> frozenset[int]:
    """Return the node ids that the broker on this port lists as ready; empty if it is silent."""
    with trio.move_on_after(ATTEMPT_SECONDS):
        try:
            async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
                await stream.send_all(METADATA_REQUEST)
                size = _SIZE.unpack(await _receive(stream, _SIZE.size))[0]
                response = await _receive(stream, size)
        except (OSError, trio.BrokenResourceError, EOFError):
            return frozenset()
        return frozenset(_broker_ids(response))
    return frozenset()


async def _receive(stream: trio.SocketStream, count: int) -> bytes:
    received = b""
    while len(received) < count:
        more = await stream.receive_some(count - len(received))
        if not more:
            raise EOFError
        received += more
    return received


def _broker_ids(response: bytes) -> Iterator[int]:
    """Yield the node ids of a Metadata response, version 1: each with its host, port and rack."""
    _correlation, brokers = METADATA_RESPONSE.unpack_from(response)
    offset = METADATA_RESPONSE.size
    for _ in range(brokers):
        node, host = _BROKER.unpack_from(response, offset)
        offset += _BROKER.size + host + _PORT_BYTES
        # A null rack has the length -1.
        rack = max(0, _LENGTH.unpack_from(response, offset)[0])
        offset += _LENGTH.size + rack
        yield node
