"""Who is connected, and how each of them keeps up."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any, Final

import trio

from odin_ws.connection.connection import Connection
from odin_ws.ops.view import View
from odin_ws.protocol.commands import Delivery

__all__ = ["InvalidQuery", "clients_report", "read_limit"]

# A screenful; and what is still read at once, where 12,000 would be megabytes.
_DEFAULT_LIMIT: Final = 20
_MOST: Final = 1000


class InvalidQuery(ValueError):
    """What stands behind the `?` is no question; the message says what is allowed."""


def read_limit(query: Mapping[str, str]) -> int:
    """How many connections to list. Raises InvalidQuery."""
    if unknown := query.keys() - {"limit"}:
        raise InvalidQuery(f"unknown parameter {', '.join(sorted(unknown))}; allowed: limit")
    text = query.get("limit", str(_DEFAULT_LIMIT))
    # Not all that is a digit to Python is one to us.
    limit = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(_MOST)) else 0
    if not 1 <= limit <= _MOST:
        raise InvalidQuery(f"limit={text}: allowed is an integer, 1 to {_MOST}")
    return limit


def clients_report(view: View, limit: int) -> dict[str, Any]:
    """Totals, and the connections with the most bytes waiting; among equals the oldest first."""
    connections = view.server.connections
    most = heapq.nlargest(limit, connections, key=lambda one: (one.outbox.backlog, -one.opened_at))
    now = trio.current_time()
    return {
        "totals": {
            "connections": len(connections),
            "backlogged": sum(one.outbox.backlog > 0 for one in connections),
            "backlog_bytes": sum(one.outbox.backlog for one in connections),
            "replaying": sum(one.replaying for one in connections),
            "latest": sum(one.subscriber.conflation is not None for one in connections),
        },
        "clients": [_client(one, now) for one in most],
    }


def _client(connection: Connection, now: float) -> dict[str, Any]:
    subscriber, outbox = connection.subscriber, connection.outbox
    conflation, since = subscriber.conflation, outbox.waiting_since
    return {
        "peer": connection.peer,
        "user": connection.grant.user,
        "backlog_bytes": outbox.backlog,
        "waiting_seconds": 0 if since is None else round(now - since, 3),
        "seq": subscriber.seq,
        "patterns": len(subscriber.patterns),
        "delivery": Delivery.ALL if conflation is None else Delivery.LATEST,
        "held_messages": 0 if conflation is None else conflation.waiting,
        "replaying": connection.replaying,
        "connected_seconds": round(now - connection.opened_at, 3),
        "heard_seconds": round(now - connection.heard_at, 3),
    }
