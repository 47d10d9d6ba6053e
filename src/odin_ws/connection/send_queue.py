"""The send queue of a connection: write at once or queue; back-pressure; closes slow clients."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import trio

from odin_ws.listener.transport import Transport

__all__ = ["SendQueue"]

# Small queued writes are joined up to this size: one system call instead of a hundred.
_JOIN_BYTES = 64 << 10


class SendQueue:
    """The sending side of one transport, for messages, responses, pings and closes in order.

    Usually `write` gives the bytes to the kernel and no task wakes up. What the kernel does not
    take is queued, and `wake` is called, which must run `drain` in a task.

    A subscriber is slow if a write comes while over `limit` bytes are queued, or if its oldest
    queued write is older than `grace` seconds; then `slow` is called once. A single write never
    makes it slow, however large. `idle` is called when the queue becomes empty. No callback may
    wait.
    """

    __slots__ = (
        "_by_progress",
        "_finished",
        "_grace",
        "_idle",
        "_limit",
        "_scope",
        "_send",
        "_slow",
        "_taken_at",
        "_transport",
        "_waiting",
        "_wake",
        "backlog",
        "bytes_sent",
    )

    def __init__(  # noqa: PLR0913 -- three of them are callbacks
        self,
        transport: Transport,
        *,
        limit: int,
        grace: float,
        wake: Callable[[], None],
        slow: Callable[[], None],
        idle: Callable[[], None],
    ) -> None:
        self.backlog = 0
        self.bytes_sent = 0
        self._transport = transport
        self._send = transport.send_nowait
        self._limit = limit
        self._grace = grace
        self._wake = wake
        self._slow = slow
        self._idle = idle
        self._finished = False
        self._by_progress = False
        # When the kernel last took queued bytes.
        self._taken_at = -math.inf
        # Writes that the kernel did not take whole, each with its time.
        self._waiting: deque[tuple[memoryview, float]] | None = None
        # The cancel scope of drain's wait for the kernel.
        self._scope: trio.CancelScope | None = None

    def check_slow(self, grace: float, *, by_progress: bool = False) -> None:
        """Change how many seconds a write may wait, also for queued writes.

        `by_progress`: the time restarts whenever the kernel takes something, however little.
        """
        self._grace = grace
        self._by_progress = by_progress
        if self._scope is not None:
            self._scope.deadline = self._deadline()

    @property
    def empty(self) -> bool:
        """True if the queue is empty."""
        return self._waiting is None

    @property
    def waiting_since(self) -> float | None:
        """The time of the oldest queued write (Trio's clock, seconds); None without one."""
        return self._waiting[0][1] if self._waiting else None

    def write(self, data: bytes) -> None:
        """Send `data`, now or in order; ignored once the queue is finished or broken."""
        if self._finished:
            return
        if self._waiting is None:
            try:
                sent = self._send(data)
            except trio.BrokenResourceError:
                # The reader sees the end of the stream too, and ends the connection.
                self._finished = True
                return
            self.bytes_sent += sent
            if sent == len(data):
                return
            self._waiting = deque()
            self._append(self._waiting, memoryview(data)[sent:])
            self._wake()
        elif self.backlog > self._limit:
            self._slow()
        else:
            self._append(self._waiting, memoryview(data))

    def finish(self, last: bytes, *, flush: bool) -> None:
        """Send `last` and nothing after it.

        Without `flush`, queued writes are dropped, except for the rest of one that the kernel has
        partly taken: a truncated frame would make `last` unreadable.
        """
        if self._finished:
            return
        if self._waiting is not None and not flush:
            while len(self._waiting) > 1:
                self.backlog -= len(self._waiting.pop()[0])
        if self._waiting is not None:
            self._append(self._waiting, memoryview(last))
        else:
            self.write(last)
        self._finished = True

    def abandon(self) -> None:
        """Drop queued writes and callbacks, because the connection is over.

        Otherwise queue and connection would form a cycle for the garbage collector, which blocks
        the event loop.
        """
        self._finished = True
        self._waiting = None
        self.backlog = 0
        self._wake = self._slow = self._idle = _no_callback

    async def drain(self) -> None:
        """Send queued writes in order until the queue is empty."""
        while self._waiting:
            with trio.move_on_at(self._deadline()) as self._scope:
                await self._transport.wait_writable()
            if self._scope.cancelled_caught:
                # The queue may have been finished meanwhile.
                if trio.current_time() >= self._deadline():
                    self._slow()
                continue
            try:
                while self._waiting and self._send_some(self._waiting):
                    pass
            except trio.BrokenResourceError:
                self.backlog = 0
                self._finished = True
                break
        self._waiting = None
        self._idle()

    def _deadline(self) -> float:
        """Return when the oldest write has waited too long; infinite once finished."""
        if self._finished or not self._waiting:
            return math.inf
        since = self._waiting[0][1]
        return self._grace + (max(since, self._taken_at) if self._by_progress else since)

    def _send_some(self, waiting: deque[tuple[memoryview, float]]) -> bool:
        """Give the oldest writes to the kernel in one call; returns whether it took them whole."""
        parts = [waiting.popleft()]
        size = len(parts[0][0])
        while waiting and size < _JOIN_BYTES:
            parts.append(waiting.popleft())
            size += len(parts[-1][0])
        data = parts[0][0] if len(parts) == 1 else memoryview(b"".join(part for part, _ in parts))
        sent = self._send(data)
        self._taken_at = trio.current_time()
        self.bytes_sent += sent
        self.backlog -= sent
        left = size - sent
        while left > 0:
            # Each write goes back with its own time.
            part, since = parts.pop()
            waiting.appendleft((part[max(0, len(part) - left) :], since))
            left -= len(part)
        return sent == size

    def _append(self, waiting: deque[tuple[memoryview, float]], data: memoryview) -> None:
        waiting.append((data, trio.current_time()))
        self.backlog += len(data)


def _no_callback() -> None:
    pass
