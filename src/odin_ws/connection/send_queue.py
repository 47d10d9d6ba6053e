"""The send queue of a connection: write at once or queue; back-pressure; closes slow clients."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import trio

from odin_ws.listener.transport import Transport

__all__ = ["SendQueue"]

# Small writes that wait are joined up to this size: one system call instead of a hundred.
_JOIN_BYTES = 64 << 10


class SendQueue:
    """Owns the sending side of one transport; messages, answers, pings and closes share its order.

    On the fast path no task wakes up: `write` hands the bytes to the kernel. What the kernel
    rejects is kept, and `wake` is called, which must let `drain` run in a task.

    A subscriber is slow when more comes while over `limit` bytes wait, or when its oldest waiting
    write is older than `grace` seconds; then `slow` is called once. One write alone never makes it
    slow, however large. `idle` is called when nothing waits any more. None of them may wait.
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

    def __init__(  # noqa: PLR0913 -- three events of its life among them
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
        # When the kernel last took something of what waits.
        self._taken_at = -math.inf
        # Writes the kernel did not take whole, each with the time it came.
        self._waiting: deque[tuple[memoryview, float]] | None = None
        # The drain's wait for the kernel.
        self._scope: trio.CancelScope | None = None

    def check_slow(self, grace: float, *, by_progress: bool = False) -> None:
        """Change how many seconds a write may wait, also for what waits already.

        `by_progress`: they begin anew whenever something is taken, however little.
        """
        self._grace = grace
        self._by_progress = by_progress
        if self._scope is not None:
            self._scope.deadline = self._deadline()

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return self._waiting is None

    @property
    def waiting_since(self) -> float | None:
        """When the oldest waiting write came (trio's clock, seconds); None where nothing waits."""
        return self._waiting[0][1] if self._waiting else None

    def write(self, data: bytes) -> None:
        """Send `data`, now or in its turn; ignored once the send queue is finished or broken."""
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

        Without `flush` the waiting writes are thrown away, but for the rest of one that the
        kernel has begun: a frame cut off would make the last one unreadable.
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
        """Let go of what waits, and of whom to tell: the connection is over.

        Else both would hold each other until Python looks for cycles, which holds up the loop.
        """
        self._finished = True
        self._waiting = None
        self.backlog = 0
        self._wake = self._slow = self._idle = _tell_nobody

    async def drain(self) -> None:
        """Send what waits, in order, until nothing does."""
        while self._waiting:
            with trio.move_on_at(self._deadline()) as self._scope:
                await self._transport.wait_writable()
            if self._scope.cancelled_caught:
                # It may have been finished meanwhile.
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
        """When the oldest write has waited too long; once finished, others look at the time."""
        if self._finished or not self._waiting:
            return math.inf
        since = self._waiting[0][1]
        return self._grace + (max(since, self._taken_at) if self._by_progress else since)

    def _send_some(self, waiting: deque[tuple[memoryview, float]]) -> bool:
        """Offer the kernel the oldest writes as one; whether it took them whole."""
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
            # Each write goes back with its own age.
            part, since = parts.pop()
            waiting.appendleft((part[max(0, len(part) - left) :], since))
            left -= len(part)
        return sent == size

    def _append(self, waiting: deque[tuple[memoryview, float]], data: memoryview) -> None:
        waiting.append((data, trio.current_time()))
        self.backlog += len(data)


def _tell_nobody() -> None:
    pass
