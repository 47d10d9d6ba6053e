"""Keepalive: pings every connection, closes those that sent nothing for WS_PONG_TIMEOUT_SECONDS."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

import trio

from odin_ws.connection.disconnect_reasons import DisconnectReason

__all__ = ["Keepalive"]

# Groups that share the interval: with 12,000 connections and 30 s, 100 pings every 250 ms.
_GROUPS = 120

# A busy event loop runs this task some tenths of a second late. If it is later than this, responses
# of clients may be unread too.
_LATE_SECONDS = 1.0


class Pingable(Protocol):
    """A connection for keepalive. `last_received_at`: when its last byte arrived (Trio's clock).

    A protocol because its tests watch a thousand connections without sockets.
    """

    last_received_at: float

    def ping(self) -> None: ...

    def close(self, reason: DisconnectReason) -> None: ...


class _Watch:
    """Keeps a connection in its group. A class of its own: every connection holds one."""

    __slots__ = ("_connection", "_group")

    def __init__(self, group: set[Pingable], connection: Pingable) -> None:
        self._group = group
        self._connection = connection

    def __enter__(self) -> None:
        self._group.add(self._connection)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._group.remove(self._connection)


class Keepalive:
    """Pings every connection once per `interval` seconds; any received byte counts.

    Closes connections that received nothing for `timeout` seconds. A TCP connection whose peer is
    gone otherwise looks alive until its buffers are full.

    If the keepalive itself runs late, every connection gets the whole timeout from then on,
    because responses have not been read meanwhile.
    """

    def __init__(self, interval: float, timeout: float) -> None:
        self._interval = interval
        self._timeout = timeout
        self._groups: list[set[Pingable]] = [set() for _ in range(_GROUPS)]
        self._joined = 0
        # When keepalive last ran late (Trio's clock).
        self._resumed_at = -math.inf
        # Set by the first connection while there is none.
        self._first = trio.Event()

    def watch(self, connection: Pingable) -> AbstractContextManager[None]:
        """Ping a connection during the block."""
        self._first.set()
        self._joined += 1
        return _Watch(self._groups[self._joined % _GROUPS], connection)

    async def run(self) -> None:
        """Ping group after group until cancelled; sleeps while there is no connection."""
        tick = self._interval / _GROUPS
        at = trio.current_time()
        while True:
            for group in self._groups:
                if not any(self._groups):
                    self._first = trio.Event()
                    await self._first.wait()
                    at = trio.current_time()
                at += tick
                await trio.sleep_until(at)
                now = trio.current_time()
                if now - at > _LATE_SECONDS:
                    # Start a new schedule: missed groups are not pinged at once.
                    self._resumed_at = at = now
                self._ping(group, now)

    def _ping(self, group: set[Pingable], now: float) -> None:
        # A copy: a ping or a close may end a watch.
        for connection in tuple(group):
            if now - max(connection.last_received_at, self._resumed_at) > self._timeout:
                connection.close(DisconnectReason.NO_PONG)
            else:
                connection.ping()
