"""Reading an epoll set in compiled code."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import attrs
import pytest

from odin_ws.bench.reader import PING, Tables
from odin_ws.bench.socket_drain import NOBODY, Ready, drain
from tests.bench.frames import frame, message, tables

# More than any wait here; `drain` returns as soon as it has something.
PATIENCE_US = 5_000_000


@attrs.frozen
class RunEnvironment:
    """An epoll set with one connection in it, and the server's end of that."""

    ready: Ready
    state: Tables
    server: socket.socket
    client: socket.socket

    def drain(self, until_us: int | None = None) -> list[int]:
        """Read; returns the descriptors that Python has to look at."""
        until = time.time_ns() // 1000 + PATIENCE_US if until_us is None else until_us
        count = drain(self.ready, self.state, until)
        return [int(one) for one in self.ready.attention[:count]]


@pytest.fixture
def place() -> Iterator[RunEnvironment]:
    """One connection of compiled code."""
    server, client = socket.socketpair()
    with closing(select.epoll()) as epoll, server, client:
        epoll.register(client, select.EPOLLIN)
        ready = Ready.empty(epoll.fileno(), 1024)
        ready.owner[client.fileno()] = 0
        state = tables([0])
        # The first call on a machine compiles, which takes longer than any patience here.
        drain(ready, state, 0)
        yield RunEnvironment(ready, state, server, client)


def test_a_frame_in_two_parts(place: RunEnvironment) -> None:
    """A message of which the rest comes later is one message, and none is lost around it."""
    data = frame(b"", PING) + message(1, 1) + message(2, 2) + message(3, 3) + frame(b"", PING)
    place.server.send(data[:400])
    assert place.drain() == []
    place.state.other_frames.used[:] = 0
    place.server.send(data[400:])

    assert place.drain() == []
    assert place.state.received[0] == 3
    assert place.state.problems.sum() == 0
    assert place.state.other_frames.used[1] == 1


def test_an_end(place: RunEnvironment) -> None:
    """A connection that has ended is for Python to look at."""
    place.server.close()

    assert place.drain() == [place.client.fileno()]


def test_nobody(place: RunEnvironment) -> None:
    """A descriptor that is nobody's is for Python to read."""
    place.ready.owner[place.client.fileno()] = NOBODY
    place.server.send(message(1, 1))

    assert place.drain() == [place.client.fileno()]
    assert place.state.received[0] == 0


def test_until(place: RunEnvironment) -> None:
    """Where nothing comes it returns at the time that was said."""
    assert place.drain(time.time_ns() // 1000 + 1_000) == []
