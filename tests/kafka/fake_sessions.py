"""Fetch sessions (KIP-227) of brokers in memory: partitions that a fetch need not name again."""

from __future__ import annotations

import attrs

from odin_ws.kafka.protocol import FetchFrom, FetchRequest
from odin_ws.records import TopicPartition

__all__ = ["FetchSession", "FetchSessions"]

SESSION_NOT_FOUND, SESSION_EPOCH = 70, 71


@attrs.define
class FetchSession:
    """A fetch session of one broker."""

    number: int
    node: int
    epoch: int
    wanted: dict[TopicPartition, FetchFrom]
    """The partitions of the session, in the order of the next response."""
    sent: dict[TopicPartition, tuple[int, int]] = attrs.field(factory=dict)
    """High watermark and last stable offset in the last response, per partition."""


@attrs.define(eq=False)
class FetchSessions:
    """The fetch sessions of all brokers of a cluster."""

    _known: dict[int, FetchSession] = attrs.field(factory=dict)
    _last: int = 0

    def open(self, node: int, request: FetchRequest, *, remembers: bool) -> FetchSession | int:
        """Return the session of a request, or the error code of the response.

        `remembers`: whether the brokers keep sessions.
        """
        if request.epoch == -1 or not remembers:
            return FetchSession(0, node, 0, dict(request.changed))
        if request.epoch == 0:
            self._last += 1
            session = self._known[self._last] = FetchSession(self._last, node, 0, {})
        else:
            known = self._known.get(request.session)
            if known is None or known.node != node:
                return SESSION_NOT_FOUND
            if known.epoch + 1 != request.epoch:
                return SESSION_EPOCH
            session = known
            session.epoch += 1
        for key in request.forgotten:
            session.wanted.pop(key, None)
            session.sent.pop(key, None)
        session.wanted.update(request.changed)
        return session

    def clear(self) -> None:
        """Forget all sessions, as restarted brokers do."""
        self._known.clear()
