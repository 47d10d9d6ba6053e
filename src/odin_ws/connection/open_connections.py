"""The open connections: announcements, positions, closing in waves, revocation."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import trio

from odin_ws.auth.revocations import Revocation
from odin_ws.catalogue import Catalogue
from odin_ws.connection.connection import Connection
from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.hub import Hub
from odin_ws.protocol.responses import positions_notice, reconnect_advice

__all__ = ["RETURNS_PER_SECOND", "OpenConnections"]

RETURNS_PER_SECOND: Final = 1000.0
"""Clients of a drained instance that reconnect per second.

Fewer than an instance upgrades while it serves others (docs/performance.md).
"""

# Interval of waves in the drain.
_WAVE_SECONDS: Final = 0.1

# At least a second of jitter spreads the clients of a wave.
_JITTER_SECONDS: Final = 1.0

# Clients with positions are updated in portions: of 12,000 in 10 s, 24 times per second.
_POSITIONS_SLICE: Final = 50

# Announcements are rare: this many writes at a time take the event loop a millisecond or two.
_ANNOUNCE_SLICE: Final = 200


class OpenConnections(set[Connection]):
    """All connections after the upgrade.

    `current_notices`: the current announcements by subject, which new clients get first.
    `returns`: limit of clients that reconnect per second after a close by the server.
    """

    def __init__(self, catalogue: Catalogue, returns: float = RETURNS_PER_SECOND) -> None:
        super().__init__()
        self.current_notices: dict[str, bytes] = {}
        self._catalogue = catalogue
        self._returns = returns

    async def announce(self, payload: bytes, topics: AbstractSet[str] | None = None) -> None:
        """Send an announcement to all connections, in order with their messages.

        `topics`: if given, only connections with a subscription in one of these topics get it.
        """
        for count, connection in enumerate(self._open(), 1):
            if topics is None or self._reads(connection, topics):
                connection.send_notice(payload)
            if not count % _ANNOUNCE_SLICE:
                await trio.lowlevel.checkpoint()

    def announce_now(self, payload: bytes) -> None:
        """Send an announcement to all connections synchronously: for rare and urgent ones."""
        for connection in self._open():
            connection.settle()
            connection.send_notice(payload)

    def _open(self) -> list[Connection]:
        # Connections that open later get the current announcements in their greeting.
        return [connection for connection in self if connection.is_open]

    def _reads(self, connection: Connection, topics: AbstractSet[str]) -> bool:
        own = self._catalogue.topics_in(connection.subscriber.categories)
        return not topics.isdisjoint(own)

    async def send_positions(self, hub: Hub, interval: float) -> None:
        """Send positions to clients that keep them, each every `interval` seconds.

        Otherwise the position of a quiet partition would be as old as the subscription, and a
        resume would read all of the log since then.
        """
        while True:
            following = [connection for connection in self if connection.subscriber.wants_positions]
            slices = range(0, max(1, len(following)), _POSITIONS_SLICE)
            for begin in slices:
                await trio.sleep(interval / len(slices))
                _send_positions(hub, following[begin : begin + _POSITIONS_SLICE])

    async def close_all(self, seconds: float) -> None:
        """Close all connections in waves over `seconds`, so that clients do not return together.

        Each client gets a reconnect time: at most `returns` clients come back per second. If the
        waves are faster, each client waits longer than those of earlier waves.
        """
        waiting = list(self)
        count = len(waiting)
        longest = max(0.0, count / self._returns - seconds)
        waves = max(1, round(seconds / _WAVE_SECONDS))
        size = math.ceil(count / waves)
        for begin in range(0, count, size or 1):
            if begin:
                await trio.sleep(_WAVE_SECONDS)
            for number, connection in enumerate(waiting[begin : begin + size], begin):
                wait = longest * number / count + random.uniform(0, _JITTER_SECONDS)  # noqa: S311 -- no secret
                # Pending messages come before the advice and the close.
                connection.settle()
                connection.send_notice(reconnect_advice(round(1000 * wait)))
                connection.close(DisconnectReason.DRAINING)

    async def close_rebalanced(self, topics: AbstractSet[str]) -> None:
        """Close connections with a subscription in topics that are no longer served completely.

        Also connections with a replay, which may be of these topics. Each client gets a reconnect
        time: at most `returns` clients per second.
        """
        for count, _ in enumerate(self._close_rebalanced(topics), 1):
            if not count % _ANNOUNCE_SLICE:
                await trio.lowlevel.checkpoint()

    def close_rebalanced_now(self, topics: AbstractSet[str]) -> None:
        """Do the same synchronously: before the hub takes records that do not follow the last."""
        for _ in self._close_rebalanced(topics):
            pass

    def _close_rebalanced(self, topics: AbstractSet[str]) -> Iterator[None]:
        # The subscriptions of a running replay are not live yet.
        concerned = [
            connection
            for connection in self._open()
            if connection.replaying or self._reads(connection, topics)
        ]
        jitter = max(_JITTER_SECONDS, len(concerned) / self._returns)
        reason = DisconnectReason.REBALANCED.value.label
        for connection in concerned:
            if connection.is_open:
                after_ms = round(1000 * random.uniform(0, jitter))  # noqa: S311 -- no secret
                connection.settle()
                connection.send_notice(reconnect_advice(after_ms, reason))
                connection.close(DisconnectReason.REBALANCED)
            yield

    def flush_event_streams(self) -> None:
        """Write pending messages to event streams before an assignment changes positions.

        The ids of pending messages contain the hub's positions.
        """
        for connection in list(self):
            if connection.subscriber.form.event_ids is not None:
                connection.settle()

    def revoke(self, revocation: Revocation) -> int:
        """Close all connections of a revoked user or JWT at once; returns how many."""
        concerned = [connection for connection in self if revocation.applies_to(connection.grant)]
        for connection in concerned:
            connection.close(DisconnectReason.REVOKED)
        return len(concerned)


def _send_positions(hub: Hub, connections: Sequence[Connection]) -> None:
    notices: dict[tuple[str, ...], bytes] = {}
    for connection in connections:
        # Messages of a running replay may be before these positions.
        if not connection.is_caught_up:
            continue
        subscriber = connection.subscriber
        topics = tuple(hub.topics_of(subscriber))
        if subscriber.paces is not None:
            positions = hub.sent_positions(subscriber, topics)
            notice = positions_notice(positions, hub.stream.ids_of(topics))
        elif topics in notices:
            notice = notices[topics]
        else:
            notice = notices[topics] = positions_notice(
                hub.stream.positions_of(topics), hub.stream.ids_of(topics)
            )
        connection.send_notice(notice)
