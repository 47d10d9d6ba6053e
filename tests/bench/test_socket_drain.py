"""The compiled code that reads an epoll set."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import attrs
import pytest

from odin_ws.bench.frame_reader import PING
from odin_ws.bench.socket_drain import NOBODY, Ready, drain
from odin_ws.bench.tables import Tables
from tests.bench.frames import frame, message, tables

# Longer than any wait here; `drain` returns as soon as it has read something.
TIMEOUT_US = 5_000_000


@attrs.frozen
class Connection:
    """An epoll set with one connection, and the server's end of the connection."""

    ready: Ready
    state: Tables
    server: socket.socket
    client: socket.socket

    def drain(self, until_us: int | None = None) -> list[int]:
        """Read; return the descriptors that Python must handle."""
        until = time.time_ns() // 1000 + TIMEOUT_US if until_us is None else until_us
        count = drain(self.ready, self.state, until)
        return [int(one) for one in self.ready.attention[:count]]


@pytest.fixture
def connection() -> Iterator[Connection]:
    """A connection read by compiled code."""
    server, client = socket.socketpair()
    with closing(select.epoll()) as epoll, server, client:
        epoll.register(client, select.EPOLLIN)
        ready = Ready.empty(epoll.fileno(), 1024)
        ready.owner[client.fileno()] = 0
        state = tables([0])
        # The first call on a machine compiles, which takes longer than the timeout.
        drain(ready, state, 0)
        yield Connection(ready, state, server, client)


def test_frame_in_two_reads_is_read_once(connection: Connection) -> None:
    """The frames around it are read too."""
    data = frame(b"", PING) + message(1, 1) + message(2, 2) + message(3, 3) + frame(b"", PING)
    connection.server.send(data[:400])
    assert connection.drain() == []
    connection.state.other_frames.used[:] = 0
    connection.server.send(data[400:])

    assert connection.drain() == []
    assert connection.state.received[0] == 3
    assert connection.state.problems.sum() == 0
    assert connection.state.other_frames.used[1] == 1


def test_ended_connection_is_handed_to_python(connection: Connection) -> None:
    """`drain` returns the connection's descriptor."""
    connection.server.close()

    assert connection.drain() == [connection.client.fileno()]


def test_descriptor_without_owner_is_handed_to_python(connection: Connection) -> None:
    """Compiled code does not read the descriptor."""
    connection.ready.owner[connection.client.fileno()] = NOBODY
    connection.server.send(message(1, 1))

    assert connection.drain() == [connection.client.fileno()]
    assert connection.state.received[0] == 0


def test_drain_returns_at_until_without_data(connection: Connection) -> None:
    """`drain` returns no descriptor."""
    assert connection.drain(time.time_ns() // 1000 + 1_000) == []
