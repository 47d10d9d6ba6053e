"""The replay window: bounds the bytes of all replays that clients have not acknowledged.

Without it, thousands of replays fill the kernel's send buffers together. The kernel then runs out
of memory for TCP and drops segments of every connection, also of live ones.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import Final, Protocol

import attrs
import trio

from odin_ws.resume.scan_chunks import CHUNK_BYTES

__all__ = ["ReplayWindow", "WindowClient"]

# While no replay waits for the window, one client may have a sixteenth of it, divided by the number
# of clients with unacknowledged bytes, but at least this: 2.5 MB a second over a round trip of
# 0.1 s.
_PART: Final = 16
_MIN_BYTES: Final = 256 << 10

# The kernel does not signal acknowledgements, so sockets are checked: at most this many (1 us each)
# per round, _STEP of them in a row. Rounds are _ROUND_SECONDS apart while replays wait, otherwise
# _CALM_SECONDS.
_PER_ROUND: Final = 512
_STEP: Final = 64
_ROUND_SECONDS: Final = 0.02

# Limit of replays that one round resumes: each sends without another turn, for some 0.1 ms.
_RELEASED: Final = 64

_CALM_SECONDS: Final = 1.0


class WindowClient(Protocol):
    """The part of a connection that the window uses."""

    @property
    def written(self) -> int:
        """The bytes that were written to the client so far, queued ones included."""
        ...

    def acknowledged(self) -> int:
        """Return how many of these bytes the client's kernel has acknowledged."""
        ...

    def close_as_slow(self) -> None:
        """Close the connection as slow."""
        ...


@attrs.define(eq=False)
class _Share:
    """One client's part of the window. Places are counts of bytes written to the client."""

    mark: int
    """The place that the client has to acknowledge within the timeout after `since`."""
    since: float
    end: int
    """The place up to which the client's replays have written."""
    unacknowledged: int = 0
    """The written bytes that were unacknowledged at the last check of the socket."""
    reserved: int = 0
    """The bytes that its replay may write now."""


class ReplayWindow:
    """Lets replays write while all together have fewer than `limit` unacknowledged bytes.

    A replay waits before each chunk: first until its client has acknowledged enough bytes, then in
    a queue for room in the window. If replays wait in the queue, a client that does not acknowledge
    a chunk within `timeout` seconds is closed as slow, so it blocks the queue no longer than that.

    The last chunk before the limit may exceed it. So may the few messages between the last chunk of
    a replay and the first live message, which do not wait.

    Args:
        limit: bytes of the whole window.
        timeout: seconds for the acknowledgement of a chunk.
    """

    def __init__(self, limit: int = 1 << 60, timeout: float = math.inf) -> None:
        self.limit = limit
        self.used = 0
        """The bytes that are reserved, or were unacknowledged at the last check."""
        self._timeout = timeout
        # By client, in the order of their last checks.
        self._shares: dict[WindowClient, _Share] = {}
        # Clients with a full share, and those that wait for the whole window, in order.
        self._full: dict[WindowClient, trio.Event] = {}
        self._queue: dict[WindowClient, trio.Event] = {}
        self._wanted = trio.Event()

    @property
    def waiting(self) -> int:
        """The number of replays that wait for other clients' acknowledgements."""
        return len(self._queue)

    async def wait_for_share(self, client: WindowClient) -> None:
        """Wait until the client has acknowledged enough. Often no checkpoint."""
        if not self._has_share(client):
            await self._wait(client, self._full)

    async def wait_for_room(self, client: WindowClient) -> None:
        """Wait until the client's replay may write a chunk, and reserve it. Often no checkpoint."""
        if self._queue or self.used >= self.limit:
            await self._wait(client, self._queue)
        else:
            self._reserve(client)

    def sent(self, client: WindowClient) -> None:
        """Count the bytes that a replay has written instead of those that it had reserved."""
        self._share(client).end = client.written
        self.release(client)

    def release(self, client: WindowClient) -> None:
        """Free the bytes that the client's replay has reserved and not written."""
        share = self._shares.get(client)
        if share is not None:
            self.used -= share.reserved
            share.reserved = 0
            self._update(client, share)

    async def run(self) -> None:
        """Update shares by acknowledgements, and let replays continue, until cancelled."""
        while True:
            if self._queue or self._full:
                await trio.sleep(_ROUND_SECONDS)
            else:
                self._wanted = trio.Event()
                with trio.move_on_after(_CALM_SECONDS if self._shares else math.inf):
                    await self._wanted.wait()
            await self._update_oldest()
            for client in [client for client in self._full if self._has_share(client)]:
                self._full.pop(client).set()
            for client in list(islice(self._queue, _RELEASED)):
                if self.used >= self.limit:
                    break
                self._reserve(client)
                self._queue.pop(client).set()

    async def _wait(self, client: WindowClient, waiting: dict[WindowClient, trio.Event]) -> None:
        event = waiting[client] = trio.Event()
        self._wanted.set()
        try:
            await event.wait()
        finally:
            waiting.pop(client, None)

    def _has_share(self, client: WindowClient) -> bool:
        share = self._shares.get(client)
        if share is None:
            return True
        # While replays wait in the queue, a client must acknowledge each chunk before the next.
        most = 1 if self._queue else max(_MIN_BYTES, self.limit // _PART // len(self._shares))
        return share.unacknowledged < most

    def _reserve(self, client: WindowClient) -> None:
        self._share(client).reserved += CHUNK_BYTES
        self.used += CHUNK_BYTES

    def _share(self, client: WindowClient) -> _Share:
        share = self._shares.get(client)
        if share is None:
            written = client.written
            share = self._shares[client] = _Share(written, trio.current_time(), written)
            self._wanted.set()
        return share

    async def _update_oldest(self) -> None:
        """Update the shares whose last update is longest ago; close clients that time out."""
        for number in range(1, min(len(self._shares), _PER_ROUND) + 1):
            client = next(iter(self._shares), None)
            if client is None:
                return
            share = self._shares[client]
            self._update(client, share)
            if self._queue and trio.current_time() > share.since + self._timeout:
                self._drop(client)
                # This cancels the client's replay, which may wait here for its next chunk.
                client.close_as_slow()
            if not number % _STEP:
                await trio.lowlevel.checkpoint()

    def _update(self, client: WindowClient, share: _Share) -> None:
        acknowledged = client.acknowledged()
        if acknowledged >= share.mark:
            share.mark, share.since = share.end, trio.current_time()
        # An ended connection has dropped its queued bytes, which count no longer.
        unacknowledged_bytes = max(0, min(share.end, client.written) - acknowledged)
        self.used += unacknowledged_bytes - share.unacknowledged
        share.unacknowledged = unacknowledged_bytes
        del self._shares[client]
        if unacknowledged_bytes or share.reserved:
            self._shares[client] = share

    def _drop(self, client: WindowClient) -> None:
        share = self._shares.pop(client)
        self.used -= share.unacknowledged + share.reserved
        self._queue.pop(client, None)
