"""Bounds pending handshakes (WS_MAX_PENDING_HANDSHAKES): the oldest is rejected with 503."""

from __future__ import annotations

import attrs
import trio

__all__ = ["HandshakeLimiter", "Waiting"]


class Waiting:
    """A caller on its way in.

    `scope`: what it waits in, if it waits for more than its turn. `put_out`: whether it had to
    make room.
    """

    __slots__ = ("put_out", "scope")

    def __init__(self) -> None:
        self.scope: trio.CancelScope | None = None
        self.put_out = False


@attrs.define(eq=False)
class HandshakeLimiter:
    """At most so many callers; one more puts out the one that has waited longest.

    Not the newcomer: whoever says nothing gets old here, and whoever means it is through within a
    round trip or two. Callers that wait in the kernel's queue instead would wait for the silent.
    """

    maximum: int
    _callers: dict[Waiting, None] = attrs.field(factory=dict)

    def __len__(self) -> int:
        return len(self._callers)

    def add(self, scope: trio.CancelScope | None = None) -> Waiting:
        """Count a caller, which waits in `scope` if in any."""
        while len(self._callers) >= self.maximum:
            oldest = next(iter(self._callers))
            del self._callers[oldest]
            oldest.put_out = True
            if oldest.scope is not None:
                oldest.scope.cancel()
        waiting = Waiting()
        waiting.scope = scope
        self._callers[waiting] = None
        return waiting

    def discard(self, incoming: Waiting) -> None:
        """Count a caller no more."""
        self._callers.pop(incoming, None)
