"""Callers on their way in: each holds memory before it has said who it is, so they are counted."""

from __future__ import annotations

import attrs
import trio

__all__ = ["HandshakeLimiter"]


@attrs.define(eq=False)
class HandshakeLimiter:
    """At most so many callers; one more puts out the one that has waited longest.

    Not the newcomer: whoever says nothing gets old here, and whoever means it is through within a
    round trip or two. Callers that wait in the kernel's queue instead would wait for the silent.
    """

    maximum: int
    _scopes: dict[trio.CancelScope, None] = attrs.field(factory=dict)

    def __len__(self) -> int:
        return len(self._scopes)

    def add(self, scope: trio.CancelScope) -> None:
        """Count a caller; `scope` is cancelled when it is put out."""
        while len(self._scopes) >= self.maximum:
            oldest = next(iter(self._scopes))
            del self._scopes[oldest]
            oldest.cancel()
        self._scopes[scope] = None

    def discard(self, scope: trio.CancelScope) -> bool:
        """Count a caller no more; returns whether it was counted: False if it was put out."""
        if scope not in self._scopes:
            return False
        del self._scopes[scope]
        return True
