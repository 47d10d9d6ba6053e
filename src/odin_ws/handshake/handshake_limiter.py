"""Callers on their way in: each holds memory before it has said who it is, so they are counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import trio

__all__ = ["Pending"]


@attrs.define(eq=False)
class Pending:
    """At most so many callers; one more puts out the one that has waited longest.

    Not the newcomer: whoever says nothing gets old here, and whoever means it is through within a
    round trip or two. Callers that wait in the kernel's queue instead would wait for the silent.
    """

    most: int
    _scopes: dict[trio.CancelScope, None] = attrs.field(factory=dict)

    def __len__(self) -> int:
        return len(self._scopes)

    @contextmanager
    def wait(self) -> Iterator[trio.CancelScope]:
        """Count a caller for the length of the block, which is cancelled when it is put out.

        The scope's `cancelled_caught` tells afterwards.
        """
        while len(self._scopes) >= self.most:
            oldest = next(iter(self._scopes))
            del self._scopes[oldest]
            oldest.cancel()
        with trio.CancelScope() as scope:
            self._scopes[scope] = None
            try:
                yield scope
            finally:
                self._scopes.pop(scope, None)
