"""/clients: connected clients and the backlog of each."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import Any, Final

import attrs
import orjson
import trio
from starlette.responses import Response

from odin_ws.connection.connection import Connection
from odin_ws.ops.page_cache import PageCache
from odin_ws.protocol.commands import Delivery
from odin_ws.service import Service

__all__ = ["ClientsPages", "InvalidQuery", "clients_report", "read_limit"]

# Default: a screenful. Maximum: still readable; a report of 12,000 connections has megabytes.
_DEFAULT_LIMIT: Final = 20
_MAX_CLIENTS: Final = 1000


# Maximum number of patterns shown per client, which may have a thousand.
_FIRST_PATTERNS: Final = 3

# Numbers of connections in a cached report: two reports serve every limit, and the usual report
# stays small.
_SIZES: Final = (_DEFAULT_LIMIT, _MAX_CLIENTS)


_TOTALS: Final = ("connections", "backlogged", "backlog_bytes", "replaying", "latest")

# Connections per slice: 0.25 ms. All of 12,000 connections at once would take 15 ms.
_SLICE: Final = 200


class InvalidQuery(ValueError):
    """The query string is invalid; the message says what is allowed."""


def read_limit(query: Mapping[str, str]) -> int:
    """Return the number of connections to list. Raises InvalidQuery."""
    if unknown := query.keys() - {"limit"}:
        raise InvalidQuery(f"unknown parameter {', '.join(sorted(unknown))}; allowed: limit")
    text = query.get("limit", str(_DEFAULT_LIMIT))
    # Only ASCII digits: Python also accepts digits of other scripts.
    limit = (
        int(text)
        if text.isascii() and text.isdecimal() and len(text) <= len(str(_MAX_CLIENTS))
        else 0
    )
    if not 1 <= limit <= _MAX_CLIENTS:
        raise InvalidQuery(f"limit={text}: must be an integer, 1 to {_MAX_CLIENTS}")
    return limit


@attrs.frozen
class _Listed:
    """A report with each connection as encoded JSON: a shorter report needs no new encoding."""

    totals: bytes
    clients: list[bytes]


class ClientsPages:
    """`/clients` for every limit, from shared reports.

    Args:
        report: builds a report with a maximum number of connections.
        seconds: minimum interval between two builds of the same report.
    """

    def __init__(self, report: Callable[[int], Awaitable[dict[str, Any]]], seconds: float) -> None:
        self._report = report
        self._pages = {size: PageCache(partial(self._build, size), seconds) for size in _SIZES}

    async def get(self, limit: int) -> Response:
        """Return the page with at most `limit` connections."""
        listed = await self._pages[next(size for size in _SIZES if limit <= size)].get()
        clients = b",".join(listed.clients[:limit])
        body = b'{"totals":%b,"clients":[%b]}' % (listed.totals, clients)
        return Response(body, media_type="application/json")

    async def _build(self, size: int) -> _Listed:
        report = await self._report(size)
        clients = [orjson.dumps(client) for client in report["clients"]]
        return _Listed(orjson.dumps(report["totals"]), clients)


async def clients_report(service: Service, limit: int) -> dict[str, Any]:
    """Return totals, and the connections with the largest backlogs, the oldest first of equals."""
    connections = list(service.server.connections)
    totals = Counter(dict.fromkeys(_TOTALS, 0))
    ranked: list[tuple[tuple[int, float], Connection]] = []
    for part in _slices(connections):
        for connection in part:
            backlog = connection.send_queue.backlog
            totals["connections"] += 1
            totals["backlogged"] += backlog > 0
            totals["backlog_bytes"] += backlog
            totals["replaying"] += connection.replaying
            totals["latest"] += connection.subscriber.conflation is not None
            ranked.append(((backlog, -connection.opened_at), connection))
        await trio.lowlevel.checkpoint()
    maximum = [connection for _, connection in heapq.nlargest(limit, ranked, key=itemgetter(0))]
    now = trio.current_time()
    clients = []
    for part in _slices(maximum):
        clients += [_client(connection, now) for connection in part]
        await trio.lowlevel.checkpoint()
    return {"totals": dict(totals), "clients": clients}


def _slices(connections: Sequence[Connection]) -> Iterator[Sequence[Connection]]:
    return (connections[at : at + _SLICE] for at in range(0, len(connections), _SLICE))


def _client(connection: Connection, now: float) -> dict[str, Any]:
    subscriber, send_queue = connection.subscriber, connection.send_queue
    conflation, since = subscriber.conflation, send_queue.waiting_since
    return {
        "peer": connection.peer,
        "user": connection.grant.user,
        "transport": "websocket" if subscriber.form.event_ids is None else "sse",
        "backlog_bytes": send_queue.backlog,
        "waiting_seconds": 0 if since is None else round(now - since, 3),
        "seq": subscriber.seq,
        "patterns": len(subscriber.patterns),
        "first_patterns": sorted(islice(subscriber.patterns, _FIRST_PATTERNS)),
        "delivery": Delivery.ALL if conflation is None else Delivery.LATEST,
        "held_messages": 0 if conflation is None else conflation.waiting,
        "replaying": connection.replaying,
        "connected_seconds": round(now - connection.opened_at, 3),
        "idle_seconds": round(now - connection.last_received_at, 3),
    }
