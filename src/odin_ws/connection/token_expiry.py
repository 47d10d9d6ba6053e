"""JWT expiry of open connections: notice before, close 4401 at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from odin_ws.connection.connection import Connection
from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.lease import Lease
from odin_ws.protocol.responses import auth_expiring

__all__ = ["Expiry"]

# JWTs expire at whole seconds. Checking 12,000 of them takes a millisecond.
_TICK_SECONDS: Final = 1.0

# An issuer may let many JWTs expire at once: notices per pass of the event loop.
_SLICE: Final = 100


class Expiry:
    """Sends each client a notice `notice` seconds before its JWT expires, and closes it at expiry.

    Times are Unix time in seconds; None is never. Each check compares with the wall clock, which
    Trio's clock does not follow: if it is set forward or back, JWTs still expire at their time.
    """

    def __init__(self, notice: float, now: Callable[[], float] | None = None) -> None:
        """Start without connections.

        Args:
            notice: seconds.
            now: the wall clock; by default the system's.
        """
        self.now = now or _wall_clock
        self._notice = notice
        self._ends: dict[Connection, float] = {}
        # The time of the notice, by connection that has not got one yet.
        self._notices: dict[Connection, float] = {}

    def __len__(self) -> int:
        """Return how many connections are watched."""
        return len(self._ends)

    def watch(self, connection: Connection, end: float | None) -> Lease[None]:
        """Watch the expiry of a connection's JWT during the block."""
        self.renew(connection, end)
        return Lease(None, partial(self.renew, connection, None))

    def renew(self, connection: Connection, end: float | None) -> None:
        """Set the expiry of a new JWT."""
        if end is None:
            self._ends.pop(connection, None)
            self._notices.pop(connection, None)
        else:
            self._ends[connection] = end
            self._notices[connection] = end - self._notice

    async def run(self) -> None:
        """Check all connections each second, until cancelled."""
        while True:
            await trio.sleep(_TICK_SECONDS)
            for connection in self._due(self._ends):
                self.renew(connection, None)
                connection.close(DisconnectReason.TOKEN_EXPIRED)
            for count, connection in enumerate(self._due(self._notices), 1):
                self._notify(connection)
                if not count % _SLICE:
                    await trio.lowlevel.checkpoint()

    def _notify(self, connection: Connection) -> None:
        """Send the notice, unless the connection has ended or its JWT was renewed meanwhile."""
        now = self.now()
        if connection.is_open and self._notices.get(connection, math.inf) <= now:
            del self._notices[connection]
            left = self._ends[connection] - now
            connection.send_notice(auth_expiring(round(1000 * left)))

    def _due(self, times: dict[Connection, float]) -> list[Connection]:
        now = self.now()
        return [connection for connection, at in times.items() if at <= now]


def _wall_clock() -> float:
    return time.time()
