"""Liveness: one task pings all connections, spread over the interval."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import trio

from odin_ws.connection.closing import Close

__all__ = ["Keepalive"]

# So many groups share the interval: with 12,000 connections and 30 s, 100 pings every 250 ms.
_GROUPS = 120


class Pingable(Protocol):
    """A connection, as the keepalive sees it. `heard_at`: when a byte last came, trio's clock."""

    heard_at: float

    def ping(self) -> None: ...

    def close(self, reason: Close) -> None: ...


class Keepalive:
    """Pings every connection once per `interval` seconds; any byte that comes counts as life.

    One not heard of for `timeout` seconds is closed. A TCP connection whose other end is gone
    looks alive otherwise, until its buffers are full.
    """

    def __init__(self, interval: float, timeout: float) -> None:
        self._interval = interval
        self._timeout = timeout
        self._groups: list[set[Pingable]] = [set() for _ in range(_GROUPS)]
        self._joined = 0

    @contextmanager
    def watch(self, connection: Pingable) -> Iterator[None]:
        """Ping a connection for the length of the block."""
        group = self._groups[self._joined % _GROUPS]
        self._joined += 1
        group.add(connection)
        try:
            yield
        finally:
            group.remove(connection)

    async def run(self) -> None:
        """Go round the groups until cancelled."""
        tick = self._interval / _GROUPS
        at = trio.current_time()
        while True:
            for group in self._groups:
                at += tick
                await trio.sleep_until(at)
                self._ping(group, trio.current_time())

    def _ping(self, group: set[Pingable], now: float) -> None:
        # A copy: what a ping or a close sets off may end a watch.
        for connection in tuple(group):
            if now - connection.heard_at > self._timeout:
                connection.close(Close.NO_PONG)
            else:
                connection.ping()
