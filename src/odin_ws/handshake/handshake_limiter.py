"""Bounds pending handshakes (WS_MAX_PENDING_HANDSHAKES): the oldest is rejected with 503."""

from __future__ import annotations

import attrs
import trio

__all__ = ["HandshakeLimiter", "PendingHandshake"]


class PendingHandshake:
    """A pending handshake.

    `scope`: the cancel scope in which the handshake waits, if any. `evicted`: whether the handshake
    was dropped to make room.
    """

    __slots__ = ("evicted", "scope")

    def __init__(self) -> None:
        self.scope: trio.CancelScope | None = None
        self.evicted = False


@attrs.define(eq=False)
class HandshakeLimiter:
    """Bounds pending handshakes; one more drops the oldest one.

    Only handshakes of silent clients get old; the others are done within a round trip or two. If
    the newest were dropped, or waited in the kernel's queue, it would wait for silent clients.
    """

    maximum: int
    _pending: dict[PendingHandshake, None] = attrs.field(factory=dict)

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, scope: trio.CancelScope | None = None) -> PendingHandshake:
        """Count a handshake, which waits in `scope` if given."""
        while len(self._pending) >= self.maximum:
            oldest = next(iter(self._pending))
            del self._pending[oldest]
            oldest.evicted = True
            if oldest.scope is not None:
                oldest.scope.cancel()
        waiting = PendingHandshake()
        waiting.scope = scope
        self._pending[waiting] = None
        return waiting

    def discard(self, incoming: PendingHandshake) -> None:
        """Stop counting a handshake."""
        self._pending.pop(incoming, None)
