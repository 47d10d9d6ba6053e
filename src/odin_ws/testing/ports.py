"""Ports on the loopback interface, and whether a Kafka broker answers on one."""

from __future__ import annotations

import socket
import struct
from contextlib import ExitStack

import trio

__all__ = ["LOOPBACK", "answers_kafka", "free_ports", "is_free"]

LOOPBACK = "127.0.0.1"

# Seconds for one attempt. A broker that is up answers in milliseconds, also while it is busy.
ATTEMPT_SECONDS = 2

# Metadata, version 1, of all topics: the first request of every Kafka client. Its answer lists the
# brokers that are ready to serve. Fields: size, api key, api version, correlation id, client id
# (null), topics (null: all). https://kafka.apache.org/protocol gives the tables.
METADATA_REQUEST = struct.pack(">ihhihi", 14, 3, 1, 1, -1, -1)
# Of the answer: size, correlation id, number of brokers.
METADATA_ANSWER = struct.Struct(">iii")


def free_ports(count: int) -> tuple[int, ...]:
    """Return that many different ports which nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind((LOOPBACK, 0))
        return tuple(sock.getsockname()[1] for sock in sockets)


def is_free(port: int) -> bool:
    """Whether a server can listen on this port."""
    with socket.socket() as sock:
        # As servers do: connections of the one before, in TIME_WAIT, are no obstacle.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


async def answers_kafka(port: int) -> bool:
    """Whether a Kafka broker on this port answers, and counts itself as ready to serve."""
    with trio.move_on_after(ATTEMPT_SECONDS):
        try:
            async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
                await stream.send_all(METADATA_REQUEST)
                answer = b""
                while len(answer) < METADATA_ANSWER.size:
                    more = await stream.receive_some()
                    if not more:
                        return False
                    answer += more
        except (OSError, trio.BrokenResourceError):
            return False
        _size, _correlation, brokers = METADATA_ANSWER.unpack_from(answer)
        return bool(brokers > 0)
    return False
