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
from odin_ws.held import Held
from odin_ws.hub import Hub
from odin_ws.protocol.responses import auth_expiring

__all__ = ["Expiry"]

# Tokens end at whole seconds. To look at 12,000 of them takes a millisecond.
_TICK_SECONDS: Final = 1.0

# An issuer may end many tokens at once: so many clients are told before others have their turn.
_SLICE: Final = 100


class Expiry:
    """Tells each client `notice` seconds before its token ends, and closes it when it has.

    Ends are seconds of Unix time; None is never. Every look compares them with the wall clock: if
    that is set forward or back, a token still ends when it says. Trio's clock would not follow.
    """

    def __init__(self, hub: Hub, notice: float, now: Callable[[], float] | None = None) -> None:
        """Watch nothing yet.

        Args:
            hub: flushes what is due to a client before the notice.
            notice: seconds.
            now: the wall clock; by default the system's.
        """
        self.now = now or _wall_clock
        self._hub = hub
        self._notice = notice
        self._ends: dict[Connection, float] = {}
        # When those are to be told that have not been.
        self._notices: dict[Connection, float] = {}

    def __len__(self) -> int:
        """How many are minded."""
        return len(self._ends)

    def watch(self, connection: Connection, end: float | None) -> Held[None]:
        """Mind a connection's token for the length of the block."""
        self.renew(connection, end)
        return Held(None, partial(self.renew, connection, None))

    def renew(self, connection: Connection, end: float | None) -> None:
        """It has another token, that ends then."""
        if end is None:
            self._ends.pop(connection, None)
            self._notices.pop(connection, None)
        else:
            self._ends[connection] = end
            self._notices[connection] = end - self._notice

    async def run(self) -> None:
        """Look at all of them each second, until cancelled."""
        while True:
            await trio.sleep(_TICK_SECONDS)
            for connection in self._due(self._ends):
                self.renew(connection, None)
                connection.close(DisconnectReason.TOKEN_EXPIRED)
            for count, connection in enumerate(self._due(self._notices), 1):
                self._tell(connection)
                if not count % _SLICE:
                    await trio.lowlevel.checkpoint()

    def _tell(self, connection: Connection) -> None:
        """Tell it, unless it has left or got another token since it was found to be due."""
        now = self.now()
        if connection.is_open and self._notices.get(connection, math.inf) <= now:
            del self._notices[connection]
            left = self._ends[connection] - now
            connection.send_notice(auth_expiring(round(1000 * left)), self._hub)

    def _due(self, times: dict[Connection, float]) -> list[Connection]:
        now = self.now()
        return [connection for connection, at in times.items() if at <= now]


def _wall_clock() -> float:
    return time.time()
